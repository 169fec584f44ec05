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

    def dices(p: Tensor, t: Tensor) -> Tensor:
        return ((2 * (p * t).sum((0, 2, 3)) + 1e-5) / ((p + t).sum((0, 2, 3)) + 1e-5))[1:]

    def pooled(p: Tensor, t: Tensor) -> Tensor:
        return (2 * (p * t).sum() + 1e-5) / ((p + t).sum() + 1e-5)

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
    hardly = absent.clone()  # class 2 is predicted a little everywhere: what is added decides
    hardly[:, 2] = 1e-6
    cases.append((hardly, absent.clone()))
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
            (
                lambda p, t: dice_loss(p, t, above=1e-8, below=1e-8),
                "1e-5 is added, no smaller number: it decides where a class is hardly predicted and not there",
            ),
            (lambda p, t: dice_loss(p, t, above=1.0, below=1.0), "1e-5 is added, not 1"),
            (lambda p, t: dice_loss(p, t, above=1e-5, below=0.0), "1e-5 stands above *and* below the line"),
            (
                lambda p, t: dice_loss(p, t, above=2e-5),
                "1e-5 is added to twice the overlap: it is not doubled itself",
            ),
            (
                lambda p, t: 1 - pooled(p[:, 1:], t[:, 1:]),
                "one Dice per class, then their mean: do not pool the classes",
            ),
            (lambda p, t: 1 - pooled(p, t), "one Dice per class, without class 0: do not pool the classes"),
            (lambda p, t: 1 - dices(p, t).sum(), "the mean over the classes, not the sum"),
            (lambda p, t: 1 - dices(p, t), "one number: the mean over the classes"),
            (lambda p, t: 1 - dices(p, t).median(), "the mean over the classes, not the median"),
            (lambda p, t: 1 - dices(p, t) @ t.sum((0, 2, 3))[1:] / t[:, 1:].sum(), "every class weighs the same"),
            (
                lambda p, t: (
                    1 - dices(torch.nn.functional.one_hot(p.argmax(1), p.shape[1]).movedim(-1, 1).float(), t).mean()
                ),
                "soft: the probabilities themselves, not their largest",
            ),
            (lambda p, t: 1 - dices(p, t).mean() / 2, "twice the overlap stands above the line"),
            (lambda p, t: 1 - (dices(p, t) / (2 - dices(p, t))).mean(), "this is the Jaccard index, not Dice"),
            (lambda p, t: 1 - dices(p.softmax(1), t).mean(), "p holds probabilities already: no softmax"),
            (
                lambda p, t: dice_loss(p[:1], t[:1]),
                "the whole batch counts, not its first image alone",
            ),
            (lambda p, t: -dices(p, t).mean(), "1 minus it: a perfect overlap has the loss 0"),
        ],
    )


