"""Find runs for commands that were given none."""

from __future__ import annotations

from pathlib import Path

from lkm_kit.errors import KitError


def newest_run(root: str | Path | None = None) -> Path:
    """Folder of the finished training that ended last, below ``root`` (default: the kit's runs folder).

    Raises:
        KitError: there is none.
    """
    from lkm_kit.training import runs_root

    folder = runs_root() if root is None else Path(root)
    done = [path for path in folder.glob("**/done.json") if (path.parent / "weights.safetensors").exists()]
    if not done:
        raise KitError(
            f"there is no finished training in {folder}", remedy="run `lkm train` first, or give the folder of a run"
        )
    return max(done, key=lambda path: path.stat().st_mtime).parent


def data_of_run(run: str | Path | None) -> Path | None:
    """Folder of the data set that a run (default: the newest) was trained on; None for the cohort."""
    from lkm_kit.files import read_json
    from lkm_kit.training.record import checkpoint_folder

    path = checkpoint_folder(run or newest_run()) / "config.json"
    data = read_json(path).get("data", "cohort") if path.is_file() else "cohort"
    if not isinstance(data, str):
        raise KitError(f"{path} names no data ({data!r})", remedy="copy the run's folder again, or give --data")
    return None if data == "cohort" else Path(data)
