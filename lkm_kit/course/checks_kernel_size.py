"""Checks of the exercises on kernel sizes (chapter ``09_table2_kernel_size``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from lkm_kit.course.check import CheckResult, check_function


def check_same_length(fn: Callable) -> CheckResult:
    """``fn(side, k)`` → stride whose grid sequences are as long as those of windows of side ``k``."""

    def target(side: int, k: int) -> int:
        return side // k

    return check_function(
        fn,
        target,
        [(320, 40), (96, 24), (20, 5), (12, 12)],
        hints=(
            "how many tokens has a window, how many a grid?",
            "a window holds k² tokens, a grid of stride p holds (side / p)²: make them equal",
        ),
        mistakes=[
            (lambda s, k: k, "the same number means another length: a grid of stride k has (side // k)² tokens"),
            (lambda s, k: k * k, "that is how many tokens the window holds; asked is the stride"),
            (lambda s, k: (s // k) ** 2, "that is how many windows there are; asked is the stride along one axis"),
        ],
    )


def check_order_agreement(fn: Callable) -> CheckResult:
    """``fn(ours, theirs)`` → share of pairs in the same order minus share of pairs in opposite ones."""

    def target(ours: Sequence[float], theirs: Sequence[float]) -> float:
        pairs = list(combinations(range(len(ours)), 2))
        return sum(np.sign(ours[i] - ours[j]) * np.sign(theirs[i] - theirs[j]) for i, j in pairs) / len(pairs)

    def concordant_only(ours: Sequence[float], theirs: Sequence[float]) -> float:
        return (target(ours, theirs) + 1) / 2

    def neighbours_only(ours: Sequence[float], theirs: Sequence[float]) -> float:
        return float(np.mean(np.sign(np.diff(ours)) * np.sign(np.diff(theirs))))

    def pearson(ours: Sequence[float], theirs: Sequence[float]) -> float:
        return float(np.corrcoef(ours, theirs)[0, 1])

    published = [75.89, 76.45, 77.35]
    return check_function(
        fn,
        target,
        [([70.0, 74.0, 72.0], published), ([3.0, 2.0, 1.0], published), ([0.1, 0.5, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0])],
        hints=(
            "list all pairs of settings: for which of them do both tables agree?",
            "for each pair: +1 if both tables put it in the same order, -1 if not; then the mean over all pairs",
        ),
        mistakes=[
            (concordant_only, "that is the share of agreeing pairs; take off the share of disagreeing ones"),
            (neighbours_only, "all pairs, not only neighbours: three settings have three pairs"),
            (pearson, "that is a correlation of the scores; asked is whether pairs are in the same order"),
            (lambda a, b: -target(a, b), "the sign is turned round: agreement counts +1"),
        ],
    )
