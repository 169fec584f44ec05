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
            (lambda e, i, b, r: e * b / r / 3600, "an epoch has several iterations"),
            (lambda e, i, b, r: e * i * b / r / 3600 / 24, "those are days"),
            (lambda e, i, b, r: e * i / (b * r) / 3600, "a larger batch is more images: multiply"),
            (lambda e, i, b, r: e * i * b / 3600, "the rate is missing: images a second"),
            (lambda e, i, b, r: round(e * i * b / r / 3600), "not rounded"),
            (lambda e, i, b, r: e * i * b / r // 3600, "not rounded: / instead of //"),
            (lambda e, i, b, r: (e + i) * b / r / 3600, "every epoch has that many iterations: multiply"),
            (lambda e, i, b, r: e * i * b / r / 60 / 24, "an hour has 60 · 60 seconds"),
        ],
    )


def check_trainings(fn: Callable) -> CheckResult:
    """``fn(studies, folds, seeds)``: trainings of several studies when a network that two of them have runs once."""

    def target(studies: Sequence[Sequence[str]], folds: int, seeds: int) -> int:
        return len({network for one in studies for network in one}) * folds * seeds

    return check_function(
        fn,
        target,
        [
            ([["a", "b", "c"]], 1, 3),
            ([["a", "b", "c"], ["c", "d"]], 5, 2),
            ([["b"], ["a", "b", "c"], ["c", "b", "e"]], 3, 4),
        ],
        hints=(
            "which networks are there, each counted once?",
            "count every network once, however many studies have it; then every fold with every seed",
        ),
        mistakes=[
            (lambda s, f, n: sum(map(len, s)) * f * n, "a network that two studies share is trained once"),
            (lambda s, f, n: len({a for one in s for a in one}) * n, "each seed is trained on every fold"),
            (lambda s, f, n: len({a for one in s for a in one}) * f, "each fold is trained with every seed"),
            (lambda s, f, n: len({a for one in s for a in one}) * (f + n), "folds and seeds multiply"),
            (lambda s, f, n: len(s) * f * n, "count the networks, not the studies"),
            (lambda s, f, n: len({a for one in s for a in one}), "every fold with every seed: times both"),
            (lambda s, f, n: max(map(len, s)) * f * n, "the networks of all studies together, each counted once"),
            (lambda s, f, n: len(s[0]) * f * n, "the networks of all studies together, each counted once"),
            (lambda s, f, n: len(set.union(*map(set, s))) * f**n, "each fold with each seed: a product"),
            (
                lambda s, f, n: len(set.intersection(*map(set, s))) * f * n,
                "all networks, not those that every study has",
            ),
            (lambda s, f, n: sum(map(len, map(set, s))) * f * n, "a network that two studies share is trained once"),
        ],
    )


def check_seeds_needed(fn: Callable) -> CheckResult:
    """``fn(difference, spread)``: seeds an arm until a difference is 2.8 standard errors (normal theory)."""

    def target(difference: float, spread: float) -> int:
        return max(2, int(np.ceil(2 * (2.8 * spread / difference) ** 2)))

    return check_function(
        fn,
        target,
        # 0.86 and 2.15: 98, a whole number, and no way to write the formula is rounded to a little more
        [(0.86, 2.15), (0.25, 0.5), (10.0, 1.0), (1.0, 0.45), (1.5, 1.0)],
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
            (lambda d, s: max(2, 2 * (2.8 * s / d) ** 2), "half a training does not exist: round up"),
            (
                lambda d, s: max(2, int(2 * (2.8 * s / d) ** 2) + 1),
                "a whole number stays as it is: round up, do not add 1",
            ),
            (
                lambda d, s: max(2, int(np.ceil(2 * (1.96 * s / d) ** 2))),
                "2.8 standard errors: with 1.96 it is seen in half of the studies only",
            ),
            (
                lambda d, s: max(2, int(np.ceil(2 * (2.8 * d / s) ** 2))),
                "spread over difference: a small one takes more seeds",
            ),
            (lambda d, s: max(2, int(np.ceil(4 * (2.8 * s / d) ** 2 - 1e-9))), "seeds of *one* arm: half of these"),
            (lambda d, s: max(2, int(np.ceil(2 * 2.8 * (s / d) ** 2))), "2.8 is squared as well"),
            (
                lambda d, s: max(2, int(np.ceil(2.8 * s / d * 2**0.5))),
                "solve for n: the root goes away, all is squared",
            ),
            (lambda d, s: max(2, int(np.ceil(2 * 2.8**2 * s / d**2))), "a variance is the square of the spread"),
            (
                lambda d, s: max(2, int(np.ceil(2.8**2 * s**2 / d**2 / 2))),
                "variances of both arms add: twice, not half",
            ),
            (lambda d, s: max(1, int(np.ceil(2 * (2.8 * s / d) ** 2))), "one seed has no spread: at least two"),
            (lambda d, s: max(3, int(np.ceil(2 * (2.8 * s / d) ** 2 - 1e-9))), "at least two, not three"),
            (lambda d, s: 2 + int(np.ceil(2 * (2.8 * s / d) ** 2)), "at least two: the larger of both, not their sum"),
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
        [(np.array([0.5, 0.7, 0.65]),), (np.array([0.5, nan, 0.6, nan, 0.9]),)],
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
            (lambda x: (float(np.nanmean(x)),) * 2, "officially, a case where nobody sees the organ scores 1"),
            (
                lambda x: (float(np.nan_to_num(x, nan=1.0).mean()),) * 2,
                "plainly, such a case is left out of the mean: it is neither right nor wrong",
            ),
            (
                lambda x: (float(np.nan_to_num(x, nan=1.0).mean()), float(np.nanmedian(x))),
                "the plain rule takes the mean as well, not the median",
            ),
            (lambda x: (float(x.mean()), float(np.nanmean(x))), "a mean over nan is nan: put a 1 in its place"),
            (
                lambda x: (float(np.nan_to_num(x, nan=1.0).mean()), float(x.mean())),
                "a mean over nan is nan: leave it out",
            ),
            (
                lambda x: (float((np.nansum(x) + np.isnan(x).any()) / len(x)), float(np.nanmean(x))),
                "each such case scores 1",
            ),
            (
                lambda x: (float(np.nan_to_num(x, nan=100.0).mean()), float(np.nanmean(x))),
                "scores go from 0 to 1 here: such a case counts as 1",
            ),
            (
                lambda x: (float(np.nan_to_num(x, nan=1.0).sum() / (~np.isnan(x)).sum()), float(np.nanmean(x))),
                "officially all cases count, in the sum and in what it is divided by",
            ),
        ],
    )
