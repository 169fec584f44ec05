"""The selective scan on a GPU without a compiler: Triton, which comes with torch's CUDA wheels.

Written from the recurrence; mamba_ssm's CUDA kernel is not needed. Many short sequences fill the chip by themselves.
A few long ones are cut into chunks: each chunk's effect on the state is computed first, the effects are carried from
chunk to chunk, and then all chunks run at once, each from its own starting state.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lkm_kit.ssm.backends import operators
from lkm_kit.ssm.backends.operators import Scan, grouped

TILE, BLOCK, WARPS = 16, 16, 8
"""Tokens of a tile, channels of a block, warps of a program: the largest block that the compiler for sm_80 fits into
registers without spilling (it halves the partial sums of dB and dC against 8 channels). Not timed on a GPU yet."""
WANTED_PROGRAMS = 512
"""Below this many (batch item, block) pairs, sequences are cut into chunks."""


class _Plan(NamedTuple):
    """How a scan is cut up: tiles of tokens, tiles a chunk, chunks, blocks of channels, padded number of states."""

    tiles: int
    tiles_per_chunk: int
    chunks: int
    blocks: int
    states: int


def plan(batch: int, channels: int, length: int, n: int, groups: int = 1) -> _Plan:
    """Cut a scan into programs; a block of channels lies in one group.

    >>> plan(1, 8, 1600, 16).chunks, plan(13440, 64, 128, 16).chunks
    (50, 1)
    """
    tiles, blocks = math.ceil(length / TILE), groups * math.ceil(channels / groups / BLOCK)
    wanted = max(1, min(WANTED_PROGRAMS // max(1, batch * blocks), tiles // 2))
    per_chunk = math.ceil(tiles / wanted)
    return _Plan(tiles, per_chunk, math.ceil(tiles / per_chunk), blocks, padded_states(n))


def launch(kernel: Any, grid: tuple[int, ...], first: Tensor, *arguments: Any, **flags: Any) -> None:
    """Run a kernel on the device of its first tensor: triton takes the current one, which may be another."""
    with torch.cuda.device_of(first):
        kernel[grid](first, *arguments, **flags)


def padded_states(n: int) -> int:
    """Triton's tiles have sides that are powers of two."""
    return max(2, 2 ** math.ceil(math.log2(n)))


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
    flags = {
        "T": TILE, "BD": BLOCK, "N": cut.states, "ORDERED": order is not None, "REVERSE": scan.reverse,
        "SOFTPLUS": scan.softplus, "GATE": z is not None, "num_warps": WARPS,
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
        (channels, groups, A.shape[1], length, windows, cut.tiles, cut.tiles_per_chunk, cut.chunks),
        flags,
    )


