"""Mamba's mixer on a CPU as one operator: projections, convolution and scan, for one or several directions at once.

Once the scan is fast, the rest of the mixer costs more than it: copies between layouts, gradients that are
concatenated, flipped and added. Here every quantity is written once, to the place where the next step reads it. BiM's
two directions share one product for all their inputs, one for all their input gradients, and add their outputs while
they are computed.

Source: the order of operations is that of ``Mamba``; the parameters are those of mamba_ssm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lkm_kit.ssm import causal_conv
from lkm_kit.ssm.backends import cpu
from lkm_kit.ssm.backends.threads import run_ranges


class Direction(NamedTuple):
    """Parameters of one Mamba, as the operator takes them: shapes with d inner channels, c outer ones, rank r.

    in_proj (2d, c); conv_weight (d, K); conv_bias (d,); x_proj (r + 2n, d); dt_weight (d, r); dt_bias (d,);
    A (d, n), negative; D (d,).
    """

    in_proj: Tensor
    conv_weight: Tensor
    conv_bias: Tensor
    x_proj: Tensor
    dt_weight: Tensor
    dt_bias: Tensor
    A: Tensor
    D: Tensor


class _Saved(NamedTuple):
    """What the backward pass reads again: x after the convolution, its projection (Δ's rank, B, C), Δ, kept states."""

    x: Tensor
    projected: Tensor
    delta: Tensor
    kept: Tensor


def mix(tokens: Tensor, directions: Sequence[Direction], reverse: Sequence[bool]) -> Tensor:
    """Sum over directions of a Mamba before its output projection.

    Args:
        tokens: (batch, length, c), float32 or float64 as all parameters.
        directions: parameters, inner channels a multiple of sixteen.
        reverse: whether each one runs from the last token to the first.

    Returns:
        (batch, length, d).
    """
    weights = [weight for direction in directions for weight in direction]
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (tokens, *weights))
    return torch.ops.lkm_kit.mamba_mix_cpu(tokens, weights, list(reverse), keep)[0]


def _directions(weights: Sequence[Tensor]) -> list[Direction]:
    size = len(Direction._fields)
    return [Direction(*weights[i : i + size]) for i in range(0, len(weights), size)]


def _parts(xz: Tensor, shape: tuple[int, int], inner: int, number: int) -> tuple[Tensor, Tensor]:
    """x and z of one direction inside the common product, as views (b, d, l)."""
    rows = xz.view(*shape, -1).transpose(1, 2)
    first = 2 * number * inner
    return rows[:, first : first + inner], rows[:, first + inner : first + 2 * inner]


def _scan_call(d: Direction, shape: tuple[int, int], saved: _Saved, z: Tensor, reverse: bool) -> cpu.ScanCall:
    rank, n = d.dt_weight.shape[1], d.A.shape[1]
    x, projected, delta = (t.view(*shape, -1).transpose(1, 2) for t in saved[:3])
    B, C = projected[:, rank : rank + n], projected[:, rank + n :]
    return cpu.ScanCall(x, delta, d.A, B, C, d.D, z, d.dt_bias, reverse)


@torch.library.custom_op("lkm_kit::mamba_mix_cpu", mutates_args=(), device_types="cpu")
def _forward(
    tokens: Tensor, weights: Sequence[Tensor], reverse: Sequence[bool], keep: bool
) -> tuple[Tensor, list[Tensor]]:
    directions = _directions(weights)
    inner = directions[0].D.shape[0]
    shape = batch, length = tokens.shape[:2]
    xz = tokens.reshape(batch * length, -1) @ torch.cat([d.in_proj for d in directions]).t()
    y = tokens.new_empty(batch, length, inner)
    saved = [xz]
    for number, (d, backwards) in enumerate(zip(directions, reverse, strict=True)):
        x_in, z = _parts(xz, shape, inner, number)
        x = tokens.new_empty(batch, length, inner)
        causal_conv.run_forward(causal_conv.ConvCall(x_in, d.conv_weight, d.conv_bias, backwards), x)
        x = x.view(batch * length, inner)
        projected = x @ d.x_proj.t()
        delta = projected[:, : d.dt_weight.shape[1]] @ d.dt_weight.t()
        kept = tokens.new_empty(cpu.kept_shape(batch, inner, length, d.A.shape[1], keep))
        this = _Saved(x, projected, delta, kept)
        call = _scan_call(d, shape, this, z, backwards)
        cpu.run_forward(call, True, kept if keep else None, y, add=number > 0)
        saved += this
    return y, saved if keep else []


