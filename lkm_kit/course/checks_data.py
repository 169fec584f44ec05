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
    oblique = turned + np.array([[0.4, 0.2, 0.0, 0.5], [0.0, 0.1, -0.3, 0.0], [0.2, 0.0, 0.0, -9.75], [0.0] * 4])
    points = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [10.0, 0.0, 4.0]])
    return check_function(
        fn,
        lambda affine, indices: indices @ affine[:3, :3].T + affine[:3, 3],
        [(np.diag([3.0, 3.0, 5.0, 1.0]), points), (turned, points), (oblique, points[1:] - [0.5, 4.0, 0.25])],
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
            (
                lambda affine, indices: indices * np.diag(affine)[:3] + affine[:3, 3],
                "the diagonal alone knows no directions: axes may be turned or exchanged",
            ),
            (
                lambda affine, indices: (indices + affine[:3, 3]) @ affine[:3, :3].T,
                "turn and scale first, move then: the last column is in mm already",
            ),
            (
                lambda affine, indices: indices @ affine[:3, :3].T - affine[:3, 3],
                "the last column is added: index (0, 0, 0) lies there",
            ),
            (
                lambda affine, indices: (indices - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T,
                "the other way round: this makes indices of mm",
            ),
            (
                lambda affine, indices: np.c_[indices, np.ones(len(indices))] @ affine.T,
                "three numbers a point: the fourth is always 1, leave it out",
            ),
            (
                lambda affine, indices: affine[:3, :3] @ indices.T + affine[:3, 3:],
                "points are rows: turn the result round (.T)",
            ),
            (
                lambda affine, indices: (indices @ affine[:3, :3].T + affine[:3, 3]).round(),
                "millimetres are no whole numbers",
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
    other = {"pancreas": 9, "liver": 2}
    return check_function(
        fn,
        by_name,
        [
            (np.array([0, 1, 2, 3]), source, target),
            (np.array([[4, 1], [0, 3]]), source, target),
            (np.array([[[7, 2], [0, 9]], [[9, 7], [2, 2]]]), {"liver": 7, "pancreas": 2, "bladder": 9}, other),
        ],
        hints=(
            "what becomes of a name that the target lacks? Which array do you read from, and which do you write into?",
            "start from zeros, and ask the original array where each id is",
        ),
        mistakes=[
            (in_place, "a value was translated twice: read from the original, write into a new array"),
            (kept, "what the target does not know must become 0, not keep its number"),
            (lambda label, source, target: label, "these are the ids of the source still"),
            (lambda label, source, target: by_name(label, target, source), "the wrong way round: source to target"),
            (
                lambda label, source, target: by_name(label, source, {n: i for i, n in enumerate(source, 1)}),
                "the target's table says the number: ids are not counted anew",
            ),
            (lambda label, source, target: by_name(label, source, target).ravel(), "keep the shape of the label map"),
            (
                lambda label, source, target: by_name(label, source, dict(zip(source, target.values()))),
                "by name, not by the places in the two tables: they have different orders",
            ),
            (lambda label, source, target: by_name(label, source, target) > 0, "ids, not where there is any structure"),
        ],
    )


def check_slice_gap(fn: Callable) -> CheckResult:
    """``fn(gap_mm, spacing_z)`` → slices to drop between two slabs."""

    def drop(gap: float, spacing: float) -> int:
        return max(0, math.ceil(gap / spacing - 1e-9) - 1)

    return check_function(
        fn,
        drop,
        [(9.0, 3.0), (9.125, 3.0), (9.0, 5.0), (2.0, 5.0), (0.0, 3.0), (7.5, 2.5), (8.0, 1.5), (4.0, 2.5), (3.5, 0.75)],
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
            (lambda g, s: round(g / s), "k slices dropped leave (k + 1) spacings between the neighbours"),
            (lambda g, s: max(0, round(g / s) - 1), "round up: at least the gap, not to the nearest"),
            (lambda g, s: max(0, round(g / s - 1)), "round up: at least the gap, not to the nearest"),
            (lambda g, s: max(0, g / s - 1), "a whole number of slices: round up"),
            (lambda g, s: g / s - 1, "a whole number of slices, never fewer than 0: round up"),
            (lambda g, s: g / s, "k slices dropped leave (k + 1) spacings: and round up"),
            (lambda g, s: max(1, drop(g, s)), "a gap within one spacing needs no slice dropped: 0"),
            (lambda g, s: drop(g * s, 1.0), "a gap of mm holds gap / spacing slices: divide"),
            (
                lambda g, s: math.ceil((g - s) / s) if g >= 2 * s else 0,
                "a gap a little above one spacing needs one slice",
            ),
            (lambda g, s: max(0, math.ceil(g - s)), "that is in mm: divide by the spacing"),
            (lambda g, s: drop(int(g), int(s) or 1), "gap and spacing need not be whole numbers"),
        ],
    )


def check_box_dice(fn: Callable) -> CheckResult:
    """``fn(size, shift)`` → DSC of a box with itself, moved."""

    def overlap(size, shift) -> float:
        return prod(max(0, s - abs(d)) / s for s, d in zip(size, shift))

    return check_function(
        fn,
        overlap,
        [((10,), (1,)), ((10, 20), (1, -2)), ((4, 4, 4), (1, 1, 1)), ((3, 3), (5, 5)), ((10, 6, 5), (-2, 3, 0))],
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
            (lambda size, shift: overlap(size, [max(shift)] * len(size)), "each axis has a shift of its own"),
            (
                lambda size, shift: float(np.mean([max(0, s - abs(d)) / s for s, d in zip(size, shift)])),
                "axes multiply: the overlap is a box",
            ),
            (lambda size, shift: overlap(size[:1], shift[:1]), "every axis counts, not the first alone"),
            (
                lambda size, shift: prod(max(0, s - abs(d)) for s, d in zip(size, shift)),
                "these are voxels: divide by those of the box",
            ),
            (lambda size, shift: overlap(size, shift) / 2, "both boxes count below the line, twice the overlap above"),
            (lambda size, shift: 2 * overlap(size, shift), "both boxes count below the line, not one of them"),
            (lambda size, shift: 1 - overlap(size, shift), "a box that is not moved scores 1"),
            (
                lambda size, shift: max(0, prod(size) - prod(abs(d) for d in shift)) / prod(size),
                "along each axis: what is left of its size? Then multiply",
            ),
            (
                lambda size, shift: max(0, 1 - sum(abs(d) / s for s, d in zip(size, shift))),
                "along each axis: what is left of its size? Then multiply",
            ),
            (lambda size, shift: overlap(size, [2 * d for d in shift]), "a box moved by d loses d voxels, on one side"),
        ],
    )
