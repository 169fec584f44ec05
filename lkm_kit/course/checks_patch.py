"""Checks of the exercises on the patch-level SSM (chapter ``05_patch_level_ssm``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lkm_kit.blocks import PaM
from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.course.check_class import check_class


def check_reached(fn: Callable) -> CheckResult:
    """``fn(size, k, row, column)`` → pixels of a size×size map whose output changes with pixel (row, column): through
    PiM, PaM with a forward scan, PaM; and, last, where (row, column) gains what its right neighbour loses, PaM."""

    def target(size: int, k: int, row: int, column: int) -> tuple[int, int, int, int]:
        per_row = size // k
        before = row // k * per_row + column // k
        return k * k, (per_row**2 - before) * k * k, size * size, 2

    def but(position: int, other: Callable[[int, int, int, int], float]) -> Callable:
        def counts(*arguments: int) -> tuple[float, ...]:
            found = list(target(*arguments))
            found[position] = other(*arguments)
            return tuple(found)

        return counts

    return check_function(
        fn,
        target,
        [(8, 4, 0, 0), (12, 4, 5, 6), (24, 8, 17, 3)],
        hints=(
            "follow the changed pixel: which tokens does it change, which outputs hear them, which pixels get those?",
            "a mean passes on every change but one: what is the mean of a patch in which +1 and −1 are added?",
        ),
        mistakes=[
            (but(3, lambda s, k, r, c: 0), "Eq. 6 ends in + F: what was changed itself comes out changed"),
            (but(3, lambda s, k, r, c: s * s), "the patch's mean stays as it was, so no token changes"),
            (but(3, lambda s, k, r, c: k * k), "the patch's mean stays as it was, so no token changes"),
            (but(2, lambda s, k, r, c: (s // k) ** 2), "every representative is copied over k×k pixels: count pixels"),
            (but(0, lambda s, k, r, c: s * s), "PiM stays inside the pixel's window"),
            (
                but(1, lambda s, k, r, c: (r // k * (s // k) + c // k + 1) * k * k),
                "a forward scan tells what comes later, not what came before",
            ),
            (
                but(1, lambda s, k, r, c: s * s - (r * s + c)),
                "PaM reads patches, not pixels: count whole patches from the pixel's own on",
            ),
            (
                but(1, lambda s, k, r, c: ((s // k) ** 2 - r // k * (s // k) - c // k - 1) * k * k),
                "off by one: the pixel's own patch hears it, too",
            ),
        ],
    )


def check_pam(cls: Callable) -> CheckResult:
    """``cls(channels, pool)``: the learner's PaM for maps and volumes, parameters first, then outputs."""

    def parts(pam: PaM, x: Tensor) -> tuple[Tensor, Tensor]:
        coarse = (F.avg_pool2d if x.ndim == 4 else F.avg_pool3d)(x, pam.pool)
        return coarse, pam.bim(coarse.flatten(2).mT).mT.reshape(coarse.shape)

    def without_residual(pam: PaM, x: Tensor) -> Tensor:
        return F.interpolate(parts(pam, x)[1], size=x.shape[2:], mode="nearest-exact")

    def largest(pam: PaM, x: Tensor) -> Tensor:
        coarse = (F.max_pool2d if x.ndim == 4 else F.max_pool3d)(x, pam.pool)
        mixed = pam.bim(coarse.flatten(2).mT).mT.reshape(coarse.shape)
        return x + F.interpolate(mixed, size=x.shape[2:], mode="nearest-exact")

    def blended(pam: PaM, x: Tensor) -> Tensor:
        mode = "bilinear" if x.ndim == 4 else "trilinear"
        return x + F.interpolate(parts(pam, x)[1], size=x.shape[2:], mode=mode)

    def nearest(pam: PaM, x: Tensor) -> Tensor:
        return x + F.interpolate(parts(pam, x)[1], size=x.shape[2:], mode="nearest")

    def tiled(pam: PaM, x: Tensor) -> Tensor:
        return x + parts(pam, x)[1].repeat(1, 1, *[pam.pool] * (x.ndim - 2))

    def not_transposed(pam: PaM, x: Tensor) -> Tensor:
        coarse, _ = parts(pam, x)
        mixed = pam.bim(coarse.flatten(2).mT).reshape(coarse.shape)
        return x + F.interpolate(mixed, size=x.shape[2:], mode="nearest-exact")

    def of_the_map(pam: PaM, x: Tensor) -> Tensor:
        return x + pam.bim(x.flatten(2).mT).mT.reshape(x.shape)

    random = torch.Generator().manual_seed(0)
    shapes = {2: (1, 4, 4, 4), 3: (2, 4, 6, 12), 1: (1, 4, 2, 3), 41: (1, 4, 82, 41)}
    cases = [((4, pool), torch.randn(shape, generator=random)) for pool, shape in shapes.items()]
    return check_class(
        cls,
        PaM,
        [*cases, ((4, 2), torch.randn(1, 4, 2, 4, 6, generator=random))],
        names=("the only part with weights is one bidirectional Mamba: self.bim",),
        hints=(
            "Eq. 6 from the inside out: pool, read the representatives as tokens, back to a map, unpool, add",
            "flatten(2).mT makes tokens of any map, .mT.reshape(coarse.shape) a map again, in 2D and 3D",
        ),
        mistakes=[
            (without_residual, "the residual connection is missing: add x at the end"),
            (largest, "average the patch, do not take its maximum"),
            (blended, "copied, not blended: mode='nearest-exact'"),
            (nearest, "mode='nearest' takes a neighbour's value for some sides, 41 for one: 'nearest-exact'"),
            (tiled, "that tiles the whole coarse map; each token goes to its own patch: repeat_interleave"),
            (not_transposed, "channels come first in a map: transpose the tokens before you reshape"),
            (of_the_map, "nothing is pooled there: that reads every pixel of the map"),
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
