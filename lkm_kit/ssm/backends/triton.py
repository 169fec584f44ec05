"""The selective scan on a GPU without a compiler: Triton, which comes with torch's CUDA wheels.

Written from the recurrence; mamba_ssm's CUDA kernel is not needed. Many short sequences fill the chip by themselves.
A few long ones are cut into chunks. Each chunk's effect on the state is computed first, the effects are carried from
chunk to chunk, and then all chunks run at once, each from its own starting state.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lkm_kit.ssm.backends import operators
from lkm_kit.ssm.backends.operators import Scan, grouped

TILE, WARPS = 16, 8
"""Tokens of a tile with up to 16 states, warps of a program: what fits into the registers of sm_75 to sm_120 without
spilling. Of eleven pairs, timed on an H200, none was faster by more than 7 % (``docs/gpu.md``)."""
THREADS = 32 * WARPS
"""Of a program: one for each channel and state of a block."""
COMPILER: dict[str, Any] = {"num_warps": WARPS, "enable_fp_fusion": True}
"""What every kernel is compiled with: multiply and add in one instruction, which some versions of Triton do unasked."""
WANTED_PROGRAMS = 512
"""Below this many (batch item, block) pairs, sequences are cut into chunks."""


class _Plan(NamedTuple):
    """How a scan is cut up: tiles of tokens, tiles a chunk, chunks, blocks of channels; and for the backward pass, into
    how many parts the blocks of a group."""

    tiles: int
    tiles_per_chunk: int
    chunks: int
    blocks: int
    parts: int


def plan(batch: int, channels: int, length: int, n: int, groups: int = 1) -> _Plan:
    """Cut a scan into programs; a block of channels lies in one group.

    A program of the backward pass takes several blocks where there are programs enough. Their dB and dC are then added
    where they lie, and only those of different parts need room of their own.

    >>> plan(1, 8, 1600, 16).chunks, plan(13440, 64, 128, 16).chunks
    (50, 1)
    >>> plan(1, 64, 1600, 16).parts, plan(256, 64, 1600, 16).parts, plan(13440, 64, 128, 16).parts
    (4, 2, 1)
    """
    own = math.ceil(channels / groups / tile(n).channels)
    tiles, blocks = math.ceil(length / tile(n).tokens), groups * own
    wanted = max(1, min(WANTED_PROGRAMS // max(1, batch * blocks), tiles // 2))
    per_chunk = math.ceil(tiles / wanted)
    chunks = math.ceil(tiles / per_chunk)
    parts = min(own, math.ceil(WANTED_PROGRAMS / max(1, batch * chunks * groups)))
    return _Plan(tiles, per_chunk, chunks, blocks, parts)


Listener = Callable[[str, Sequence[Any], Mapping[str, Any]], None]
_listeners: list[Listener] = []


@contextlib.contextmanager
def listening(tell: Listener) -> Iterator[None]:
    """Be told of every launch (kernel, arguments, flags) for tensors of the ``meta`` device, where none is made."""
    _listeners.append(tell)
    try:
        yield
    finally:
        _listeners.remove(tell)


def launch(kernel: str, grid: tuple[int, ...], first: Tensor, *arguments: Any, **flags: Any) -> None:
    """Run a kernel ("file.name") on the device of its first tensor: triton takes the current one, maybe another.

    Triton is imported here alone: shapes pass through the operators on any machine.
    """
    if first.is_meta:
        for tell in _listeners:
            tell(kernel, (first, *arguments), flags)
        return
    file, _, name = kernel.partition(".")
    compiled = getattr(importlib.import_module(f"{__package__}.{file}"), name)
    with torch.cuda.device_of(first):
        compiled[grid](first, *arguments, **flags)


class _Tile(NamedTuple):
    """Sides of the largest arrays that a program holds: all are powers of two."""

    tokens: int
    channels: int
    states: int


def tile(n: int) -> _Tile:
    """As many channels as give each thread one of them with one state; for longer states half as many tokens.

    >>> tuple(tile(16)), tuple(tile(48))
    ((16, 16, 16), (8, 4, 64))
    """
    states = max(2, 2 ** math.ceil(math.log2(n)))
    return _Tile(TILE if states <= 16 else TILE // 2, max(1, THREADS // states), states)


def direction(length: int, reverse: bool) -> tuple[int, int]:
    """Row of the first token, and how far it is from there to the next."""
    return (length - 1, -1) if reverse else (0, 1)


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for t in tensors for stride in t.stride()]


class _Operands(NamedTuple):
    """Converted inputs, the plan, and what every kernel gets."""

    A2: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    bias: Tensor
    z: Tensor
    order: Tensor
    plan: _Plan
    sequences: int
    sizes: tuple[int, ...]
    flags: dict


def _operands(scan: Scan, order: Tensor | None) -> _Operands:
    u, A, D, z, delta_bias = scan.u, scan.A, scan.D, scan.z, scan.delta_bias
    items, channels, rows = u.shape
    windows = 1 if order is None else order.shape[0]
    length, sequences = rows // windows, items * windows
    zeros = torch.zeros(channels, device=u.device, dtype=torch.float32)
    B, C = grouped(scan.B), grouped(scan.C)
    groups = B.shape[1]
    cut = plan(sequences, channels, length, A.shape[1], groups)
    sides = tile(A.shape[1])
    flags = {
        "T": sides.tokens, "BD": sides.channels, "N": sides.states, "ORDERED": order is not None,
        "SOFTPLUS": scan.softplus, "GATE": z is not None, **COMPILER,
    }  # fmt: skip
    return _Operands(
        (A.float() / math.log(2)).contiguous(),
        B,
        C,
        zeros if D is None else D.float().contiguous(),
        zeros if delta_bias is None else delta_bias.float().contiguous(),
        u if z is None else z,  # an address that is never read, as the next
        u if order is None else order,
        cut,
        sequences,
        (
            channels, groups, A.shape[1], length, windows, cut.tiles, cut.tiles_per_chunk, cut.chunks,
            *direction(length, scan.reverse),
        ),
        flags,
    )  # fmt: skip


def kept_shape(u: Tensor, n: int, keep: bool, order: Tensor | None = None) -> tuple[int, ...]:
    """Shape of the states that the forward pass keeps for the backward pass: one before every tile of a sequence."""
    windows = 1 if order is None else order.shape[0]
    items, channels, rows = u.shape
    return (items * windows, math.ceil(rows // windows / tile(n).tokens), channels, n) if keep else (0,)


def _carried(effects: Tensor, elapsed: Tensor, A2: Tensor, backwards: bool) -> Tensor:
    """State before (``backwards``: after) every chunk from all chunks' effects, (sequences, chunks, channels, n)."""
    sequences, chunks, channels, n = effects.shape
    states = torch.empty_like(effects)
    sides = tile(n)
    grid = (sequences, math.ceil(channels / sides.channels))
    flags = {"BD": sides.channels, "N": sides.states, "BACKWARDS": backwards}
    launch("triton_kernels.carry", grid, effects, elapsed, A2, states, channels, n, chunks, **flags, **COMPILER)
    return states


