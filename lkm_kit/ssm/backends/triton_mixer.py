"""Mamba's mixer on a GPU as one operator that walks over the feature map; see :mod:`lkm_kit.ssm.backends.mixer`.

What happens to every token by itself (projections) happens to the map's pixels where they lie. Only convolution and
scan care which token follows which; they look it up in a table of pixel indices, 4 bytes a pixel for all batch items
and channels. So windows are never cut out, flipped or put back, whatever the order. Kept for the backward pass:
the common input product, and for each direction x after the convolution, its projection, Δ and the states between
tiles of tokens.

Checked against the reference in Triton's interpreter and on a GPU. What it takes there: ``docs/gpu.md``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lkm_kit.ssm.backends import triton, triton_conv
from lkm_kit.ssm.backends.mixer import Direction, register
from lkm_kit.ssm.backends.operators import Scan


class Engine:
    """The kernels of :mod:`lkm_kit.ssm.backends.triton` and ``triton_conv`` over views of any strides."""

    def keep(self, y: Tensor, n: int, keep: bool, order: Tensor | None) -> Tensor:
        return y.new_empty(triton.kept_shape(y, n, keep, order), dtype=torch.float32)

    def convolve(self, x: Tensor, d: Direction, reverse: bool, order: Tensor | None, y: Tensor) -> None:
        triton_conv.run_forward(x, d.conv_weight, d.conv_bias, reverse, order, y)

    def convolve_back(self, dy: Tensor, x: Tensor, d: Direction, reverse: bool, order: Tensor | None, dx: Tensor):
        return triton_conv.run_backward(dy, x, d.conv_weight, d.conv_bias, reverse, order, dx)

    def scan(self, scan: Scan, order: Tensor | None, kept: Tensor | None, y: Tensor, add: bool) -> None:
        triton.run_forward(scan, order, kept, y, None, add)

    def scan_back(
        self, dy: Tensor, kept: Tensor, scan: Scan, order: Tensor | None, du: Tensor, ddelta: Tensor, dz: Tensor,
        dprojected: Tensor, room: Tensor,
    ):  # fmt: skip
        items, _, rows = dy.shape
        dBC = dprojected.view(items, rows, -1)[None, ..., -2 * scan.A.shape[1] :]
        sums = triton.run_backward(scan, order, dy, kept, du, ddelta, dz, dBC, room)
        return sums.bias, sums.A, sums.D

    def tall_product(self, dy: Tensor, x: Tensor, batch: int) -> Tensor:
        return dy.t() @ x


mix = register("mamba_mix_triton", Engine(), None)
