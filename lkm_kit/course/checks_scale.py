"""Checks of the exercises on scale and design (chapter ``15_full_scale_reproduction``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lkm_kit.course.check import CheckResult, check_function


def check_gpu_hours(fn: Callable) -> CheckResult:
    """``fn(epochs, iterations, batch_size, images_per_second)``: hours of one training at a measured throughput."""

    def target(epochs: int, iterations: int, batch_size: int, images_per_second: float) -> float:
        return epochs * iterations * batch_size / images_per_second / 3600

    return check_function(
        fn,
        target,
        [(20, 36, 10, 2.0), (1000, 250, 24, 40.0)],
        hints=(
            "how many images does the training see in all?",
            "all images that the training sees, divided by images a second, in hours",
        ),
        mistakes=[
            (lambda e, i, b, r: e * i / r / 3600, "every iteration shows a whole batch"),
            (lambda e, i, b, r: i * b / r / 3600, "that is one epoch"),
            (lambda e, i, b, r: e * i * b / r / 60, "those are minutes"),
            (lambda e, i, b, r: e * i * b / r, "those are seconds"),
            (lambda e, i, b, r: e * i * b * r / 3600, "the rate is images a second: divide by it"),
        ],
    )


def check_trainings(fn: Callable) -> CheckResult:
    """``fn(studies, folds, seeds)``: trainings of several studies when a network that two of them have runs once."""

    def target(studies: Sequence[Sequence[str]], folds: int, seeds: int) -> int:
        return len({network for one in studies for network in one}) * folds * seeds

    return check_function(
        fn,
        target,
        [([["a", "b", "c"]], 1, 3), ([["a", "b", "c"], ["c", "d"]], 5, 2)],
        hints=(
            "which networks are there, each counted once?",
            "count every network once, however many studies have it; then every fold with every seed",
        ),
        mistakes=[
            (lambda s, f, n: sum(map(len, s)) * f * n, "a network that two studies share is trained once"),
            (lambda s, f, n: len({a for one in s for a in one}) * n, "each seed is trained on every fold"),
            (lambda s, f, n: len({a for one in s for a in one}) * f, "each fold is trained with every seed"),
            (lambda s, f, n: len({a for one in s for a in one}) * (f + n), "folds and seeds multiply"),
        ],
    )


def check_seeds_needed(fn: Callable) -> CheckResult:
    """``fn(difference, spread)``: seeds an arm until a difference is 2.8 standard errors (normal theory)."""

    def target(difference: float, spread: float) -> int:
        return max(2, int(np.ceil(2 * (2.8 * spread / difference) ** 2 - 1e-9)))

    return check_function(
        fn,
        target,
        [(2.8, 1.0), (1.4, 0.5), (0.25, 0.5), (10.0, 1.0), (1.0, 0.45)],
        hints=(
            "what is the standard error of a difference of two means of n?",
            "a difference of two means of n has the standard error spread · √(2/n): solve for n, round up, at least 2",
        ),
        mistakes=[
            (
                lambda d, s: max(2, int(np.ceil((2.8 * s / d) ** 2))),
                "both arms have a spread: the variance of a difference is twice that of one mean",
            ),
            (lambda d, s: max(2, int(2 * (2.8 * s / d) ** 2)), "half a training does not exist: round up"),
            (
                lambda d, s: max(2, round(2 * (2.8 * s / d) ** 2)),
                "rounded to the nearest, some answers are too small: always round up",
            ),
            (lambda d, s: int(np.ceil(2 * (2.8 * s / d) ** 2)), "one seed has no spread: at least two"),
            (
                lambda d, s: max(2, int(np.ceil(2 * 2.8 * s / d))),
                "the standard error falls with the root of n: to halve it takes four times as many",
            ),
        ],
    )


def check_empty_organs(fn: Callable) -> CheckResult:
    """``fn(dsc)``: means of one organ by the official and the plain rule; nan: truth and prediction are empty."""

    def target(dsc: np.ndarray) -> tuple[float, float]:
        return float(np.nan_to_num(dsc, nan=1.0).mean()), float(np.nanmean(dsc))

    nan = float("nan")
    return check_function(
        fn,
        target,
        [(np.array([0.5, 0.7]),), (np.array([0.5, nan, 0.6, nan]),)],
        hints=(
            "what does nan stand for, and what does each of the two rules make of it?",
            "official: a case where nobody sees the organ scores 1; plain: it is left out. Return (official, plain)",
        ),
        mistakes=[
            (lambda x: (float(np.nanmean(x)), float(np.nan_to_num(x, nan=1.0).mean())), "the official one comes first"),
            (
                lambda x: (float(np.nan_to_num(x).mean()), float(np.nanmean(x))),
                "officially, seeing nothing where nothing is scores 1, not 0",
            ),
            (
                lambda x: (float(np.nan_to_num(x, nan=1.0).mean()), float(np.nan_to_num(x).mean())),
                "plainly, such a case is left out of the mean: it is neither right nor wrong",
            ),
        ],
    )