@_forward.register_fake
def _(tokens, weights, reverse, keep):
    directions = _directions(weights)
    batch, length = tokens.shape[:2]
    inner, rows = directions[0].D.shape[0], batch * length
    saved = [tokens.new_empty(rows, 2 * inner * len(directions))]
    for d in directions:
        saved += [tokens.new_empty(rows, k) for k in (inner, d.x_proj.shape[0], inner)]
        saved.append(tokens.new_empty(cpu.kept_shape(batch, inner, length, d.A.shape[1], keep)))
    return tokens.new_empty(batch, length, inner), saved if keep else []


@torch.library.custom_op("lkm_kit::mamba_mix_cpu_backward", mutates_args=(), device_types="cpu")
def _backward(
    dy: Tensor, tokens: Tensor, weights: Sequence[Tensor], saved: Sequence[Tensor], reverse: Sequence[bool]
) -> tuple[Tensor, list[Tensor]]:
    directions = _directions(weights)
    inner = directions[0].D.shape[0]
    shape = batch, length = tokens.shape[:2]
    rows = batch * length
    dy = dy.contiguous()
    xz, rest = saved[0], saved[1:]
    dxz = torch.empty_like(xz)
    gradients = []
    for number, (d, backwards) in enumerate(zip(directions, reverse, strict=True)):
        this = _Saved(*rest[4 * number : 4 * number + 4])
        x_in, z = _parts(xz, shape, inner, number)
        dx_in, dz = _parts(dxz, shape, inner, number)
        dx, ddelta = (tokens.new_empty(batch, length, inner) for _ in range(2))
        call = _scan_call(d, shape, this, z, backwards)
        scan = cpu.run_backward(call, True, this.kept, dy, dx, ddelta, dz.transpose(1, 2))
        dx, ddelta = dx.view(rows, inner), ddelta.view(rows, inner)
        rank = d.dt_weight.shape[1]
        dprojected = torch.empty_like(this.projected)
        dprojected[:, :rank] = ddelta @ d.dt_weight
        _gather(scan.B, scan.C, dprojected, rank, length, backwards)
        dx.addmm_(dprojected, d.x_proj)
        conv_call = causal_conv.ConvCall(x_in, d.conv_weight, d.conv_bias, backwards)
        dweight, dbias = causal_conv.run_backward(conv_call, dx.view(batch, length, inner), dx_in.transpose(1, 2))
        gradients += [
            None,
            dweight,
            dbias,
            dprojected.t() @ this.x,
            ddelta.t() @ this.projected[:, :rank],
            scan.bias,
            scan.A,
            scan.D,
        ]
    flat = tokens.reshape(rows, -1)
    dtokens = (dxz @ torch.cat([d.in_proj for d in directions])).view_as(tokens)
    gradients[:: len(Direction._fields)] = _weight_gradient(dxz, flat, batch).split(2 * inner)
    return dtokens, [g.to(w.dtype).clone() for g, w in zip(gradients, weights, strict=True)]


@_backward.register_fake
def _(dy, tokens, weights, saved, reverse):
    return tokens.new_empty(tokens.shape), [w.new_empty(w.shape) for w in weights]


def _weight_gradient(dy: Tensor, x: Tensor, batch: int) -> Tensor:
    """dyᵀ x, item by item: BLAS runs a product of two very tall matrices on one core."""
    parts = torch.bmm(dy.view(batch, -1, dy.shape[1]).transpose(1, 2), x.view(batch, -1, x.shape[1]))
    return parts.sum(0)


def _gather(dB: Tensor, dC: Tensor, out: Tensor, first: int, length: int, reverse: bool) -> None:
    """Sum dB and dC over groups and bring them from (b, n, l) in scan order to columns of the rows of ``out``."""
    from lkm_kit.ssm.backends.cpu_kernels import gather

    arrays = dB.numpy(), dC.numpy(), out.numpy()
    run_ranges(lambda a, b: gather(*arrays, first, length, reverse, a, b), dB.shape[1])


def _setup_context(ctx, inputs, output):
    tokens, weights, ctx.reverse, keep = inputs
    _, saved = output
    ctx.set_materialize_grads(False)  # else zeros are written for outputs that have no gradient
    ctx.mark_non_differentiable(*saved)
    if keep:
        ctx.save_for_backward(tokens, *weights, *saved)
        ctx.count = len(weights)


def _autograd(ctx, dy, _dsaved):
    if dy is None:
        return None, [None] * ctx.count, None, None
    tokens, *rest = ctx.saved_tensors
    weights, saved = rest[: ctx.count], rest[ctx.count :]
    dtokens, dweights = torch.ops.lkm_kit.mamba_mix_cpu_backward(dy, tokens, weights, saved, ctx.reverse)
    return dtokens, dweights, None, None


_forward.register_autograd(_autograd, setup_context=_setup_context)
