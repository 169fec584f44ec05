"""What a study will cost and what it can show, before anything of it has run.

Hours come from counted operations and two stated assumptions, so they are *extrapolated*, never measured. The two are
the peak of a device as its maker states it, and the share of that peak which a training reaches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import pandas as pd

from lkm_kit.errors import KitError
from lkm_kit.studies.arm import BUDGET, Arm
from lkm_kit.studies.costs import cost

FORWARD_AND_BACKWARD = 3.0
"""Operations of a training step in forward passes: the backward pass computes two products where forward has one."""

CHECKPOINTS = 2
"""Files that nnU-Net keeps of a finished training: the best one and the last one."""


@dataclasses.dataclass(frozen=True)
class Device:
    """What the hours are extrapolated with.

    Args:
        name: of the device.
        tflops: peak rate in 10**12 operations a second, as the maker states it.
        share: of that peak, low and high: what a training reaches. An assumption.

    Raises:
        KitError: no rate, or shares that are no shares.
    """

    name: str
    tflops: float
    share: tuple[float, float]

    def __post_init__(self):
        low, high = self.share
        if not (self.tflops > 0 and 0 < low <= high <= 1):
            raise KitError(
                f"{self.name}: {self.tflops} TFLOPS, shares {low} to {high}",
                remedy="give a peak above 0 and two shares in (0, 1], the lower one first",
            )


RTX_3090 = Device("RTX 3090", 35.6, (0.1, 0.4))
"""The paper's GPU; float32 peak. The shares are assumed wide: small layers and scans stay far below a peak."""


def training_hours(gflops: float, batch_size: int, iterations: int, tflops: float, share: float = 1.0) -> float:
    """Hours of a training whose device does ``share`` of ``tflops``; data loading is taken to be hidden behind it.

    Args:
        gflops: of one forward pass of one image, in 10**9.
        batch_size: images a step.
        iterations: steps.
        tflops: peak of the device in 10**12 operations a second.
        share: of the peak that is reached.

    >>> round(training_hours(100, 24, 250_000, tflops=36, share=0.25), 1)
    55.6
    """
    operations = FORWARD_AND_BACKWARD * gflops * 1e9 * batch_size * iterations
    return operations / (tflops * 1e12 * share) / 3600


def extrapolate(
    arms: Iterable[Arm],
    image_size: Sequence[int],
    num_classes: int,
    batch_size: int,
    iterations: int,
    device: Device = RTX_3090,
) -> pd.DataFrame:
    """One row an arm: what one training of it costs.

    Args:
        arms: of a study.
        image_size: (H, W) or (D, H, W).
        num_classes: background included.
        batch_size, iterations: of the training.
        device: the assumptions.

    Returns:
        index: the arm's name; ``parameters_m`` (10**6), ``gflops`` (one image, forward), ``hours_low`` and
        ``hours_high``, extrapolated, and ``checkpoints_gb``: float32 weights and the optimiser's momentum, twice.

    >>> from lkm_kit.studies import study
    >>> extrapolate([study("table3", "smoke").arm("pim")], (96, 96), 7, 8, 400).index.tolist()
    ['pim']
    """
    low, high = device.share
    rows = {}
    for arm in arms:
        about = cost(arm, image_size, num_classes)
        rows[arm.name] = {
            "parameters_m": about["parameters"] / 1e6,
            "gflops": about["gflops"],
            "hours_low": training_hours(about["gflops"], batch_size, iterations, device.tflops, high),
            "hours_high": training_hours(about["gflops"], batch_size, iterations, device.tflops, low),
            "checkpoints_gb": CHECKPOINTS * 2 * 4 * about["parameters"] / 1e9,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("arm")


def distinct_networks(arms: Iterable[Arm]) -> dict[str, list[str]]:
    """Trainings that several arms share, the same network for as long, so that each is made only once a seed.

    Returns:
        name of the first arm that has the network -> names of all that have it.

    >>> from lkm_kit.studies import study
    >>> both = [*study("table2", "paper").arms, *study("table3", "paper").arms]
    >>> [names for names in distinct_networks(both).values() if len(set(names)) > 1]
    [['contiguous-large', 'pim-pam-bim']]
    >>> len(both) - len(distinct_networks(both))
    3
    """
    groups: dict[str, list[str]] = {}
    for arm in arms:
        groups.setdefault(training_of(arm), []).append(arm.name)
    return {names[0]: names for names in groups.values()}


def training_of(arm: Arm) -> str:
    """What decides an arm's training, in words: two arms of one text are one training.

    >>> from lkm_kit.studies import study
    >>> full, large = study("table3", "smoke").arm("pim-pam-bim"), study("table2", "smoke").arm("contiguous-large")
    >>> training_of(full) == training_of(large)
    True
    """
    budget = [getattr(arm, name) for name in (*BUDGET, "share")]
    return f"{arm.network} {sorted((name, str(value)) for name, value in arm.overrides.items())} {budget}"


def detectable(spread: float, seeds: int, *, power: float = 0.8, level: float = 0.05) -> float:
    """The smallest true difference of two arms that ``seeds`` trainings of each will show.

    "Show" means: Student's two-sided t-test of the two groups of scores falls below ``level`` in ``power`` of all such
    studies. The formula takes the sum of two quantiles of t for the quantile of the non-central t: good to a few
    percent from two seeds on.

    Args:
        spread: standard deviation between seeds of one arm, in points; taken to be the same in both.
        seeds: trainings of each arm, at least 2: one training has no spread.
        power, level: as above.

    Raises:
        KitError: fewer than two seeds.

    >>> [round(detectable(0.5, n), 2) for n in (2, 3, 5, 10)]
    [2.68, 1.52, 1.01, 0.66]
    """
    from scipy.stats import t

    if seeds < 2:
        raise KitError("with one seed there is no spread to test against", remedy="train every arm at least twice")
    freedom = 2 * seeds - 2
    return float((t.ppf(1 - level / 2, freedom) + t.ppf(power, freedom)) * spread * (2 / seeds) ** 0.5)
