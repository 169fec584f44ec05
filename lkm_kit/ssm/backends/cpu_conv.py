"""The causal convolution with SiLU on a CPU: operands of its kernels, and the ``torch.library`` operators."""

from __future__ import annotations

import torch
from torch import Tensor

from lkm_kit.ssm.backends.cpu import LANES, lanes_of, padded_channels, rows, scan_order
from lkm_kit.ssm.backends.derivatives import only_first_derivatives


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    """See :func:`lkm_kit.ssm.causal_conv_silu`."""
    channels = x.shape[1]
    if channels % LANES:
        x, weight, bias = padded_channels(x, 1), padded_channels(weight, 1), padded_channels(bias, 0)
    return torch.ops.lkm_kit.causal_conv_silu_cpu(x, weight.to(x.dtype), bias.to(x.dtype), reverse)[:, :channels]


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


@torch.library.custom_op("lkm_kit::causal_conv_silu_cpu", mutates_args=(), device_types="cpu")
def _forward(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    call = ConvCall(x, weight, bias, reverse)
    y = x.new_empty(call.batch, call.length, call.channels, dtype=call.dtype)
    run_forward(call, y)
    return y.to(x.dtype).transpose(1, 2)


@_forward.register_fake
def _(x, weight, bias, reverse):
    return x.new_empty(x.shape[0], x.shape[2], x.shape[1]).transpose(1, 2)


@torch.library.custom_op("lkm_kit::causal_conv_silu_cpu_backward", mutates_args=(), device_types="cpu")
def _backward(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    call = ConvCall(x, weight, bias, reverse)
    dx = x.new_empty(call.batch, call.length, call.channels, dtype=call.dtype)
    dweight, dbias = run_backward(call, rows(dy, call.dtype), dx)
    return dx.to(x.dtype).transpose(1, 2), dweight.to(weight.dtype).contiguous(), dbias.to(bias.dtype)


@_backward.register_fake
def _(dy, x, weight, bias, reverse):
    dx = x.new_empty(x.shape[0], x.shape[2], x.shape[1]).transpose(1, 2)
    return dx, torch.empty_like(weight, memory_format=torch.contiguous_format), torch.empty_like(bias)


def _setup_context(ctx, inputs, output):
    x, weight, bias, ctx.reverse = inputs
    ctx.save_for_backward(x, weight, bias)


def _autograd(ctx, dy):
    return *torch.ops.lkm_kit.causal_conv_silu_cpu_backward(dy, *ctx.saved_tensors, ctx.reverse), None


_forward.register_autograd(_autograd, setup_context=_setup_context)
only_first_derivatives(_forward, _backward)
