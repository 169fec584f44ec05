"""The selective scan as Triton kernels: tiles of tokens × channels × states, joined by an associative scan.

A program walks over the tiles of one chunk of tokens for one block of channels, with the state in registers. Inside a
tile all states are made at once by ``tl.associative_scan``; between tiles one state per channel is carried, and kept
for the backward pass. Two kernels more compute what a chunk does to the state (or its gradient) without writing any
output, so that a long sequence can be cut into chunks that run side by side.

Tensors are addressed by strides (batch, channel, token): neither layouts nor directions are copied. State and sums
are float32 whatever goes in. Nothing is added by atomics, so that results do not depend on the order of execution.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _join(a1, b1, a2, b2):
    """h → a1 h + b1, then h → a2 h + b2, as one step."""
    return a1 * a2, a2 * b1 + b2


@triton.jit
def _positions(t, length, REVERSE: tl.constexpr):
    """Where the t-th token of the scan lies."""
    return length - 1 - t if REVERSE else t


@triton.jit
def _rows(pointer, stride_d, stride_l, d, positions, inside):
    """A tile (tokens, channels) as float32, zero outside."""
    addresses = pointer + d[None, :] * stride_d + positions[:, None] * stride_l
    return tl.load(addresses, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _steps(raw, bias, inside, SOFTPLUS: tl.constexpr):
    """Δ of a tile, zero outside: a token that is not there leaves the state as it is."""
    x = raw + bias[None, :]
    if SOFTPLUS:
        small = tl.exp(-tl.abs(x))
        # log(1 + e) by its series where 1 + e would lose the digits of e
        logarithm = tl.where(
            small < 1e-2, small * (1 - small * (0.5 - small * (1 / 3 - small * 0.25))), tl.log(1 + small)
        )
        x = tl.maximum(x, 0.0) + logarithm
    return tl.where(inside, x, 0.0)


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _states(carried, dt, u, A2, B):
    """Ā, Δ u B and h of a tile (tokens, channels, states) that starts from the state ``carried``."""
    decay = tl.exp2(dt[:, :, None] * A2[None, :, :])
    entering = (dt * u)[:, :, None] * B[:, None, :]
    total, local = tl.associative_scan((decay, entering), 0, _join)
    return decay, entering, local + total * carried[None, :, :]


@triton.jit
def forward(
    u, delta, z, A2, B, C, D, bias, start, y, kept, last, elapsed,
    u_b, u_d, u_l, dt_b, dt_d, dt_l, z_b, z_d, z_l, B_b, B_n, B_l, C_b, C_n, C_l, y_b, y_d, y_l,
    channels, n, length, tiles, tiles_per_chunk, chunks,
    T: tl.constexpr, BD: tl.constexpr, N: tl.constexpr, REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr,
    GATE: tl.constexpr, OUTPUT: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """One chunk. OUTPUT: from the state ``start`` to y and (KEEP) the state before every tile. Else from zero, writing
    only what the chunk leaves behind: its state ``last`` and its sum of Δ, ``elapsed``."""
    b, block, chunk = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    d, i = block * BD + tl.arange(0, BD), tl.arange(0, N)
    d_in, i_in = d < channels, i < n
    state_at = ((b * chunks + chunk) * channels + d[:, None]) * n + i[None, :]
    state_in = d_in[:, None] & i_in[None, :]
    rate = tl.load(A2 + d[:, None] * n + i[None, :], mask=state_in, other=0.0)
    offset = tl.load(bias + d, mask=d_in, other=0.0)
    skip = tl.load(D + d, mask=d_in, other=0.0)
    h = tl.zeros((BD, N), tl.float32)
    if OUTPUT:
        h = tl.load(start + state_at, mask=state_in, other=0.0)
    time = tl.zeros((BD,), tl.float32)
    for tile in range(chunk * tiles_per_chunk, tl.minimum((chunk + 1) * tiles_per_chunk, tiles)):
        t = tile * T + tl.arange(0, T)
        at = _positions(t, length, REVERSE)
        t_in = t < length
        inside = t_in[:, None] & d_in[None, :]
        inside_n = t_in[:, None] & i_in[None, :]
        u_tile = _rows(u + b * u_b, u_d, u_l, d, at, inside)
        dt = _steps(_rows(delta + b * dt_b, dt_d, dt_l, d, at, inside), offset, inside, SOFTPLUS)
        B_tile = _rows(B + b * B_b, B_n, B_l, i, at, inside_n)
        if KEEP:
            kept_at = ((b * tiles + tile) * channels + d[:, None]) * n + i[None, :]
            tl.store(kept + kept_at, h, mask=state_in)
        _, _, states = _states(h, dt, u_tile, rate, B_tile)
        h = tl.sum(tl.where(tl.arange(0, T)[:, None, None] == T - 1, states, 0.0), axis=0)
        time += tl.sum(dt, axis=0)
        if OUTPUT:
            C_tile = _rows(C + b * C_b, C_n, C_l, i, at, inside_n)
            out = tl.sum(states * C_tile[:, None, :], axis=2) + skip[None, :] * u_tile
            if GATE:
                gate = _rows(z + b * z_b, z_d, z_l, d, at, inside)
                out *= gate * _sigmoid(gate)
            addresses = y + b * y_b + d[None, :] * y_d + at[:, None] * y_l
            tl.store(addresses, out.to(y.dtype.element_ty), mask=inside)
    tl.store(last + state_at, h, mask=state_in)
    tl.store(elapsed + (b * chunks + chunk) * channels + d, time, mask=d_in)


@triton.jit
def _gradient_tile(
    b, d, i, t, offset, rate, carried, dy, z, delta, C, dy_b, dy_d, dy_l, z_b, z_d, z_l, dt_b, dt_d, dt_l,
    C_b, C_n, C_l, length, d_in, i_in, REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr, GATE: tl.constexpr,
):  # fmt: skip
    """dL/dy before the gate (tokens, channels), C, and dL/dh (tokens, channels, states) of a tile.

    dL/dh_t = C_t g_t + Ā_{t+1} dL/dh_{t+1}: a scan from the last token to the first, by the decay of the *next* one.
    """
    at = _positions(t, length, REVERSE)
    inside = (t < length)[:, None] & d_in[None, :]
    g = _rows(dy + b * dy_b, dy_d, dy_l, d, at, inside)
    if GATE:
        gate = _rows(z + b * z_b, z_d, z_l, d, at, inside)
        g *= gate * _sigmoid(gate)
    C_tile = _rows(C + b * C_b, C_n, C_l, i, at, (t < length)[:, None] & i_in[None, :])
    following = (t + 1 < length)[:, None] & d_in[None, :]
    after = _positions(t + 1, length, REVERSE)
    dt = _steps(_rows(delta + b * dt_b, dt_d, dt_l, d, after, following), offset, following, SOFTPLUS)
    decay = tl.exp2(dt[:, :, None] * rate[None, :, :])
    total, local = tl.associative_scan((decay, g[:, :, None] * C_tile[:, None, :]), 0, _join, reverse=True)
    return g, C_tile, local + total * carried[None, :, :]


@triton.jit
def state_gradient(
    dy, z, delta, A2, C, bias, first,
    dy_b, dy_d, dy_l, z_b, z_d, z_l, dt_b, dt_d, dt_l, C_b, C_n, C_l,
    channels, n, length, tiles, tiles_per_chunk, chunks,
    T: tl.constexpr, BD: tl.constexpr, N: tl.constexpr, REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr,
    GATE: tl.constexpr,
):  # fmt: skip
    """dL/dh at the first token of a chunk, from the outputs of this chunk alone."""
    b, block, chunk = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    d, i = block * BD + tl.arange(0, BD), tl.arange(0, N)
    d_in, i_in = d < channels, i < n
    state_in = d_in[:, None] & i_in[None, :]
    rate = tl.load(A2 + d[:, None] * n + i[None, :], mask=state_in, other=0.0)
    offset = tl.load(bias + d, mask=d_in, other=0.0)
    dh = tl.zeros((BD, N), tl.float32)
    stop = tl.minimum((chunk + 1) * tiles_per_chunk, tiles)
    for step in range(stop - chunk * tiles_per_chunk):
        t = (stop - 1 - step) * T + tl.arange(0, T)
        _, _, gradients = _gradient_tile(
            b, d, i, t, offset, rate, dh, dy, z, delta, C, dy_b, dy_d, dy_l, z_b, z_d, z_l, dt_b, dt_d, dt_l,
            C_b, C_n, C_l, length, d_in, i_in, REVERSE, SOFTPLUS, GATE,
        )  # fmt: skip
        dh = tl.sum(tl.where(tl.arange(0, T)[:, None, None] == 0, gradients, 0.0), axis=0)
    tl.store(first + ((b * chunks + chunk) * channels + d[:, None]) * n + i[None, :], dh, mask=state_in)


@triton.jit
def backward(
    u, delta, z, A2, B, C, D, bias, kept, dy, following, du, ddelta, dz, dA, dB, dC, dD, dbias,
    u_b, u_d, u_l, dt_b, dt_d, dt_l, z_b, z_d, z_l, B_b, B_n, B_l, C_b, C_n, C_l, dy_b, dy_d, dy_l,
    du_b, du_d, du_l,
    channels, n, length, tiles, tiles_per_chunk, chunks, batch,
    T: tl.constexpr, BD: tl.constexpr, N: tl.constexpr, REVERSE: tl.constexpr, SOFTPLUS: tl.constexpr,
    GATE: tl.constexpr,
):  # fmt: skip
    """All gradients of one chunk; ``following`` is dL/dh at the first token of the next one. du, ddelta and dz have one
    layout. dB, dC: (blocks, batch, n, length), dA (batch, chunks, channels, n), dD, dbias (batch, chunks, channels)."""
    b, block, chunk = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    d, i = block * BD + tl.arange(0, BD), tl.arange(0, N)
    d_in, i_in = d < channels, i < n
    state_in = d_in[:, None] & i_in[None, :]
    state_at = ((b * chunks + chunk) * channels + d[:, None]) * n + i[None, :]
    rate = tl.load(A2 + d[:, None] * n + i[None, :], mask=state_in, other=0.0)
    offset = tl.load(bias + d, mask=d_in, other=0.0)
    skip = tl.load(D + d, mask=d_in, other=0.0)
    dh = tl.load(following + state_at, mask=state_in, other=0.0)
    dA_sum = tl.zeros((BD, N), tl.float32)
    dD_sum = tl.zeros((BD,), tl.float32)
    dbias_sum = tl.zeros((BD,), tl.float32)
    stop = tl.minimum((chunk + 1) * tiles_per_chunk, tiles)
    for step in range(stop - chunk * tiles_per_chunk):
        tile = stop - 1 - step
        t = tile * T + tl.arange(0, T)
        at = _positions(t, length, REVERSE)
        t_in = t < length
        inside = t_in[:, None] & d_in[None, :]
        inside_n = t_in[:, None] & i_in[None, :]
        u_tile = _rows(u + b * u_b, u_d, u_l, d, at, inside)
        raw = _rows(delta + b * dt_b, dt_d, dt_l, d, at, inside)
        dt = _steps(raw, offset, inside, SOFTPLUS)
        B_tile = _rows(B + b * B_b, B_n, B_l, i, at, inside_n)
        before = tl.load(kept + ((b * tiles + tile) * channels + d[:, None]) * n + i[None, :], mask=state_in, other=0.0)
        _, entering, states = _states(before, dt, u_tile, rate, B_tile)
        g, C_tile, gradients = _gradient_tile(
            b, d, i, t, offset, rate, dh, dy, z, delta, C, dy_b, dy_d, dy_l, z_b, z_d, z_l, dt_b, dt_d, dt_l,
            C_b, C_n, C_l, length, d_in, i_in, REVERSE, SOFTPLUS, GATE,
        )  # fmt: skip
        dh = tl.sum(tl.where(tl.arange(0, T)[:, None, None] == 0, gradients, 0.0), axis=0)
        through_input = tl.sum(gradients * B_tile[:, None, :], axis=2)
        through_decay = gradients * (states - entering)  # h_t - Δ u B is Ā h_{t-1}
        dA_sum += tl.sum(through_decay * dt[:, :, None], axis=0)
        slope = u_tile * through_input + tl.sum(through_decay * (rate / LOG2E)[None, :, :], axis=2)
        if SOFTPLUS:
            slope *= _sigmoid(raw + offset[None, :])
        slope = tl.where(inside, slope, 0.0)
        dbias_sum += tl.sum(slope, axis=0)
        dD_sum += tl.sum(g * u_tile, axis=0)
        to = b * du_b + d[None, :] * du_d + at[:, None] * du_l
        tl.store(du + to, (dt * through_input + skip[None, :] * g).to(du.dtype.element_ty), mask=inside)
        tl.store(ddelta + to, slope.to(ddelta.dtype.element_ty), mask=inside)
        if GATE:
            gate = _rows(z + b * z_b, z_d, z_l, d, at, inside)
            sigmoid = _sigmoid(gate)
            out = tl.sum(states * C_tile[:, None, :], axis=2) + skip[None, :] * u_tile
            upstream = _rows(dy + b * dy_b, dy_d, dy_l, d, at, inside)
            slope = sigmoid * (1 + gate * (1 - sigmoid))
            tl.store(dz + to, (upstream * out * slope).to(dz.dtype.element_ty), mask=inside)
        shared = ((block * batch + b) * n + i[None, :]) * length + at[:, None]
        tl.store(dB + shared, tl.sum(gradients * (dt * u_tile)[:, :, None], axis=1), mask=inside_n)
        tl.store(dC + shared, tl.sum(g[:, :, None] * states, axis=1), mask=inside_n)
    tl.store(dA + state_at, dA_sum, mask=state_in)
    at_channel = (b * chunks + chunk) * channels + d
    tl.store(dD + at_channel, dD_sum, mask=d_in)
    tl.store(dbias + at_channel, dbias_sum, mask=d_in)