def run_forward(
    scan: Scan, order: Tensor | None, kept: Tensor | None, y: Tensor, last: Tensor | None, add: bool = False
) -> None:
    """Scan into ``y``, and the states before the tiles into ``kept`` if given.

    Args:
        scan: u, delta, z, B, C (items, channels or n, rows), any strides; B, C also (items, groups, n, rows).
        order: (windows, length), which row is the t-th token of a window; None: every item is one sequence.
        kept: see :func:`kept_shape`.
        last: if given, gets the last state (sequences, channels, n).
        add: to what is in ``y``.
    """
    u, delta, A = scan[:3]
    o = _operands(scan, order)
    cut, never = o.plan, o.A2  # an address that is neither read nor written
    strides = _strides(u, delta, o.z, o.B, o.C, y)

    def run(output: bool, start: Tensor, kept: Tensor | None, left: Tensor | None, elapsed: Tensor) -> None:
        launch(
            "triton_kernels.forward", (o.sequences, cut.blocks, cut.chunks),
            u, delta, o.z, o.A2, o.B, o.C, o.D, o.bias, o.order, start, y, never if kept is None else kept,
            never if left is None else left, elapsed, *strides, *o.sizes, **o.flags, OUTPUT=output,
            ADD=output and add, KEEP=kept is not None, LAST=output and left is not None,
        )  # fmt: skip

    start = never
    if cut.chunks > 1:
        effects = A.new_empty(o.sequences, cut.chunks, *A.shape, dtype=torch.float32)
        elapsed = A.new_empty(effects.shape[:-1], dtype=torch.float32)
        run(False, never, None, effects, elapsed)
        start = _carried(effects, elapsed, o.A2, backwards=False)
    run(True, start, kept, last, never)


