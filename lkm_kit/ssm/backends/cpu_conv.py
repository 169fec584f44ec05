"""The causal convolution with SiLU on a CPU: operands and calls of its kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from lkm_kit.ssm.backends.cpu import LANES, lanes_of, padded_channels, rows
from lkm_kit.ssm.backends.kernel_call import Operand, call_kernel, flat_operand, kernel_kind, rows_operand
from lkm_kit.ssm.backends.operators import register_convolution, wide


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    """See :func:`lkm_kit.ssm.causal_conv_silu`."""
    channels = x.shape[1]
    if channels % LANES:
        x, weight, bias = padded_channels(x, 1), padded_channels(weight, 1), padded_channels(bias, 0)
    return _convolve(x, weight.to(x.dtype), bias.to(x.dtype), reverse)[:, :channels]


class ConvCall:
    """Operands of a kernel call: x (b, d, l) and weight (d, K), converted, with addresses in the order of the scan."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool):
        self.dtype = wide(x.dtype)
        self.batch, self.channels, self.length = x.shape
        self.K, self.reverse = weight.shape[1], reverse
        self.J = lanes_of(self.channels)
        self.blocks = self.channels // (LANES * self.J)
        self.x = rows(x, self.dtype)
        self.weight = weight.to(self.dtype).flip(-1).t().contiguous()  # (K, d): tap i is i steps ago
        self.bias = bias.to(self.dtype).contiguous()
        self.kind = kernel_kind(self.dtype, self.J, self.K)

    def rows(self, t: Tensor) -> Operand:
        return rows_operand(t, self.reverse, self.batch, self.length, self.channels)

    def inputs(self) -> dict[str, Operand | int]:
        step = self.channels * self.weight.element_size()
        return {
            "blocks": self.blocks, "length": self.length, "x": self.rows(self.x),
            "weight": Operand(self.weight, (self.weight.data_ptr(), step), (self.K,), step),
            "bias": flat_operand(self.bias, self.channels),
        }  # fmt: skip


def run_forward(call: ConvCall, y: Tensor) -> None:
    """Convolve into ``y`` (b, l, d)."""
    from lkm_kit.ssm.backends import cpu_conv_kernels

    call_kernel(cpu_conv_kernels.forward, call.kind, call.batch * call.blocks, **call.inputs(), y=call.rows(y))


def run_backward(call: ConvCall, dy: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    """Write the gradient of x into ``dx``, rows of channels as ``dy``; returns those of weight and bias, in float64."""
    from lkm_kit.ssm.backends import cpu_conv_kernels

    W = LANES * call.J
    dweight = dy.new_zeros(call.batch, call.blocks, call.K, W, dtype=torch.float64)
    dbias = dy.new_zeros(call.batch, call.blocks, W, dtype=torch.float64)
    call_kernel(
        cpu_conv_kernels.backward, call.kind, call.batch * call.blocks, **call.inputs(), dy=call.rows(dy),
        dx=call.rows(dx), dweight=flat_operand(dweight, call.batch, call.K, call.channels),
        dbias=flat_operand(dbias, call.batch, call.channels),
    )  # fmt: skip
    dweight = dweight.sum(0).transpose(0, 1).reshape(call.K, call.channels).flip(0).t()
    return dweight, dbias.sum(0).flatten()


def _forward(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool, y: Tensor) -> None:
    run_forward(ConvCall(x, weight, bias, reverse), y.transpose(1, 2))


def _backward(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool, dx: Tensor) -> tuple[Tensor, Tensor]:
    call = ConvCall(x, weight, bias, reverse)
    return run_backward(call, rows(dy, call.dtype), dx.transpose(1, 2))


_convolve = register_convolution("causal_conv_silu_cpu", _forward, _backward, "cpu")
