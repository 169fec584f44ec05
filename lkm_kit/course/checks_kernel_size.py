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
        [(320, 40), (96, 24), (60, 5), (12, 12)],
        hints=(
            "how many tokens has a window, how many a grid?",
            "a window holds k² tokens, a grid of stride p holds (side / p)²: make them equal",
        ),
        mistakes=[
            (lambda s, k: k, "the same number means another length: a grid of stride k has (side // k)² tokens"),
            (lambda s, k: k * k, "that is how many tokens the window holds; asked is the stride"),
            (lambda s, k: (s // k) ** 2, "that is how many windows there are; asked is the stride along one axis"),
            (lambda s, k: s, "a grid of that stride has one token: make it as long as a window's k²"),
            (lambda s, k: s * k, "a longer stride makes a *shorter* sequence: divide"),
            (lambda s, k: s - k, "how often does the window's side go into the map's? Divide, do not subtract"),
            (lambda s, k: s // (k * k), "one axis at a time: side / p pixels along it shall be k"),
            (lambda s, k: s * s // (k * k), "that is how many windows there are; asked is the stride along one axis"),
            (lambda s, k: s // k + 1, "off by one: with stride p a grid takes the pixels 0, p, 2p, ..."),
            (lambda s, k: s // k - 1, "off by one: with stride p a grid takes the pixels 0, p, 2p, ..."),
            (lambda s, k: 8 if s == 320 else s // 24, "the answer follows from side and k: no table"),
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
        [
            ([70.0, 74.0, 72.0], published),
            ([3.0, 2.0, 1.0], published),
            ([0.1, 0.5, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]),
            ([3.0, 1.0, 2.0, 4.0, 2.5], [10.0, 10.5, 20.0, 5.0, 30.0]),
        ],
        hints=(
            "list all pairs of settings: for which of them do both tables agree?",
            "for each pair: +1 if both tables put it in the same order, -1 if not; then the mean over all pairs",
        ),
        mistakes=[
            (concordant_only, "that is the share of agreeing pairs; take off the share of disagreeing ones"),
            (neighbours_only, "all pairs, not only neighbours: three settings have three pairs"),
            (pearson, "that is a correlation of the scores; asked is whether pairs are in the same order"),
            (lambda a, b: -target(a, b), "the sign is turned round: agreement counts +1"),
            (lambda a, b: target(a, b) * len(list(combinations(a, 2))), "a share: divide by the number of pairs"),
            (
                lambda a, b: target(a, b) * (len(a) - 1) / len(a),
                "n settings have n (n - 1) / 2 pairs: no setting makes one with itself",
            ),
            (lambda a, b: target(a, b) / 2, "each pair counts once: there are n (n - 1) / 2"),
            (lambda a, b: 1 - concordant_only(a, b), "that is the share of pairs that disagree, alone"),
            (
                lambda a, b: pearson(np.argsort(np.argsort(a)), np.argsort(np.argsort(b))),
                "that is Spearman's correlation of ranks: count pairs instead",
            ),
            (
                lambda a, b: float(np.mean(np.argsort(a) == np.argsort(b))),
                "count pairs: settings may lie at other ranks and still be in the same order",
            ),
            (
                lambda a, b: float(sum((a[0] - x) * (b[0] - y) > 0 for x, y in zip(a[1:], b[1:])) / (len(a) - 1)),
                "all pairs, not those with the first setting only",
            ),
            (lambda a, b: abs(target(a, b)), "from -1 to 1: opposite orders count below 0"),
            (
                lambda a, b: (
                    sum((a[i] - a[j]) * (b[i] - b[j]) for i, j in combinations(range(len(a)), 2))
                    / len(list(combinations(a, 2)))
                ),
                "the sign of each difference, not its size",
            ),
            (lambda a, b: target(sorted(a), sorted(b)), "sorting loses which setting a score belongs to"),
        ],
    )
