"""The causal convolution with SiLU on a CPU: operands and calls of its kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from lkm_kit.ssm.backends.cpu import LANES, lanes_of, padded_channels, rows, scan_order
from lkm_kit.ssm.backends.operators import register_convolution


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    """See :func:`lkm_kit.ssm.causal_conv_silu`."""
    channels = x.shape[1]
    if channels % LANES:
        x, weight, bias = padded_channels(x, 1), padded_channels(weight, 1), padded_channels(bias, 0)
    return _convolve(x, weight.to(x.dtype), bias.to(x.dtype), reverse)[:, :channels]


class ConvCall:
    """Operands of a kernel call: x (b, d, l) and weight (d, K), converted, with addresses in the order of the scan."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool):
        import numpy as np

        self.dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        self.batch, self.channels, self.length = x.shape
        self.K, self.reverse = weight.shape[1], reverse
        self.J = lanes_of(self.channels)
        self.blocks = self.channels // (LANES * self.J)
        self.x = rows(x, self.dtype)
        self.weight = weight.to(self.dtype).flip(-1).t().contiguous()  # (K, d): tap i is i steps ago
        self.bias = bias.to(self.dtype).contiguous()
        self.like = (
            np.zeros(0, np.float64 if self.dtype == torch.float64 else np.float32), (0,) * self.J, (0,) * self.K
        )  # fmt: skip

    def inputs(self) -> tuple[int, ...]:
        size = self.weight.element_size()
        return (
            *scan_order(self.x, self.reverse), self.weight.data_ptr(), self.channels * size, self.bias.data_ptr()
        )  # fmt: skip


def run_forward(call: ConvCall, y: Tensor) -> None:
    """Convolve into ``y`` (b, l, d)."""
    from lkm_kit.ssm.backends import cpu_conv_kernels
    from lkm_kit.ssm.backends.threads import run_ranges

    arguments = (call.blocks, call.length, *call.inputs(), *scan_order(y, call.reverse))
    run_ranges(lambda a, b: cpu_conv_kernels.forward(*call.like, a, b, *arguments), call.batch * call.blocks)


def run_backward(call: ConvCall, dy: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    """Write the gradient of x into ``dx``, rows of channels as ``dy``; returns those of weight and bias, in float64."""
    from lkm_kit.ssm.backends import cpu_conv_kernels
    from lkm_kit.ssm.backends.threads import run_ranges

    W = LANES * call.J
    dweight = dy.new_zeros(call.batch, call.blocks, call.K, W, dtype=torch.float64)
    dbias = dy.new_zeros(call.batch, call.blocks, W, dtype=torch.float64)
    arguments = (
        call.blocks, call.length, *call.inputs(), *scan_order(dy, call.reverse), *scan_order(dx, call.reverse),
        dweight.data_ptr(), dbias.data_ptr(),
    )  # fmt: skip
    run_ranges(lambda a, b: cpu_conv_kernels.backward(*call.like, a, b, *arguments), call.batch * call.blocks)
    dweight = dweight.sum(0).transpose(0, 1).reshape(call.K, call.channels).flip(0).t()
    return dweight, dbias.sum(0).flatten()


def _forward(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool, y: Tensor) -> None:
    run_forward(ConvCall(x, weight, bias, reverse), y.transpose(1, 2))


def _backward(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool, dx: Tensor) -> tuple[Tensor, Tensor]:
    call = ConvCall(x, weight, bias, reverse)
    return run_backward(call, rows(dy, call.dtype), dx.transpose(1, 2))


_convolve = register_convolution("causal_conv_silu_cpu", _forward, _backward, "cpu")
