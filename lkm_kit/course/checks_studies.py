"""Checks of the exercises on studies and statistics (chapters ``09_table2_kernel_size`` and ``10_table3_ablation``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lkm_kit.course.check import CheckResult, check_function


def check_paired(fn: Callable) -> CheckResult:
    """``fn(arm, control)``: two (seeds, cases) arrays with gaps (nan) → mean of the paired differences."""

    def target(arm: np.ndarray, control: np.ndarray) -> float:
        return float(np.nanmean(arm - control))

    with_gaps = (np.array([[0.8, 0.6, np.nan], [0.7, 0.9, 0.5]]), np.array([[0.3, np.nan, 0.2], [0.6, 0.6, 0.6]]))
    return check_function(
        fn,
        target,
        [
            (np.array([[0.5, 0.7, 0.9]]), np.array([[0.4, 0.3, 0.2]])),
            with_gaps,
            (with_gaps[1], np.sqrt(with_gaps[0][::-1])),
        ],
        hints=(
            "what is subtracted from what, and what happens to a gap?",
            "subtract cell by cell first, then average the cells that have a number on both sides",
        ),
        mistakes=[
            (lambda a, b: float(np.nanmean(a) - np.nanmean(b)), "means of different cells: leave a gap out of *both*"),
            (
                lambda a, b: float(np.nanmean(a - b, axis=1).mean()),
                "a mean of the seeds' means gives the cells of a seed with gaps more weight: one mean over all cells",
            ),
            (
                lambda a, b: float(np.nanmean(np.nanmean(a - b, axis=0))),
                "a mean of the cases' means gives the cells of a case with gaps more weight: one mean over all cells",
            ),
            (lambda a, b: target(b, a), "arm minus control, not control minus arm"),
            (lambda a, b: float(np.nanmean(np.abs(a - b))), "signed differences: losses count against gains"),
            (lambda a, b: float(np.mean(a - b)), "one gap makes the mean nan: use np.nanmean"),
            (lambda a, b: float(np.nanmedian(a - b)), "the mean of the differences, not their median"),
            (lambda a, b: float(np.nansum(a - b)), "the mean of the differences, not their sum"),
            (lambda a, b: float(np.nansum(a - b) / a.size), "a gap is no cell: divide by the number of differences"),
            (
                lambda a, b: float(np.mean(np.nan_to_num(a) - np.nan_to_num(b))),
                "a gap is no 0: leave it out on both sides",
            ),
            (lambda a, b: np.nanmean(a - b, axis=0), "one number: the mean over seeds *and* cases"),
            (lambda a, b: np.nanmean(a - b, axis=1), "one number: the mean over seeds *and* cases"),
            (lambda a, b: float(np.nanmean((a - b) / b)), "a difference in points, not relative to the control"),
            (lambda a, b: 100 * float(np.nanmean(a - b)), "in the scores' own unit, not in percent of it"),
            (lambda a, b: float(np.nanmean((a - b)[0])), "all seeds, not the first one alone"),
            (
                lambda a, b: float(np.nanmean(a - b) / np.nanstd(a - b, ddof=1)),
                "that is the mean in standard deviations: asked is the mean",
            ),
            (lambda a, b: float(np.nanmean((a - b) ** 2)), "signed differences, not their squares"),
        ],
    )


def check_holm(fn: Callable) -> CheckResult:
    """``fn(p)`` → Holm's adjusted p-values, in the order of ``p``."""

    def holm(p: Sequence[float], running: bool = True, highest: float = 1.0) -> np.ndarray:
        p = np.asarray(p, float)
        order = np.argsort(p, kind="stable")
        stepped = p[order] * np.arange(len(p), 0, -1)
        stepped = np.maximum.accumulate(stepped) if running else stepped
        adjusted = np.empty_like(p)
        adjusted[order] = np.minimum(stepped, highest)
        return adjusted

    def backward(p: Sequence[float], factors: np.ndarray) -> np.ndarray:
        p = np.asarray(p, float)
        order = np.argsort(p, kind="stable")
        adjusted = np.empty_like(p)
        adjusted[order] = np.minimum(np.minimum.accumulate((p[order] * factors)[::-1])[::-1], 1)
        return adjusted

    def shifted(p: Sequence[float], by: int) -> np.ndarray:
        p = np.asarray(p, float)
        order = np.argsort(p, kind="stable")
        adjusted = np.empty_like(p)
        stepped = np.maximum.accumulate(p[order] * (np.arange(len(p), 0, -1) + by))
        adjusted[order] = np.minimum(stepped, 1)
        return adjusted

    def in_order_of_size(p: Sequence[float]) -> np.ndarray:
        return np.sort(holm(p))

    def by_value(p: Sequence[float]) -> list[float]:
        adjusted = [0.0] * len(p)
        for value, corrected in zip(sorted(p), in_order_of_size(p)):
            adjusted[p.index(value)] = corrected
        return adjusted

    def rising_factors(p: Sequence[float]) -> np.ndarray:
        p = np.asarray(p, float)
        order = np.argsort(p, kind="stable")
        adjusted = np.empty_like(p)
        adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(1, len(p) + 1)), 1)
        return adjusted

    return check_function(
        fn,
        holm,
        [([0.04, 0.01, 0.011, 0.5],), ([0.03, 0.6, 0.02],), ([0.4, 0.9, 0.5],), ([0.2],), ([0.02, 0.3, 0.02],)],
        hints=(
            "sort first: which p is multiplied by how much?",
            "smallest p times n, the next times n - 1, ...; none below its predecessor, none above 1; back in order",
        ),
        mistakes=[
            (
                lambda p: np.minimum(np.asarray(p) * len(p), 1),
                "that is Bonferroni: the next p takes one less",
            ),
            (lambda p: holm(p, running=False), "an adjusted p never falls below that of a smaller p: running maximum"),
            (lambda p: holm(p, highest=np.inf), "a p-value is at most 1: cut off what is above"),
            (lambda p: np.asarray(p), "nothing is adjusted here: the smallest p is multiplied by n"),
            (
                lambda p: np.minimum(np.asarray(p) * np.arange(len(p), 0, -1), 1),
                "sort first: the factor follows the size of p, not its place",
            ),
            (lambda p: backward(p, np.arange(len(p), 0, -1)), "a running maximum from the smallest on, not a minimum"),
            (
                lambda p: backward(p, len(p) / np.arange(1, len(p) + 1)),
                "that is Benjamini and Hochberg's, for the false discovery rate",
            ),
            (lambda p: shifted(p, -1), "off by one: the smallest p is multiplied by n, the largest by 1"),
            (lambda p: shifted(p, 1), "off by one: the smallest p is multiplied by n, the largest by 1"),
            (lambda p: 1 - (1 - np.asarray(p)) ** len(p), "that is Šidák's, and in one step"),
            (lambda p: holm(p) < 0.05, "the adjusted p-values themselves, not whether they are small"),
            (in_order_of_size, "put them back in the order in which the p-values came"),
            (by_value, "equal p-values have a place each, and p.index finds the first: sort the places"),
            (rising_factors, "the smallest p takes the largest factor"),
        ],
    )


