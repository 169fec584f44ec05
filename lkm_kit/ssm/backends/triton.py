"""The selective scan on a GPU without a compiler: Triton, which comes with torch's CUDA wheels.

Written from the recurrence; mamba_ssm's CUDA kernel is not needed. Many short sequences fill the chip by themselves.
A few long ones are cut into chunks: each chunk's effect on the state is computed first, the effects are carried from
chunk to chunk, and then all chunks run at once, each from its own starting state.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

TILE, BLOCK = 16, 8
"""Tokens of a tile and channels of a block; not tuned on a GPU yet."""
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
    return _Plan(tiles, per_chunk, math.ceil(tiles / per_chunk), blocks, max(2, 2 ** math.ceil(math.log2(n))))


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
    plan: _Plan
    sizes: tuple[int, ...]
    flags: dict


def _operands(u, A, D, z, delta_bias, softplus, reverse) -> _Operands:
    batch, channels, length = u.shape
    zeros = torch.zeros(channels, device=u.device, dtype=torch.float32)
    cut = plan(batch, channels, length, A.shape[1])
    flags = {
        "T": TILE, "BD": BLOCK, "N": cut.states, "REVERSE": reverse, "SOFTPLUS": softplus, "GATE": z is not None,
    }  # fmt: skip
    return _Operands(
        (A.float() / math.log(2)).contiguous(),
        zeros if D is None else D.float().contiguous(),
        zeros if delta_bias is None else delta_bias.float().contiguous(),
        u if z is None else z,  # an address that is never read
        cut,
        (channels, A.shape[1], length, cut.tiles, cut.tiles_per_chunk, cut.chunks),
        flags,
    )


def _carried(effects: Tensor, elapsed: Tensor, A2: Tensor, backwards: bool) -> Tensor:
    """State before every chunk (after it, ``backwards``) from every chunk's effect, (batch, chunks, channels, n)."""
    states = torch.zeros_like(effects)
    order = range(effects.shape[1] - 1, 0, -1) if backwards else range(effects.shape[1] - 1)
    for chunk in order:
        to = chunk - 1 if backwards else chunk + 1
        decay = torch.exp2(elapsed[:, chunk, :, None] * A2)
        states[:, to] = effects[:, chunk] + decay * states[:, chunk]
    return states


@torch.library.custom_op("lkm_kit::selective_scan_triton", mutates_args=())
def _forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, softplus: bool, reverse: bool, keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    from lkm_kit.ssm.backends import triton_kernels

    o = _operands(u, A, D, z, delta_bias, softplus, reverse)
    batch, channels, _ = u.shape
    n, cut = A.shape[1], o.plan
    y = torch.empty_like(u, memory_format=torch.preserve_format)
    float32 = {"device": u.device, "dtype": torch.float32}
    start, last = (torch.zeros(batch, cut.chunks, channels, n, **float32) for _ in range(2))
    elapsed = torch.zeros(batch, cut.chunks, channels, **float32)
    kept = torch.empty((batch, cut.tiles, channels, n) if keep else (0,), **float32)
    strides = _strides(u, delta, o.z, B, C, y)

    def run(output: bool) -> None:
        triton_kernels.forward[(batch, cut.blocks, cut.chunks)](
            u, delta, o.z, o.A2, B, C, o.D, o.bias, start, y, kept, last, elapsed, *strides, *o.sizes,
            **o.flags, OUTPUT=output, KEEP=output and keep,
        )  # fmt: skip

    if cut.chunks > 1:
        run(output=False)
        start = _carried(last, elapsed, o.A2, backwards=False)
    run(output=True)
    return y, last[:, -1].clone(), kept


@_forward.register_fake
def _(u, delta, A, B, C, D, z, delta_bias, softplus, reverse, keep):
    batch, channels, length = u.shape
    kept = (batch, math.ceil(length / TILE), channels, A.shape[1]) if keep else (0,)
    state = u.new_empty(batch, channels, A.shape[1], dtype=torch.float32)
    return torch.empty_like(u), state, u.new_empty(kept, dtype=torch.float32)


@torch.library.custom_op("lkm_kit::selective_scan_triton_backward", mutates_args=())
def _backward(
    dy: Tensor, kept: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    z: Tensor | None, delta_bias: Tensor | None, softplus: bool, reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    from lkm_kit.ssm.backends import triton_kernels

    o = _operands(u, A, D, z, delta_bias, softplus, reverse)
    batch, channels, length = u.shape
    n, cut = A.shape[1], o.plan
    grid = (batch, cut.blocks, cut.chunks)
    float32 = {"device": u.device, "dtype": torch.float32}
    following = torch.zeros(batch, cut.chunks, channels, n, **float32)
    if cut.chunks > 1:
        first = torch.empty_like(following)
        triton_kernels.state_gradient[grid](
            dy, o.z, delta, o.A2, C, o.bias, first, *_strides(dy, o.z, delta, C), *o.sizes, **o.flags
        )
        following = _carried(first, _elapsed_after_first(delta, o, softplus, reverse), o.A2, backwards=True)
    du, ddelta, dz = (torch.empty_like(u, memory_format=torch.preserve_format) for _ in range(3))
    dA = torch.empty(batch, cut.chunks, channels, n, **float32)
    dB, dC = (torch.empty(cut.blocks, batch, n, length, **float32) for _ in range(2))
    dD, dbias = (torch.empty(batch, cut.chunks, channels, **float32) for _ in range(2))
    triton_kernels.backward[grid](
        u, delta, o.z, o.A2, B, C, o.D, o.bias, kept, dy, following, du, ddelta, dz, dA, dB, dC, dD, dbias,
        *_strides(u, delta, o.z, B, C, dy, du), *o.sizes, batch, **o.flags,
    )  # fmt: skip
    return (
        du,
        ddelta.to(delta.dtype),
        dA.sum((0, 1)).to(A.dtype),
        dB.sum(0).to(B.dtype),
        dC.sum(0).to(C.dtype),
        u.new_empty(0) if D is None else dD.sum((0, 1)).to(D.dtype),
        u.new_empty(0) if z is None else dz.to(z.dtype),
        u.new_empty(0) if delta_bias is None else dbias.sum((0, 1)).to(delta_bias.dtype),
    )


def _elapsed_after_first(delta: Tensor, o: _Operands, softplus: bool, reverse: bool) -> Tensor:
    """Sum of Δ from the second token of every chunk to the first of the next: what decays dL/dh between the two."""
    steps = delta.float() + o.bias[:, None]
    steps = torch.nn.functional.softplus(steps) if softplus else steps
    steps = steps.flip(-1) if reverse else steps
    edges = [min(TILE * o.plan.tiles_per_chunk * chunk, steps.shape[-1]) for chunk in range(o.plan.chunks + 1)]
    sums = [steps[..., first + 1 : last + 1].sum(-1) for first, last in itertools.pairwise(edges)]
    return torch.stack(sums, dim=1)


@_backward.register_fake
def _(dy, kept, u, delta, A, B, C, D, z, delta_bias, softplus, reverse):
    def like(t):
        return u.new_empty(0) if t is None else t.new_empty(t.shape)

    rows = (torch.empty_like(u), torch.empty_like(u, dtype=delta.dtype))
    dz = u.new_empty(0) if z is None else torch.empty_like(u, dtype=z.dtype)
    return *rows, like(A), like(B), like(C), like(D), dz, like(delta_bias)


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
