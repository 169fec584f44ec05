"""Which items make up the batch of step s: a function of seed and s alone, so a resumed run sees the same data."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lkm_kit.devices import allotted_cpus
from lkm_kit.errors import KitError
from lkm_kit.training.config import TrainConfig

if TYPE_CHECKING:
    from lkm_kit.data import CohortPatches, CohortSlices, CohortVolumes


def batch_indices(step: int, *, length: int, batch_size: int, seed: int) -> list[int]:
    """Items of step ``step``: the next ``batch_size`` ones of an endless row of shuffled passes over the data.

    Args:
        step: counted from 0.
        length: number of items; every pass takes each once.
        batch_size: items per step.
        seed: of the shuffling.

    >>> batch_indices(0, length=4, batch_size=2, seed=0), batch_indices(1, length=4, batch_size=2, seed=0)
    ([2, 0], [1, 3])
    """
    positions = range(step * batch_size, (step + 1) * batch_size)
    return [int(_shuffled(length, seed, p // length)[p % length]) for p in positions]


@lru_cache(maxsize=4)
def _shuffled(length: int, seed: int, round_number: int) -> np.ndarray:
    return np.random.default_rng([seed, round_number]).permutation(length)


class StepSampler(Sampler[list[int]]):
    """Batch sampler from ``first_step`` to ``config.iterations``; of several processes each takes its share of a batch.

    Raises:
        KitError: the batch cannot be shared evenly.
    """

    def __init__(self, config: TrainConfig, length: int, first_step: int = 0, rank: int = 0, processes: int = 1):
        if config.batch_size % (processes * config.accumulate):
            parts = f" in {config.accumulate} parts each" if config.accumulate > 1 else ""
            raise KitError(
                f"batch_size {config.batch_size} cannot be shared by {processes} processes{parts}",
                remedy=f"take a multiple of {processes * config.accumulate}: batch_size counts all processes together",
            )
        self.config, self.length, self.first_step, self.rank, self.processes = (
            config,
            length,
            first_step,
            rank,
            processes,
        )

    def __len__(self) -> int:
        return self.config.iterations - self.first_step

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.config.iterations):
            indices = batch_indices(step, length=self.length, batch_size=self.config.batch_size, seed=self.config.seed)
            yield indices[self.rank :: self.processes]


def cohort_items(config: TrainConfig, split: str, length: int) -> CohortSlices | CohortPatches:
    """Items of one split of the cohort a config asks for: slices or patches, of the sample case of its modality.

    Each item is ``{"image": float32 (1, *size), "label": int64 (*size)}``.
    """
    from lkm_kit.data import CohortPatches, CohortSlices

    kind = CohortSlices if len(config.image_size) == 2 else CohortPatches
    return kind(split, size=config.image_size, length=length, **_cohort_of(config))


def cohort_volumes(config: TrainConfig, split: str, length: int) -> CohortVolumes:
    """Whole warped patients of one split of the cohort a config asks for, with pixels as large as its items'."""
    from lkm_kit.data import CohortVolumes

    return CohortVolumes(split, size=config.image_size[-2:], length=length, **_cohort_of(config))


def _cohort_of(config: TrainConfig) -> dict[str, Any]:
    from lkm_kit.data import training_case

    case = training_case(config.modality)
    return {"spacing_mm": config.spacing_mm, "table": config.table, "seed": config.data_seed, "case": case}


def make_datasets(config: TrainConfig) -> dict[str, Dataset]:
    """The ``"train"`` and ``"validation"`` items a config asks for.

    Each item is ``{"image": float32 (c, *size), "label": int64 (*size)}``, see :func:`cohort_items` and
    :class:`lkm_kit.data.dataset_items.DataSetItems`.

    Raises:
        KitError: a data set that cannot be used, or that has changed since the config was made.
    """
    lengths = {"train": config.train_slices, "validation": config.validation_slices}
    if config.data == "cohort":
        return {split: cohort_items(config, split, length) for split, length in lengths.items()}
    from lkm_kit.data import DataSet
    from lkm_kit.data.dataset_items import DataSetItems
    from lkm_kit.data.prepared import make_recipe

    data = DataSet(config.data)
    data.require()
    whole = not config.training_digest  # of an older record
    if (data.digest if whole else data.training_digest) != (config.data_digest if whole else config.training_digest):
        raise KitError(
            f"training files, labels, channels or persons of {data.folder} are not those of this config",
            remedy="make the config anew with TrainConfig.for_data, or by lkm train --data",
        )
    split = data.split(fold=config.fold, holdout=config.holdout, seed=config.data_seed)
    recipe = make_recipe(data, split.train, dims=len(config.image_size), axis=config.axis, spacing_mm=config.spacing_mm)
    return {
        side: DataSetItems(data, side, split, recipe, config.table, config.image_size, length, config.data_seed)
        for side, length in lengths.items()
    }


def train_loader(
    config: TrainConfig,
    dataset: Dataset,
    first_step: int,
    *,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
    pin: bool = False,
) -> DataLoader:
    """Batches from ``first_step`` on; with ``pin`` in memory from which a GPU takes them while it computes."""
    sampler = StepSampler(config, len(dataset), first_step, rank, processes)
    return _loader(dataset, sampler, workers, pin)


def _loader(dataset: Dataset, batches: Sampler | list[list[int]], workers: int, pin: bool = False) -> DataLoader:
    """More workers than processors would only wait for each other; which batches they make does not depend on them."""
    workers = min(workers, allotted_cpus())
    how = {"num_workers": workers, "pin_memory": pin, "generator": _own_generator()}
    return DataLoader(dataset, batch_sampler=batches, **how)


def validation_loader(
    config: TrainConfig, dataset: Dataset, *, workers: int = 0, rank: int = 0, processes: int = 1
) -> DataLoader:
    """This process's share of the validation items, in order."""
    mine = list(range(len(dataset)))[rank::processes]
    batches = [mine[i : i + config.batch_size] for i in range(0, len(mine), config.batch_size)]
    return _loader(dataset, batches, workers)


def _own_generator() -> torch.Generator:
    # a DataLoader without one takes a number from the global generator whenever it starts: a resumed run would differ
    return torch.Generator().manual_seed(0)
