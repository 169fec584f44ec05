"""A run's folder: config, history, resumable state, published weights; every file is whole at every moment.

::

    config.json           what is computed; another config in the same folder is refused
    history.csv           one row a validation
    state.pt              weights, optimiser, schedule, step, random states: only while the run is under way
    weights.safetensors   the trained weights, without pickle
    weights.json          how to rebuild the network, its label table, the preprocessing, the training
    done.json             written last
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from lkm_kit import __version__
from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, write_json
from lkm_kit.training.config import TrainConfig
from lkm_kit.training.record import FORMAT, NORMALIZATION, check_record, checkpoint_folder

FILES = ("config.json", "history.csv", "state.pt", "weights.safetensors", "weights.json", "done.json")


@dataclasses.dataclass(frozen=True, eq=False)
class TrainResult:
    """A finished run.

    Args:
        run_dir: its folder.
        config: what was asked for.
        history: one row a validation: step, learning_rate, train_loss, gradient_norm, DSC (mean over organs), one
            ``DSC <organ>`` column each, seconds.
        network: with the trained weights, on the CPU, in evaluation mode.
        record: the contents of weights.json.
    """

    run_dir: Path
    config: TrainConfig
    history: pd.DataFrame
    network: nn.Module
    record: dict[str, Any]


def runs_root() -> Path:
    """Where runs lie: ``LKM_RUNS``, else ``runs`` in the nearest folder above with a pyproject.toml, else here."""
    if chosen := os.environ.get("LKM_RUNS", "").strip():
        return Path(chosen).expanduser()
    here = Path.cwd()
    tops = [folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()]
    return (tops[0] if tops else here) / "runs"


def run_folder(config: TrainConfig, study: str = "train", root: str | Path | None = None) -> Path:
    """Folder of a run: ``<root>/<study>/<network>-<first digits of the config's digest>``.

    The digest makes a changed config a new folder, and an unchanged one the old folder, whose result is reused.

    Args:
        root: default :func:`runs_root`.

    >>> run_folder(TrainConfig(), root="runs").parts[:2]
    ('runs', 'train')
    """
    return (
        (runs_root() if root is None else Path(root))
        / study
        / f"{config.network.replace('/', '-')}-{config.digest()[:10]}"
    )


class Run:
    """The files of one run.

    Args:
        folder: made if missing.
        config: written as config.json, or compared with the one that is there.

    Raises:
        KitError: the folder holds a run with another config (the differing fields are named).
    """

    def __init__(self, folder: str | Path, config: TrainConfig):
        self.folder, self.config = Path(folder), config
        path = self.folder / "config.json"
        for name in FILES:
            for leftover in self.folder.glob(f".{name}.*"):  # of a process that was killed while it wrote
                leftover.unlink(missing_ok=True)
        if path.exists():
            differences = config.differences(_read_json(path))
            if differences:
                listed = "; ".join(f"{n}: {old!r} there, {new!r} now" for n, (old, new) in differences.items())
                raise KitError(
                    f"{self.folder} holds a run with another config ({listed})",
                    remedy="choose another folder for this run, or delete that one",
                )
        else:
            write_json(path, config.to_dict())

    @property
    def done(self) -> bool:
        """True when a finished run with this config's digest lies here."""
        path = self.folder / "done.json"
        return path.exists() and _read_json(path).get("digest") == self.config.digest()

    def save_state(self, state: dict[str, Any]) -> None:
        """Write state.pt (one atomic file), then history.csv from the same state."""
        with atomic_path(self.folder / "state.pt") as temporary:
            torch.save(state, temporary)
        self.write_history(state["history"])

    def load_state(self) -> dict[str, Any] | None:
        """The last state, or None for a fresh run.

        Raises:
            KitError: the file is damaged.
        """
        path = self.folder / "state.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
            raise KitError(
                f"the training state {path} is damaged ({type(error).__name__})",
                remedy="delete that file: the run then starts from its first step",
            ) from error

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        with atomic_path(self.folder / "history.csv") as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)

    def publish(
        self, network: nn.Module, training: dict[str, Any], *, spacing: Sequence[float], from_registry: bool
    ) -> None:
        """Write weights.safetensors, weights.json, done.json, in this order; then the state is no longer needed.

        Args:
            network: as trained.
            training: what the record says of the training beside its config.
            spacing: of the training items, mm along each axis.
            from_registry: the network can be built from the config's name.
        """
        from safetensors.torch import save_model

        weights = self.folder / "weights.safetensors"
        with atomic_path(weights) as temporary:
            save_model(network, str(temporary))
        config = self.config
        record = {
            "format": FORMAT,
            "kit_version": __version__,
            "network": {
                "name": config.network if from_registry else None,
                "class": f"{type(network).__module__}.{type(network).__qualname__}",
                "input_channels": 1,
                "num_classes": config.table.num_classes,
                "overrides": dict(config.network_overrides),
            },
            "label_table": json.loads(config.table.to_json()),
            "preprocessing": {
                "modality": config.modality,
                "spacing_mm": spacing[0] if len(set(spacing)) == 1 else list(spacing),
                "image_size": list(config.image_size),
                "normalization": NORMALIZATION,
            },
            "training": {**training, "config": config.to_dict(), "digest": config.digest()},
            "sha256": _sha256(weights),
        }
        write_json(self.folder / "weights.json", record)
        write_json(self.folder / "done.json", {"digest": config.digest(), **training})
        (self.folder / "state.pt").unlink(missing_ok=True)