class Gradients(NamedTuple):
    """In float32: A (channels, n); D and delta_bias (channels,)."""

    A: Tensor
    D: Tensor
    bias: Tensor


def run_backward(
    scan: Scan, order: Tensor | None, dy: Tensor, kept: Tensor, du: Tensor, ddelta: Tensor, dz: Tensor | None,
    dBC: Tensor, room: Tensor | None = None,
) -> Gradients:  # fmt: skip
    """Write gradients into ``du``, ``ddelta``, ``dz`` and ``dBC`` (any strides) and return the others.

    Args:
        scan, order, kept: as of :func:`run_forward`.
        dy: gradient of y.
        du, ddelta, dz: shapes of u, delta, z.
        dBC: (groups, items, rows, 2n), B's beside C's.
        room: of u's shape, any strides: where the parts of dB and dC are kept until they are added up, if they fit.
    """
    u, delta, A = scan[:3]
    o = _operands(scan, order)
    (channels, n), cut, groups = A.shape, o.plan, dBC.shape[0]
    shape = (o.sequences, cut.chunks, channels, n)
    float32 = {"device": u.device, "dtype": torch.float32}
    following = o.A2  # an address that is never read
    if cut.chunks > 1:
        first, elapsed = torch.empty(shape, **float32), torch.empty(shape[:-1], **float32)
        launch(
            "triton_kernels.state_gradient", (o.sequences, cut.blocks, cut.chunks),
            dy, o.z, delta, o.A2, o.C, o.bias, o.order, first, elapsed, *_strides(dy, o.z, delta, o.C), *o.sizes,
            **o.flags,
        )  # fmt: skip
        following = _carried(first, elapsed, o.A2, backwards=True)
    dz = du if dz is None else dz  # an address that is never written
    dA, (dD, dbias) = torch.empty(shape, **float32), (torch.empty(shape[:-1], **float32) for _ in range(2))
    there = cut.parts == 1 and dBC.dtype == torch.float32
    width = groups * cut.parts * 2 * n
    if there:
        sums = dBC.unsqueeze(1)
    elif room is not None and room.dtype == torch.float32 and width <= channels:
        sums = room[:, :width].unflatten(1, (groups, cut.parts, 2 * n)).permute(1, 2, 0, 4, 3)
    else:
        sums = torch.empty(groups, cut.parts, *dBC.shape[1:], **float32)
    launch(
        "triton_kernels.backward", (o.sequences, groups * cut.parts, cut.chunks),
        u, delta, o.z, o.A2, o.B, o.C, o.D, o.bias, o.order, kept, dy, following, du, ddelta, dz, dA, sums, dD, dbias,
        *_strides(u, delta, o.z, o.B, o.C, dy, du, ddelta, dz, sums), *o.sizes, cut.parts, **o.flags,
    )  # fmt: skip
    if not there:
        torch.sum(sums, 1, dtype=dBC.dtype, out=dBC)
    return Gradients(dA.sum((0, 1)), dD.sum((0, 1)), dbias.sum((0, 1)))


def _forward(scan: Scan, kept: Tensor | None, y: Tensor) -> Tensor:
    last = scan.A.new_empty(scan.u.shape[0], *scan.A.shape, dtype=torch.float32)
    run_forward(scan, None, kept, y, last)
    return last


def _backward(
    scan: Scan, kept: Tensor, dy: Tensor, du: Tensor, ddelta: Tensor, dz: Tensor | None
) -> operators.ScanGradients:
    (items, groups, n, rows), shape = grouped(scan.B).shape, scan.B.shape
    dBC = torch.empty(groups, items, rows, 2 * n, device=dy.device, dtype=torch.float32)
    sums = run_backward(scan, None, dy, kept, du, ddelta, dz, dBC)
    B, C = (half.permute(1, 0, 3, 2).clone(memory_format=torch.contiguous_format) for half in dBC.split(n, dim=-1))
    return operators.ScanGradients(sums.A, B.view(shape), C.view(shape), sums.D, sums.bias)


selective_scan = operators.register_scan(
    "selective_scan_triton",
    _forward,
    _backward,
    lambda scan, keep: kept_shape(scan.u, scan.A.shape[1], keep),
    writes_half=True,
)
"""See :func:`lkm_kit.ssm.backends.reference.selective_scan`; float32, bf16 and fp16, state and sums in float32."""
