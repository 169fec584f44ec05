"""The causal convolution with SiLU on a GPU: Triton kernels that read and write any layout, in either direction.

Checked in Triton's interpreter; not yet timed on a GPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lkm_kit.ssm.backends.derivatives import only_first_derivatives

TILE, WIDEST_BLOCK, WARPS = 32, 64, 8
"""Tokens of a tile, most channels of a block, warps of a program: what the compiler for sm_80 fits into registers
without spilling. Not timed on a GPU yet."""


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    """See :func:`lkm_kit.ssm.causal_conv_silu`."""
    return torch.ops.lkm_kit.causal_conv_silu_triton(x, weight, bias, reverse)


def _launch(x: Tensor, weight: Tensor, reverse: bool, order: Tensor | None) -> tuple[tuple[int, int], tuple, dict]:
    """Grid, sizes and flags of both kernels for x (items, channels, rows)."""
    items, channels, rows = x.shape
    windows = 1 if order is None else order.shape[0]
    length = rows // windows
    tiles = math.ceil(length / TILE)
    block = min(WIDEST_BLOCK, 2 ** math.ceil(math.log2(channels)))
    flags = {
        "T": TILE, "BD": block, "K": weight.shape[1], "ORDERED": order is not None, "REVERSE": reverse,
        "num_warps": WARPS,
    }  # fmt: skip
    return (items * windows * tiles, math.ceil(channels / block)), (channels, length, windows, tiles), flags


def run_forward(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool, order: Tensor | None, y: Tensor) -> None:
    """Convolve x into ``y``, both (items, channels, rows) with any strides; ``order``: (windows, length) or None."""
    from lkm_kit.ssm.backends import triton_conv_kernels

    grid, sizes, flags = _launch(x, weight, reverse, order)
    triton_conv_kernels.forward[grid](
        x, weight.float().contiguous(), bias.float().contiguous(), x if order is None else order, y,
        *x.stride(), *y.stride(), *sizes, **flags,
    )  # fmt: skip


def run_backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool, order: Tensor | None, dx: Tensor
) -> tuple[Tensor, Tensor]:
    """Write the gradient of x into ``dx``; returns those of weight and bias in float32."""
    from lkm_kit.ssm.backends import triton_conv_kernels

    grid, sizes, flags = _launch(x, weight, reverse, order)
    channels, K = weight.shape
    sums = x.new_empty(grid[0], K + 1, channels, dtype=torch.float32)
    triton_conv_kernels.backward[grid](
        dy, x, weight.float().contiguous(), bias.float().contiguous(), x if order is None else order, dx, sums,
        *dy.stride(), *x.stride(), *dx.stride(), *sizes, **flags,
    )  # fmt: skip
    sums = sums.sum(0)
    return sums[:K].t(), sums[K]


def _rows_of_channels(x: Tensor) -> Tensor:
    """An uninitialised tensor of x's shape, channels next to each other."""
    return x.new_empty(x.shape[0], x.shape[2], x.shape[1]).transpose(1, 2)


@torch.library.custom_op("lkm_kit::causal_conv_silu_triton", mutates_args=())
def _forward(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    y = _rows_of_channels(x)
    run_forward(x, weight, bias, reverse, None, y)
    return y


@_forward.register_fake
def _(x, weight, bias, reverse):
    return _rows_of_channels(x)


@torch.library.custom_op("lkm_kit::causal_conv_silu_triton_backward", mutates_args=())
def _backward(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    dx = _rows_of_channels(x)
    dweight, dbias = run_backward(dy, x, weight, bias, reverse, None, dx)
    return dx, dweight.to(weight.dtype).clone(memory_format=torch.contiguous_format), dbias.to(bias.dtype).clone()


@_backward.register_fake
def _(dy, x, weight, bias, reverse):
    return _rows_of_channels(x), weight.new_empty(weight.shape), bias.new_empty(bias.shape)


def _setup_context(ctx, inputs, output):
    x, weight, bias, ctx.reverse = inputs
    ctx.save_for_backward(x, weight, bias)


def _autograd(ctx, dy):
    return *torch.ops.lkm_kit.causal_conv_silu_triton_backward(dy, *ctx.saved_tensors, ctx.reverse), None


_forward.register_autograd(_autograd, setup_context=_setup_context)
only_first_derivatives(_forward, _backward)
