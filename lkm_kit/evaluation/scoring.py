"""Predict and score in one go: the slices of a cohort split, or a whole patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset

from lkm_kit.data.labels import LabelTable
from lkm_kit.errors import KitError, one_of
from lkm_kit.evaluation.inference import on_device, predict_case, predict_volume, settings_of
from lkm_kit.evaluation.metrics import evaluate_case

if TYPE_CHECKING:
    from lkm_kit.data import CohortVolumes, DataSet


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


def score_volumes(
    network: nn.Module,
    volumes: CohortVolumes,
    *,
    window: Sequence[int],
    device: torch.device | str | None = None,
    batch_size: int = 8,
    name: str = "warp",
) -> pd.DataFrame:
    """Predict whole deformed copies and score each in 3D by the plain rule.

    Args:
        volumes: the deformed copies; a 2D network gets their slices, a 3D network tiles that overlap by half.
        window: the network's training size, 2D or 3D.
        device: to compute on; default where the network is. It is put back afterwards.

    Returns:
        rows case, organ and a column a metric; nan where an organ is in neither truth nor prediction.
    """
    rows = []
    with on_device(network, device) as where:
        for index in range(len(volumes)):
            item = volumes[index]  # image (1, z, x, y)
            image = item["image"].movedim(1, 0) if len(window) == 2 else item["image"][None]
            logits = predict_volume(network, image.to(where), window=window, batch_size=batch_size)
            classes = logits.argmax(1).reshape(item["label"].shape).cpu()
            prediction, truth = (volumes.table.to_kit(each.numpy()) for each in (classes, item["label"]))
            rows.append(evaluate_case(prediction, truth, volumes.spacing, volumes.table, case=f"{name} {index}"))
    return pd.concat(rows, ignore_index=True)


def score_dataset(
    network: nn.Module,
    record: Mapping[str, Any],
    data: DataSet,
    names: Sequence[str],
    *,
    rule: str = "plain",
    device: torch.device | str | None = None,
    mirror: bool = False,
    progress: bool = False,
) -> pd.DataFrame:
    """Predict cases of a data set and score each whole, on its own grid; labels are matched by their names.

    Args:
        network, record: of :func:`lkm_kit.training.load_checkpoint`.
        data: where the cases are.
        names: of labelled cases.
        mirror: of :func:`predict_case`.

    Returns:
        rows case, organ, a column a metric, and ``source``.

    Raises:
        KitError: a label that the data set does not have, a case without labels; see :func:`predict_case`.
    """
    from tqdm.auto import tqdm

    how = settings_of(record)
    table = how["table"]
    if strangers := [name for name in table.names if name not in data.table.names]:
        raise KitError(
            f"the network was trained on {', '.join(strangers)}, which {data.name} does not label",
            remedy=f"take a run that was trained on labels of this data set: {', '.join(data.table.names)}",
        )
    here = data.table.subset(table.names)
    rows = []
    with on_device(network, device):
        for name in tqdm(names, desc=data.name, unit="case", disable=not progress):
            case = data.read(data.cases[name])
            if case.label is None:
                raise KitError(f"case {name} of {data.name} has no label to score with", remedy="predict it instead")
            truth = table.to_kit(here.to_classes(case.label))
            found = predict_case(network, case, mirror=mirror, **how)
            rows.append(evaluate_case(found, truth, case.spacing, table, rule, case=name))
    return pd.concat(rows, ignore_index=True).assign(source=data.source.text)


def score_case(network: nn.Module, case, *, table: LabelTable, rule: str = "plain", **how) -> pd.DataFrame:
    """Predict a patient with :func:`predict_case` (``how``: its keywords) and score it on its own grid."""
    prediction = predict_case(network, case, table=table, **how)
    return evaluate_case(prediction, case.label, case.spacing, table, rule, case=case.name)


def trained_cases(record: Mapping[str, Any], data: DataSet, side: str) -> tuple[list[str], list[str]]:
    """The cases to score: one side of the split that the run's record names, and what a reader must know of it.

    Args:
        record: of the checkpoint.
        data: the data set; may be another one than the run's, which then has a test side only.
        side: ``"train"``, ``"validation"`` or ``"test"``; test is imagesTs, or what no training of the run has seen.

    Returns:
        names, and notes.

    Raises:
        KitError: there is no such side, or no labelled case on it.
    """
    trained = record["training"].get("data") or {}
    same = trained.get("name") == data.name
    split = trained.get("split", {}) if same else {}
    one_of(side, ("train", "validation", "test"), "side of a split")
    labelled = [case.name for case in data.listed if case.label is not None]
    if side == "test":
        names = [case.name for case in data.test if case.label is not None] or (labelled if not same else [])
    else:
        names = [name for name in split.get(side, ()) if name in data.cases]
    if not names:
        remedy = (
            "--split validation scores what the run was watched on"
            if same
            else "the run was trained on other data, so it has no such side here: --split test"
            if side != "test"
            else "label some cases: the run was trained on other data"
        )
        raise KitError(f"{data.name} has no labelled {side} case for this run", remedy=remedy)
    notes = []
    if same and trained["digest"] != data.digest:
        notes.append("files, labels or persons of the data set have changed since the run was trained")
    seen = {data.persons[name] for name in split.get("train", ()) if name in data.persons}
    if side != "train" and (shared := sorted({data.persons[name] for name in names} & seen)):
        notes.append(
            f"the training has seen {len(shared)} of these persons, {shared[0]} for one: worth nothing as a test"
        )
    if side == "validation":
        notes.append("the training was watched on these cases")
    return names, notes
