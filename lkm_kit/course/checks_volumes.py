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
            (lambda w, t, s: tuple(a * b for a, b in zip(w, map(math.prod, zip(*t)))), "in mm: times the spacing"),
            (
                lambda w, t, s: tuple(a / math.prod(b) * c for a, b, c in zip(w, zip(*t), s)),
                "a pixel of a deeper map covers *more*: multiply by the strides",
            ),
            (
                lambda w, t, s: tuple(a * sum(b) * c for a, b, c in zip(w, zip(*t), s)),
                "strides multiply from stage to stage, they do not add up",
            ),
            (
                lambda w, t, s: tuple(a * math.prod(b) / c for a, b, c in zip(w, zip(*t), s)),
                "a pixel is as many mm as the spacing says: multiply",
            ),
            (
                lambda w, t, s: tuple(a * math.prod(b) * s[0] for a, b in zip(w, zip(*t))),
                "every axis has a spacing of its own",
            ),
            (
                lambda w, t, s: tuple(a * math.prod(b[0] for b in t) * c for a, c in zip(w, s)),
                "every axis has strides of its own",
            ),
            (lambda w, t, s: target(w, t, s)[::-1], "in the order of the axes: the first one first"),
            (lambda w, t, s: math.prod(target(w, t, s)), "along each axis, not the volume"),
            (lambda w, t, s: target(w, t[:-1] or [[1] * len(w)], s), "the last stage has a stride, too"),
            (
                lambda w, t, s: tuple((a - 1) * math.prod(b) * c for a, b, c in zip(w, zip(*t), s)),
                "off by one: a window of w pixels is w pixels wide",
            ),
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
            ((65,), (16,), 0.0),
            ((17, 33), (16, 16), 0.5),
            ((16, 48), (16, 32), 0.25),
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
            (
                lambda n, w, o: math.prod(
                    1 if a <= b else (a - b) // max(1, int(b * (1 - o))) + 1 for a, b in zip(n, w)
                ),
                "round up: the last tile is moved back, the rest is covered as well",
            ),
            (
                lambda n, w, o: math.prod(
                    1 if a <= b else round((a - b) / max(1, int(b * (1 - o)))) + 1 for a, b in zip(n, w)
                ),
                "round up: the last tile is moved back, the rest is covered as well",
            ),
            (
                lambda n, w, o: math.prod(max(0, math.ceil((a - b) / int(b * (1 - o)))) or 1 for a, b in zip(n, w)),
                "off by one: the first tile counts, too",
            ),
            (
                lambda n, w, o: math.prod(math.ceil((a - b) / int(b * (1 - o))) + 1 for a, b in zip(n, w)),
                "a volume smaller than the window takes one tile",
            ),
            (
                lambda n, w, o: math.prod(1 if a <= b else (a - b) // int(b * (1 - o)) + 2 for a, b in zip(n, w)),
                "one too many where the last step ends with the volume: round up instead of adding one",
            ),
            (
                lambda n, w, o: math.prod(
                    1 if a <= b else math.ceil((a - b) / max(1, int(b * o))) + 1 for a, b in zip(n, w)
                ),
                "that is the overlap: a step is what is new, window * (1 - overlap)",
            ),
            (
                lambda n, w, o: math.prod(
                    1 if a <= b else math.ceil((a - b) / math.ceil(b * (1 - o))) + 1 for a, b in zip(n, w)
                ),
                "int() rounds the step down",
            ),
            (lambda n, w, o: target(n[:1], w[:1], o), "every axis counts, not the first alone"),
            (lambda n, w, o: along(math.prod(n), math.prod(w), o), "axis by axis: how many along each? Then multiply"),
            (lambda n, w, o: target(n, [w[0]] * len(n), o), "every axis has a window of its own"),
        ],
    )


