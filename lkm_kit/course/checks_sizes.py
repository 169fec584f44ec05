"""Checks of the exercises on sizes of windows and images (chapter ``06_lkm_unet``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.networks.sizes import Demand, image_multiple


def check_windows_for(fn: Callable) -> CheckResult:
    """``fn(size, strides, most)`` → per stage the largest square window up to ``most`` that divides the map."""

    def target(size: Sequence[int], strides: Sequence[int], most: int) -> list[int]:
        commons = [math.gcd(*(side // total for side in size)) for total in _totals(strides)]
        return [max(k for k in range(1, most + 1) if common % k == 0) for common in commons]

    return check_function(
        fn,
        target,
        [
            ((96, 96), (1, 2, 2, 2), 24),
            ((40, 56), (1, 2, 2, 2), 24),
            ((60, 90), (1, 2), 20),
            ((320, 320), (1, 2, 2, 2, 2, 2, 2), 40),
            ((44, 88), (1, 2, 2), 1),
            ((48, 108), (2, 1, 3), 24),
        ],
        hints=(
            "how large is the map of each stage, and which numbers divide both of its sides?",
            "strides multiply up; then the largest k from 1 to `most` with rows % k == 0 and columns % k == 0",
        ),
        mistakes=[
            (lambda size, strides, most: target((size[0],) * 2, strides, most), "it must divide both sides of the map"),
            (
                lambda size, strides, most: [min(most, math.gcd(*(n // t for n in size))) for t in _totals(strides)],
                "the smaller of `most` and the common divisor need not divide the map itself",
            ),
            (lambda size, strides, most: target(size, strides, max(size)), "no wider than `most`"),
            (
                lambda size, strides, most: target(size, [1] + [2] * (len(strides) - 1), most),
                "not every stage halves the map: take the strides that are given",
            ),
            (
                lambda size, strides, most: [target([n // s for n in size], (1,), most)[0] for s in strides],
                "strides accumulate: multiply all strides up to the stage",
            ),
            (
                lambda size, strides, most: [target(size, (1,), most)[0]] * len(strides),
                "the map is smaller from stage to stage: divide by the strides so far",
            ),
            (lambda size, strides, most: target((size[1],) * 2, strides, most), "it must divide both sides of the map"),
            (
                lambda size, strides, most: target((size[0] * size[1],) * 2, strides, most),
                "it must divide each side, not their product",
            ),
            (lambda size, strides, most: target(size, strides, most - 1 or 1), "off by one: `most` itself is allowed"),
            (
                lambda size, strides, most: target(size, [1, *strides[:-1]], most),
                "off by one: a stage's own stride comes before its map",
            ),
            (lambda size, strides, most: target(size, [1, *strides[1:]], most), "the first stage has a stride, too"),
            (
                lambda size, strides, most: [
                    next((k for k in range(2, most + 1) if math.gcd(*(n // t for n in size)) % k == 0), 1)
                    for t in _totals(strides)
                ],
                "the largest one, not the first that is found",
            ),
            (
                lambda size, strides, most: [max(1, most // t) for t in _totals(strides)],
                "`most` does not shrink with the map: look for numbers that divide it",
            ),
            (
                lambda size, strides, most: [target(size, (t,), most)[0] * t for t in _totals(strides)],
                "a window is counted in pixels of its stage's map",
            ),
            (
                lambda size, strides, most: [
                    max(2**i for i in range(12) if 2**i <= most and math.gcd(*(n // t for n in size)) % 2**i == 0)
                    for t in _totals(strides)
                ],
                "any whole number will do, not powers of two alone",
            ),
            (lambda size, strides, most: target(size, strides, most)[-1:], "one window for every stage"),
            (lambda size, strides, most: target(size, strides, most)[::-1], "the first stage comes first"),
        ],
    )


def check_image_multiple(fn: Callable) -> CheckResult:
    """``fn(strides, windows)``: the smallest square image that every stage's windows divide (numbers per stage)."""

    def target(strides: list[int], windows: list[int]) -> int:
        demands = [Demand(stage, "windows", (window,)) for stage, window in enumerate(windows)]
        return image_multiple([(s,) for s in strides], demands)[0]

    return check_function(
        fn,
        target,
        [
            ([1, 2], [4, 6]),
            ([1, 1], [3, 5]),
            ([2, 2], [3, 2]),
            ([1, 2, 2, 2], [24, 24, 12, 12]),
            ([1] + [2] * 6, [40, 20, 20, 10, 10, 5, 5]),
            ([1, 2, 2], [12, 9, 2]),
        ],
        hints=(
            "a window of k pixels at total stride t covers t * k image pixels: what do all of these divide?",
            "multiply the strides up to each stage, and take the least common multiple of t * k",
        ),
        mistakes=[
            (
                lambda strides, windows: math.lcm(*windows),
                "windows are counted in pixels of their stage's map: times the stride",
            ),
            (
                lambda strides, windows: max(s * w for s, w in zip(_totals(strides), windows)),
                "the largest window need not be a multiple of the others: take the least common multiple",
            ),
            (
                lambda strides, windows: math.lcm(*(s * w for s, w in zip(strides, windows))),
                "strides accumulate: multiply all strides up to the stage",
            ),
            (
                lambda strides, windows: math.prod(s * w for s, w in zip(_totals(strides), windows)),
                "the product is a multiple, but not the smallest",
            ),
            (
                lambda strides, windows: math.gcd(*(s * w for s, w in zip(_totals(strides), windows))),
                "the least common *multiple*: the image is to be divided, it does not divide",
            ),
            (
                lambda strides, windows: _totals(strides)[-1] * math.lcm(*windows),
                "each window goes with its own stage's stride: this is a multiple, but not the smallest",
            ),
            (
                lambda strides, windows: math.lcm(*(s * w for s, w in zip([1, *_totals(strides)], windows))),
                "off by one: a stage's own stride comes before its map",
            ),
            (lambda strides, windows: target([1, *strides[1:]], windows), "the first stage has a stride, too"),
            (
                lambda strides, windows: next(
                    n for n in range(1, 10**5) if all(n // t % k == 0 for t, k in zip(_totals(strides), windows))
                ),
                "// rounds down: the side must be a multiple of each stage's total stride, too",
            ),
            (lambda strides, windows: _totals(strides)[-1], "the windows must fit as well, not the strides alone"),
            (lambda strides, windows: _totals(strides)[-1] * windows[-1], "every stage's window, not the last alone"),
            (lambda strides, windows: windows[0], "every stage's window, not the first alone"),
            (
                lambda strides, windows: sum(s * w for s, w in zip(_totals(strides), windows)),
                "a number that all of them divide: the least common multiple, not the sum",
            ),
            (
                lambda strides, windows: max(windows) * _totals(strides)[-1],
                "each window goes with its own stage's stride: take the least common multiple of t * k",
            ),
        ],
    )


def _totals(strides: Sequence[int]) -> list[int]:
    totals, total = [], 1
    for stride in strides:
        total *= stride
        totals.append(total)
    return totals
