"""Checks of the exercises on the patch-level SSM (chapter ``05_patch_level_ssm``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lkm_kit.course.check import CheckResult, check_function


def _maps() -> list[tuple[Tensor, int]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.arange(16.0).reshape(1, 1, 4, 4), 2), (torch.randn(2, 3, 6, 9, generator=generator), 3)]


def check_representatives(fn: Callable) -> CheckResult:
    """``fn(x, k)``: (b, c, H, W) → (b, patches, c), the mean of every k×k patch, row by row."""

    def target(x: Tensor, k: int) -> Tensor:
        return F.avg_pool2d(x, k).flatten(2).mT

    return check_function(
        fn,
        target,
        _maps(),
        hints=(
            "which axis of the result counts patches, and which channels?",
            "average the pixels of each patch (avg_pool2d, or reshape and mean), flatten, channels last",
        ),
        mistakes=[
            (lambda x, k: F.max_pool2d(x, k).flatten(2).mT, "the mean of a patch, not its maximum"),
            (lambda x, k: x[..., ::k, ::k].flatten(2).mT, "that is each patch's first pixel, not its mean"),
            (lambda x, k: F.avg_pool2d(x, k).flatten(2), "tokens are (batch, length, channels): channels last"),
            (lambda x, k: F.avg_pool2d(x.mT, k).flatten(2).mT, "wrong axis: patches follow each other along a row"),
            (lambda x, k: F.avg_pool2d(x, k, stride=1).flatten(2).mT, "patches do not overlap: the stride is k"),
        ],
    )


def check_unpool(fn: Callable) -> CheckResult:
    """``fn(tokens, size, k)``: (b, patches, c) → (b, c, *size), each token copied over its patch."""

    def target(tokens: Tensor, size: Sequence[int], k: int) -> Tensor:
        coarse = tokens.mT.reshape(tokens.shape[0], -1, size[0] // k, size[1] // k)
        return coarse.repeat_interleave(k, 2).repeat_interleave(k, 3)

    def tiled(tokens: Tensor, size: Sequence[int], k: int) -> Tensor:
        return tokens.mT.reshape(tokens.shape[0], -1, size[0] // k, size[1] // k).repeat(1, 1, k, k)

    def smooth(tokens: Tensor, size: Sequence[int], k: int) -> Tensor:
        coarse = tokens.mT.reshape(tokens.shape[0], -1, size[0] // k, size[1] // k)
        return F.interpolate(coarse, size=tuple(size), mode="bilinear")

    def not_transposed(tokens: Tensor, size: Sequence[int], k: int) -> Tensor:
        coarse = tokens.reshape(tokens.shape[0], -1, size[0] // k, size[1] // k)
        return coarse.repeat_interleave(k, 2).repeat_interleave(k, 3)

    generator = torch.Generator().manual_seed(1)
    cases = [(torch.arange(4.0).reshape(1, 4, 1), (4, 4), 2), (torch.randn(2, 6, 3, generator=generator), (6, 9), 3)]
    return check_function(
        fn,
        target,
        cases,
        hints=(
            "how does the row of tokens become a map again, before it grows?",
            "back to a map of (H/k, W/k), then repeat_interleave both axes (or interpolate: mode='nearest-exact')",
        ),
        mistakes=[
            (tiled, "that tiles the whole coarse map; each token goes to its own patch: repeat_interleave"),
            (smooth, "copied, not blended: mode='nearest-exact'"),
            (not_transposed, "channels come first in a map: transpose the tokens before you reshape"),
        ],
    )


def check_way(fn: Callable) -> CheckResult:
    """``fn(size, window, a, b)`` → LM blocks until pixel a can reach pixel b, with PiM alone (inf), or with PaM (1)."""

    def target(size: Sequence[int], window: int, a: Sequence[int], b: Sequence[int], pam: bool) -> float:
        if [q // window for q in a] == [q // window for q in b] or pam:
            return 1
        return math.inf

    cases = [
        ((32, 32), 8, (0, 0), (7, 7), False),
        ((32, 32), 8, (7, 7), (8, 7), False),
        ((32, 32), 8, (7, 7), (8, 7), True),
        ((32, 32), 16, (3, 12), (14, 17), False),
        ((32, 32), 8, (0, 0), (20, 3), False),
        ((32, 32), 8, (0, 0), (20, 3), True),
        ((32, 32), 8, (17, 25), (22, 31), False),
    ]
    return check_function(
        fn,
        target,
        cases,
        hints=(
            "what does one PiM connect, what one PaM, and what changes in the next block?",
            "windows do not move from block to block, so PiM alone never crosses a border; PaM connects all at once",
        ),
        mistakes=[
            (
                lambda s, w, a, b, pam: 1 if pam else 1 + max(abs(p // w - q // w) for p, q in zip(a, b)),
                "windows stand still: ten PiM layers see no more than one does",
            ),
            (
                lambda s, w, a, b, pam: (
                    1 + max(abs(p // w - q // w) for p, q in zip(a, b)) if pam else target(s, w, a, b, 0)
                ),
                "PaM's scan reads the representatives of all windows: one block goes the whole way",
            ),
            (lambda s, w, a, b, pam: 1, "two pixels in different windows never meet in PiM"),
            (
                lambda s, w, a, b, pam: 1 if pam or max(abs(p - q) for p, q in zip(a, b)) < w else math.inf,
                "near is not enough: a border may run between them",
            ),
        ],
    )


def check_attention_cost(fn: Callable) -> CheckResult:
    """``fn(side, pool)`` → how many times more pairs self-attention over all pixels has than over representatives."""

    def target(side: int, pool: int) -> int:
        return pool**4

    return check_function(
        fn,
        target,
        [(40, 4), (320, 8), (96, 24)],
        hints=(
            "how many pairs are there among n tokens?",
            "a side of n has n² tokens and n⁴ pairs; pooling divides the side",
        ),
        mistakes=[
            (lambda side, pool: pool**2, "that many times fewer *tokens*; pairs are tokens squared"),
            (lambda side, pool: (side // pool) ** 4, "that is the number of pairs left, not the ratio"),
            (lambda side, pool: 2 * pool**2, "squared, not doubled"),
        ],
    )
