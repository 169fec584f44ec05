"""The selective scan as Triton kernels: tiles of tokens × channels × states, joined by an associative scan.

A program walks over the tiles of one chunk of tokens for one block of channels, with the state in registers. Inside a
tile all states are made at once by ``tl.associative_scan``; between tiles one state per channel is carried, and kept
for the backward pass. Two kernels more compute what a chunk does to the state (or its gradient) without writing any
output. So a long sequence can be cut into chunks that run side by side.

Tensors are addressed by strides (batch item, channel, row): neither layouts nor directions are copied. A row is a
token, or (ORDERED) a pixel of a feature map that holds several sequences. There window w reads and writes its t-th
token at pixel ``order[w, t]``, so that no map is cut into tokens and put together again. State and sums are float32
whatever goes in. Nothing is added by atomics, so that results do not depend on the order of execution.

A block has as many (channel, state) pairs as a program has threads. So a tile's tokens lie in one thread's registers,
a scan along them is a loop there, and a longer state takes fewer channels instead of more registers.

Triton compiles a kernel anew for an integer that is 1, that is divisible by 16, or that is neither. This helps where
all layers of a network are alike (strides of channels and tokens, numbers of channels, groups and states). For what
changes from layer to layer it costs a second each time: see :func:`compiled`.
"""

from __future__ import annotations

import inspect

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
VARYING = ("length", "windows", "tiles", "tiles_per_chunk", "chunks", "parts", "origin", "step", "B_l", "C_l", "dBC_l")


def compiled(kernel):
    """A Triton kernel that serves all sizes: one compilation for any length, direction and stride of batch items.

    B, C and their gradients are columns of a projection that begins after as many columns as Δ has ranks: in each stage
    of a network somewhere else.
    """
    names = inspect.signature(kernel).parameters
    sizes = [name for name in names if name in VARYING or name[-2:] in ("_b", "_g", "_p")]
    columns = [name for name in names if name in ("B", "C", "dBC")]
    return triton.jit(do_not_specialize=sizes, do_not_specialize_on_alignment=columns)(kernel)


@triton.jit
def _join(a1, b1, a2, b2):
    """h → a1 h + b1, then h → a2 h + b2, as one step."""
    return a1 * a2, a2 * b1 + b2


