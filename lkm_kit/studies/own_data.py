"""A study on a data set of one's own: arms fitted to its images, its splits, and its cases, scored whole."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from lkm_kit.data import DataSet
from lkm_kit.data.persons import FOLDS
from lkm_kit.data.prepared import grid_of
from lkm_kit.errors import KitError
from lkm_kit.files import digest_of
from lkm_kit.networks.fitting import fit_overrides, fit_size, size_unit
from lkm_kit.profiles import Profile
from lkm_kit.studies.arms import Arm, Study
from lkm_kit.studies.job import Job, make_job
from lkm_kit.studies.plan import Plan
from lkm_kit.training import TrainConfig
from lkm_kit.training.identity import data_digest

_DECIDED = (
    "data", "data_digest", "training_digest", "organs", "label_table", "input_channels", "modality",
    "image_size", "spacing_mm", "axis",
)  # fmt: skip
"""Fields of a training config that a data set decides, beside the size of a batch."""


def on_data(
    study: Study, size: Profile, data: DataSet, changes: Mapping[str, Any]
) -> tuple[Study, Profile, dict[str, Any]]:
    """A study as it is run on a data set.

    An image is about as large as the median training case, rounded up to what the networks of *all* arms can take. So
    every arm sees the same images. Windows keep their share of the image.

    Args:
        study: for images of the size that its networks were made for.
        size: its budget; a batch has as many pixels as the profile's.
        data: where the cases are.
        changes: fields of every arm's config; they hold over what the data would decide.

    Returns:
        the study with fitted arms, the profile with the batch, and ``changes`` with what the data decide.

    Raises:
        KitError: a data set that cannot be trained on.
    """
    data.require()
    dims, network = 3 if "3d" in size.network else 2, f"lkm-unet/{size.network}"
    image_size = changes.get("image_size")
    if image_size is None:
        shape = grid_of(data, dims, changes.get("axis"), changes.get("spacing_mm"))[2]
        units = [size_unit(arm.network, arm.overrides) for arm in study.arms]
        image_size = fit_size(network, shape, [math.lcm(*sides) for sides in zip(*units)])
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    own = {name: value for name, value in changes.items() if name in known}  # the others are refused with the protocol
    config = TrainConfig.for_data(data, size, **{**own, "network": network, "image_size": tuple(image_size)})
    decided = config.to_dict()
    size = dataclasses.replace(size, batch_size=config.batch_size)
    arms = fitted(study, config.image_size, config.spacing_mm)
    return arms, size, {**changes, **{name: decided[name] for name in _DECIDED}}


def fitted(study: Study, image_size: Sequence[int], spacing_mm: float | Sequence[float] | None = None) -> Study:
    """The study with windows in their old share of another image, and with what else depends on its size and voxels.

    >>> from lkm_kit.studies import study
    >>> fitted(study("table2", "smoke"), (64, 64)).arm("contiguous-small").overrides["windows"][0]
    [4, 4]
    """
    return dataclasses.replace(study, arms=tuple(_fitted(arm, image_size, spacing_mm) for arm in study.arms))


def _fitted(arm: Arm, image_size: Sequence[int], spacing_mm: float | Sequence[float] | None) -> Arm:
    changed = fit_overrides(arm.network, image_size, arm.overrides, spacing_mm)
    if not changed:
        return arm
    size = "x".join(map(str, image_size))
    said = ", ".join(f"{name} {value}" for name, value in changed.items() if name != "image_size")
    note = f"{arm.note} On images of {size}: {said}.".strip() if said else arm.note
    return dataclasses.replace(arm, overrides={**arm.overrides, **changed}, note=note)


def chosen_folds(data: DataSet, text: str) -> list[int]:
    """``"0,2"`` or ``"all"`` -> folds of the data set: those of ``splits_final.json``, else five (or one a person).

    Raises:
        KitError: no number, or a fold twice. That a fold is there is asked when it is taken.
    """
    if text == "all":
        people = {data.persons[case.name] for case in data.training}
        return list(range(len(data.splits) if data.splits else min(FOLDS, len(people))))
    folds = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in folds) or len(set(folds)) < len(folds):
        raise KitError(f"--folds {text}", remedy="give numbers, each once: --folds 0,1,2; or --folds all")
    return [int(part) for part in folds]


class Cases:
    """The cases that a run is scored on: whole, in 3D, on their own grids.

    Args:
        data: where they are.
        names: of labelled cases.
        record: what done.json says of the data.
    """

    def __init__(self, data: DataSet, names: Sequence[str], record: Mapping[str, Any]):
        self.data, self.names, self.record, self.source = data, tuple(names), dict(record), data.source

    def __len__(self) -> int:
        return len(self.names)

    @property
    def digest(self) -> str:
        """sha256 over all that decides the scores, but for the network."""
        return digest_of([self.data.table.to_json(), [(name, self.data.checksums[name]) for name in self.names]])

    def score(self, network: nn.Module, record: Mapping[str, Any], device: torch.device) -> pd.DataFrame:
        """Rows of :func:`lkm_kit.evaluation.score_dataset`."""
        from lkm_kit.evaluation import score_dataset

        return score_dataset(network, record, self.data, self.names, device=device)


def data_set_of(job: Job) -> dict[str, Any]:
    """Training and validation items of a job's data set, and the cases that it is scored on."""
    from lkm_kit.training.batches import make_datasets

    data = DataSet(job.config.data)
    record = split_of(data, job.config, job.fold)
    return {**make_datasets(job.config), "test": Cases(data, record["split"][record["scored"]], record)}


