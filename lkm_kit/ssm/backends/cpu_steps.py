"""The inner steps of the CPU scan, on one tile: sixteen tokens times a block of channels, all in the L1 cache.

A tile holds rows of W channels, W = 16 J, one row per token; its quantities lie one after the other in a scratch area
(`DT`, `DU`, ... below are their places). For each of the n states in turn the scan walks down the sixteen tokens with
h in registers; nothing of size (tokens × channels × states) ever exists.

Every function here is a numba intrinsic: numba inlines the vector instructions into the loops of ``cpu_kernels.py``.
The first two arguments choose dtype and width by their types: an array of the dtype, and a tuple of J zeros.
"""

from __future__ import annotations

import math

from llvmlite import ir
from numba.core import cgutils, types

from lkm_kit.ssm.backends.vector_ir import I64, LANES, Emitter, intrinsic

TOKENS = LANES  # a tile's tokens: as many as lanes, so that sums over lanes of all tokens fill one vector
DT, DU, Y = 0, 1, 2  # Δ after softplus; Δ u; the output before the gate
G, DDU, DDT, DECAY, CARRIED = 3, 4, 5, 6, 7  # backward: dL/dy before the gate, dL/d(Δu), dL/dΔ (per ln 2), Ā, Ā h
TILES = 8


def _step(emit):
    """Make an intrinsic from ``emit(e, J, *addresses)``; all arguments after dtype and width are int64."""

    def typed(typingctx, like, width, *arguments):
        signature = types.void(like, width, *[types.int64] * len(arguments))

        def codegen(context, builder, sig, args):
            emit(Emitter(builder, sig.args[0].dtype == types.float64), sig.args[1].count, *args[2:])
            return context.get_dummy_value()

        return signature, codegen

    names = emit.__code__.co_varnames[2 : emit.__code__.co_argcount]
    # numba reads the parameter names of an intrinsic, so it gets a function with exactly these.
    parameters = ", ".join(("typingctx", "like", "width", *names))
    source = f"def {emit.__name__}({parameters}):\n    return typed({parameters})"
    scope = {"typed": typed}
    exec(source, scope)
    function = scope[emit.__name__]
    function.__doc__ = emit.__doc__
    return intrinsic(function)


def _tile(e: Emitter, J: int, tiles: ir.Value, which: int, token: ir.Value | int, j: int) -> ir.Value:
    row = LANES * J * e.bytes
    offset = token * row if isinstance(token, int) else e.b.mul(token, I64(row))
    return e.address(tiles, which * TOKENS * row + j * LANES * e.bytes, offset)


def _at(e: Emitter, base: ir.Value, token: ir.Value | int, stride: ir.Value, j: int) -> ir.Value:
    offset = e.b.mul(stride, I64(token) if isinstance(token, int) else token)
    return e.address(base, offset, j * LANES * e.bytes)


def _raw_delta(e: Emitter, delta: ir.Value, token: ir.Value, stride: ir.Value, bias: ir.Value, j: int) -> ir.Value:
    return e.add(e.load(_at(e, delta, token, stride, j)), e.load(e.address(bias, j * LANES * e.bytes)))


def _chosen(e: Emitter, flag: ir.Value, yes: ir.Value, no: ir.Value) -> ir.Value:
    return e.b.select(e.b.icmp_signed("!=", flag, I64(0)), yes, no)


@_step
def prepare(e, J, rows, tiles, u, u_t, delta, delta_t, bias, D, softplus):
    """Fill Δ, Δu and Y = D u of the tile's first ``rows`` tokens."""
    with cgutils.for_range(e.b, rows) as loop:
        for j in range(J):
            x = _raw_delta(e, delta, loop.index, delta_t, bias, j)
            dt = _chosen(e, softplus, e.softplus(x), x)
            value = e.load(_at(e, u, loop.index, u_t, j))
            e.store(dt, _tile(e, J, tiles, DT, loop.index, j))
            e.store(e.mul(dt, value), _tile(e, J, tiles, DU, loop.index, j))
            e.store(e.mul(e.load(e.address(D, j * LANES * e.bytes)), value), _tile(e, J, tiles, Y, loop.index, j))