def check_poly_rate(fn: Callable) -> CheckResult:
    """``fn(step, iterations, start)``: the learning rate of nnU-Net's poly decay."""
    return check_function(
        fn,
        lambda step, iterations, start: start * (1 - step / iterations) ** 0.9,
        [(0, 100, 0.01), (50, 100, 0.01), (999, 1000, 0.1), (30, 40, 3.0)],
        hints=(
            "what is the rate at the first step, and at the last?",
            "start times (the share of steps that is left) to the power 0.9",
        ),
        mistakes=[
            (lambda s, n, r: r * (1 - s / n), "this falls in a straight line: the power 0.9 is missing"),
            (lambda s, n, r: r * (s / n) ** 0.9, "this rises: take the share of steps that is left"),
            (lambda s, n, r: r * (1 - (s + 1) / n) ** 0.9, "off by one: steps are counted from 0"),
            (
                lambda s, n, r: r * (1 - s / (n - 1)) ** 0.9 if s < n else 0.0,
                "divide by the number of steps, not one less",
            ),
            (lambda s, n, r: r * (1 - (s / n) ** 0.9), "the power belongs to the whole of 1 - step / iterations"),
            (lambda s, n, r: (r * (1 - s / n)) ** 0.9, "the power belongs to the share alone: start stands before it"),
            (lambda s, n, r: (1 - s / n) ** 0.9, "start is missing: this is a share of it"),
            (lambda s, n, r: r * (1 - s / n) ** 2, "the power is 0.9"),
            (lambda s, n, r: r * (1 - s / n) ** (1 / 0.9), "the power is 0.9, not its inverse"),
            (lambda s, n, r: r * 0.9 * (1 - s / n), "a power of 0.9, not a factor"),
            (lambda s, n, r: r * 0.9 ** (s / n), "0.9 is the power, not the base"),
            (lambda s, n, r: r * 0.9**s, "0.9 is the power, not the base"),
            (lambda s, n, r: r - (1 - s / n) ** 0.9, "start *times* the share to the power 0.9"),
            (lambda s, n, r: r * (1 - s // n) ** 0.9, "// makes the share 0 all the way: divide with /"),
            (lambda s, n, r: r * 0.5 * (1 + np.cos(np.pi * s / n)), "that is a cosine; poly decay is a power"),
        ],
    )


def check_surface_dice(fn: Callable) -> CheckResult:
    """``fn(a_to_b, b_to_a, tolerance)``: NSD from the distances of both surfaces' points."""

    def nsd(a: np.ndarray, b: np.ndarray, tolerance: float) -> float:
        return float(((a <= tolerance).sum() + (b <= tolerance).sum()) / (len(a) + len(b)))

    cases = [
        (np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0]), 1.0),
        (np.array([0.0, 2.0, 2.0, 2.0, 9.0]), np.array([1.0, 2.0, 2.5, 3.0, 3.0, 8.0]), 2.0),
        (np.array([5.0]), np.array([6.0, 7.0]), 2.0),
        (np.array([1.5, 1.75, 0.0, 2.5]), np.array([1.75, 0.5, 1.25]), 1.5),
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
            (lambda a, b, t: (b <= t).mean(), "both surfaces count, this looks at one"),
            (lambda a, b, t: 2 * (a <= t).sum() / (len(a) + len(b)), "both surfaces count, this looks at one"),
            (lambda a, b, t: (a <= t).sum() + (b <= t).sum(), "a share: divide by the number of all points"),
            (lambda a, b, t: 2 * nsd(a, b, t), "the sum of both counts stands above the line, and is not doubled"),
            (lambda a, b, t: 1 - nsd(a, b, t), "this is the share of points that are too far away"),
            (lambda a, b, t: 100 * nsd(a, b, t), "a share from 0 to 1, not in percent"),
            (lambda a, b, t: min((a <= t).mean(), (b <= t).mean()), "all points together: add the counts, divide once"),
            (
                lambda a, b, t: float(np.sqrt((a <= t).mean() * (b <= t).mean())),
                "all points together: add the counts, divide once",
            ),
            (
                lambda a, b, t: 2 * (a <= t).mean() * (b <= t).mean() / max((a <= t).mean() + (b <= t).mean(), 1e-9),
                "all points together: add the counts, divide once",
            ),
            (
                lambda a, b, t: float((np.concatenate([a, b]).mean()) <= t),
                "count the points; the mean distance is another measure",
            ),
            (lambda a, b, t: nsd(a.round(), b.round(), t), "distances are no whole numbers: do not round them"),
            (lambda a, b, t: nsd(a, b, int(t)), "the tolerance is no whole number: do not round it"),
            (
                lambda a, b, t: ((a <= t).sum() + (b <= t).sum()) / (2 * len(a)),
                "there are len(b) points on the other one",
            ),
            (
                lambda a, b, t: ((a <= t).sum() + (b <= t).sum()) / (2 * len(b)),
                "there are len(a) points on the first one",
            ),
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
        [(mask(2, 3, 4, 5),), (mask(1, 6),), (mask(3),), (mask(0, 1, 4),), (mask(5, 7),)],
        hints=(
            "which slice is the first with the organ, and which the last; are both scored?",
            "from the first slice with the organ (included) to the last one (excluded), gaps included",
        ),
        mistakes=[
            (lambda truth: scored(truth, last=1), "sensible, but not what the script does: it leaves the last one out"),
            (lambda truth: sorted(set(np.nonzero(truth)[2].tolist()))[:-1], "slices in a gap count too"),
            (
                lambda truth: sorted(set(np.nonzero(truth)[2].tolist())),
                "slices in a gap count too, and the script leaves the last one out",
            ),
            (lambda truth: [n + 1 for n in scored(truth)], "the first slice is scored, and the last one is not"),
            (lambda truth: [n + 1 for n in scored(truth, last=-1)], "the first slice with the organ is scored as well"),
            (lambda truth: scored(truth.transpose(2, 1, 0)), "axis 2 counts slices"),
            (lambda truth: scored(truth.transpose(0, 2, 1)), "axis 2 counts slices"),
            (lambda truth: list(range(truth.shape[2])), "not the whole volume: from the first slice with the organ"),
            (
                lambda truth: list(range(truth.shape[2] - 1)),
                "not the whole volume: from the first slice with the organ",
            ),
            (lambda truth: scored(truth)[::-1], "from the first slice on, in rising order"),
            (
                lambda truth: (int(np.nonzero(truth)[2].min()), int(np.nonzero(truth)[2].max())),
                "all slices from the one to the other, not the two ends",
            ),
            (lambda truth: len(scored(truth)), "their numbers, not how many they are"),
            (lambda truth: scored(truth, last=-1), "Python's z_lower:z_upper leaves out one slice, not two"),
            (lambda truth: scored(truth[:, :, ::-1]), "slices are counted from the first one, 0"),
        ],
    )
