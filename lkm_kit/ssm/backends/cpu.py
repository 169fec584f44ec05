"""The selective scan on a CPU: one fused kernel forward and one backward, as ``torch.library`` operators.

Lanes are channels: the kernels read (batch, length, channels) with channels contiguous, which is how tokens leave a
linear layer. Other layouts are copied once. The forward pass keeps the state before every sixteenth token; the backward
pass recomputes the tokens between. Nothing of size (tokens × channels × states) is ever stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lkm_kit.ssm.backends import operators
from lkm_kit.ssm.backends.kernel_call import Operand, call_kernel, flat_operand, kernel_kind, rows_operand
from lkm_kit.ssm.backends.operators import Scan, grouped, wide

LANES = 16  # channels a vector, tokens a tile; as in vector_ir.py, kept here so that importing this file loads no numba


def selective_scan(scan: Scan) -> tuple[Tensor, Tensor]:
    """See :func:`lkm_kit.ssm.backends.reference.selective_scan`; same values, same gradients, no loop in Python.

    >>> u = torch.ones(1, 16, 3)
    >>> y, _ = selective_scan(Scan(u, u, torch.zeros(16, 1), u[:, :1], u[:, :1], None, None, None, False, False))
    >>> y[0, 0].tolist()
    [1.0, 2.0, 3.0]
    """
    groups = grouped(scan.B).shape[1]
    channels = scan.u.shape[1] // groups  # of a group
    if channels % LANES:  # rare: the kernels take channels sixteen at a time
        trailing = {"u": 1, "delta": 1, "A": 1, "z": 1, "D": 0, "delta_bias": 0}
        given = {name: getattr(scan, name) for name in trailing}
        wider = {name: padded_channels(t, trailing[name], groups) for name, t in given.items() if t is not None}
        scan = scan._replace(**wider)
    y, last_state = _selective_scan(scan)
    if y.shape[1] == groups * channels:
        return y, last_state

    def own(t: Tensor) -> Tensor:
        return t.unflatten(1, (groups, -1))[:, :, :channels].flatten(1, 2)

    return own(y), own(last_state)


def padded_channels(t: Tensor, trailing: int, groups: int = 1) -> Tensor:
    """Zeros up to the next multiple of sixteen channels a group, on the axis that has ``trailing`` axes behind it."""
    axis = t.ndim - 1 - trailing
    apart = t.unflatten(axis, (groups, -1))
    return F.pad(apart, [0, 0] * trailing + [0, -apart.shape[axis + 1] % LANES]).flatten(axis, axis + 1)


def lanes_of(channels: int) -> int:
    """J: vectors of sixteen channels that one block takes at once (two share the loads of B and C)."""
    return 2 if channels % (2 * LANES) == 0 else 1


def rows(t: Tensor, dtype: torch.dtype) -> Tensor:
    """(b, d, l) as (b, l, d) with contiguous channels; no copy where the tensor came from there."""
    t = t.transpose(1, 2)
    return t.to(dtype) if t.stride(-1) == 1 and t.dtype == dtype else t.to(dtype).contiguous()


def _by_block(t: Tensor, blocks: int) -> Tensor:
    """A (d, n) as (blocks, n, W): a row of channels per state."""
    return t.unflatten(0, (blocks, -1)).transpose(1, 2).contiguous()


class ScanCall:
    """Operands of a kernel call: converted tensors, and their addresses and strides in scan order."""

    def __init__(self, u, delta, A, B, C, D, z, delta_bias, reverse):
        self.dtype = wide(u.dtype)
        self.size = 8 if self.dtype == torch.float64 else 4
        self.batch, self.channels, self.length = u.shape
        self.n = A.shape[1]
        self.B, self.C = grouped(B).to(self.dtype), grouped(C).to(self.dtype)
        self.groups = self.B.shape[1]
        self.J = lanes_of(self.channels // self.groups)  # a block lies in one group
        self.blocks = self.channels // (LANES * self.J)
        self.chunks = math.ceil(self.length / LANES)
        self.reverse, self.kind = reverse, kernel_kind(self.dtype, self.J)
        zeros = u.new_zeros(self.channels, dtype=self.dtype)
        self.u, self.delta = rows(u, self.dtype), rows(delta, self.dtype)
        self.z = None if z is None else rows(z, self.dtype)
        self.A2 = _by_block(A.to(self.dtype) / math.log(2), self.blocks)
        self.D = zeros if D is None else D.to(self.dtype).contiguous()
        self.bias = zeros if delta_bias is None else delta_bias.to(self.dtype).contiguous()

    def rows(self, t: Tensor | None) -> Operand:
        return rows_operand(t, self.reverse, self.batch, self.length, self.channels)

    def states(self, t: Tensor) -> Operand:
        """(b, g, n, l) in scan order: place (address, batch, group, state, token)."""
        b, g, n, l = (s * self.size for s in t.stride())
        place = (t.data_ptr() + (self.length - 1) * l, b, g, n, -l) if self.reverse else (t.data_ptr(), b, g, n, l)
        return Operand(t, place, (self.batch, self.groups, self.n, self.length), self.size)

    def by_block(self, t: Tensor | None, *shape: int) -> Operand:
        """A contiguous tensor (*shape, blocks of channels..., W)."""
        return flat_operand(t, *shape, self.channels)

    def inputs(self, softplus: bool, kept: Tensor | None) -> dict[str, Operand | int]:
        return {
            "blocks": self.blocks, "groups": self.groups, "length": self.length, "n": self.n, "softplus": int(softplus),
            "u": self.rows(self.u), "delta": self.rows(self.delta), "z": self.rows(self.z),
            "A2": self.by_block(self.A2, self.n), "D": self.by_block(self.D), "bias": self.by_block(self.bias),
            "B": self.states(self.B), "C": self.states(self.C),
            "kept": self.by_block(kept, self.batch, self.chunks, self.n),
        }  # fmt: skip


def run_forward(call: ScanCall, softplus: bool, kept: Tensor | None, y: Tensor, add: bool = False) -> Tensor:
    """Scan into ``y`` (b, l, d), or onto it with ``add``; returns the last state as (b, d, n)."""
    from lkm_kit.ssm.backends import cpu_kernels

    last = y.new_empty(call.batch, call.blocks, call.n, LANES * call.J)
    call_kernel(
        cpu_kernels.forward, call.kind, call.batch * call.blocks, **call.inputs(softplus, kept), y=call.rows(y),
        add=int(add), last_state=call.by_block(last, call.batch, call.n),
    )  # fmt: skip
    return last.transpose(2, 3).reshape(call.batch, call.channels, call.n).contiguous()


class ScanGradients(NamedTuple):
    """Gradients besides those of rows: A (d, n); B and C (parts, b, groups, n, padded length) in scan order, to be
    summed over parts; D and delta_bias (d,). All but B and C in float64."""

    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    bias: Tensor


def run_backward(
    call: ScanCall, softplus: bool, kept: Tensor, dy: Tensor, du: Tensor, ddelta: Tensor, dz: Tensor | None
) -> ScanGradients:
    """Write the gradients of u, Δ and z, rows of channels (b, l, d), and return the others."""
    from lkm_kit.ssm.backends import cpu_kernels

    W = LANES * call.J
    batch, n, blocks, groups = call.batch, call.n, call.blocks, call.groups
    # Sharing dB and dC between threads would race; split a group's channel blocks only where there are too few tasks.
    parts = min(blocks // groups, max(1, math.ceil(4 * torch.get_num_threads() / max(batch * groups, 1))))
    dB, dC = (dy.new_zeros(parts, batch, groups, n, call.chunks * LANES) for _ in range(2))
    dA = dy.new_zeros(batch, blocks, n, W, dtype=torch.float64)
    dD, dbias = (dy.new_zeros(batch, blocks * W, dtype=torch.float64) for _ in range(2))
    call_kernel(
        cpu_kernels.backward, call.kind, batch * groups * parts, **call.inputs(softplus, kept), parts=parts,
        batch=batch,
        dy=call.rows(dy), du=call.rows(du), ddelta=call.rows(ddelta), dz=call.rows(dz),
        dA=call.by_block(dA, batch, n), dD=call.by_block(dD, batch), dbias=call.by_block(dbias, batch),
        dB=flat_operand(dB, parts, batch, groups, n, call.chunks, LANES),
        dC=flat_operand(dC, parts, batch, groups, n, call.chunks, LANES),
    )  # fmt: skip
    dA = dA.sum(0).transpose(1, 2).reshape(call.channels, n)
    return ScanGradients(dA, dB, dC, dD.sum(0), dbias.sum(0))


def kept_shape(size: Sequence[int], n: int, keep: bool, groups: int = 1) -> tuple[int, ...]:
    """States before every sixteenth token of a scan of (batch, channels, length): (batch, blocks, chunks, n, W)."""
    batch, channels, length = size
    if not keep:
        return (0,)
    W = LANES * lanes_of(channels // groups)
    return batch, channels // W, (length + LANES - 1) // LANES, n, W


def _forward(scan: Scan, kept: Tensor | None, y: Tensor) -> Tensor:
    return run_forward(call_of(scan), scan.softplus, kept, y.transpose(1, 2))


def _backward(
    scan: Scan, kept: Tensor, dy: Tensor, du: Tensor, ddelta: Tensor, dz: Tensor | None
) -> operators.ScanGradients:
    call = call_of(scan)
    into = du.transpose(1, 2), ddelta.transpose(1, 2), None if dz is None else dz.transpose(1, 2)
    sums = run_backward(call, scan.softplus, kept, rows(dy, call.dtype), *into)

    def shared(gradient: Tensor, of: Tensor) -> Tensor:
        gradient = gradient.sum(0)[..., : call.length]
        return (gradient.flip(-1) if scan.reverse else gradient).contiguous().view(of.shape)

    dB, dC = shared(sums.B, scan.B), shared(sums.C, scan.C)
    return operators.ScanGradients(sums.A.contiguous(), dB, dC, sums.D, sums.bias)


def call_of(scan: Scan) -> ScanCall:
    """The operands of a scan as its kernels take them."""
    return ScanCall(*scan[:8], scan.reverse)


_selective_scan = operators.register_scan(
    "selective_scan_cpu",
    _forward,
    _backward,
    lambda scan, keep: kept_shape(scan.u.shape, scan.A.shape[1], keep, grouped(scan.B).shape[1]),
    "cpu",
)