@_step
def scan_state(e, J, tiles, A2, B, B_t, C, C_t, state, kept):
    """One state n, sixteen tokens forward: h = Ā h + Δu B, Y += C h. Copies the state it starts from to ``kept``."""
    decay_rate, h = [], []
    for j in range(J):
        decay_rate.append(e.load(e.address(A2, j * LANES * e.bytes)))
        h.append(e.load(e.address(state, j * LANES * e.bytes)))
        e.store(h[j], e.address(kept, j * LANES * e.bytes))
    for t in range(TOKENS):
        B_value, C_value = e.broadcast(_at(e, B, t, B_t, 0)), e.broadcast(_at(e, C, t, C_t, 0))
        for j in range(J):
            decay = e.exp2(e.mul(e.load(_tile(e, J, tiles, DT, t, j)), decay_rate[j]))
            h[j] = e.fma(decay, h[j], e.mul(e.load(_tile(e, J, tiles, DU, t, j)), B_value))
            y = _tile(e, J, tiles, Y, t, j)
            e.store(e.fma(h[j], C_value, e.load(y)), y)
    for j in range(J):
        e.store(h[j], e.address(state, j * LANES * e.bytes))


@_step
def copy(e, J, source, target):
    """One row."""
    for j in range(J):
        e.store(e.load(e.address(source, j * LANES * e.bytes)), e.address(target, j * LANES * e.bytes))


def _write(e: Emitter, value: ir.Value, place: ir.Value, add: ir.Value) -> None:
    with e.b.if_else(e.b.icmp_signed("!=", add, I64(0))) as (onto, over):
        with onto:
            e.store(e.add(e.load(place), value), place)
        with over:
            e.store(value, place)


@_step
def finish(e, J, rows, tiles, y, y_t, add):
    """Write Y of the first ``rows`` tokens, or add it to what is there."""
    with cgutils.for_range(e.b, rows) as loop:
        for j in range(J):
            _write(e, e.load(_tile(e, J, tiles, Y, loop.index, j)), _at(e, y, loop.index, y_t, j), add)


@_step
def finish_gated(e, J, rows, tiles, y, y_t, add, z, z_t):
    """Write Y · SiLU(z) of the first ``rows`` tokens, or add it to what is there."""
    with cgutils.for_range(e.b, rows) as loop:
        for j in range(J):
            gate = e.load(_at(e, z, loop.index, z_t, j))
            gated = e.mul(e.load(_tile(e, J, tiles, Y, loop.index, j)), e.mul(gate, e.sigmoid(gate)))
            _write(e, gated, _at(e, y, loop.index, y_t, j), add)


@_step
def prepare_gradient(e, J, rows, tiles, dy, dy_t):
    """G = dL/dy; clear what the states add up in."""
    with cgutils.for_range(e.b, rows) as loop:
        for j in range(J):
            e.store(e.load(_at(e, dy, loop.index, dy_t, j)), _tile(e, J, tiles, G, loop.index, j))
            e.store(e.const(0.0), _tile(e, J, tiles, DDU, loop.index, j))
            e.store(e.const(0.0), _tile(e, J, tiles, DDT, loop.index, j))


@_step
def gate_gradient(e, J, rows, tiles, z, z_t):
    """G ← G · SiLU(z)."""
    with cgutils.for_range(e.b, rows) as loop:
        for j in range(J):
            gate, place = e.load(_at(e, z, loop.index, z_t, j)), _tile(e, J, tiles, G, loop.index, j)
            e.store(e.mul(e.load(place), e.mul(gate, e.sigmoid(gate))), place)


