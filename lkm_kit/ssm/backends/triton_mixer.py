"""Mamba's mixer on a GPU as one operator that walks over the feature map, for one or several directions at once.

What happens to every token by itself (projections) happens to the map's pixels where they lie. Only convolution and
scan care which token follows which; they look it up in a table of pixel indices, 4 bytes a pixel for all batch items
and channels. So windows are never cut out, flipped or put back, whatever the partition. Kept for the backward pass:
the common input product, and for each direction x after the convolution, its projection, Δ and the states between
tiles of tokens.

Checked in Triton's interpreter against the reference; not yet timed on a GPU.

Source: the order of operations is that of ``Mamba``; the parameters are those of mamba_ssm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lkm_kit.ssm.backends import triton, triton_conv
from lkm_kit.ssm.backends.cpu_mixer import Direction


class _Saved(NamedTuple):
    """What the backward pass reads again: x after the convolution, its projection (Δ's rank, B, C), Δ, kept states."""

    x: Tensor
    projected: Tensor
    delta: Tensor
    kept: Tensor


def mix(pixels: Tensor, directions: Sequence[Direction], reverse: Sequence[bool], order: Tensor | None) -> Tensor:
    """Sum over directions of a Mamba before its output projection.

    Args:
        pixels: (batch, pixels, c).
        directions: parameters.
        reverse: whether each one runs from the last token to the first.
        order: (windows, length) int32, the pixel that is the t-th token of a window; None: every map is one sequence
            of pixels as they lie.

    Returns:
        (batch, pixels, d).
    """
    weights = [weight for direction in directions for weight in direction]
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (pixels, *weights))
    return torch.ops.lkm_kit.mamba_mix_triton(pixels, weights, list(reverse), order, keep)[0]


def _directions(weights: Sequence[Tensor]) -> list[Direction]:
    size = len(Direction._fields)
    return [Direction(*weights[i : i + size]) for i in range(0, len(weights), size)]


def _columns(rows: Tensor, batch: int, first: int, size: int) -> Tensor:
    """Columns of a matrix of pixels as a view (batch, columns, pixels)."""
    return rows.view(batch, -1, rows.shape[1])[..., first : first + size].transpose(1, 2)


def _scan_inputs(d: Direction, saved: _Saved, xz: Tensor, batch: int, number: int, reverse: bool) -> tuple:
    (inner, n), rank = d.A.shape, d.dt_weight.shape[1]
    return (
        _columns(saved.x, batch, 0, inner),
        _columns(saved.delta, batch, 0, inner),
        d.A,
        _columns(saved.projected, batch, rank, n),
        _columns(saved.projected, batch, rank + n, n),
        d.D,
        _columns(xz, batch, (2 * number + 1) * inner, inner),
        d.dt_bias,
        True,
        reverse,
    )


def forward(
    pixels: Tensor, weights: Sequence[Tensor], reverse: Sequence[bool], order: Tensor | None, keep: bool
) -> tuple[Tensor, list[Tensor]]:
    """y (batch, pixels, d), and what :func:`backward` reads again."""
    directions = _directions(weights)
    inner, n = directions[0].A.shape
    batch, length = pixels.shape[:2]
    xz = pixels.reshape(batch * length, -1) @ torch.cat([d.in_proj for d in directions]).t()
    y = pixels.new_empty(batch, length, inner)
    saved = [xz]
    for number, (d, backwards) in enumerate(zip(directions, reverse, strict=True)):
        x = pixels.new_empty(batch * length, inner)
        x_in, x_out = _columns(xz, batch, 2 * number * inner, inner), _columns(x, batch, 0, inner)
        triton_conv.run_forward(x_in, d.conv_weight, d.conv_bias, backwards, order, x_out)
        projected = x @ d.x_proj.t()
        delta = projected[:, : d.dt_weight.shape[1]] @ d.dt_weight.t()
        kept = pixels.new_empty(triton.kept_shape(x_out, n, keep, order), dtype=torch.float32)
        this = _Saved(x, projected, delta, kept)
        scan = _scan_inputs(d, this, xz, batch, number, backwards)
        triton.run_forward(*scan, order, kept if keep else None, y.transpose(1, 2), add=number > 0)
        saved += this if keep else []
    return y, saved if keep else []


