"""The causal depthwise convolution with SiLU as Triton kernels: one program a tile of tokens × a block of channels.

Rows are addressed as in :mod:`lkm_kit.ssm.backends.triton_kernels`: tokens, or pixels of a map through a table. The
backward kernel computes the sums before SiLU again instead of keeping them, K times for the K tokens that a gradient
reaches. These are loads that the cache serves, against a tensor more in memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lkm_kit.ssm.backends.triton_kernels import compiled, load_rows, rows_of, sequence_of, sigmoid


@triton.jit
def _tap(weight, d, d_in, i, K: tl.constexpr):
    """Weights of the token i steps ago."""
    return tl.load(weight + d * K + (K - 1 - i), mask=d_in, other=0.0)


@triton.jit
def _tokens(x, x_d, x_l, table, t, length, origin, step, d, d_in, ORDERED: tl.constexpr):
    """Tokens t of a sequence (tokens, channels), zero before its first and after its last."""
    inside = ((t >= 0) & (t < length))[:, None] & d_in[None, :]
    return load_rows(x, x_d, x_l, d, rows_of(table, t, length, origin, step, ORDERED), inside)


@triton.jit
def _before_silu(
    x, x_d, x_l, weight, offset, table, t, length, origin, step, d, d_in,
    K: tl.constexpr, ORDERED: tl.constexpr,
):  # fmt: skip
    """bias + Σ_i weight_{K-1-i} x_{t-i}."""
    total = _tap(weight, d, d_in, 0, K)[None, :] * _tokens(
        x, x_d, x_l, table, t, length, origin, step, d, d_in, ORDERED
    )
    for i in tl.static_range(1, K):  # pyright: ignore[reportGeneralTypeIssues]
        earlier = _tokens(x, x_d, x_l, table, t - i, length, origin, step, d, d_in, ORDERED)
        total += _tap(weight, d, d_in, i, K)[None, :] * earlier
    return total + offset[None, :]


@compiled
def forward(
    x, weight, bias, order, y, x_b, x_d, x_l, y_b, y_d, y_l, channels, length, windows, tiles, origin, step,
    T: tl.constexpr, BD: tl.constexpr, K: tl.constexpr, ORDERED: tl.constexpr,
):  # fmt: skip
    """SiLU of the convolved tokens."""
    program, d = tl.program_id(0), tl.program_id(1) * BD + tl.arange(0, BD)
    d_in = d < channels
    b, table = sequence_of(program // tiles, order, length, windows)
    t = (program % tiles) * T + tl.arange(0, T)
    offset = tl.load(bias + d, mask=d_in, other=0.0)
    total = _before_silu(x + b * x_b, x_d, x_l, weight, offset, table, t, length, origin, step, d, d_in, K, ORDERED)
    at = rows_of(table, t, length, origin, step, ORDERED)
    to = y + b * y_b + d[None, :] * y_d + at[:, None] * y_l
    tl.store(to, (total * sigmoid(total)).to(y.dtype.element_ty), mask=(t < length)[:, None] & d_in[None, :])


@compiled
def backward(
    dy, x, weight, bias, order, dx, sums, dy_b, dy_d, dy_l, x_b, x_d, x_l, dx_b, dx_d, dx_l,
    channels, length, windows, tiles, origin, step,
    T: tl.constexpr, BD: tl.constexpr, K: tl.constexpr, ORDERED: tl.constexpr,
):  # fmt: skip
    """Gradient of x, and this tile's part ``sums`` (programs, K + 1, channels) of those of the taps and the bias."""
    program, d = tl.program_id(0), tl.program_id(1) * BD + tl.arange(0, BD)
    d_in = d < channels
    b, table = sequence_of(program // tiles, order, length, windows)
    t = (program % tiles) * T + tl.arange(0, T)
    offset = tl.load(bias + d, mask=d_in, other=0.0)
    part = sums + program.to(tl.int64) * (K + 1) * channels + d
    gradient = tl.zeros((T, BD), tl.float32)
    for i in tl.static_range(K):  # pyright: ignore[reportGeneralTypeIssues]
        later = t + i
        total = _before_silu(
            x + b * x_b, x_d, x_l, weight, offset, table, later, length, origin, step, d, d_in, K, ORDERED
        )
        half = sigmoid(total)
        slope = half * (1 + total * (1 - half))
        slope *= _tokens(dy + b * dy_b, dy_d, dy_l, table, later, length, origin, step, d, d_in, ORDERED)
        gradient += _tap(weight, d, d_in, i, K)[None, :] * slope
        if i == 0:
            tl.store(part + K * channels, tl.sum(slope, axis=0), mask=d_in)
            for j in tl.static_range(K):  # pyright: ignore[reportGeneralTypeIssues]
                earlier = _tokens(x + b * x_b, x_d, x_l, table, t - j, length, origin, step, d, d_in, ORDERED)
                tl.store(part + (K - 1 - j) * channels, tl.sum(slope * earlier, axis=0), mask=d_in)
    at = rows_of(table, t, length, origin, step, ORDERED)
    to = dx + b * dx_b + d[None, :] * dx_d + at[:, None] * dx_l
    tl.store(to, gradient.to(dx.dtype.element_ty), mask=(t < length)[:, None] & d_in[None, :])
