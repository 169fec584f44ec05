"""The selective scan on a GPU without a compiler: Triton, which comes with torch's CUDA wheels.

Written from the recurrence; mamba_ssm's CUDA kernel is not needed. Many short sequences fill the chip by themselves.
A few long ones are cut into chunks: each chunk's effect on the state is computed first, the effects are carried from
chunk to chunk, and then all chunks run at once, each from its own starting state.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lkm_kit.ssm.backends.derivatives import only_first_derivatives

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


def plan(batch: int, channels: int, length: int, n: int) -> _Plan:
    """Cut a scan into programs.

    >>> plan(1, 8, 1600, 16).chunks, plan(13440, 64, 128, 16).chunks
    (50, 1)
    """
    tiles, blocks = math.ceil(length / TILE), math.ceil(channels / BLOCK)
    wanted = max(1, min(WANTED_PROGRAMS // max(1, batch * blocks), tiles // 2))
    per_chunk = math.ceil(tiles / wanted)
    return _Plan(tiles, per_chunk, math.ceil(tiles / per_chunk), blocks, padded_states(n))


def padded_states(n: int) -> int:
    """Triton's tiles have sides that are powers of two."""
    return max(2, 2 ** math.ceil(math.log2(n)))


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """See :func:`lkm_kit.ssm.backends.reference.selective_scan`; float32, bf16 and fp16, state and sums in float32."""
    tensors = (u, delta, A, B, C, D, z, delta_bias)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    y, last, _ = torch.ops.lkm_kit.selective_scan_triton(
        u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse, keep
    )
    return y, last


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for t in tensors for stride in t.stride()]


class _Operands(NamedTuple):
    """Converted inputs, the plan, and what every kernel gets."""

    A2: Tensor
    D: Tensor
    bias: Tensor
    z: Tensor
    order: Tensor
    plan: _Plan
    sequences: int
    sizes: tuple[int, ...]
    flags: dict


def _operands(u, A, D, z, delta_bias, softplus, reverse, order) -> _Operands:
    items, channels, rows = u.shape
    windows = 1 if order is None else order.shape[0]
    length, sequences = rows // windows, items * windows
    zeros = torch.zeros(channels, device=u.device, dtype=torch.float32)
    cut = plan(sequences, channels, length, A.shape[1])
    flags = {
        "T": TILE, "BD": BLOCK, "N": cut.states, "ORDERED": order is not None, "REVERSE": reverse,
        "SOFTPLUS": softplus, "GATE": z is not None, "num_warps": WARPS,
    }  # fmt: skip
    return _Operands(
        (A.float() / math.log(2)).contiguous(),
        zeros if D is None else D.float().contiguous(),
        zeros if delta_bias is None else delta_bias.float().contiguous(),
        u if z is None else z,  # an address that is never read, as the next
        u if order is None else order,
        cut,
        sequences,
        (channels, A.shape[1], length, windows, cut.tiles, cut.tiles_per_chunk, cut.chunks),
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
    triton_kernels.carry[grid](effects, elapsed, A2, states, channels, n, chunks, **flags)
    return states


def run_forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, softplus: bool, reverse: bool, order: Tensor | None, kept: Tensor | None, y: Tensor,
    add: bool = False,
) -> Tensor:  # fmt: skip
    """Scan into ``y``, and the states before the tiles into ``kept`` if given.

    Args:
        u, delta, z, B, C: (items, channels or n, rows), any strides.
        order: (windows, length), which row is the t-th token of a window; None: every item is one sequence.
        add: to what is in ``y``.

    Returns:
        the last state (sequences, channels, n).
    """
    from lkm_kit.ssm.backends import triton_kernels

    o = _operands(u, A, D, z, delta_bias, softplus, reverse, order)
    cut, shape = o.plan, (o.sequences, o.plan.chunks, *A.shape)
    float32 = {"device": u.device, "dtype": torch.float32}
    start, last = (torch.zeros(shape, **float32) for _ in range(2))
    elapsed = torch.empty(shape[:-1], **float32)
    strides = _strides(u, delta, o.z, B, C, y)

    def run(output: bool) -> None:
        keep = output and kept is not None
        triton_kernels.forward[(o.sequences, cut.blocks, cut.chunks)](
            u, delta, o.z, o.A2, B, C, o.D, o.bias, o.order, start, y, kept if keep else last, last, elapsed,
            *strides, *o.sizes, **o.flags, OUTPUT=output, ADD=add, KEEP=keep,
        )  # fmt: skip

    if cut.chunks > 1:
        run(output=False)
        start = _carried(last, elapsed, o.A2, backwards=False)
    run(output=True)
    return last[:, -1]


class Gradients(NamedTuple):
    """In float32: A (channels, n); B beside C (blocks, items, rows, 2n), to be summed over blocks of channels; D and
    delta_bias (channels,)."""

    A: Tensor
    BC: Tensor
    D: Tensor
    bias: Tensor