@_step
def scan_state_gradient(e, J, tiles, A2, B, B_t, C, C_t, kept, dstate, dA, dB, dC):
    """One state n, sixteen tokens: forward again from the kept state, then backward.

    Backward, from the last token of the scan to the first: dh += G C; dL/d(Δu) += dh B; dL/dB = Σ dh Δu;
    dL/dC = Σ G h (sums over channels); dL/dΔ += A dh Āh; dL/dA += Δ dh Āh; dh ← Ā dh.
    """
    decay_rate, h, dh, dA_sum = [], [], [], []
    for j in range(J):
        decay_rate.append(e.load(e.address(A2, j * LANES * e.bytes)))
        h.append(e.load(e.address(kept, j * LANES * e.bytes)))
        dh.append(e.load(e.address(dstate, j * LANES * e.bytes)))
        dA_sum.append(e.const(0.0))
    for t in range(TOKENS):
        B_value, C_value = e.broadcast(_at(e, B, t, B_t, 0)), e.broadcast(_at(e, C, t, C_t, 0))
        for j in range(J):
            decay = e.exp2(e.mul(e.load(_tile(e, J, tiles, DT, t, j)), decay_rate[j]))
            carried = e.mul(decay, h[j])
            h[j] = e.fma(e.load(_tile(e, J, tiles, DU, t, j)), B_value, carried)
            y = _tile(e, J, tiles, Y, t, j)
            e.store(e.fma(h[j], C_value, e.load(y)), y)
            e.store(decay, _tile(e, J, tiles, DECAY, t, j))
            e.store(carried, _tile(e, J, tiles, CARRIED, t, j))
    B_sums, C_sums, for_B, for_C = [], [], None, None
    for t in reversed(range(TOKENS)):
        B_value, C_value = e.broadcast(_at(e, B, t, B_t, 0)), e.broadcast(_at(e, C, t, C_t, 0))
        for j in range(J):
            dt, du = (e.load(_tile(e, J, tiles, which, t, j)) for which in (DT, DU))
            gradient, carried = (e.load(_tile(e, J, tiles, which, t, j)) for which in (G, CARRIED))
            state = e.fma(du, B_value, carried)
            dh[j] = e.fma(gradient, C_value, dh[j])
            for_B = e.mul(dh[j], du) if j == 0 else e.fma(dh[j], du, for_B)
            for_C = e.mul(gradient, state) if j == 0 else e.fma(gradient, state, for_C)
            place = _tile(e, J, tiles, DDU, t, j)
            e.store(e.fma(dh[j], B_value, e.load(place)), place)
            through_decay = e.mul(dh[j], carried)
            place = _tile(e, J, tiles, DDT, t, j)
            e.store(e.fma(decay_rate[j], through_decay, e.load(place)), place)
            dA_sum[j] = e.fma(dt, through_decay, dA_sum[j])
            dh[j] = e.mul(dh[j], e.load(_tile(e, J, tiles, DECAY, t, j)))
        e.push_sums(B_sums, for_B)
        e.push_sums(C_sums, for_C)
    for sums, place in ((B_sums, dB), (C_sums, dC)):
        e.store(e.add(e.load(place), sums[0][1]), place)
    for j in range(J):
        e.store(dh[j], e.address(dstate, j * LANES * e.bytes))
        e.accumulate_double(dA_sum[j], e.address(dA, j * LANES * 8))


@_step
def finish_gradient(
    e, J, rows, tiles, u, u_t, delta, delta_t, bias, D, softplus, du, du_t, ddelta, ddelta_t, dD, dbias
):
    """Write dL/du and dL/dΔ of the first ``rows`` tokens; add up dL/dD and dL/d(delta_bias)."""
    sums = [[cgutils.alloca_once_value(e.b, e.const(0.0)) for _ in range(J)] for _ in range(2)]
    with cgutils.for_range(e.b, rows) as loop:
        for j in range(J):
            dt, gradient, ddu, ddt = (e.load(_tile(e, J, tiles, k, loop.index, j)) for k in (DT, G, DDU, DDT))
            value = e.load(_at(e, u, loop.index, u_t, j))
            skip = e.load(e.address(D, j * LANES * e.bytes))
            e.store(e.fma(ddu, dt, e.mul(gradient, skip)), _at(e, du, loop.index, du_t, j))
            slope = e.sigmoid(_raw_delta(e, delta, loop.index, delta_t, bias, j))
            total = e.fma(ddt, e.const(math.log(2)), e.mul(ddu, value))
            total = _chosen(e, softplus, e.mul(total, slope), total)
            e.store(total, _at(e, ddelta, loop.index, ddelta_t, j))
            e.b.store(e.fma(gradient, value, e.b.load(sums[0][j])), sums[0][j])
            e.b.store(e.add(total, e.b.load(sums[1][j])), sums[1][j])
    for j in range(J):
        e.accumulate_double(e.b.load(sums[0][j]), e.address(dD, j * LANES * 8))
        e.accumulate_double(e.b.load(sums[1][j]), e.address(dbias, j * LANES * 8))


@_step
def finish_gate_gradient(e, J, rows, tiles, dy, dy_t, z, z_t, dz, dz_t):
    """dL/dz = dL/dy · Y · SiLU'(z), with SiLU'(z) = σ(z) (1 + z (1 - σ(z)))."""
    with cgutils.for_range(e.b, rows) as loop:
        for j in range(J):
            gate = e.load(_at(e, z, loop.index, z_t, j))
            sigmoid = e.sigmoid(gate)
            one = e.const(1.0)
            slope = e.mul(sigmoid, e.fma(gate, e.sub(one, sigmoid), one))
            y = e.load(_tile(e, J, tiles, Y, loop.index, j))
            e.store(e.mul(e.mul(e.load(_at(e, dy, loop.index, dy_t, j)), y), slope), _at(e, dz, loop.index, dz_t, j))


@intrinsic
def peek(typingctx, like, address):
    """The number at an address."""

    def codegen(context, builder, sig, args):
        e = Emitter(builder, sig.args[0].dtype == types.float64)
        return e.load(args[1], e.scalar)

    return like.dtype(like, types.int64), codegen