def kept_shape(u: Tensor, n: int, keep: bool, order: Tensor | None = None) -> tuple[int, ...]:
    """Shape of the states that the forward pass keeps for the backward pass: one before every tile of a sequence."""
    windows = 1 if order is None else order.shape[0]
    items, channels, rows = u.shape
    return (items * windows, math.ceil(rows // windows / TILE), channels, n) if keep else (0,)


def _carried(effects: Tensor, elapsed: Tensor, A2: Tensor, backwards: bool) -> Tensor:
    """State before (``backwards``: after) every chunk from all chunks' effects, (sequences, chunks, channels, n)."""
    from lkm_kit.ssm.backends import triton_kernels

    sequences, chunks, channels, n = effects.shape
    states = torch.empty_like(effects)
    flags = {"BD": BLOCK, "N": padded_states(n), "BACKWARDS": backwards}
    grid = (sequences, math.ceil(channels / BLOCK))
    launch(triton_kernels.carry, grid, effects, elapsed, A2, states, channels, n, chunks, **flags)
    return states


def run_forward(scan: Scan, order: Tensor | None, kept: Tensor | None, y: Tensor, add: bool = False) -> Tensor:
    """Scan into ``y``, and the states before the tiles into ``kept`` if given.

    Args:
        scan: u, delta, z, B, C (items, channels or n, rows), any strides; B, C also (items, groups, n, rows).
        order: (windows, length), which row is the t-th token of a window; None: every item is one sequence.
        add: to what is in ``y``.

    Returns:
        the last state (sequences, channels, n).
    """
    from lkm_kit.ssm.backends import triton_kernels

    u, delta, A = scan[:3]
    o = _operands(scan, order)
    cut, shape = o.plan, (o.sequences, o.plan.chunks, *A.shape)
    float32 = {"device": u.device, "dtype": torch.float32}
    start, last = (torch.zeros(shape, **float32) for _ in range(2))
    elapsed = torch.empty(shape[:-1], **float32)
    strides = _strides(u, delta, o.z, o.B, o.C, y)

    def run(output: bool) -> None:
        keep = output and kept is not None
        launch(
            triton_kernels.forward, (o.sequences, cut.blocks, cut.chunks),
            u, delta, o.z, o.A2, o.B, o.C, o.D, o.bias, o.order, start, y, kept if keep else last, last, elapsed,
            *strides, *o.sizes, **o.flags, OUTPUT=output, ADD=add, KEEP=keep,
        )  # fmt: skip

    if cut.chunks > 1:
        run(output=False)
        start = _carried(last, elapsed, o.A2, backwards=False)
    run(output=True)
    return last[:, -1]


class Gradients(NamedTuple):
    """In float32: A (channels, n); B beside C (blocks, items, rows, 2n), to be summed over a group's blocks of
    channels; D and delta_bias (channels,)."""

    A: Tensor
    BC: Tensor
    D: Tensor
    bias: Tensor


def run_backward(
    scan: Scan, order: Tensor | None, dy: Tensor, kept: Tensor, du: Tensor, ddelta: Tensor, dz: Tensor | None
) -> Gradients:
    """Write the gradients of u, delta and z into ``du``, ``ddelta``, ``dz`` (any strides) and return the others."""
    from lkm_kit.ssm.backends import triton_kernels

    u, delta, A = scan[:3]
    o = _operands(scan, order)
    (items, channels, rows), n, cut = u.shape, A.shape[1], o.plan
    grid, shape = (o.sequences, cut.blocks, cut.chunks), (o.sequences, cut.chunks, channels, n)
    float32 = {"device": u.device, "dtype": torch.float32}
    if cut.chunks > 1:
        first, elapsed = torch.empty(shape, **float32), torch.empty(shape[:-1], **float32)
        launch(
            triton_kernels.state_gradient, grid,
            dy, o.z, delta, o.A2, o.C, o.bias, o.order, first, elapsed, *_strides(dy, o.z, delta, o.C), *o.sizes,
            **o.flags,
        )  # fmt: skip
        following = _carried(first, elapsed, o.A2, backwards=True)
    else:
        following = torch.zeros(shape, **float32)
    dz = du if dz is None else dz  # an address that is never written
    dA, dBC = torch.empty(shape, **float32), torch.empty(cut.blocks, items, rows, 2 * n, **float32)
    dD, dbias = (torch.empty(shape[:-1], **float32) for _ in range(2))
    launch(
        triton_kernels.backward, grid,
        u, delta, o.z, o.A2, o.B, o.C, o.D, o.bias, o.order, kept, dy, following, du, ddelta, dz, dA, dBC, dD, dbias,
        *_strides(u, delta, o.z, o.B, o.C, dy, du, ddelta, dz), *o.sizes, items, **o.flags,
    )  # fmt: skip
    return Gradients(dA.sum((0, 1)), dBC, dD.sum((0, 1)), dbias.sum((0, 1)))


def _forward(scan: Scan, kept: Tensor | None, y: Tensor) -> Tensor:
    return run_forward(scan, None, kept, y).clone()


def _backward(
    scan: Scan, kept: Tensor, dy: Tensor, du: Tensor, ddelta: Tensor, dz: Tensor | None
) -> operators.ScanGradients:
    sums, n = run_backward(scan, None, dy, kept, du, ddelta, dz), scan.A.shape[1]
    by_group = sums.BC.unflatten(0, (grouped(scan.B).shape[1], -1))
    B, C = (
        by_group[..., part].sum(1).movedim(0, 1).transpose(2, 3).reshape(scan.B.shape)
        for part in (slice(n), slice(n, None))
    )
    return operators.ScanGradients(sums.A, B, C, sums.D, sums.bias)


selective_scan = operators.register_scan(
    "selective_scan_triton",
    _forward,
    _backward,
    lambda scan, keep: kept_shape(scan.u, scan.A.shape[1], keep),
    writes_half=True,
)
"""See :func:`lkm_kit.ssm.backends.reference.selective_scan`; float32, bf16 and fp16, state and sums in float32."""