@triton.jit
def sequence_of(number, order, length, windows):
    """Batch item of a sequence (64 bits: a batch of volumes outgrows 32) and where its window's table begins."""
    return (number // windows).to(tl.int64), order + (number % windows) * length


@triton.jit
def channels_of(block, channels, groups, BD: tl.constexpr):
    """Group of a block of channels, the channels, and which of them are there: a block lies in one group."""
    own = channels // groups
    blocks = (own + BD - 1) // BD
    group = block // blocks
    within = (block % blocks) * BD + tl.arange(0, BD)
    return group, group * own + within, within < own


@triton.jit
def pairs(rows, i, n, there=True):
    """Which pairs of a row (token or channel) and a state there are; none at all if not ``there``."""
    return rows[:, None] & (i < tl.where(there, n, 0))[None, :]


@triton.jit
def rows_of(table, t, length, origin, step, ORDERED: tl.constexpr):
    """Row in which the t-th token of a scan from row ``origin`` on lies; any row for a t outside of the sequence."""
    row = origin + step * t
    if ORDERED:
        row = tl.load(table + row, mask=(row >= 0) & (row < length), other=0)
    return row.to(tl.int64)


@triton.jit
def load_rows(pointer, stride_d, stride_l, d, rows, inside):
    """A tile (tokens, channels) as float32, zero outside."""
    addresses = pointer + d[None, :] * stride_d + rows[:, None] * stride_l
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
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _states(carried, dt, u, A2, B):
    """Ā, Δ u B and h of a tile (tokens, channels, states) that starts from the state ``carried``."""
    decay = tl.exp2(dt[:, :, None] * A2[None, :, :])
    entering = (dt * u)[:, :, None] * B[:, None, :]
    total, local = tl.associative_scan((decay, entering), 0, _join)
    return decay, entering, local + total * carried[None, :, :]


@compiled
def forward(
    u, delta, z, A2, B, C, D, bias, order, start, y, kept, left, elapsed,
    u_b, u_d, u_l, dt_b, dt_d, dt_l, z_b, z_d, z_l, B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l,
    y_b, y_d, y_l, channels, groups, n, length, windows, tiles, tiles_per_chunk, chunks, origin, step,
    T: tl.constexpr, BD: tl.constexpr, N: tl.constexpr, ORDERED: tl.constexpr, SOFTPLUS: tl.constexpr,
    GATE: tl.constexpr, OUTPUT: tl.constexpr, ADD: tl.constexpr, KEEP: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    """One chunk. OUTPUT: from the state ``start`` to y (ADD: added to what is there), (KEEP) the state before every
    tile, and (LAST) into ``left`` the state after the sequence. Else from zero, writing only what every chunk leaves:
    its state into ``left`` and its sum of Δ into ``elapsed``. The first chunk starts from zero, whatever ``start`` is.
    """
    s, block, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    b, table = sequence_of(s, order, length, windows)
    group, d, d_in = channels_of(block, channels, groups, BD)
    i = tl.arange(0, N)
    state_at = ((s * chunks + chunk) * channels + d[:, None]) * n + i[None, :]
    state_in = pairs(d_in, i, n)
    rate = tl.load(A2 + d[:, None] * n + i[None, :], mask=state_in, other=0.0)
    offset = tl.load(bias + d, mask=d_in, other=0.0)
    skip = tl.load(D + d, mask=d_in, other=0.0)
    h = tl.zeros((BD, N), tl.float32)
    if OUTPUT:
        h = tl.load(start + state_at, mask=pairs(d_in, i, n, chunk > 0), other=0.0)
    time = tl.zeros((T, BD), tl.float32)  # added up over a tile's tokens only after the loop
    for tile in range(chunk * tiles_per_chunk, tl.minimum((chunk + 1) * tiles_per_chunk, tiles)):
        t = tile * T + tl.arange(0, T)
        at = rows_of(table, t, length, origin, step, ORDERED)
        t_in = t < length
        inside = t_in[:, None] & d_in[None, :]
        inside_n = pairs(t_in, i, n)
        u_tile = load_rows(u + b * u_b, u_d, u_l, d, at, inside)
        dt = _steps(load_rows(delta + b * dt_b, dt_d, dt_l, d, at, inside), offset, inside, SOFTPLUS)
        B_tile = load_rows(B + b * B_b + group * B_g, B_n, B_l, i, at, inside_n)
        if KEEP:
            kept_at = ((s * tiles + tile) * channels + d[:, None]) * n + i[None, :]
            tl.store(kept + kept_at, h, mask=state_in)
        _, _, states = _states(h, dt, u_tile, rate, B_tile)
        h = tl.sum(tl.where(tl.arange(0, T)[:, None, None] == T - 1, states, 0.0), axis=0)
        time += dt
        if OUTPUT:
            C_tile = load_rows(C + b * C_b + group * C_g, C_n, C_l, i, at, inside_n)
            out = tl.sum(states * C_tile[:, None, :], axis=2) + skip[None, :] * u_tile
            if GATE:
                gate = load_rows(z + b * z_b, z_d, z_l, d, at, inside)
                out *= gate * sigmoid(gate)
            if ADD:
                out += load_rows(y + b * y_b, y_d, y_l, d, at, inside)
            addresses = y + b * y_b + d[None, :] * y_d + at[:, None] * y_l
            tl.store(addresses, out.to(y.dtype.element_ty), mask=inside)
    if LAST:
        tl.store(left + (s * channels + d[:, None]) * n + i[None, :], h, mask=pairs(d_in, i, n, chunk == chunks - 1))
    if not OUTPUT:
        tl.store(left + state_at, h, mask=state_in)
        tl.store(elapsed + (s * chunks + chunk) * channels + d, tl.sum(time, axis=0), mask=d_in)


@compiled
def carry(
    effects, elapsed, A2, states, channels, n, chunks, BD: tl.constexpr, N: tl.constexpr, BACKWARDS: tl.constexpr
):
    """State before every chunk (after it, BACKWARDS), from what every chunk does to a state of zero."""
    s, d, i = tl.program_id(0).to(tl.int64), tl.program_id(1) * BD + tl.arange(0, BD), tl.arange(0, N)
    d_in = d < channels
    state_in = pairs(d_in, i, n)
    rate = tl.load(A2 + d[:, None] * n + i[None, :], mask=state_in, other=0.0)
    h = tl.zeros((BD, N), tl.float32)
    for k in range(chunks):
        chunk = chunks - 1 - k if BACKWARDS else k
        state_at = ((s * chunks + chunk) * channels + d[:, None]) * n + i[None, :]
        tl.store(states + state_at, h, mask=state_in)
        time = tl.load(elapsed + (s * chunks + chunk) * channels + d, mask=d_in, other=0.0)
        h = tl.exp2(time[:, None] * rate) * h + tl.load(effects + state_at, mask=state_in, other=0.0)


@triton.jit
def _gradient_tile(
    b, table, d, i, t, offset, rate, carried, dy, z, delta, C, dy_b, dy_d, dy_l, z_b, z_d, z_l, dt_b, dt_d, dt_l,
    C_b, C_n, C_l, length, origin, step, d_in, n, ORDERED: tl.constexpr, SOFTPLUS: tl.constexpr,
    GATE: tl.constexpr,
):  # fmt: skip
    """dL/dy before the gate (tokens, channels), C, the next tokens' Δ, and dL/dh (tokens, channels, states) of a tile.

    dL/dh_t = C_t g_t + Ā_{t+1} dL/dh_{t+1}: a scan from the last token to the first, by the decay of the *next* one.
    """
    at = rows_of(table, t, length, origin, step, ORDERED)
    inside = (t < length)[:, None] & d_in[None, :]
    g = load_rows(dy + b * dy_b, dy_d, dy_l, d, at, inside)
    if GATE:
        gate = load_rows(z + b * z_b, z_d, z_l, d, at, inside)
        g *= gate * sigmoid(gate)
    C_tile = load_rows(C + b * C_b, C_n, C_l, i, at, pairs(t < length, i, n))
    following = (t + 1 < length)[:, None] & d_in[None, :]
    after = rows_of(table, t + 1, length, origin, step, ORDERED)
    dt = _steps(load_rows(delta + b * dt_b, dt_d, dt_l, d, after, following), offset, following, SOFTPLUS)
    decay = tl.exp2(dt[:, :, None] * rate[None, :, :])
    total, local = tl.associative_scan((decay, g[:, :, None] * C_tile[:, None, :]), 0, _join, reverse=True)
    return g, C_tile, dt, local + total * carried[None, :, :]


@compiled
def state_gradient(
    dy, z, delta, A2, C, bias, order, first, elapsed,
    dy_b, dy_d, dy_l, z_b, z_d, z_l, dt_b, dt_d, dt_l, C_b, C_g, C_n, C_l,
    channels, groups, n, length, windows, tiles, tiles_per_chunk, chunks, origin, step,
    T: tl.constexpr, BD: tl.constexpr, N: tl.constexpr, ORDERED: tl.constexpr, SOFTPLUS: tl.constexpr,
    GATE: tl.constexpr,
):  # fmt: skip
    """dL/dh at the first token of a chunk, from the outputs of this chunk alone. And the sum of Δ from its second token
    to the first of the next chunk, which decays dL/dh between the two."""
    s, block, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    b, table = sequence_of(s, order, length, windows)
    group, d, d_in = channels_of(block, channels, groups, BD)
    i = tl.arange(0, N)
    state_in = pairs(d_in, i, n)
    rate = tl.load(A2 + d[:, None] * n + i[None, :], mask=state_in, other=0.0)
    offset = tl.load(bias + d, mask=d_in, other=0.0)
    dh = tl.zeros((BD, N), tl.float32)
    time = tl.zeros((T, BD), tl.float32)  # added up over a tile's tokens only after the loop
    stop = tl.minimum((chunk + 1) * tiles_per_chunk, tiles)
    for k in range(stop - chunk * tiles_per_chunk):
        t = (stop - 1 - k) * T + tl.arange(0, T)
        _, _, dt, gradients = _gradient_tile(
            b, table, d, i, t, offset, rate, dh, dy, z, delta, C + group * C_g, dy_b, dy_d, dy_l, z_b, z_d, z_l,
            dt_b, dt_d, dt_l, C_b, C_n, C_l, length, origin, step, d_in, n, ORDERED, SOFTPLUS, GATE,
        )  # fmt: skip
        dh = tl.sum(tl.where(tl.arange(0, T)[:, None, None] == 0, gradients, 0.0), axis=0)
        time += dt
    tl.store(elapsed + (s * chunks + chunk) * channels + d, tl.sum(time, axis=0), mask=d_in)
    tl.store(first + ((s * chunks + chunk) * channels + d[:, None]) * n + i[None, :], dh, mask=state_in)


@compiled
def backward(
    u, delta, z, A2, B, C, D, bias, order, kept, dy, following, du, ddelta, dz, dA, dBC, dD, dbias,
    u_b, u_d, u_l, dt_b, dt_d, dt_l, z_b, z_d, z_l, B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l,
    dy_b, dy_d, dy_l, du_b, du_d, du_l, ddt_b, ddt_d, ddt_l, dz_b, dz_d, dz_l, dBC_g, dBC_p, dBC_b, dBC_l, dBC_n,
    channels, groups, n, length, windows, tiles, tiles_per_chunk, chunks, origin, step, parts,
    T: tl.constexpr, BD: tl.constexpr, N: tl.constexpr, ORDERED: tl.constexpr, SOFTPLUS: tl.constexpr,
    GATE: tl.constexpr,
):  # fmt: skip
    """All gradients of one chunk for a part of a group's blocks of channels, one block after the other.

    ``following`` is dL/dh at the first token of the next chunk; zero after the last one, whatever is there. dB beside
    dC: (groups, parts, items, rows, 2n), where each block adds to what the part's blocks before it have written. dA
    (sequences, chunks, channels, n); dD and dbias (sequences, chunks, channels).
    """
    s, place, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    b, table = sequence_of(s, order, length, windows)
    blocks = (channels // groups + BD - 1) // BD
    part, own = place % parts, place // parts * blocks
    i = tl.arange(0, N)
    first = own + blocks * part // parts
    for block in range(first, own + blocks * (part + 1) // parts):
        tl.debug_barrier()  # what other threads of the program added to dB and dC is there
        group, d, d_in = channels_of(block, channels, groups, BD)
        state_in = pairs(d_in, i, n)
        state_at = ((s * chunks + chunk) * channels + d[:, None]) * n + i[None, :]
        rate = tl.load(A2 + d[:, None] * n + i[None, :], mask=state_in, other=0.0)
        offset = tl.load(bias + d, mask=d_in, other=0.0)
        skip = tl.load(D + d, mask=d_in, other=0.0)
        dh = tl.load(following + state_at, mask=pairs(d_in, i, n, chunk + 1 < chunks), other=0.0)
        dA_sum = tl.zeros((BD, N), tl.float32)
        dD_sum = tl.zeros((BD,), tl.float32)
        dbias_sum = tl.zeros((BD,), tl.float32)
        stop = tl.minimum((chunk + 1) * tiles_per_chunk, tiles)
        for k in range(stop - chunk * tiles_per_chunk):
            tile = stop - 1 - k
            t = tile * T + tl.arange(0, T)
            at = rows_of(table, t, length, origin, step, ORDERED)
            t_in = t < length
            inside = t_in[:, None] & d_in[None, :]
            inside_n = pairs(t_in, i, n)
            u_tile = load_rows(u + b * u_b, u_d, u_l, d, at, inside)
            raw = load_rows(delta + b * dt_b, dt_d, dt_l, d, at, inside)
            dt = _steps(raw, offset, inside, SOFTPLUS)
            B_tile = load_rows(B + b * B_b + group * B_g, B_n, B_l, i, at, inside_n)
            kept_at = ((s * tiles + tile) * channels + d[:, None]) * n + i[None, :]
            before = tl.load(kept + kept_at, mask=state_in, other=0.0)
            _, entering, states = _states(before, dt, u_tile, rate, B_tile)
            g, C_tile, _, gradients = _gradient_tile(
                b, table, d, i, t, offset, rate, dh, dy, z, delta, C + group * C_g, dy_b, dy_d, dy_l, z_b, z_d, z_l,
                dt_b, dt_d, dt_l, C_b, C_n, C_l, length, origin, step, d_in, n, ORDERED, SOFTPLUS, GATE,
            )  # fmt: skip
            dh = tl.sum(tl.where(tl.arange(0, T)[:, None, None] == 0, gradients, 0.0), axis=0)
            through_input = tl.sum(gradients * B_tile[:, None, :], axis=2)
            through_decay = gradients * (states - entering)  # h_t - Δ u B is Ā h_{t-1}
            dA_sum += tl.sum(through_decay * dt[:, :, None], axis=0)
            slope = u_tile * through_input + tl.sum(through_decay * (rate / LOG2E)[None, :, :], axis=2)
            if SOFTPLUS:
                slope *= sigmoid(raw + offset[None, :])
            slope = tl.where(inside, slope, 0.0)
            dbias_sum += tl.sum(slope, axis=0)
            dD_sum += tl.sum(g * u_tile, axis=0)
            to = du + b * du_b + d[None, :] * du_d + at[:, None] * du_l
            tl.store(to, (dt * through_input + skip[None, :] * g).to(du.dtype.element_ty), mask=inside)
            to = ddelta + b * ddt_b + d[None, :] * ddt_d + at[:, None] * ddt_l
            tl.store(to, slope.to(ddelta.dtype.element_ty), mask=inside)
            if GATE:
                gate = load_rows(z + b * z_b, z_d, z_l, d, at, inside)
                half = sigmoid(gate)
                out = tl.sum(states * C_tile[:, None, :], axis=2) + skip[None, :] * u_tile
                upstream = load_rows(dy + b * dy_b, dy_d, dy_l, d, at, inside)
                to = dz + b * dz_b + d[None, :] * dz_d + at[:, None] * dz_l
                tl.store(to, (upstream * out * half * (1 + gate * (1 - half))).to(dz.dtype.element_ty), mask=inside)
            to = dBC + group * dBC_g + part * dBC_p + b * dBC_b + at[:, None] * dBC_l + i[None, :] * dBC_n
            more = pairs(t_in, i, n, block > first)
            dB = tl.sum(gradients * (dt * u_tile)[:, :, None], axis=1) + tl.load(to, mask=more, other=0.0)
            tl.store(to, dB, mask=inside_n)
            dC = tl.sum(g[:, :, None] * states, axis=1) + tl.load(to + n * dBC_n, mask=more, other=0.0)
            tl.store(to + n * dBC_n, dC, mask=inside_n)
        tl.store(dA + state_at, dA_sum, mask=state_in)
        at_channel = (s * chunks + chunk) * channels + d
        tl.store(dD + at_channel, dD_sum, mask=d_in)
        tl.store(dbias + at_channel, dbias_sum, mask=d_in)
