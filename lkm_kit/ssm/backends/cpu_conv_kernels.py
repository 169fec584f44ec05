"""Mamba's short causal convolution with SiLU, fused, sixteen channels a vector: forward and backward.

torch's depthwise conv1d costs more than the whole scan once the scan is fast. Conventions as in ``cpu_steps.py`` and
``cpu_kernels.py``: addresses and byte strides, reverse by negative strides, dtype and width by the first two arguments.
The third, a tuple of K zeros, is the number of taps. Tap i multiplies the token i steps ago; weights lie as (K, d).
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types

from lkm_kit.ssm.backends.cpu_kernels import _aligned, _touch
from lkm_kit.ssm.backends.kernel_cache import compiled
from lkm_kit.ssm.backends.vector_ir import I64, LANES, Emitter, intrinsic

_ROWS = 64  # tokens per call of a step: partial sums of dL/dw stay short before they go to float64


def _emitter(builder, sig) -> tuple[Emitter, int, int]:
    return Emitter(builder, sig.args[0].dtype == types.float64), sig.args[1].count, sig.args[2].count


def _convolved(e: Emitter, taps: list[ir.Value], weights: list[ir.Value], bias: ir.Value) -> ir.Value:
    total = bias
    for x, w in zip(taps, weights, strict=True):
        total = e.fma(x, w, total)
    return total


def _taps(e: Emitter, K: int, j: int, t: ir.Value, x: ir.Value, x_t: ir.Value, zeros: ir.Value) -> list[ir.Value]:
    """x at t, t-1, ..., zero before the first token."""
    values = []
    for i in range(K):
        earlier = e.b.sub(t, I64(i))
        address = e.address(x, e.b.mul(earlier, x_t), j * LANES * e.bytes)
        inside = e.b.icmp_signed(">=", earlier, I64(0))
        values.append(e.load(e.b.select(inside, address, zeros)))
    return values


@intrinsic
def convolve(typingctx, like, width, taps, first, last, x, x_t, weight, weight_k, bias, zeros, y, y_t):
    """y = SiLU(conv(x) + bias) for tokens first..last-1."""

    def codegen(context, builder, sig, args):
        e, J, K = _emitter(builder, sig)
        first, last, x, x_t, weight, weight_k, bias, zeros, y, y_t = args[3:]
        for j in range(J):
            at = j * LANES * e.bytes
            weights = [e.load(e.address(weight, e.b.mul(weight_k, I64(i)), at)) for i in range(K)]
            offset = e.load(e.address(bias, at))
            with cgutils.for_range_slice(builder, first, last, I64(1)) as (t, _):
                value = _convolved(e, _taps(e, K, j, t, x, x_t, zeros), weights, offset)
                e.store(e.mul(value, e.sigmoid(value)), e.address(y, e.b.mul(t, y_t), at))
        return context.get_dummy_value()

    return types.void(like, width, taps, *[types.int64] * 10), codegen


@intrinsic
def convolve_gradient(
    typingctx, like, width, taps, first, last, length, x, x_t, weight, weight_k, bias, zeros, dy, dy_t, dx, dx_t,
    history, dweight, dbias,
):  # fmt: skip
    """Tokens first..last-1 of the gradient; beyond ``length`` the gradient of the sum is zero and dx is flushed.

    With g = dL/d(conv): dx_{t-K+1} = Σ_i w_i g_{t-K+1+i}; dL/dw_i = Σ g_t x_{t-i}; dL/dbias = Σ g_t. ``history`` holds
    the last K-1 values of g between calls.
    """

    def codegen(context, builder, sig, args):
        e, J, K = _emitter(builder, sig)
        first, last, length, x, x_t, weight, weight_k, bias, zeros, dy, dy_t, dx, dx_t, history, dw, db = args[3:]
        lane_bytes = LANES * e.bytes
        for j in range(J):
            at = j * lane_bytes
            weights = [e.load(e.address(weight, e.b.mul(weight_k, I64(i)), at)) for i in range(K)]
            offset = e.load(e.address(bias, at))
            past = [cgutils.alloca_once_value(builder, e.load(e.address(history, (i * J + j) * lane_bytes)))
                    for i in range(K - 1)]  # fmt: skip
            sums = [cgutils.alloca_once_value(builder, e.const(0.0)) for _ in range(K + 1)]
            for s in sums:  # alloca_once initialises at function entry; each call starts anew
                builder.store(e.const(0.0), s)
            for i, p in enumerate(past):
                builder.store(e.load(e.address(history, (i * J + j) * lane_bytes)), p)
            with cgutils.for_range_slice(builder, first, last, I64(1)) as (t, _):
                inside = e.b.icmp_signed("<", t, length)
                clamped = e.b.select(inside, t, e.b.sub(length, I64(1)))
                values = _taps(e, K, j, clamped, x, x_t, zeros)
                value = _convolved(e, values, weights, offset)
                sigmoid = e.sigmoid(value)
                slope = e.mul(sigmoid, e.fma(value, e.sub(e.const(1.0), sigmoid), e.const(1.0)))
                address = e.b.select(inside, e.address(dy, e.b.mul(clamped, dy_t), at), zeros)
                g = e.mul(e.load(address), slope)
                g = e.b.select(inside, g, e.const(0.0))
                for i in range(K):
                    builder.store(e.fma(g, values[i], builder.load(sums[i])), sums[i])
                builder.store(e.add(g, builder.load(sums[K])), sums[K])
                recent = [builder.load(p) for p in past]  # g at t-1, t-2, ..., t-K+1
                total = e.mul(g, weights[K - 1])
                for i in range(K - 1):
                    total = e.fma(recent[i], weights[K - 2 - i], total)
                target = e.b.sub(t, I64(K - 1))
                with builder.if_then(e.b.icmp_signed(">=", target, I64(0))):
                    e.store(total, e.address(dx, e.b.mul(target, dx_t), at))
                for i, newer in enumerate([g, *recent][: K - 1]):
                    builder.store(newer, past[i])
            for i, p in enumerate(past):
                e.store(builder.load(p), e.address(history, (i * J + j) * lane_bytes))
            for i in range(K):
                e.accumulate_double(builder.load(sums[i]), e.address(dw, (i * J + j) * LANES * 8))
            e.accumulate_double(builder.load(sums[K]), e.address(db, j * LANES * 8))
        return context.get_dummy_value()

    return types.void(like, width, taps, *[types.int64] * 16), codegen


@compiled
def forward(like, width, taps, first, last, blocks, length, x, weight, bias, y):
    """Tasks first..last-1 of batch × channel blocks; x, y: (address, batch, token), weight: (address, tap)."""
    (x_at, x_b, x_t), (weight_at, weight_k), (y_at, y_b, y_t) = x, weight, y
    row = 16 * len(width) * like.itemsize
    keep, zeros = _aligned(16 * len(width), like)
    for task in range(first, last):
        b, channel = task // blocks, task % blocks * row
        # Address of token 0 and length: the taps before it read zeros.
        convolve(like, width, taps, 0, length, x_at + b * x_b + channel, x_t, weight_at + channel, weight_k,
                 bias + channel, zeros, y_at + b * y_b + channel, y_t)  # fmt: skip
    _touch(keep)


@compiled
def backward(
    like, width, taps, first, last, blocks, length, x, weight, bias, dy, dx, dweight, dbias,
):  # fmt: skip
    """Tasks first..last-1; dweight (batch, blocks, K, W) and dbias (batch, blocks, W) are float64, zeroed."""
    (x_at, x_b, x_t), (weight_at, weight_k), (dy_at, dy_b, dy_t), (dx_at, dx_b, dx_t) = x, weight, dy, dx
    W = 16 * len(width)
    row = W * like.itemsize
    K = len(taps)
    keep_zeros, zeros = _aligned(W, like)
    keep_history, history = _aligned(K * W, like)
    for task in range(first, last):
        b, channel = task // blocks, task % blocks * row
        keep_history[:] = 0
        for t0 in range(0, length + K - 1, _ROWS):
            convolve_gradient(
                like, width, taps, t0, min(t0 + _ROWS, length + K - 1), length, x_at + b * x_b + channel, x_t,
                weight_at + channel, weight_k, bias + channel, zeros, dy_at + b * dy_b + channel, dy_t,
                dx_at + b * dx_b + channel, dx_t, history, dweight + task * K * W * 8, dbias + task * W * 8,
            )  # fmt: skip
    _touch(keep_zeros, keep_history)
