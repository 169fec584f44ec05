"""A data set and a network small enough that a training takes a second: bright squares, two organs."""

import multiprocessing
import os
import signal
import sys

import torch
from torch import nn
from torch.utils.data import Dataset

from lkm_kit.training import TrainConfig, train

PRELOAD = ["lkm_kit.training.preload", "lkm_kit.studies.runner", "toy_study"]
"""What the fork server of a test process imports, once for all its tests."""


class Squares(Dataset):
    """A square of class 1 (bright) and one of class 2 (dark) on noise; item i is a function of (seed, i)."""

    def __init__(self, length: int, seed: int = 0, size: int = 16):
        self.length, self.seed, self.size = length, seed, size

    @property
    def digest(self):
        return f"{self.length} squares of seed {self.seed} and size {self.size}"

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        random = torch.Generator().manual_seed(1000 * self.seed + index)
        image = 0.1 * torch.randn(1, self.size, self.size, generator=random)
        label = torch.zeros(self.size, self.size, dtype=torch.long)
        for organ, value in ((1, 1.0), (2, -1.0)):
            row, column = torch.randint(0, self.size // 2, (2,), generator=random).tolist()
            label[row : row + 5, column : column + 5] = organ
            image[0][label == organ] = value
        return {"image": image, "label": label}

    def score(self, network, record, device):
        """As the cases of a study are asked: every square is one."""
        from lkm_kit.evaluation import score_slices
        from lkm_kit.evaluation.inference import settings_of

        table = settings_of(record)["table"]
        return score_slices(network, self, table=table, spacing_mm=3.0, device=device)


class Poisoned(Squares):
    """The same, but item ``bad`` holds a NaN pixel."""

    bad = 9

    @property
    def digest(self):
        return f"{super().digest}, poisoned"

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if index == self.bad:
            item["image"][0, 0, 0] = torch.nan
        return item


class TwoHeads(nn.Module):
    """Convolutions with dropout, and two heads as under deep supervision."""

    def __init__(self, classes: int = 3, dropout: float = 0.2):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Conv2d(8, classes, 3, padding=1)
        self.low = nn.Conv2d(8, classes, 1)

    def forward(self, x):
        x = self.body(x)
        return [self.head(x), self.low(nn.functional.avg_pool2d(x, 2))]


def toy_config(**changes) -> TrainConfig:
    fields = {
        "organs": ("liver", "spleen"), "image_size": (16, 16), "batch_size": 4, "iterations": 12, "validate_every": 4,
        "optimizer": "adamw", "learning_rate": 1e-2, "train_slices": 32, "validation_slices": 8,
    }  # fmt: skip
    return TrainConfig(**{**fields, **changes})


def toy_data(config: TrainConfig, kind=Squares):
    return {"train": kind(config.train_slices, seed=1), "validation": Squares(config.validation_slices, seed=2)}


def toy_network(seed: int = 0, dropout: float = 0.2) -> nn.Module:
    torch.manual_seed(seed)
    return TwoHeads(dropout=dropout)


def start(config, folder, *, watch=None, workers=0, network=toy_network):
    """Train on the squares; started again in the same folder, it resumes."""
    built = network() if network else None
    return train(
        config, folder, network=built, data=toy_data(config), device="cpu", progress=False, watch=watch, workers=workers
    )


def _start_with_killer(config, folder, at_step, network):
    def killer(step, loss, history):
        if step == at_step:
            os.kill(os.getpid(), signal.SIGKILL)

    start(config, folder, watch=killer, network=network)


def in_a_process(work, *arguments, said=None):
    """A started process of its own that does ``work(*arguments)``; its standard error goes into the file ``said``.

    Not a fork of this process: once torch's OpenMP pool has run here, a forked child waits for its threads for ever.
    The fork server starts clean, imports once, and forks from there.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        import pytest  # not in the fork server

        pytest.skip("Windows has no fork server")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_with_error_in, args=(said, work, arguments), daemon=True)
    process.start()
    return process


def _with_error_in(said, work, arguments):
    torch.set_num_threads(1)
    if said is not None:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    work(*arguments)


def start_and_die(config, folder, at_step, network=toy_network):
    """Train in a process that is killed after ``at_step``."""
    process = in_a_process(_start_with_killer, config, folder, at_step, network)
    process.join(120)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"the training hangs before step {at_step}")
    assert process.exitcode == -signal.SIGKILL