def run_backward(
    dy: Tensor, kept: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    z: Tensor | None, delta_bias: Tensor | None, softplus: bool, reverse: bool, order: Tensor | None, du: Tensor,
    ddelta: Tensor, dz: Tensor | None,
) -> Gradients:  # fmt: skip
    """Write the gradients of u, delta and z into ``du``, ``ddelta``, ``dz`` (any strides) and return the others."""
    from lkm_kit.ssm.backends import triton_kernels

    o = _operands(u, A, D, z, delta_bias, softplus, reverse, order)
    (items, channels, rows), n, cut = u.shape, A.shape[1], o.plan
    grid, shape = (o.sequences, cut.blocks, cut.chunks), (o.sequences, cut.chunks, channels, n)
    float32 = {"device": u.device, "dtype": torch.float32}
    if cut.chunks > 1:
        first, elapsed = torch.empty(shape, **float32), torch.empty(shape[:-1], **float32)
        triton_kernels.state_gradient[grid](
            dy, o.z, delta, o.A2, C, o.bias, o.order, first, elapsed, *_strides(dy, o.z, delta, C), *o.sizes, **o.flags
        )
        following = _carried(first, elapsed, o.A2, backwards=True)
    else:
        following = torch.zeros(shape, **float32)
    dz = du if dz is None else dz  # an address that is never written
    dA, dBC = torch.empty(shape, **float32), torch.empty(cut.blocks, items, rows, 2 * n, **float32)
    dD, dbias = (torch.empty(shape[:-1], **float32) for _ in range(2))
    triton_kernels.backward[grid](
        u, delta, o.z, o.A2, B, C, o.D, o.bias, o.order, kept, dy, following, du, ddelta, dz, dA, dBC, dD, dbias,
        *_strides(u, delta, o.z, B, C, dy, du, ddelta, dz), *o.sizes, items, **o.flags,
    )  # fmt: skip
    return Gradients(dA.sum((0, 1)), dBC, dD.sum((0, 1)), dbias.sum((0, 1)))


@torch.library.custom_op("lkm_kit::selective_scan_triton", mutates_args=())
def _forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, softplus: bool, reverse: bool, keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    y = torch.empty_like(u)
    kept = torch.empty(kept_shape(u, A.shape[1], keep), device=u.device, dtype=torch.float32)
    scan = (u, delta, A, B, C, D, z, delta_bias, softplus, reverse, None)
    last = run_forward(*scan, kept if keep else None, y)
    return y, last.clone(), kept


@_forward.register_fake
def _(u, delta, A, B, C, D, z, delta_bias, softplus, reverse, keep):
    state = u.new_empty(u.shape[0], u.shape[1], A.shape[1], dtype=torch.float32)
    return torch.empty_like(u), state, u.new_empty(kept_shape(u, A.shape[1], keep), dtype=torch.float32)


@torch.library.custom_op("lkm_kit::selective_scan_triton_backward", mutates_args=())
def _backward(
    dy: Tensor, kept: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    z: Tensor | None, delta_bias: Tensor | None, softplus: bool, reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    du, ddelta = torch.empty_like(u), torch.empty_like(u, dtype=delta.dtype)
    dz = None if z is None else torch.empty_like(u, dtype=z.dtype)
    scan = (u, delta, A, B, C, D, z, delta_bias, softplus, reverse, None)
    sums = run_backward(dy, kept, *scan, du, ddelta, dz)
    n = A.shape[1]
    return (
        du,
        ddelta,
        sums.A.to(A.dtype),
        sums.BC[..., :n].sum(0).to(B.dtype).transpose(1, 2),
        sums.BC[..., n:].sum(0).to(C.dtype).transpose(1, 2),
        u.new_empty(0) if D is None else sums.D.to(D.dtype),
        u.new_empty(0) if dz is None else dz,
        u.new_empty(0) if delta_bias is None else sums.bias.to(delta_bias.dtype),
    )


@_backward.register_fake
def _(dy, kept, u, delta, A, B, C, D, z, delta_bias, softplus, reverse):
    def like(t):
        return u.new_empty(0) if t is None else t.new_empty(t.shape)

    dB, dC = (t.new_empty(t.shape[0], t.shape[2], t.shape[1]).transpose(1, 2) for t in (B, C))
    dz = u.new_empty(0) if z is None else torch.empty_like(u, dtype=z.dtype)
    return torch.empty_like(u), torch.empty_like(u, dtype=delta.dtype), like(A), dB, dC, like(D), dz, like(delta_bias)


def _setup_context(ctx, inputs, output):
    u, delta, A, B, C, D, z, delta_bias, ctx.softplus, ctx.reverse, keep = inputs
    _, last_state, kept = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(last_state, kept)
    if keep:
        ctx.save_for_backward(kept, u, delta, A, B, C, D, z, delta_bias)


def _autograd(ctx, dy, _dlast, _dkept):
    if dy is None:
        return (None,) * 11
    kept, u, delta, A, B, C, D, z, delta_bias = ctx.saved_tensors
    grads = torch.ops.lkm_kit.selective_scan_triton_backward(
        dy, kept, u, delta, A, B, C, D, z, delta_bias, ctx.softplus, ctx.reverse
    )
    given = (u, delta, A, B, C, D, z, delta_bias)
    return *(None if t is None else g for t, g in zip(given, grads, strict=True)), None, None, None


_forward.register_autograd(_autograd, setup_context=_setup_context)
only_first_derivatives(_forward, _backward)
