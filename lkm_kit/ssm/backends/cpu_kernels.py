"""The loops of the CPU scan: over (batch item, channel block) tasks and, within one, over tiles of sixteen tokens.

A kernel runs a range of tasks without the interpreter's lock; ``cpu.py`` hands ranges to threads. Addresses and
strides are integers in bytes; a reverse scan comes in as addresses of the last token with negative strides, so one
kernel serves both directions. Compiled once per dtype and block width, then cached on disk.
"""

from __future__ import annotations

import numpy as np

from lkm_kit.ssm.backends import cpu_steps as step
from lkm_kit.ssm.backends.kernel_cache import compiled

_T = step.TOKENS


@compiled
def _aligned(count, like):
    """A scratch vector that starts on a cache line, zeroed: (array, address).

    numba frees an array after its last use and does not see uses of the address: a caller that needs the memory to the
    end of its loops must touch the array behind them.
    """
    array = np.zeros(count + 16, like.dtype)
    start = np.int64(array.ctypes.data)
    return array, start + (64 - start % 64) % 64


@compiled
def _touch(*arrays):
    """The last use of scratch memory, see :func:`_aligned`."""
    for array in arrays:
        array[0] = 0


@compiled
def _last_rows(like, valid, n, source, source_n, source_t, target):
    """Copy the last, incomplete tile of B or C, padded with zeros, as (n, tokens)."""
    target[:] = 0
    for i in range(n):
        for t in range(valid):
            target[i * _T + t] = step.peek(like, source + i * source_n + t * source_t)


@compiled
def forward(
    like, width, first, last, blocks, groups, length, n, softplus, u, delta, z, A2, D, bias, B, C, kept, y, add,
    last_state,
):  # fmt: skip
    """Tasks first..last-1 of batch × blocks.

    Rows u, delta, z, y: (address, batch, token); B, C: (address, batch, group, state, token), where a group serves
    ``blocks / groups`` blocks. ``kept`` = 0: keep no states for a backward pass; z at 0: no gate; ``add``: y += instead
    of y =.
    """
    (u_at, u_b, u_t), (delta_at, delta_b, delta_t), (z_at, z_b, z_t), (y_at, y_b, y_t) = u, delta, z, y
    (B_at, B_b, B_g, B_n, B_t), (C_at, C_b, C_g, C_n, C_t) = B, C
    size = like.itemsize
    W = _T * len(width)
    row = W * size
    chunks = (length + _T - 1) // _T
    keep_tiles, tiles = _aligned(step.TILES * _T * W, like)
    keep_state, state = _aligned(n * W, like)
    keep_unused, unused = _aligned(W, like)
    B_tail, C_tail = np.zeros(n * _T, like.dtype), np.zeros(n * _T, like.dtype)
    for task in range(first, last):
        b, block = task // blocks, task % blocks
        g = block * groups // blocks
        channel = block * row
        keep_state[:] = 0
        for chunk in range(chunks):
            t0 = chunk * _T
            rows = min(_T, length - t0)
            B_from, B_to_n, B_to_t = B_at + b * B_b + g * B_g + t0 * B_t, B_n, B_t
            C_from, C_to_n, C_to_t = C_at + b * C_b + g * C_g + t0 * C_t, C_n, C_t
            if rows < _T:  # zeros beyond the end: Δ = 0 leaves the state as it is
                keep_tiles[:] = 0
                _last_rows(like, rows, n, B_from, B_n, B_t, B_tail)
                _last_rows(like, rows, n, C_from, C_n, C_t, C_tail)
                B_from, B_to_n, B_to_t = np.int64(B_tail.ctypes.data), _T * size, size
                C_from, C_to_n, C_to_t = np.int64(C_tail.ctypes.data), _T * size, size
            step.prepare(
                like, width, rows, tiles, u_at + b * u_b + t0 * u_t + channel, u_t,
                delta_at + b * delta_b + t0 * delta_t + channel, delta_t, bias + channel, D + channel, softplus,
            )  # fmt: skip
            for i in range(n):
                keep_here = unused if kept == 0 else kept + ((task * chunks + chunk) * n + i) * row
                step.scan_state(
                    like, width, tiles, A2 + (block * n + i) * row, B_from + i * B_to_n, B_to_t,
                    C_from + i * C_to_n, C_to_t, state + i * row, keep_here,
                )  # fmt: skip
            out = y_at + b * y_b + t0 * y_t + channel
            if z_at == 0:
                step.finish(like, width, rows, tiles, out, y_t, add)
            else:
                step.finish_gated(like, width, rows, tiles, out, y_t, add, z_at + b * z_b + t0 * z_t + channel, z_t)
        for i in range(n):
            step.copy(like, width, state + i * row, last_state + (task * n + i) * row)
    _touch(keep_tiles, keep_state, keep_unused, B_tail, C_tail)


