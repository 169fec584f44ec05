"""Checks of the exercises on token orders, blocks and the network (chapter ``06_lkm_unet``)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lkm_kit.blocks import BiM, PaM, to_tokens
from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.networks.sizes import Demand, image_multiple


def check_dilated_tokens(fn: Callable) -> CheckResult:
    """``fn(x, p)``: (1, 1, H, W) → (p * p, tokens), the sequences of the released PiM."""

    def tokens(x: Tensor, p: int, partition: str = "dilated") -> Tensor:
        return to_tokens(x, p, partition)[..., 0]

    cases = [(torch.arange(16.0).reshape(1, 1, 4, 4), 2), (torch.arange(72.0).reshape(1, 1, 6, 12), 3)]
    return check_function(
        fn,
        tokens,
        cases,
        hints=(
            "what does the slice x[0, 0, i::p, j::p] take, and for which i and j do you need it?",
            "one sequence per offset (i, j) with 0 ≤ i, j < p: every p-th row from i, every p-th column from j",
        ),
        mistakes=[
            (lambda x, p: tokens(x, p, "contiguous"), "these are contiguous windows: take steps of p, not blocks of p"),
            (lambda x, p: tokens(x.mT, p), "rows and columns are exchanged: let the column offset j run fastest"),
        ],
        draw=True,
    )


def check_patch_level(fn: Callable) -> CheckResult:
    """``fn(x, bim, pool)``: Eq. 6 for a map (b, c, H, W)."""

    def target(x: Tensor, bim: BiM, pool: int) -> Tensor:
        pam = PaM(x.shape[1], pool)
        pam.bim = bim
        return pam(x)

    def without_residual(x: Tensor, bim: BiM, pool: int) -> Tensor:
        return target(x, bim, pool) - x

    def max_pooled(x: Tensor, bim: BiM, pool: int) -> Tensor:
        coarse = F.max_pool2d(x, pool)
        mixed = bim(coarse.flatten(2).mT).mT.reshape(coarse.shape)
        return x + F.interpolate(mixed, scale_factor=pool)

    torch.manual_seed(0)
    cases = [(torch.randn(1, 4, 4, 4), BiM(4), 2), (torch.randn(2, 4, 6, 12), BiM(4), 3)]
    with torch.no_grad():
        return check_function(
            fn,
            target,
            cases,
            hints=(
                "Eq. 6 from the inside out: pool, read the representatives as tokens, back to a map, unpool, add",
                "average-pool; (b, c, h, w) → (b, h*w, c) for bim; back to a map; repeat over the patches; add x",
            ),
            mistakes=[
                (without_residual, "the residual connection is missing: add x at the end"),
                (max_pooled, "average the patch, do not take its maximum"),
            ],
            atol=1e-5,
        )


def check_bim_parameters(fn: Callable) -> CheckResult:
    """``fn(d)``: number of parameters of ``BiM(d)``."""

    def target(d: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in BiM(d).parameters())

    def one_mamba(d: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in BiM(d, bidirectional=False).parameters())

    return check_function(
        fn,
        target,
        [(16,), (40,), (512,)],
        hints=(
            "list the layers of a BiM: which of them does each direction have for itself, and which are shared?",
            "with e = 2d and r = ceil(d / 16), one Mamba has in_proj 2ed, conv1d 5e, x_proj e(r + 32), "
            "dt_proj e(r + 1), A_log 16e and D e; BiM has two of them, out_proj ed once, and LayerNorm 2d",
        ),
        mistakes=[
            (one_mamba, "that is BiM(d, bidirectional=False): count two Mambas"),
            (lambda d: target(d) + 2 * d * d, "out_proj is shared: count it once"),
            (lambda d: target(d) - 2 * d, "LayerNorm has a weight and a bias, 2d parameters"),
        ],
    )


def check_supervision_weights(fn: Callable) -> CheckResult:
    """``fn(n)``: n weights 1, 1/2, 1/4, ..., the last set to 0, scaled to add up to 1."""

    def target(n: int, drop_last: bool = True) -> Tensor:
        weights = 0.5 ** torch.arange(n, dtype=torch.float64)
        if drop_last:
            weights[-1] = 0
        return weights / weights.sum()

    return check_function(
        fn,
        target,
        [(3,), (6,)],
        hints=(
            "write the list for n = 3 by hand; what must its sum be?",
            "halve from output to output, set the last to 0, then divide by the sum",
        ),
        mistakes=[
            (lambda n: target(n, drop_last=False), "the coarsest output gets no weight at all: set the last one to 0"),
            (lambda n: target(n) / target(n)[0], "divide by the sum, so that they add up to 1"),
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
            ([1, 1], [4, 6]),
            ([1, 2, 2, 2], [24, 24, 12, 12]),
            ([1] + [2] * 6, [40, 20, 20, 10, 10, 5, 5]),
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
        ],
    )


def _totals(strides: list[int]) -> list[int]:
    totals, total = [], 1
    for stride in strides:
        total *= stride
        totals.append(total)
    return totals
