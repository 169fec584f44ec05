"""Checks of the exercises on data (chapter ``07_data``)."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import prod

import numpy as np

from lkm_kit.course.check import CheckResult, check_function


def check_to_mm(fn: Callable) -> CheckResult:
    """``fn(affine, indices)`` → mm of every point: affine (4, 4), indices (points, 3)."""
    turned = np.array([[0.0, -2.0, 0.0, 10.0], [3.0, 0.0, 0.0, -20.0], [0.0, 0.0, 5.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
    points = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [10.0, 0.0, 4.0]])
    return check_function(
        fn,
        lambda affine, indices: indices @ affine[:3, :3].T + affine[:3, 3],
        [(np.diag([3.0, 3.0, 5.0, 1.0]), points), (turned, points)],
        hints=(
            "what does the affine do to one index, and where does (0, 0, 0) go?",
            "the upper left 3×3 turns and scales, the last column moves",
        ),
        mistakes=[
            (
                lambda affine, indices: indices @ affine[:3, :3] + affine[:3, 3],
                "points are rows here: transpose the 3×3",
            ),
            (
                lambda affine, indices: indices @ affine[:3, :3].T,
                "the last column is missing: where index (0, 0, 0) lies",
            ),
            (
                lambda affine, indices: indices * np.linalg.norm(affine[:3, :3], axis=0) + affine[:3, 3],
                "the spacing alone knows no directions: axes may be turned or exchanged",
            ),
        ],
    )


def check_translate(fn: Callable) -> CheckResult:
    """``fn(label, source, target)`` → ids of the target's numbering, by name."""

    def by_name(label, source, target):
        result = np.zeros_like(label)
        for name, number in source.items():
            result[label == number] = target.get(name, 0)
        return result

    def in_place(label, source, target):
        result = label.copy()
        for name, number in source.items():
            result[result == number] = target.get(name, 0)
        return result

    def kept(label, source, target):
        result = label.copy()
        for name, number in source.items():
            if name in target:
                result[label == number] = target[name]
        return result

    source = {"spleen": 1, "right kidney": 2, "left kidney": 3, "ribs": 4}
    target = {"right kidney": 1, "left kidney": 2, "spleen": 3}
    return check_function(
        fn,
        by_name,
        [(np.array([0, 1, 2, 3]), source, target), (np.array([[4, 1], [0, 3]]), source, target)],
        hints=(
            "which array do you read from, and which do you write into?",
            "start from zeros, and ask the original array where each id is",
        ),
        mistakes=[
            (in_place, "a value was translated twice: read from the original, write into a new array"),
            (kept, "what the target does not know must become 0, not keep its number"),
        ],
    )


def check_slice_gap(fn: Callable) -> CheckResult:
    """``fn(gap_mm, spacing_z)`` → slices to drop between two slabs."""

    def drop(gap: float, spacing: float) -> int:
        return max(0, math.ceil(gap / spacing - 1e-9) - 1)

    return check_function(
        fn,
        drop,
        [(9.0, 3.0), (10.0, 3.0), (9.0, 5.0), (2.0, 5.0), (0.0, 3.0)],
        hints=(
            "draw slices as points that are spacing_z apart, drop one, and measure",
            "with k slices dropped the two neighbours are (k + 1) spacings apart",
        ),
        mistakes=[
            (lambda g, s: drop(g, s) + 1, "one too many: the slices that are kept lie a spacing apart already"),
            (lambda g, s: int(g // s), "k slices dropped leave (k + 1) spacings between the neighbours"),
            (lambda g, s: math.ceil(g / s) - 1, "without a gap nothing is dropped: never fewer than 0 slices"),
            (lambda g, s: math.ceil(g / s), "one too many: the slices that are kept lie a spacing apart already"),
            (lambda g, s: max(0, int(g / s) - 1), "round up: at least the gap, not at most"),
            (lambda g, s: int(g / s) - 1, "round up: at least the gap, not at most"),
        ],
    )


def check_box_dice(fn: Callable) -> CheckResult:
    """``fn(size, shift)`` → DSC of a box with itself, moved."""

    def overlap(size, shift) -> float:
        return prod(max(0, s - abs(d)) / s for s, d in zip(size, shift))

    return check_function(
        fn,
        overlap,
        [((10,), (1,)), ((10, 20), (1, -2)), ((4, 4, 4), (1, 1, 1)), ((3, 3), (5, 5))],
        hints=(
            "along one axis: of how many voxels do the box and the moved box both consist?",
            "both boxes are equally large, so DSC = overlap / size of one box",
        ),
        mistakes=[
            (
                lambda size, shift: prod((s - d) / s for s, d in zip(size, shift)),
                "a shift may be negative, or too large",
            ),
            (
                lambda size, shift: prod((s - abs(d)) / s for s, d in zip(size, shift)),
                "a box that is moved by more than its size has no voxel in common with itself: not below 0",
            ),
            (
                lambda size, shift: prod(max(0, s - d) / s for s, d in zip(size, shift)),
                "a shift may be negative: take its size",
            ),
            (
                lambda size, shift: overlap(size, shift) / (2 - overlap(size, shift)),
                "this is the Jaccard index (intersection over union)",
            ),
        ],
    )
