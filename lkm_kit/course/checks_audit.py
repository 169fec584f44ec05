"""Checks of the exercises on the paper against its released code (chapter ``13_auditing_the_paper``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.data.organs import ORGANS


def check_residues(fn: Callable) -> CheckResult:
    """``fn(x, p)``: (B, C, H, W) → (H, W) whole numbers: which sequence the released cut puts each pixel in."""

    def target(x: Tensor, p: int) -> Tensor:
        row, column = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
        return row % p * p + column % p

    def windows(x: Tensor, p: int) -> Tensor:
        row, column = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
        return row // p * (x.shape[3] // p) + column // p

    return check_function(
        fn,
        target,
        [(torch.zeros(1, 1, 4, 4), 2), (torch.zeros(1, 2, 6, 9), 3), (torch.zeros(2, 1, 8, 4), 4)],
        hints=(
            "try a 4×4 map with p = 2 on paper: which pixels does x[..., i::p, j::p] take?",
            "pixels that share row % p and column % p share a sequence; the column's rest runs fastest",
        ),
        mistakes=[
            (windows, "// finds the window of the paper's text; the released cut goes by the rest, %"),
            (lambda x, p: target(x.mT, p).T, "wrong axis: the column's rest runs fastest, the row's counts p times"),
            (lambda x, p: target(x, p) + 1, "off by one: sequences are counted from 0"),
            (
                lambda x, p: target(x, p) // p + target(x, p) % p,
                "multiply the row's rest by p, or classes meet",
            ),
            (
                lambda x, p: target(x, p) // p * x.shape[3] + target(x, p) % p,
                "there are p rests of the column, not as many as columns",
            ),
            (lambda x, p: target(x, p) % p, "the row's rest counts as well"),
            (lambda x, p: target(x, p) // p, "the column's rest counts as well"),
            (lambda x, p: target(x.mT, p), "(H, W): axis 2 of x are its rows, axis 3 its columns"),
            (lambda x, p: target(x[..., :p, :p], p), "a number for every pixel of the map"),
            (
                lambda x, p: torch.arange(x.shape[2] * x.shape[3]).reshape(x.shape[2:]) % (p * p),
                "row and column leave a rest each; the number of the pixel is another thing",
            ),
            (lambda x, p: target(x, p).expand(len(x), *x.shape[2:]), "one map (H, W) for all images"),
        ],
        draw=True,
    )


def check_three_readings(fn: Callable) -> CheckResult:
    """``fn(side, k)`` → tokens in one sequence: (windows of side k, every k-th pixel, k windows per axis)."""

    def target(side: int, k: int) -> tuple[int, int, int]:
        return k * k, (side // k) ** 2, (side // k) ** 2

    def windows_counted(side: int, k: int) -> tuple[int, int, int]:
        return k * k, (side // k) ** 2, k * k

    return check_function(
        fn,
        target,
        [(320, 10), (320, 40), (160, 5), (5, 5)],
        hints=(
            "draw an 8×8 map and k = 2 for each of the three readings, and count the pixels of one sequence",
            "a window holds the pixels of one side squared; a sequence is what one scan reads",
        ),
        mistakes=[
            (
                lambda s, k: ((s // k) ** 2, k * k, k * k),
                "that is how many sequences there are; asked: tokens in one",
            ),
            (windows_counted, "k windows per axis are s // k pixels wide each: the larger k, the smaller they are"),
            (lambda s, k: (k, s // k, s // k), "along one axis only: square it"),
            (lambda s, k: (k * k, k * k, (s // k) ** 2), "every k-th pixel of a side: how often does k go into it?"),
            (lambda s, k: (s * s, (s // k) ** 2, (s // k) ** 2), "a window is one of many: k×k pixels"),
            (lambda s, k: (k * k, (s // k) ** 2, s // k), "k windows per axis are s // k pixels wide each: square it"),
            (lambda s, k: (k * k, s // k, (s // k) ** 2), "every k-th pixel along both axes: square it"),
            (lambda s, k: (2 * k, 2 * (s // k), 2 * (s // k)), "two axes: square, not double"),
            (lambda s, k: (k * k, s * s // k, s * s // k), "every k-th along *both* axes: divide by k twice"),
            (lambda s, k: (k * k, (s - k) ** 2, (s - k) ** 2), "how often does k go into the side? Divide"),
            (lambda s, k: (k * k, (s // k + 1) ** 2, (s // k) ** 2), "off by one: pixels 0, k, 2k, ... below the side"),
            (lambda s, k: ((s // k) ** 2,) * 3, "a window of side k holds k×k pixels"),
            (lambda s, k: (k * k,) * 3, "the larger k, the fewer pixels has a grid"),
        ],
    )


def check_fallback(fn: Callable) -> CheckResult:
    """``fn(size, strides, sides)`` → stages at which the released code silently reads its whole map as one sequence."""

    def target(size: Sequence[int], strides: Sequence[int], sides: Sequence[int]) -> list[int]:
        stages, total = [], 1
        for stage, (stride, p) in enumerate(zip(strides, sides)):
            total *= stride
            if any(s // total % p for s in size):
                stages.append(stage)
        return stages

    def stride_forgotten(size: Sequence[int], strides: Sequence[int], sides: Sequence[int]) -> list[int]:
        return [stage for stage, p in enumerate(sides) if any(s % p for s in size)]

    def not_multiplied(size: Sequence[int], strides: Sequence[int], sides: Sequence[int]) -> list[int]:
        return [i for i, (stride, p) in enumerate(zip(strides, sides)) if any(s // stride % p for s in size)]

    def rows_only(size: Sequence[int], strides: Sequence[int], sides: Sequence[int]) -> list[int]:
        return target(size[:1], strides, sides)

    def all_axes(size: Sequence[int], strides: Sequence[int], sides: Sequence[int]) -> list[int]:
        return [stage for stage in target(size[:1], strides, sides) if stage in target(size[1:], strides, sides)]

    def columns_only(size: Sequence[int], strides: Sequence[int], sides: Sequence[int]) -> list[int]:
        return target(size[1:], strides, sides)

    def halved(size: Sequence[int], strides: Sequence[int], sides: Sequence[int]) -> list[int]:
        return target(size, [1] + [2] * (len(strides) - 1), sides)

    def later(size: Sequence[int], strides: Sequence[int], sides: Sequence[int]) -> list[int]:
        return target(size, [1, *strides[:-1]], sides)

    def fitting(size: Sequence[int], strides: Sequence[int], sides: Sequence[int]) -> list[int]:
        return [stage for stage in range(len(sides)) if stage not in target(size, strides, sides)]

    paper, seven = [1, 2, 2, 2, 2, 2, 2], [40, 20, 20, 10, 10, 5, 5]
    return check_function(
        fn,
        target,
        [
            ((80, 80), [1, 2, 2], [20, 10, 8]),
            ((40, 40), [1, 2, 2], [20, 8, 10]),
            ((48, 96), [1, 2, 2, 2], [24, 24, 24, 12]),
            ((96, 48), [1, 2, 2, 2], [24, 24, 24, 12]),
            ((96, 90), [1, 3, 2], [16, 15, 16]),
            ((72, 72), [2, 2, 3], [12, 12, 6]),
            ((48, 48), [1, 2, 2, 2], [16, 16, 16, 6]),
            ((256, 256), paper, seven),
            ((320, 256), paper, seven),
            ((320, 320), paper, seven),
        ],
        hints=(
            "how large is the map of each stage, and does p divide it?",
            "the map of a stage is the image divided by all strides so far; one axis that p does not divide is enough",
        ),
        mistakes=[
            (rows_only, "look at the columns too"),
            (stride_forgotten, "p must divide the stage's map, not the image"),
            (not_multiplied, "strides multiply from stage to stage"),
            (fitting, "those are the stages that fit"),
            (lambda *a: [stage + 1 for stage in target(*a)], "off by one: the first stage is 0"),
            (all_axes, "one axis that does not fit is enough"),
            (columns_only, "look at the rows too"),
            (halved, "not every stage halves the map: take the strides that are given"),
            (later, "off by one: a stage's own stride comes before its map"),
            (lambda *a: len(target(*a)), "their numbers, not how many they are"),
            (
                lambda size, strides, sides: [s in target(size, strides, sides) for s in range(len(sides))],
                "the numbers of the stages, not a true or false for each",
            ),
            (
                lambda size, strides, sides: target((size[0] * size[1],), strides, sides),
                "each axis by itself: p must divide rows and columns, not their product",
            ),
            (
                lambda size, strides, sides: [
                    i for i, p in enumerate(sides) if p > min(size) // math.prod(strides[: i + 1])
                ],
                "not whether p is larger than the map, but whether it divides it",
            ),
            (lambda *a: target(*a)[:1], "all stages that do not fit, not the first alone"),
        ],
    )


def check_translated(fn: Callable) -> CheckResult:
    """``fn(label, source, target)`` → the label map in the ids of ``target``; both map an organ's name to its id."""

    def expected(label: np.ndarray, source: Mapping[str, int], target: Mapping[str, int]) -> np.ndarray:
        out = np.zeros_like(label)
        for name, number in target.items():
            out[label == source[name]] = number
        return out

    def in_place(label: np.ndarray, source: Mapping[str, int], target: Mapping[str, int]) -> np.ndarray:
        for name, number in target.items():
            label[label == source[name]] = number
        return label

    def others_kept(label: np.ndarray, source: Mapping[str, int], target: Mapping[str, int]) -> np.ndarray:
        out = label.copy()
        for name, number in target.items():
            out[label == source[name]] = number
        return out

    def backward(label: np.ndarray, source: Mapping[str, int], target: Mapping[str, int]) -> np.ndarray:
        out = np.zeros_like(label)
        for name, number in target.items():
            out[label == number] = source[name]
        return out

    amos = {**{organ.name: organ.amos for organ in ORGANS}, "bladder": 14, "prostate/uterus": 15}
    kit = {organ.name: organ.label for organ in ORGANS}
    cases = [
        (np.array([[0, 1], [2, 3]]), {"a": 1, "b": 2, "c": 3}, {"a": 2, "b": 1}),
        (np.arange(16).reshape(4, 4), amos, kit),
        (np.array([6, 6, 14, 1, 0]), amos, kit),
    ]
    return check_function(
        fn,
        expected,
        cases,
        hints=(
            "where do you read ids, and where do you write them?",
            "start from zeros; for every organ of the target table write its id where the source's id stands",
        ),
        mistakes=[
            (in_place, "writing into the array you read from translates some voxels twice: start from zeros"),
            (others_kept, "organs that the target does not know become background, 0; yours keep the source's id"),
            (backward, "the wrong way round: read the source's ids, write the target's"),
            (lambda label, source, target: label, "the ids are still the source's"),
            (
                lambda label, source, target: np.vectorize(lambda v: list(source.values()).index(v) + 1 if v else 0)(
                    label
                ),
                "by name, not by the places in the tables",
            ),
            (
                lambda label, source, target: expected(label, source, dict(zip(target, source.values()))),
                "by name, not by the places in the tables",
            ),
            (
                lambda label, source, target: np.clip(label, 0, max(target.values())),
                "clipping makes one organ of another: translate by name",
            ),
            (lambda label, source, target: expected(label, source, target) > 0, "ids, not where there is any organ"),
            (lambda label, source, target: expected(label, source, target).ravel(), "keep the label map's shape"),
        ],
        draw=True,
    )


