"""Mamba's mixer on a CPU as one operator; see :mod:`lkm_kit.ssm.backends.mixer`.

Tokens have been cut out: there is no table of their order here. Inner channels are a multiple of sixteen, all tensors
of one dtype, float32 or float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lkm_kit.ssm.backends import cpu, cpu_conv
from lkm_kit.ssm.backends.mixer import Direction, register
from lkm_kit.ssm.backends.operators import Scan
from lkm_kit.ssm.backends.threads import run_ranges


class _Engine:
    def keep(self, y: Tensor, n: int, keep: bool, order: Tensor | None) -> Tensor:
        return y.new_empty(cpu.kept_shape(y.shape, n, keep))

    def convolve(self, x: Tensor, d: Direction, reverse: bool, order: Tensor | None, y: Tensor) -> None:
        cpu_conv.run_forward(cpu_conv.ConvCall(x, d.conv_weight, d.conv_bias, reverse), y.transpose(1, 2))

    def convolve_back(self, dy: Tensor, x: Tensor, d: Direction, reverse: bool, order: Tensor | None, dx: Tensor):
        call = cpu_conv.ConvCall(x, d.conv_weight, d.conv_bias, reverse)
        return cpu_conv.run_backward(call, dy.transpose(1, 2), dx.transpose(1, 2))

    def scan(self, scan: Scan, order: Tensor | None, kept: Tensor | None, y: Tensor, add: bool) -> None:
        cpu.run_forward(cpu.call_of(scan), scan.softplus, kept, y.transpose(1, 2), add=add)

    def scan_back(
        self, dy: Tensor, kept: Tensor, scan: Scan, order: Tensor | None, du: Tensor, ddelta: Tensor, dz: Tensor,
        dprojected: Tensor, room: Tensor,
    ):  # fmt: skip
        from lkm_kit.ssm.backends.cpu_kernels import gather

        rows = (t.transpose(1, 2) for t in (dy, du, ddelta, dz))
        sums = cpu.run_backward(cpu.call_of(scan), scan.softplus, kept, *rows)
        arrays = sums.B[:, :, 0].numpy(), sums.C[:, :, 0].numpy(), dprojected.numpy()
        first, length = dprojected.shape[1] - 2 * scan.A.shape[1], scan.u.shape[2]
        run_ranges(lambda a, b: gather(*arrays, first, length, scan.reverse, a, b), sums.B.shape[1])
        return sums.bias, sums.A, sums.D

    def tall_product(self, dy: Tensor, x: Tensor, batch: int) -> Tensor:
        # item by item: BLAS runs a product of two very tall matrices on one core
        parts = torch.bmm(dy.view(batch, -1, dy.shape[1]).transpose(1, 2), x.view(batch, -1, x.shape[1]))
        return parts.sum(0)


mix = register("mamba_mix_cpu", _Engine(), "cpu")
