"""Where nnU-Net keeps things: its three folders, a data set's name from its number, an arm's folder of results."""

from __future__ import annotations

import os
from pathlib import Path

from lkm_kit.errors import KitError

TRAINER = "nnUNetTrainer"
"""The stock trainer: others import packages that need not be there."""


def nnunet_folder(name: str) -> Path:
    """``nnUNet_raw``, ``nnUNet_preprocessed`` or ``nnUNet_results`` of the environment.

    Raises:
        KitError: the variable is not set, as nnU-Net wants it.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        raise KitError(
            f"the environment variable {name} is not set",
            remedy="nnU-Net finds its folders by nnUNet_raw, nnUNet_preprocessed and nnUNet_results: export all three",
        )
    return Path(value).expanduser()


def dataset_name(number: int, where: Path) -> str:
    """``DatasetXXX_Name`` of a number, by the folders in ``where``.

    Raises:
        KitError: none, or more than one.
    """
    found = sorted(path.name for path in where.glob(f"Dataset{number:03d}_*") if path.is_dir())
    if len(found) != 1:
        raise KitError(
            f"{where} holds {'no data set' if not found else ' and '.join(found)} of the number {number}",
            remedy="prepare one with `lkm data amos`, `flare` or `umamba`, and run nnUNetv2_plan_and_preprocess on it"
            if not found
            else "keep one of them there",
        )
    return found[0]


def results_folder(dataset: str, plans: str, configuration: str, fold: str) -> Path:
    """Where the stock trainer writes one arm's fold."""
    return nnunet_folder("nnUNet_results") / dataset / f"{TRAINER}__{plans}__{configuration}" / f"fold_{fold}"


def predictions_folder(dataset: str, plans: str, configuration: str, fold: str, tta: bool = False) -> Path:
    """Where the kit has the test cases predicted to; with test-time mirroring (``tta``) it is another folder."""
    kind = "lkm_predictions_tta" if tta else "lkm_predictions"
    return nnunet_folder("nnUNet_results") / dataset / kind / plans / configuration / f"fold_{fold}"