def check_chance(fn: Callable) -> CheckResult:
    """``fn(difference, sd)`` → how often two runs of one network differ by at least that much (normal seeds)."""

    def target(difference: float, sd: float) -> float:
        return math.erfc(difference / (sd * math.sqrt(2)) / math.sqrt(2))

    return check_function(
        fn,
        target,
        [(0.0, 1.0), (0.44, 0.6), (2.85, 0.6), (1.0, 0.5)],
        hints=(
            "two runs differ by chance: how widely is a difference of two spread?",
            "the difference of two runs has standard deviation √2 · sd; count both signs",
        ),
        mistakes=[
            (lambda d, sd: math.erfc(d / sd / math.sqrt(2)), "two runs vary, not one: √2 · sd"),
            (lambda d, sd: target(d, sd) / 2, "either of the two may win: both tails"),
            (lambda d, sd: 1 - target(d, sd), "that is how often they differ by less"),
            (
                lambda d, sd: math.erfc(d / (2 * sd) / math.sqrt(2)),
                "variances add, deviations do not: √2, not 2",
            ),
            (
                lambda d, sd: math.erfc(d * math.sqrt(2) / sd / math.sqrt(2)),
                "√2 belongs below the line: differences are wider",
            ),
            (lambda d, sd: math.erfc(d / (math.sqrt(2) * sd)) ** 2, "one difference, not two at once"),
            (lambda d, sd: math.erfc(d / (2 * sd**2)), "the standard deviation, not the variance"),
            (lambda d, sd: math.exp(-((d / (2 * sd)) ** 2)), "that is the density: asked is all beyond, erfc"),
            (lambda d, sd: 1 - target(d, sd) / 2, "that is how often one wins by less: count what is farther out"),
            (lambda d, sd: 100 * target(d, sd), "a share from 0 to 1, not in percent"),
            (lambda d, sd: d / (math.sqrt(2) * sd), "that is in deviations: how often is it more?"),
        ],
    )
