"""The causal convolution with SiLU on a GPU: Triton kernels that read and write any layout, in either direction.

Checked in Triton's interpreter and on a GPU (``docs/gpu.md``).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lkm_kit.ssm.backends.operators import register_convolution
from lkm_kit.ssm.backends.triton import COMPILER, direction, launch

TILE, WIDEST_BLOCK = 32, 64
"""Tokens of a tile, most channels of a block: what compilers for sm_75 to sm_120 fit into registers without spilling.
Other values have not been timed."""


def _launch(x: Tensor, weight: Tensor, reverse: bool, order: Tensor | None) -> tuple[tuple[int, int], tuple, dict]:
    """Grid, sizes and flags of both kernels for x (items, channels, rows)."""
    items, channels, rows = x.shape
    windows = 1 if order is None else order.shape[0]
    length = rows // windows
    tiles = math.ceil(length / TILE)
    block = min(WIDEST_BLOCK, 2 ** math.ceil(math.log2(channels)))
    flags = {
        "T": TILE, "BD": block, "K": weight.shape[1], "ORDERED": order is not None, **COMPILER,
    }  # fmt: skip
    sizes = (channels, length, windows, tiles, *direction(length, reverse))
    return (items * windows * tiles, math.ceil(channels / block)), sizes, flags


def run_forward(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool, order: Tensor | None, y: Tensor) -> None:
    """Convolve x into ``y``, both (items, channels, rows) with any strides; ``order``: (windows, length) or None."""
    grid, sizes, flags = _launch(x, weight, reverse, order)
    launch(
        "triton_conv_kernels.forward", grid,
        x, weight.float().contiguous(), bias.float().contiguous(), x if order is None else order, y,
        *x.stride(), *y.stride(), *sizes, **flags,
    )  # fmt: skip


def run_backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool, order: Tensor | None, dx: Tensor
) -> tuple[Tensor, Tensor]:
    """Write the gradient of x into ``dx``; returns those of weight and bias in float32."""
    grid, sizes, flags = _launch(x, weight, reverse, order)
    channels, K = weight.shape
    sums = x.new_empty(grid[0], K + 1, channels, dtype=torch.float32)
    launch(
        "triton_conv_kernels.backward", grid,
        dy, x, weight.float().contiguous(), bias.float().contiguous(), x if order is None else order, dx, sums,
        *dy.stride(), *x.stride(), *dx.stride(), *sizes, **flags,
    )  # fmt: skip
    sums = sums.sum(0)
    return sums[:K].t(), sums[K]


causal_conv_silu = register_convolution(
    "causal_conv_silu_triton",
    lambda x, weight, bias, reverse, y: run_forward(x, weight, bias, reverse, None, y),
    lambda dy, x, weight, bias, reverse, dx: run_backward(dy, x, weight, bias, reverse, None, dx),
    writes_half=True,
)
"""See :func:`lkm_kit.ssm.causal_conv_silu`."""