def split_of(data: DataSet, config: TrainConfig, fold: int | None = None) -> dict[str, Any]:
    """Which cases and persons train, validate and are scored, and what the data are.

    Args:
        data: the data set.
        config: of the training, whose fold, holdout and data seed divide the training cases.
        fold: of a cross-validation: the cases that it holds out are scored. Without one, those of imagesTs are.

    Returns:
        name, digest, source, licence, citation and labels of the data; the labels' ``tolerance_mm`` for NSD (None: a
        voxel's diagonal) beside ``voxel_mm``, the smallest and the largest of the scored cases; ``fold``, ``how``,
        ``split`` (side -> cases), ``persons`` (case -> person) and ``scored``, the side.

    Raises:
        KitError: no labelled case to score; a person who is trained on and scored.
    """
    split = data.split(fold=config.fold, holdout=config.holdout, seed=config.data_seed)
    sides = {side: list(split.names(side)) for side in ("train", "validation", "test")}
    sides["test"] = [name for name in sides["test"] if data.cases[name].label is not None]
    scored = "test" if fold is None else "validation"
    if not sides[scored]:
        raise KitError(
            f"{data.name} has no labelled test case (imagesTs, labelsTs) to score the arms on",
            remedy="--folds all trains each arm once a fold and scores the cases that the fold holds out",
        )
    persons = {name: data.persons[name] for names in sides.values() for name in names}
    seen = {persons[name] for name in sides["train"]}
    if shared := [name for name in sides[scored] if persons[name] in seen]:
        raise KitError(
            f"{data.name}: {len(shared)} cases to be scored, {shared[0]} for one, show persons who are trained on",
            remedy="correct persons.csv (case,person) or splits_final.json",
        )
    source = data.source
    return {
        "name": data.name,
        "digest": data.digest,
        "source": source.text,
        "licence": source.licence,
        "citation": source.citation,
        "labels": {each.name: each.id for each in data.table.subset(config.table.names)},
        "tolerance_mm": {label.name: label.tolerance_mm for label in config.table},
        "voxel_mm": _voxels(data, sides[scored]),
        "fold": fold,
        "how": split.how,
        "scored": scored,
        "split": sides,
        "persons": persons,
    }


def _voxels(data: DataSet, names: Sequence[str]) -> list[list[float]]:
    """Smallest and largest voxel side along each axis, in mm."""
    sides = [data.geometry(data.cases[name])[1] for name in names]
    return [[round(float(of(axis)), 4) for axis in zip(*sides)] for of in (min, max)]


def scored_on(plan: Plan) -> tuple[list[dict[str, Any]], dict[int | None, str]]:
    """:func:`splits_of`, and fold -> digest of the cases to be scored; both empty where none of a data set are."""
    if plan.on_cohort or not all(job.scored for job in plan.jobs()):
        return [], {}
    data, splits = DataSet(plan.changes["data"]), splits_of(plan)
    cases = {each["fold"]: Cases(data, each["split"][each["scored"]], each) for each in splits}
    return splits, {fold: data_digest({"test": items}) for fold, items in cases.items()}


def splits_of(plan: Plan) -> list[dict[str, Any]]:
    """:func:`split_of` for each fold of a plan on a data set, or for its one training and test split."""
    data, first = DataSet(plan.changes["data"]), plan.study.arms[0]
    jobs = [make_job(plan.study, first, plan.size, 0, plan.changes, fold=fold) for fold in plan.folds or (None,)]
    return [split_of(data, job.config, job.fold) for job in jobs]
