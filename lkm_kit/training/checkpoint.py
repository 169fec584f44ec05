"""The trained network of a finished run: published as safetensors with a record, and loaded again."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn
from torch.utils.data import Dataset

from lkm_kit import __version__
from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, read_json, sha256, write_json
from lkm_kit.training.config import TrainConfig
from lkm_kit.training.record import FORMATS, NORMALIZATION, check_record, checkpoint_folder
from lkm_kit.training.start import Taken
from lkm_kit.training.store import Diverged, Run


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


def publish(
    run: Run, config: TrainConfig, network: nn.Module, data: Dataset, *, from_registry: bool, start: Taken | None = None
) -> None:
    """Write weights.safetensors, weights.json, done.json, in this order.

    Args:
        run: with a state at its last step.
        config: of the training.
        network: with its trained weights.
        data: the training items; their ``spacing``, ``source``, ``recipe`` and ``record`` are recorded where they have
            them.
        from_registry: ``config`` says how to build the network again.
        start: what it began with, where not with the seed's weights.
    """
    from safetensors.torch import save_model

    weights, last = run.folder / "weights.safetensors", run.load_state()
    with atomic_path(weights) as temporary:
        save_model(network, str(temporary))
    source = getattr(data, "source", None)
    spacing = getattr(data, "spacing", None) or np.broadcast_to(config.spacing_mm, len(config.image_size)).tolist()
    training = {
        "steps": last["step"],
        "seconds": round(last["seconds"], 2),
        **last["made_with"],
        "last": {k: v if math.isfinite(v) else None for k, v in last["history"][-1].items()},
    }
    record = {
        "format": max(FORMATS),
        "kit_version": __version__,
        "network": {
            "name": config.network if from_registry else None,
            "class": f"{type(network).__module__}.{type(network).__qualname__}",
            "input_channels": config.input_channels,
            "num_classes": config.table.num_classes,
            "overrides": dict(config.network_overrides),
        },
        "label_table": json.loads(config.table.to_json()),
        "preprocessing": {
            "modality": config.modality,
            "spacing_mm": spacing[0] if len(set(spacing)) == 1 else list(spacing),
            "image_size": list(config.image_size),
            "normalization": NORMALIZATION,
            **({"recipe": data.recipe.to_json()} if hasattr(data, "recipe") else {}),
        },
        "training": {
            **training,
            "config": config.to_dict(),
            "identity": run.identity.counted(),
            "digest": run.identity.digest,
            "source": None if source is None else source.to_json(),
            "data": getattr(data, "record", None),
            "start": None if start is None else start.record(),
        },
        "sha256": sha256(weights),
    }
    write_json(run.folder / "weights.json", record)
    run.finish(["weights.safetensors"], training)


def load_checkpoint(run_dir: str | Path, network: nn.Module | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild the trained network of a run.

    Args:
        run_dir: a run's folder, or a name of :func:`packaged_checkpoints`.
        network: fill this one instead of building the network of the record (for networks outside the registry).

    Returns:
        ``(network, record)``: the network on the CPU in evaluation mode, without deep supervision, and the contents of
        weights.json.

    Raises:
        KitError: no run there, or one that has not finished; weights that are damaged, or that do not fit the network.
            A record of another format, or with parts that are missing or contradict each other.

    >>> network, record = load_checkpoint("tiny-2d")
    >>> record["preprocessing"]["spacing_mm"], record["network"]["num_classes"]
    (3.0, 7)
    """
    from safetensors.torch import load_model

    folder = checkpoint_folder(run_dir)
    weights, described = folder / "weights.safetensors", folder / "weights.json"
    if not (folder / "done.json").exists():
        if not (folder / "config.json").exists():
            remedy = "give the folder that `lkm train` named"
            if (folder / "dataset.json").exists():
                remedy += "; this is a data set, which `lkm train --data` and `lkm evaluate --data` take"
            raise KitError(f"there is no training run in {folder}", remedy=remedy)
        if (folder / "diverged.json").exists():
            raise Diverged(f"the training in {folder} diverged: {read_json(folder / 'diverged.json')['message']}")
        raise KitError(
            f"the training in {folder} has not finished",
            remedy="run the same training again: it resumes from its last checkpoint",
        )
    record = read_json(described)
    check_record(record, described)
    if not weights.exists() or sha256(weights) != record.get("sha256"):
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
    network.cpu()  # one that was given may have been trained on a GPU
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
