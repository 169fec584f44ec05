"""Which checkpoint is meant, and whether its weights.json says all that a prediction needs, without contradiction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lkm_kit import __version__
from lkm_kit.data.labels import LabelTable
from lkm_kit.errors import KitError
from lkm_kit.files import digest_of

FORMATS = (1, 2)
"""Of weights.json that this kit reads; it writes the last. A change that older kits cannot read raises it.

2: the digest is over what decides the numbers, not over all fields of the config.
"""

NORMALIZATION = "lkm_kit.data.normalize"

PACKAGED = Path(__file__).resolve().parents[1] / "checkpoints"
"""Small trained networks that come with the kit, each a run's folder."""


def packaged_checkpoints() -> list[str]:
    """Names of the trained networks that come with the kit, for :func:`load_checkpoint` and ``lkm predict --run``.

    >>> "tiny-2d" in packaged_checkpoints()
    True
    """
    return sorted(path.parent.name for path in PACKAGED.glob("*/weights.json"))


def checkpoint_folder(run_dir: str | Path) -> Path:
    """The folder itself, or that of the packaged checkpoint with this name.

    Raises:
        KitError: neither; or a pickle file, which is never opened: loading one runs whatever code it holds.
    """
    folder = Path(run_dir)
    if folder.is_dir():
        return folder
    if folder.is_file():
        pickled = folder.suffix in (".pt", ".pth", ".ckpt", ".pkl", ".bin")
        raise KitError(
            f"{folder} is a file{', and a pickle: those can run code, the kit never opens them' if pickled else ''}",
            remedy="give the folder of a run, with weights.safetensors and weights.json in it",
        )
    if str(run_dir) in packaged_checkpoints():
        return PACKAGED / str(run_dir)
    raise KitError(
        f"there is no training run in {folder}",
        remedy=f"give the folder that `lkm train` named, or one of {', '.join(packaged_checkpoints())}",
    )


def check_record(record: Mapping[str, Any], path: Path) -> None:
    """Everything that a prediction relies on is there, of this format, and does not contradict itself.

    Args:
        record: the contents of weights.json.
        path: of that file, for messages.

    Raises:
        KitError: another format; a part that is missing; classes, digest, normalisation, modality or sizes that are
            not what the rest of the record says.
    """
    from lkm_kit.training.config import TrainConfig

    if record.get("format") not in FORMATS:
        raise KitError(
            f"{path} has format {record.get('format')} (kit {record.get('kit_version', 'unknown')}), "
            f"this kit ({__version__}) reads {' and '.join(map(str, FORMATS))}",
            remedy="use the kit version that wrote it, or train again with this one",
        )
    try:
        about, training, network = record["preprocessing"], record["training"], record["network"]
        table = LabelTable.from_json(record["label_table"])
        config = training["config"]
        if record["format"] > 1:
            digest, counted = digest_of(training["identity"]), training["identity"]["config"]
            same_config = TrainConfig.from_json(config).identity().counted()["config"] == counted
        else:
            digest, same_config = digest_of(config), True
        axes = len(about["image_size"])
        spacing = about["spacing_mm"]
        spacing = [float(spacing)] * axes if isinstance(spacing, (int, float)) else [float(v) for v in spacing]
        wrong = {
            f"{network['num_classes']} classes, a label table of {table.num_classes}": (
                network["num_classes"] != table.num_classes
            ),
            "a training config that is not the one of its digest": digest != training["digest"] or not same_config,
            f"the normalisation {about['normalization']!r}": about["normalization"] != NORMALIZATION,
            f"the modality {about['modality']!r}": about["modality"] not in ("CT", "MR"),
            f"images {about['image_size']} with a spacing of {about['spacing_mm']} mm": (
                axes not in (2, 3) or len(spacing) != axes or min(*spacing, *about["image_size"]) <= 0
            ),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KitError(
            f"{path} is incomplete or damaged ({type(error).__name__}: {error})",
            remedy="copy the run's folder again from where it was made, or train again",
        ) from error
    for what, there in wrong.items():
        if there:
            raise KitError(
                f"{path} names {what}", remedy="it was edited or damaged: copy the run's folder again, or train again"
            )
