"""Predict and score in one go: the slices of a cohort split, or a whole patient."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset

from lkm_kit.data.labels import LabelTable
from lkm_kit.evaluation.inference import on_device, predict_case, predict_volume
from lkm_kit.evaluation.metrics import evaluate_case


def score_slices(
    network: nn.Module,
    slices: Dataset,
    *,
    table: LabelTable,
    spacing_mm: float | Sequence[float],
    device: torch.device | str | None = None,
    batch_size: int = 8,
    name: str = "warp",
) -> pd.DataFrame:
    """Score every item of a data set by the plain rule; each item counts as one case.

    Args:
        slices: items ``{"image": (1, *size), "label": (*size)}`` with network classes.
        table: the organs of the classes.
        spacing_mm: of a pixel.
        device: to compute on; default where the network is. It is put back afterwards.

    Returns:
        rows case, organ and a column a metric; nan where an organ is in neither truth nor prediction.
    """
    rows = []
    with on_device(network, device) as where:
        for first in range(0, len(slices), batch_size):
            items = [slices[i] for i in range(first, min(first + batch_size, len(slices)))]
            images = torch.stack([item["image"] for item in items]).to(where)
            found = predict_volume(network, images, window=images.shape[2:], batch_size=batch_size).argmax(1).cpu()
            for offset, (item, classes) in enumerate(zip(items, found)):
                axes = classes.ndim
                spacing = (float(spacing_mm),) * axes if isinstance(spacing_mm, (int, float)) else tuple(spacing_mm)
                prediction, truth = (table.to_kit(each.numpy()) for each in (classes, item["label"]))
                rows.append(evaluate_case(prediction, truth, spacing, table, case=f"{name} {first + offset}"))
    return pd.concat(rows, ignore_index=True)


def score_case(network: nn.Module, case, *, table: LabelTable, rule: str = "plain", **how) -> pd.DataFrame:
    """Predict a patient with :func:`predict_case` (``how``: its keywords) and score it on its own grid."""
    prediction = predict_case(network, case, table=table, **how)
    return evaluate_case(prediction, case.label, case.spacing, table, rule, case=case.name)