def check_mirrored(fn: Callable) -> CheckResult:
    """``fn(network, image)``: logits averaged with those of the image mirrored along its first spatial axis."""

    def target(network: nn.Module, image: Tensor) -> Tensor:
        return (network(image) + network(image.flip(2)).flip(2)) / 2

    torch.manual_seed(0)
    flat = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    deep = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Conv3d(4, 2, 1))
    cases = [(flat, torch.randn(1, 1, 4, 5)), (deep, torch.randn(2, 1, 5, 4, 3))]
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
                (lambda f, x: f(x), "this is the network alone: average with the mirrored image's"),
                (lambda f, x: f(x.flip(2)).flip(2), "this is the mirrored one alone: average with the image's own"),
                (lambda f, x: f(x.flip(2)), "this is the mirrored one alone, not even turned back"),
                (lambda f, x: f((x + x.flip(2)) / 2), "average the logits, not the images"),
                (lambda f, x: (f(x) + f(x.flip(2)).flip(3)) / 2, "flip back along the axis that was flipped"),
                (
                    lambda f, x: (f(x) + f(x.flip(1)).flip(1)) / 2,
                    "axis 1 are the channels: the first axis in space is 2",
                ),
                (lambda f, x: (f(x) + f(x.flip(-1)).flip(-1)) / 2, "that is the last axis in space, not the first"),
                (
                    lambda f, x: (f(x) + f(x.flip(-2)).flip(-2)) / 2,
                    "a volume has one axis more: the first in space is 2",
                ),
                (
                    lambda f, x: (f(x) + f(x.flip(-3)).flip(-3)) / 2,
                    "an image has one axis less: the first in space is 2",
                ),
                (
                    lambda f, x: (f(x) + f(x.flip(2, 3)).flip(2, 3)) / 2,
                    "along one axis only, the first in space",
                ),
                (
                    lambda f, x: (f(x).softmax(1) + f(x.flip(2)).flip(2).softmax(1)) / 2,
                    "average the logits: no softmax yet",
                ),
                (lambda f, x: torch.maximum(f(x), f(x.flip(2)).flip(2)), "the average, not the larger of both"),
            ],
        )


def check_logits_gib(fn: Callable) -> CheckResult:
    """``fn(size, classes)``: GiB of float32 logits of a whole volume."""

    def target(size: Sequence[int], classes: int) -> float:
        return math.prod(size) * classes * 4 / 2**30

    return check_function(
        fn,
        target,
        [((1024, 1024, 1), 256), ((512, 512, 400), 14), ((320, 256), 3)],
        hints=(
            "how many numbers are there, and how many bytes has each?",
            "one number of 4 bytes for each voxel and each class; a GiB is 2**30 bytes",
        ),
        mistakes=[
            (lambda n, c: math.prod(n) * c / 2**30, "a float32 has four bytes"),
            (lambda n, c: math.prod(n) * 4 / 2**30, "every class has a map of its own"),
            (lambda n, c: math.prod(n) * c * 4 / 1e9, "those are GB of 10**9 bytes"),
            (lambda n, c: math.prod(n) * c * 32 / 2**30, "those are bits: a float32 has four bytes"),
            (lambda n, c: math.prod(n) * c * 8 / 2**30, "that is float64: a float32 has four bytes"),
            (lambda n, c: math.prod(n) * c * 2 / 2**30, "that is float16: a float32 has four bytes"),
            (lambda n, c: math.prod(n) * c * 4 / 2**20, "those are MiB: a GiB is 2**30 bytes"),
            (lambda n, c: math.prod(n) * c * 4, "those are bytes: a GiB is 2**30 of them"),
            (
                lambda n, c: math.prod(n) * (c - 1) * 4 / 2**30,
                "the background is a class, too: it has a map of its own",
            ),
            (lambda n, c: math.prod(n) * (c + 1) * 4 / 2**30, "classes holds the background already"),
            (lambda n, c: math.prod(n) * c * 4 // 2**30, "not rounded: / instead of //"),
            (lambda n, c: sum(n) * c * 4 / 2**30, "the voxels are the product of the sides, not their sum"),
            (lambda n, c: n[0] ** 3 * c * 4 / 2**30, "the sides differ: multiply all of them"),
        ],
    )