def load_checkpoint(run_dir: str | Path, network: nn.Module | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild the trained network of a run.

    Args:
        run_dir: a run's folder, or a name of :func:`packaged_checkpoints`.
        network: fill this one instead of building the network of the record (for networks outside the registry).

    Returns:
        ``(network, record)``: the network on the CPU in evaluation mode, without deep supervision, and the contents of
        weights.json.

    Raises:
        KitError: no run there, a run that has not finished, a record of another format or with parts that are missing
            or contradict each other, weights that are damaged, or that do not fit the network.

    >>> network, record = load_checkpoint("tiny-2d")
    >>> record["preprocessing"]["spacing_mm"], record["network"]["num_classes"]
    (3.0, 7)
    """
    from safetensors.torch import load_model

    folder = checkpoint_folder(run_dir)
    weights, described = folder / "weights.safetensors", folder / "weights.json"
    if not (folder / "done.json").exists():
        if not (folder / "config.json").exists():
            raise KitError(f"there is no training run in {folder}", remedy="give the folder that `lkm train` named")
        raise KitError(
            f"the training in {folder} has not finished",
            remedy="run the same training again: it resumes from its last checkpoint",
        )
    record = _read_json(described)
    check_record(record, described)
    if not weights.exists() or _sha256(weights) != record.get("sha256"):
        raise KitError(
            f"{weights} is missing or is not the file that the run wrote (its sha256 differs from weights.json)",
            remedy="copy both files again from where the run was made, or delete the folder and train again",
        )
    if network is None:
        from lkm_kit.networks import build_network

        about = record["network"]
        if about["name"] is None:
            raise KitError(
                f"the network in {folder} was given to train() by the caller ({about['class']})",
                remedy="build it again and pass it: load_checkpoint(run_dir, network)",
            )
        network = build_network(
            about["name"],
            input_channels=about["input_channels"],
            num_classes=about["num_classes"],
            **{**about["overrides"], "deep_supervision": record["training"]["config"]["deep_supervision"]},
        )
    try:
        load_model(network, str(weights))
    except RuntimeError as error:
        raise KitError(
            f"the weights in {folder} do not fit the network: {str(error).splitlines()[-1].strip()}",
            remedy="build the network as weights.json says, with the kit version it names",
        ) from error
    if hasattr(getattr(network, "decoder", None), "deep_supervision"):
        network.decoder.deep_supervision = False
    return network.eval(), record


def load_result(run_dir: str | Path, network: nn.Module | None = None) -> TrainResult:
    """Read a finished run as a :class:`TrainResult`.

    Raises:
        KitError: see :func:`load_checkpoint`.
    """
    network, record = load_checkpoint(run_dir, network)
    folder = checkpoint_folder(run_dir)
    history = pd.read_csv(folder / "history.csv")
    return TrainResult(folder, TrainConfig.from_json(record["training"]["config"]), history, network, record)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise KitError(f"{path} cannot be read ({error})", remedy="delete the run's folder and train again") from error


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return (
            hashlib.file_digest(handle, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else (hashlib.sha256(handle.read()).hexdigest())
        )
