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
            (but(0, lambda s, k, r, c: 1), "all pixels of its window hear it, not the pixel alone"),
            (but(0, lambda s, k, r, c: k), "a window has k² pixels: k rows of k"),
            (
                but(0, lambda s, k, r, c: k * k - (r % k * k + c % k)),
                "PiM reads both ways: pixels before this one hear it as well",
            ),
            (but(1, lambda s, k, r, c: s * s), "a forward scan tells patches from the pixel's own on, none before it"),
            (
                but(1, lambda s, k, r, c: (s // k) ** 2 - r // k * (s // k) - c // k),
                "every representative is copied over k×k pixels: count pixels",
            ),
            (but(2, lambda s, k, r, c: k * k), "PaM reads the representatives of all patches in both directions"),
            (but(3, lambda s, k, r, c: 1), "two pixels were changed"),
            (
                lambda *a: tuple(n + 1 for n in target(*a)),
                "off by one: the changed pixel is among those that are counted",
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

    def read(pam: PaM, x: Tensor, coarse: Tensor) -> Tensor:
        mixed = pam.bim(coarse.flatten(2).mT).mT.reshape(coarse.shape)
        return x + F.interpolate(mixed, size=x.shape[2:], mode="nearest-exact")

    def summed(pam: PaM, x: Tensor) -> Tensor:
        return read(pam, x, parts(pam, x)[0] * pam.pool ** (x.ndim - 2))

    def strided(pam: PaM, x: Tensor) -> Tensor:
        return read(pam, x, x[(..., *[slice(None, None, pam.pool)] * (x.ndim - 2))])

    def columns_first(pam: PaM, x: Tensor) -> Tensor:
        coarse = parts(pam, x)[0].transpose(-1, -2)
        mixed = pam.bim(coarse.flatten(2).mT).mT.reshape(coarse.shape).transpose(-1, -2)
        return x + F.interpolate(mixed, size=x.shape[2:], mode="nearest-exact")

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
            (
                lambda pam, x: x - without_residual(pam, x),
                "the residual connection adds: x plus the patches' answers",
            ),
            (summed, "the mean of a patch, not the sum of its pixels"),
            (strided, "average the patch, do not take its first pixel alone"),
            (
                lambda pam, x: x + F.interpolate(parts(pam, x)[0], size=x.shape[2:], mode="nearest-exact"),
                "the Mamba is not called: self.bim(tokens)",
            ),
            (
                lambda pam, x: x + without_residual(pam, x) / pam.pool ** (x.ndim - 2),
                "the answer is copied to every pixel of the patch, not shared out among them",
            ),
            (columns_first, "wrong axis: the patches are read along a row first"),
            (lambda pam, x: x, "nothing is done to x: pool, read, unpool, add"),
        ],
    )


def check_way(fn: Callable) -> CheckResult:
    """``fn(size, window, a, b)`` → LM blocks until pixel a can reach pixel b, with PiM alone (inf), or with PaM (1)."""

    def target(size: Sequence[int], window: int, a: Sequence[int], b: Sequence[int], pam: bool) -> float:
        if [q // window for q in a] == [q // window for q in b] or pam:
            return 1.0
        return math.inf

    cases = [
        ((32, 32), 8, (0, 0), (7, 7), False),
        ((32, 32), 8, (7, 7), (8, 7), False),
        ((32, 32), 8, (7, 7), (8, 7), True),
        ((32, 32), 16, (3, 12), (14, 17), False),
        ((32, 32), 8, (0, 0), (20, 3), False),
        ((32, 32), 8, (0, 0), (20, 3), True),
        ((32, 32), 8, (17, 25), (22, 31), False),
        ((48, 32), 16, (3, 20), (14, 30), False),
        ((24, 36), 12, (11, 13), (2, 22), False),
        ((24, 36), 4, (5, 7), (5, 8), False),
        ((24, 36), 12, (3, 30), (15, 5), False),
        ((32, 32), 8, (3, 12), (14, 5), False),
        ((32, 32), 8, (9, 20), (9, 20), False),
        ((48, 32), 16, (21, 3), (21, 3), True),
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
                lambda s, w, a, b, pam: 0 if tuple(a) == tuple(b) else target(s, w, a, b, pam),
                "the docstring asks for 1, 2, ... or inf: count blocks from 1 on, for a pixel and itself, too",
            ),
            (
                lambda s, w, a, b, pam: 1 if pam or max(abs(p - q) for p, q in zip(a, b)) < w else math.inf,
                "near is not enough: a border may run between them",
            ),
            (
                lambda s, w, a, b, pam: 1 if a[0] // w == b[0] // w or pam else math.inf,
                "the same window means the same row *and* the same column of windows",
            ),
            (
                lambda s, w, a, b, pam: 1 if any(p // w == q // w for p, q in zip(a, b)) or pam else math.inf,
                "the same window means the same row *and* the same column of windows",
            ),
            (
                lambda s, w, a, b, pam: target(s, w, a, b, False) if not pam else 2 * target(s, w, a, b, True),
                "PiM and PaM stand in the same block: one block is enough",
            ),
            (
                lambda s, w, a, b, pam: target(s, w, a, b, pam) - 1,
                "off by one: the block in which it happens counts",
            ),
            (
                lambda s, w, a, b, pam: target(s, w, a, b, not pam),
                "PaM is what goes from window to window: with it every pixel is reached",
            ),
            (
                lambda s, w, a, b, pam: 1 if pam or all(p % w == q % w for p, q in zip(a, b)) else math.inf,
                "% w is the place in a window; // w says which window it is",
            ),
            (
                lambda s, w, a, b, pam: target(s, w, a, b, False),
                "PaM is not used: what does it connect?",
            ),
            (
                lambda s, w, a, b, pam: 0 if pam or target(s, w, a, b, pam) == 1 else -1,
                "math.inf says never, and one block is the least that it takes",
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
            (lambda side, pool: pool, "that is the ratio of sides: a side of n has n² tokens"),
            (lambda side, pool: side // pool, "that is the side of the coarse map: compare numbers of pairs"),
            (lambda side, pool: (side // pool) ** 2, "that is how many representatives there are"),
            (lambda side, pool: side**4, "those are the pairs of all pixels: how many times more is asked"),
            (lambda side, pool: side**2, "those are the pixels: how many times more *pairs* is asked"),
            (lambda side, pool: side**4 - (side // pool) ** 4, "how many *times* more: divide, do not subtract"),
            (lambda side, pool: side**2 // pool**2, "that is how many representatives there are"),
            (lambda side, pool: pool**3, "pairs are tokens squared, and tokens are sides squared"),
            (lambda side, pool: pool**-4, "the other way round: how many times *more* pairs all pixels have"),
            (
                lambda side, pool: side**2 * (side**2 - 1) / ((side // pool) ** 2 * ((side // pool) ** 2 - 1)),
                "each token is compared with every one, itself included: n² pairs",
            ),
        ],
    )
