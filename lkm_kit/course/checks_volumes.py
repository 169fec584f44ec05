"""Checks of the exercises on volumes (chapter ``14_volumes_3d``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lkm_kit.course.check import CheckResult, check_function


def check_window_mm(fn: Callable) -> CheckResult:
    """``fn(window, strides, spacing)``: how many mm of the patient a window of a stage covers, along each axis."""

    def target(window: Sequence[int], strides: Sequence[Sequence[int]], spacing: Sequence[float]) -> tuple:
        total = [math.prod(axis) for axis in zip(*strides)]
        return tuple(w * t * s for w, t, s in zip(window, total, spacing))

    return check_function(
        fn,
        target,
        [
            ((4, 8), [(1, 1)], (3.0, 3.0)),
            ((4, 8, 8), [(1, 1, 1), (1, 2, 2), (2, 2, 2)], (5.0, 1.0, 1.5)),
            ((5, 7), [(2, 4), (1, 2)], (1.0, 2.0)),
        ],
        hints=(
            "how many pixels of the image is one pixel of the stage, along each axis?",
            "a pixel of a stage is the product of all strides up to it, along each axis, in pixels of the image",
        ),
        mistakes=[
            (lambda w, t, s: tuple(a * b for a, b in zip(w, s)), "that holds for stage 0 only: the map has shrunk"),
            (
                lambda w, t, s: tuple(a * b * c for a, b, c in zip(w, t[-1], s)),
                "the strides of all stages count, not only the last one",
            ),
            (lambda w, t, s: target(w, [[1] * len(w), *t[1:]], s), "the first stage has a stride, too"),
        ],
    )


def check_tiles(fn: Callable) -> CheckResult:
    """``fn(size, window, overlap)``: how many tiles a sliding window needs for a volume."""

    def along(n: int, w: int, overlap: float) -> int:
        return 1 if n <= w else math.ceil((n - w) / max(1, int(w * (1 - overlap)))) + 1

    def target(size: Sequence[int], window: Sequence[int], overlap: float) -> int:
        return math.prod(along(n, w, overlap) for n, w in zip(size, window))

    return check_function(
        fn,
        target,
        [
            ((64,), (16,), 0.0),
            ((64,), (16,), 0.5),
            ((40, 100, 10), (16, 32, 16), 0.5),
            ((100,), (10,), 1 / 3),
            ((4, 40), (16, 16), 0.5),
        ],
        hints=(
            "along one axis: how much does the first tile cover, and how much each further one?",
            "the first tile covers w pixels, each further one int(w (1 - overlap)) more; axes multiply",
        ),
        mistakes=[
            (
                lambda n, w, o: math.prod(math.ceil(a / max(1, int(b * (1 - o)))) for a, b in zip(n, w)),
                "the first tile already covers a whole window: only the rest is covered step by step",
            ),
            (
                lambda n, w, o: math.prod(
                    1 if a <= b else math.ceil((a - b) / (b * (1 - o))) + 1 for a, b in zip(n, w)
                ),
                "a step is a whole number of pixels: int(window * (1 - overlap))",
            ),
            (lambda n, w, o: target(n, w, 0.0), "neighbouring tiles overlap: a step is shorter than a window"),
            (lambda n, w, o: sum(along(a, b, o) for a, b in zip(n, w)), "the axes multiply, they do not add up"),
        ],
    )


def check_mirrored(fn: Callable) -> CheckResult:
    """``fn(network, image)``: logits averaged with those of the image mirrored along its first spatial axis."""

    def target(network: nn.Module, image: Tensor) -> Tensor:
        return (network(image) + network(image.flip(2)).flip(2)) / 2

    torch.manual_seed(0)
    cases = [(nn.Conv2d(1, 2, 3, padding=1), torch.randn(1, 1, 4, 5)), (nn.Conv3d(1, 2, 3), torch.randn(2, 1, 5, 4, 3))]
    with torch.no_grad():
        return check_function(
            fn,
            target,
            cases,
            hints=(
                "what does the network give for a mirrored image, and where does that lie?",
                "axis 0 is the batch, axis 1 the channels, axis 2 the first one in space",
            ),
            mistakes=[
                (
                    lambda f, x: (f(x) + f(x.flip(2))) / 2,
                    "the mirrored image's logits lie mirrored, too: flip them back",
                ),
                (lambda f, x: f(x) + f(x.flip(2)).flip(2), "an average: divide by the number of predictions"),
                (lambda f, x: (f(x) + f(x.flip(3)).flip(3)) / 2, "that is the second spatial axis"),
            ],
        )


def check_logits_gib(fn: Callable) -> CheckResult:
    """``fn(size, classes)``: GiB of float32 logits of a whole volume."""

    def target(size: Sequence[int], classes: int) -> float:
        return math.prod(size) * classes * 4 / 2**30

    return check_function(
        fn,
        target,
        [((1024, 1024, 1), 256), ((512, 512, 400), 14)],
        hints=(
            "how many numbers are there, and how many bytes has each?",
            "one number of 4 bytes for each voxel and each class; a GiB is 2**30 bytes",
        ),
        mistakes=[
            (lambda n, c: math.prod(n) * c / 2**30, "a float32 has four bytes"),
            (lambda n, c: math.prod(n) * 4 / 2**30, "every class has a map of its own"),
            (lambda n, c: math.prod(n) * c * 4 / 1e9, "those are GB of 10**9 bytes"),
        ],
    )