@compiled
def backward(
    like, width, first, last, blocks, groups, length, n, softplus, u, delta, z, A2, D, bias, B, C, kept, parts, batch,
    dy, du, ddelta, dz, dA, dB, dC, dD, dbias,
):  # fmt: skip
    """Tasks first..last-1 of batch × groups × parts; a part of a group's blocks adds up its share of dB and dC.

    dB, dC: (parts, batch, groups, n, chunks * 16) in scan order, zeroed. dA (batch, blocks, n, W), dD and dbias
    (batch, blocks, W): float64, zeroed. The other operands are as in :func:`forward`.
    """
    (u_at, u_b, u_t), (delta_at, delta_b, delta_t), (z_at, z_b, z_t) = u, delta, z
    (B_at, B_b, B_g, B_n, B_t), (C_at, C_b, C_g, C_n, C_t), (dy_at, dy_b, dy_t) = B, C, dy
    (du_at, du_b, du_t), (ddelta_at, ddelta_b, ddelta_t), (dz_at, dz_b, dz_t) = du, ddelta, dz
    size = like.itemsize
    W = _T * len(width)
    row = W * size
    chunks = (length + _T - 1) // _T
    keep_tiles, tiles = _aligned(step.TILES * _T * W, like)
    keep_dstate, dstate = _aligned(n * W, like)
    B_tail, C_tail = np.zeros(n * _T, like.dtype), np.zeros(n * _T, like.dtype)
    for task in range(first, last):
        b, g, part = task // parts // groups, task // parts % groups, task % parts
        own = blocks // groups
        for block in range(g * own + part * own // parts, g * own + (part + 1) * own // parts):
            place = b * blocks + block
            channel = block * row
            keep_dstate[:] = 0
            for chunk in range(chunks - 1, -1, -1):
                t0 = chunk * _T
                rows = min(_T, length - t0)
                B_from, B_to_n, B_to_t = B_at + b * B_b + g * B_g + t0 * B_t, B_n, B_t
                C_from, C_to_n, C_to_t = C_at + b * C_b + g * C_g + t0 * C_t, C_n, C_t
                if rows < _T:
                    keep_tiles[:] = 0
                    _last_rows(like, rows, n, B_from, B_n, B_t, B_tail)
                    _last_rows(like, rows, n, C_from, C_n, C_t, C_tail)
                    B_from, B_to_n, B_to_t = np.int64(B_tail.ctypes.data), _T * size, size
                    C_from, C_to_n, C_to_t = np.int64(C_tail.ctypes.data), _T * size, size
                u_here = u_at + b * u_b + t0 * u_t + channel
                delta_here = delta_at + b * delta_b + t0 * delta_t + channel
                dy_here = dy_at + b * dy_b + t0 * dy_t + channel
                z_here = z_at + b * z_b + t0 * z_t + channel
                step.prepare(
                    like, width, rows, tiles, u_here, u_t, delta_here, delta_t, bias + channel, D + channel, softplus
                )
                step.prepare_gradient(like, width, rows, tiles, dy_here, dy_t)
                if z_at != 0:
                    step.gate_gradient(like, width, rows, tiles, z_here, z_t)
                for i in range(n):
                    shared = ((((part * batch + b) * groups + g) * n + i) * chunks + chunk) * _T * size
                    step.scan_state_gradient(
                        like, width, tiles, A2 + (block * n + i) * row, B_from + i * B_to_n, B_to_t,
                        C_from + i * C_to_n, C_to_t, kept + ((place * chunks + chunk) * n + i) * row,
                        dstate + i * row, dA + (place * n + i) * W * 8, dB + shared, dC + shared,
                    )  # fmt: skip
                step.finish_gradient(
                    like, width, rows, tiles, u_here, u_t, delta_here, delta_t, bias + channel, D + channel, softplus,
                    du_at + b * du_b + t0 * du_t + channel, du_t, ddelta_at + b * ddelta_b + t0 * ddelta_t + channel,
                    ddelta_t, dD + place * W * 8, dbias + place * W * 8,
                )  # fmt: skip
                if z_at != 0:
                    step.finish_gate_gradient(
                        like,
                        width,
                        rows,
                        tiles,
                        dy_here,
                        dy_t,
                        z_here,
                        z_t,
                        dz_at + b * dz_b + t0 * dz_t + channel,
                        dz_t,
                    )
    _touch(keep_tiles, keep_dstate, B_tail, C_tail)


@compiled
def gather(dB, dC, out, first, length, reverse, start, stop):
    """Items start..stop-1 of dB and dC (parts, batch, n, padded length), summed, as columns of out's rows."""
    parts, _, n, _ = dB.shape
    for b in range(start, stop):
        for t in range(length):
            row = b * length + (length - 1 - t if reverse else t)
            for i in range(n):
                from_B, from_C = dB[0, b, i, t], dC[0, b, i, t]
                for part in range(1, parts):
                    from_B += dB[part, b, i, t]
                    from_C += dC[part, b, i, t]
                out[row, first + i] = from_B
                out[row, first + n + i] = from_C