def check_interval(fn: Callable) -> CheckResult:
    """``fn(differences, draws)``: differences (cases,), draws (n, cases) of indices → (low, high) of 95 %."""

    def target(differences: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
        return tuple(np.percentile(differences[draws].mean(1), (2.5, 97.5)))

    random = np.random.default_rng(0)
    # each resample four times, so that a percentile taken by its place in the sorted means is the same number
    cases = [(random.normal(size=n), np.tile(random.integers(0, n, (100, n)), (4, 1))) for n in (5, 12)]
    return check_function(
        fn,
        target,
        cases,
        hints=(
            "whose uncertainty is asked: that of a case, or that of the mean?",
            "one mean for each row of draws; then the 2.5th and the 97.5th percentile of these means",
        ),
        mistakes=[
            (
                lambda d, i: tuple(np.percentile(d, (2.5, 97.5))),
                "that is the spread of the cases; asked is how uncertain their *mean* is",
            ),
            (lambda d, i: tuple(np.percentile(d[i].mean(1), (5, 95))), "95 % inside leaves 2.5 % on *each* side"),
            (
                lambda d, i: (d.mean() - d[i].mean(1).std(), d.mean() + d[i].mean(1).std()),
                "one standard deviation to both sides holds 68 %, not 95 %",
            ),
            (
                lambda d, i: (d.mean() - 1.96 * d[i].mean(1).std(), d.mean() + 1.96 * d[i].mean(1).std()),
                "that takes the means for normal: use their percentiles",
            ),
            (
                lambda d, i: tuple(d.mean() + np.array([-1.96, 1.96]) * d.std(ddof=1) / len(d) ** 0.5),
                "that is the formula for normal differences: use the percentiles of the drawn means",
            ),
            (
                lambda d, i: (d[i].mean(1).min(), d[i].mean(1).max()),
                "the ends hold all draws: leave out 2.5 % on each side",
            ),
            (
                lambda d, i: tuple(np.percentile(np.median(d[i], axis=1), (2.5, 97.5))),
                "the mean of each resample, not its median",
            ),
            (lambda d, i: tuple(np.percentile(d[i].sum(1), (2.5, 97.5))), "the mean of each resample, not its sum"),
            (lambda d, i: tuple(np.percentile(d[i], (2.5, 97.5))), "first the mean of each resample: axis 1"),
            (lambda d, i: tuple(np.percentile(d[i].mean(0), (2.5, 97.5))), "wrong axis: each row is a resample"),
            (lambda d, i: tuple(np.percentile(d[i].mean(1), (97.5, 2.5))), "low first, then high"),
            (
                lambda d, i: tuple(np.percentile(d[i].mean(1), (0.025, 0.975))),
                "percentiles are in percent: 2.5 and 97.5",
            ),
            (lambda d, i: tuple(np.percentile(d[i].mean(1), (25, 75))), "that is the middle half: 2.5 and 97.5"),
            (lambda d, i: tuple(np.percentile(i.mean(1), (2.5, 97.5))), "draws are indices: differences[draws]"),
            (
                lambda d, i: (
                    np.percentile(d[i].mean(1), 2.5) - d.mean(),
                    np.percentile(d[i].mean(1), 97.5) - d.mean(),
                ),
                "the ends themselves, not how far they lie from the mean",
            ),
        ],
    )


def check_tokens(fn: Callable) -> CheckResult:
    """``fn(side, k, partition)`` → tokens in one sequence of a ``side``×``side`` map."""

    def target(side: int, k: int, partition: str) -> int:
        return k * k if partition == "contiguous" else (side // k) ** 2

    return check_function(
        fn,
        target,
        [(320, 40, "contiguous"), (320, 40, "dilated"), (96, 24, "count"), (20, 20, "dilated")],
        hints=(
            "which pixels are in one sequence, for each of the partitions?",
            "contiguous: the window's pixels; the others: how often k goes into the side, squared",
        ),
        mistakes=[
            (lambda s, k, p: k * k, "right for windows only: a stride or a count of k makes (side // k)² tokens"),
            (lambda s, k, p: (s // k) ** 2 if p == "contiguous" else k * k, "the partitions are exchanged"),
            (lambda s, k, p: k if p == "contiguous" else s // k, "along one axis only: square it"),
            (lambda s, k, p: s * s, "that is the whole map: it is cut into sequences"),
            (lambda s, k, p: (s // k) ** 2, "right for a stride and a count: a window holds k² pixels"),
            (
                lambda s, k, p: k * k if p != "dilated" else (s // k) ** 2,
                "a count of k windows per axis makes each of them side // k wide",
            ),
            (
                lambda s, k, p: (s // k) ** 2 if p == "count" else k * k,
                "every k-th pixel of a side: side // k of them",
            ),
            (
                lambda s, k, p: 2 * k if p == "contiguous" else 2 * (s // k),
                "a sequence has two axes: square, not double",
            ),
            (lambda s, k, p: s // k if p == "dilated" else target(s, k, p), "a grid has two axes as well: square it"),
            (
                lambda s, k, p: target(s, k, p) + 1,
                "off by one: count the pixels of one sequence for a map of 4×4 and k = 2",
            ),
        ],
    )
