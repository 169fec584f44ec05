"""A study whose runs take a second each: two networks, bright and dark squares."""

import os
import signal
import time
from pathlib import Path

from toy_training import Poisoned, Squares

from lkm_kit.profiles import Profile
from lkm_kit.studies import Arm, Study
from lkm_kit.studies.runner import make_plan

SIZE = Profile(
    name="toy", network="tiny-2d", image_size=(16, 16), spacing_mm=3.0, organs=("liver", "spleen"), batch_size=4,
    iterations=4, optimizer="adamw", learning_rate=1e-2, validate_every=2, validation_slices=4, test_slices=4,
    workers=0, seeds=(0,), repeats=2, test_cases=4,
)  # fmt: skip
UNET = {"features_per_stage": [4, 8], "strides": [[1, 1], [2, 2]], "kernel_sizes": 3}
STUDY = Study(
    "toy-study",
    "Does Mamba help to see squares?",
    (
        Arm("control", "no Mamba", "residual-unet/tiny-2d", UNET),
        Arm("lkm", "LKM-UNet", "lkm-unet/tiny-2d", {**UNET, "windows": [8, 4]}),
    ),
    control="control",
)


def plan(root, seeds=1, study=STUDY, **changes):
    return make_plan(study, SIZE, seeds, root=root, **changes)


def squares(job):
    lengths = {"train": job.config.train_slices, "validation": job.config.validation_slices, "test": job.test_cases}
    return {split: Squares(length, seed=k) for k, (split, length) in enumerate(lengths.items())}


def other_source(job):
    return {**squares(job), "source": "a phantom"}


def poisoned(job):
    """Arm "lkm" meets a NaN pixel."""
    data = squares(job)
    return {**data, "train": Poisoned(job.config.train_slices)} if job.arm == "lkm" else data


def broken(job):
    if job.arm == "lkm":
        raise RuntimeError("the disk with the scans is gone")
    return squares(job)


class _Deadly(Squares):
    """Kills its process when item ``last`` is asked for."""

    last = 0

    def __getitem__(self, index):
        if index == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def deadly(split, item, job):
    """Kill -9 at an item of a split; for functools.partial."""
    data = squares(job)
    data[split].__class__, data[split].last = _Deadly, item
    return data


class _Stopping(Squares):
    """Notes every item that is asked for, and waits at item ``last`` until there is a file "go on"."""

    flags, last = "", 0

    def __getitem__(self, index):
        with open(Path(self.flags) / "asked", "a") as handle:
            handle.write(f"{int(index)}\n")
        while index == self.last and not (Path(self.flags) / "go on").exists():
            time.sleep(0.1)
        return super().__getitem__(index)


def stopping(flags, job):
    """A training that stands still in its third step, until it is told to go on; for functools.partial."""
    data = squares(job)
    data["train"].__class__, data["train"].flags, data["train"].last = _Stopping, flags, 9
    return data
