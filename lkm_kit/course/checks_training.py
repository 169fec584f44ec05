"""Checks of the exercises on training and scoring (chapter ``08_train``)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lkm_kit.course.check import CheckResult, check_function


def check_soft_dice_loss(fn: Callable) -> CheckResult:
    """``fn(p, t)``: 1 - soft Dice of the organs over a batch; p, t (b, classes, h, w).

    >>> check_soft_dice_loss(lambda p, t: None).ok
    False
    """

    def dice_loss(p: Tensor, t: Tensor, axes=(0, 2, 3), first=1, above=1e-5, below=1e-5) -> Tensor:
        dice = (2 * (p * t).sum(axes) + above) / ((p + t).sum(axes) + below)
        return 1 - dice[..., first:].mean()

    torch.manual_seed(0)
    cases = []
    for batch, classes in ((1, 2), (3, 4)):
        p = torch.randn(batch, classes, 6, 5).softmax(1)
        t = torch.nn.functional.one_hot(torch.randint(0, classes, (batch, 6, 5)), classes).movedim(-1, 1).float()
        cases.append((p, t))
    absent = torch.zeros(1, 3, 4, 4)  # class 2 is neither predicted nor there
    absent[:, 0], absent[:, 1, 1:3, 1:3] = 1.0, 1.0
    absent[:, 0, 1:3, 1:3] = 0.0
    cases.append((absent, absent.clone()))
    return check_function(
        fn,
        dice_loss,
        cases,
        hints=(
            "over which axes do you sum, and when do you divide?",
            "sum over batch and pixels first, one number per class; leave class 0 out; then the mean; then 1 minus it",
        ),
        mistakes=[
            (lambda p, t: dice_loss(p, t, first=0), "the background (class 0) does not belong in the mean"),
            (lambda p, t: dice_loss(p, t, axes=(2, 3)), "sum over the batch as well, before dividing"),
            (
                lambda p, t: dice_loss(p, t, above=0.0, below=0.0),
                "an organ that is neither predicted nor there makes 0/0: add 1e-5 above and below the line",
            ),
            (
                lambda p, t: dice_loss(p, t, above=0.0),
                "an organ that is neither predicted nor there should score 1: add 1e-5 above the line as well",
            ),
            (lambda p, t: 1 - dice_loss(p, t), "this is the Dice itself; a loss falls when the overlap grows"),
        ],
    )


def check_poly_rate(fn: Callable) -> CheckResult:
    """``fn(step, iterations, start)``: the learning rate of nnU-Net's poly decay."""
    return check_function(
        fn,
        lambda step, iterations, start: start * (1 - step / iterations) ** 0.9,
        [(0, 100, 0.01), (50, 100, 0.01), (999, 1000, 0.1)],
        hints=(
            "what is the rate at the first step, and at the last?",
            "start times (the share of steps that is left) to the power 0.9",
        ),
        mistakes=[
            (lambda s, n, r: r * (1 - s / n), "this falls in a straight line: the power 0.9 is missing"),
            (lambda s, n, r: r * (s / n) ** 0.9, "this rises: take the share of steps that is left"),
        ],
    )


def check_surface_dice(fn: Callable) -> CheckResult:
    """``fn(a_to_b, b_to_a, tolerance)``: NSD from the distances of both surfaces' points."""

    def nsd(a: np.ndarray, b: np.ndarray, tolerance: float) -> float:
        return float(((a <= tolerance).sum() + (b <= tolerance).sum()) / (len(a) + len(b)))

    cases = [
        (np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0]), 1.0),
        (np.array([0.0, 2.0, 2.0, 9.0]), np.array([1.0, 2.0, 2.5, 3.0, 3.0, 8.0]), 2.0),
        (np.array([5.0]), np.array([6.0, 7.0]), 2.0),
    ]
    return check_function(
        fn,
        nsd,
        cases,
        hints=(
            "which points of the two surfaces count, and out of how many?",
            "count the points of both surfaces that are near enough, divide by the number of all points",
        ),
        mistakes=[
            (
                lambda a, b, t: ((a < t).sum() + (b < t).sum()) / (len(a) + len(b)),
                "a point exactly at it counts: use <=",
            ),
            (lambda a, b, t: ((a <= t).mean() + (b <= t).mean()) / 2, "add the counts first, then divide once"),
            (lambda a, b, t: (a <= t).mean(), "both surfaces count, this looks at one"),
        ],
    )


def check_official_slices(fn: Callable) -> CheckResult:
    """``fn(truth)``: numbers of the slices that the released script scores for aorta, vena cava and esophagus."""

    def mask(*slices: int) -> np.ndarray:
        truth = np.zeros((4, 3, 8), dtype=bool)
        truth[1, 2, list(slices)] = True
        return truth

    def scored(truth: np.ndarray, last: int = 0) -> list[int]:
        where = np.nonzero(truth)[2]
        return list(range(int(where.min()), int(where.max()) + last))

    return check_function(
        fn,
        scored,
        [(mask(2, 3, 4, 5),), (mask(1, 6),), (mask(3),)],
        hints=(
            "which slice is the first with the organ, and which the last; are both scored?",
            "from the first slice with the organ (included) to the last one (excluded), gaps included",
        ),
        mistakes=[
            (lambda truth: scored(truth, last=1), "sensible, but not what the script does: it leaves the last one out"),
            (lambda truth: sorted(set(np.nonzero(truth)[2].tolist()))[:-1], "slices in a gap count too"),
        ],
    )
