"""Checks of the exercises on the networks of Table 1 (chapter ``12_table1_baselines``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod, sqrt

from lkm_kit.course.check import CheckResult, check_function


def check_patch_tokens(fn: Callable) -> CheckResult:
    """``fn(size, patch)`` → number of patches of an image or a volume."""

    def target(size: Sequence[int], patch: int) -> int:
        return prod(n // patch for n in size)

    return check_function(
        fn,
        target,
        [((96, 96), 16), ((320, 160), 16), ((48, 224, 192), 16), ((64, 24, 40), 8)],
        hints=(
            "draw a small image, cut it into patches, and count",
            "how many patches fit along each axis, multiplied over the axes",
        ),
        mistakes=[
            (lambda size, patch: prod(size) // patch, "a patch is as wide along *every* axis: divide each by it"),
            (lambda size, patch: sum(n // patch for n in size), "multiply over the axes, do not add"),
            (lambda size, patch: (size[0] // patch) ** 2, "the axes may differ, and there may be three"),
            (lambda size, patch: target(size, patch) ** 2, "that is how many *pairs* attend; asked are the tokens"),
            (lambda size, patch: prod(size), "those are the pixels: a token is a patch of them"),
            (lambda size, patch: prod(size) // patch**2, "a patch of a volume has three sides"),
            (lambda size, patch: prod(size) // patch**3, "a patch of an image has two sides"),
            (lambda size, patch: prod(n - patch + 1 for n in size), "patches do not overlap: side by side"),
            (
                lambda size, patch: prod(n // patch + 1 for n in size),
                "off by one: the sides are multiples of the patch",
            ),
            (lambda size, patch: target(size, patch) + 1, "UNETR has no extra token for the class: patches alone"),
            (lambda size, patch: patch ** len(size), "that is how many pixels a patch has"),
            (lambda size, patch: target(size[-2:], patch), "a volume is cut along its depth as well"),
            (lambda size, patch: prod(n // 16 for n in size), "the patch is not always 16 wide"),
        ],
    )


def check_conv_parameters(fn: Callable) -> CheckResult:
    """``fn(channels_in, channels_out, kernel)`` → parameters of a convolution with bias."""

    def target(channels_in: int, channels_out: int, kernel: Sequence[int]) -> int:
        return channels_out * (channels_in * prod(kernel) + 1)

    return check_function(
        fn,
        target,
        [(1, 32, (3, 3)), (32, 64, (3, 3, 3)), (16, 8, (1, 3, 3))],
        hints=(
            "how many numbers does one output channel need?",
            "each output channel has a kernel over all input channels, and one bias",
        ),
        mistakes=[
            (lambda i, o, k: o * i * prod(k), "the biases are missing: one per output channel"),
            (lambda i, o, k: o * i * (prod(k) + 1), "one bias per output channel, not per pair of channels"),
            (lambda i, o, k: o * (i * k[0] ** 2 + 1), "multiply over all axes of the kernel"),
            (lambda i, o, k: i * (o * prod(k) + 1), "input and output channels are exchanged at the bias"),
            (lambda i, o, k: o * i * prod(k) + 1, "the biases: one per output channel"),
            (lambda i, o, k: o * i * sum(k) + o, "a kernel has the product of its sides, not their sum"),
            (lambda i, o, k: o * (i * k[0] ** len(k) + 1), "the sides of a kernel may differ"),
            (lambda i, o, k: o * (i * k[-1] ** len(k) + 1), "the sides of a kernel may differ"),
            (lambda i, o, k: o * (prod(k) + 1), "a kernel goes over all input channels"),
            (lambda i, o, k: i * prod(k) + 1, "that is one output channel: there are several"),
            (
                lambda i, o, k: (i + o) * prod(k) + o,
                "each output channel has a kernel for *each* input channel: multiply",
            ),
            (lambda i, o, k: o * (i * prod(k) + 2), "one bias per output channel, and nothing else"),
        ],
    )


def check_in_spreads(fn: Callable) -> CheckResult:
    """``fn(a, b, spread, seeds)`` → the gap in standard errors of the difference of two means."""

    def target(a: float, b: float, spread: float, seeds: int) -> float:
        return abs(a - b) / (spread * sqrt(2 / seeds))

    return check_function(
        fn,
        target,
        [(86.82, 86.38, 0.6, 1), (76.25, 77.35, 0.6, 3), (70.0, 68.0, 2.0, 8)],
        hints=(
            "how widely is the mean of several trainings spread, and how the difference of two such means?",
            "the variance of a mean is spread²/seeds, and the variances of both means add",
        ),
        mistakes=[
            (lambda a, b, s, n: abs(a - b) / s, "that is in spreads of *one* training; both means scatter"),
            (lambda a, b, s, n: abs(a - b) / (s / sqrt(n)), "both means scatter: their variances add"),
            (lambda a, b, s, n: abs(a - b) / (s * sqrt(2)), "a mean of several seeds scatters less than one training"),
            (lambda a, b, s, n: (a - b) / (s * sqrt(2 / n)), "the size of the gap: take the absolute value"),
            (lambda a, b, s, n: abs(a - b) / (s * 2 / n), "a standard error is the root of that variance"),
            (lambda a, b, s, n: abs(a - b) / (s**2 * 2 / n), "that is the variance: take its root"),
            (lambda a, b, s, n: abs(a - b) / (2 * s / sqrt(n)), "variances add, not standard errors: √2, not 2"),
            (lambda a, b, s, n: abs(a - b) / (s / sqrt(2 * n)), "two means scatter *more* than one: s · √(2/n)"),
            (lambda a, b, s, n: abs(a - b) / (s * sqrt(n / 2)), "more seeds make the error smaller: √(2/n)"),
            (lambda a, b, s, n: abs(a - b) * s * sqrt(2 / n), "in standard errors: divide by one"),
            (lambda a, b, s, n: abs(a - b), "that is in points: divide by the standard error"),
            (lambda a, b, s, n: s * sqrt(2 / n), "that is one standard error: how many of them is the gap?"),
            (lambda a, b, s, n: (b - a) / (s * sqrt(2 / n)), "the size of the gap: take the absolute value"),
            (
                lambda a, b, s, n: abs(a - b) / (s * sqrt(2 / max(n - 1, 1))),
                "spread is known here: the variance of a mean of n is spread²/n",
            ),
            (lambda a, b, s, n: round(target(a, b, s, n)), "not rounded"),
        ],
    )