def backward(
    dy: Tensor, pixels: Tensor, weights: Sequence[Tensor], saved: Sequence[Tensor], reverse: Sequence[bool],
    order: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """Gradients of the pixels and of all weights."""
    directions = _directions(weights)
    inner, n = directions[0].A.shape
    batch, length = pixels.shape[:2]
    rows = batch * length
    dy = dy.transpose(1, 2)
    xz, rest = saved[0], saved[1:]
    dxz = torch.empty_like(xz)
    gradients = []
    for number, (d, backwards) in enumerate(zip(directions, reverse, strict=True)):
        this = _Saved(*rest[4 * number : 4 * number + 4])
        rank = d.dt_weight.shape[1]
        x_in, dx_in = (_columns(t, batch, 2 * number * inner, inner) for t in (xz, dxz))
        dz = _columns(dxz, batch, (2 * number + 1) * inner, inner)
        dx, ddelta = (pixels.new_empty(rows, inner) for _ in range(2))
        du = _columns(dx, batch, 0, inner)
        scan = _scan_inputs(d, this, xz, batch, number, backwards)
        sums = triton.run_backward(dy, this.kept, *scan, order, du, _columns(ddelta, batch, 0, inner), dz)
        dprojected = torch.empty_like(this.projected)
        dprojected[:, :rank] = ddelta @ d.dt_weight
        torch.sum(sums.BC.view(-1, rows, 2 * n), 0, dtype=dprojected.dtype, out=dprojected[:, rank:])
        dx.addmm_(dprojected, d.x_proj)
        dweight, dbias = triton_conv.run_backward(du, x_in, d.conv_weight, d.conv_bias, backwards, order, dx_in)
        gradients += [
            None,
            dweight,
            dbias,
            dprojected.t() @ this.x,
            ddelta.t() @ this.projected[:, :rank],
            sums.bias,
            sums.A,
            sums.D,
        ]
    dpixels = (dxz @ torch.cat([d.in_proj for d in directions])).view_as(pixels)
    gradients[:: len(Direction._fields)] = (dxz.t() @ pixels.reshape(rows, -1)).split(2 * inner)
    return dpixels, [g.to(w.dtype).clone() for g, w in zip(gradients, weights, strict=True)]


@torch.library.custom_op("lkm_kit::mamba_mix_triton", mutates_args=())
def _forward(
    pixels: Tensor, weights: Sequence[Tensor], reverse: Sequence[bool], order: Tensor | None, keep: bool
) -> tuple[Tensor, list[Tensor]]:
    return forward(pixels, weights, reverse, order, keep)


@_forward.register_fake
def _(pixels, weights, reverse, order, keep):
    directions = _directions(weights)
    (inner, n), (batch, length) = directions[0].A.shape, pixels.shape[:2]
    y = pixels.new_empty(batch, length, inner)
    saved = [pixels.new_empty(batch * length, 2 * inner * len(directions))]
    for d in directions:
        saved += [pixels.new_empty(batch * length, k) for k in (inner, d.x_proj.shape[0], inner)]
        saved.append(pixels.new_empty(triton.kept_shape(y.transpose(1, 2), n, keep, order), dtype=torch.float32))
    return y, saved if keep else []


@torch.library.custom_op("lkm_kit::mamba_mix_triton_backward", mutates_args=())
def _backward(
    dy: Tensor, pixels: Tensor, weights: Sequence[Tensor], saved: Sequence[Tensor], reverse: Sequence[bool],
    order: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    return backward(dy, pixels, weights, saved, reverse, order)


@_backward.register_fake
def _(dy, pixels, weights, saved, reverse, order):
    return pixels.new_empty(pixels.shape), [w.new_empty(w.shape) for w in weights]


def _setup_context(ctx, inputs, output):
    pixels, weights, ctx.reverse, order, keep = inputs
    _, saved = output
    ctx.set_materialize_grads(False)  # else zeros are written for outputs that have no gradient
    ctx.mark_non_differentiable(*saved)
    ctx.count = len(weights)
    if keep:
        ctx.save_for_backward(pixels, order, *weights, *saved)


def _autograd(ctx, dy, _dsaved):
    if dy is None:
        return None, [None] * ctx.count, None, None, None
    pixels, order, *rest = ctx.saved_tensors
    weights, saved = rest[: ctx.count], rest[ctx.count :]
    dpixels, dweights = torch.ops.lkm_kit.mamba_mix_triton_backward(dy, pixels, weights, saved, ctx.reverse, order)
    return dpixels, dweights, None, None, None


_forward.register_autograd(_autograd, setup_context=_setup_context)
