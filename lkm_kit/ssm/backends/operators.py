"""The selective scan and the causal convolution as operators of torch: what a CPU's and a GPU's have in common.

A device brings functions that write into given tensors. Here they become ``torch.library`` operators with shapes for
tracers, gradients, and one layout of results whatever the device: channels next to each other, as tokens have them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lkm_kit.ssm.backends.derivatives import only_first_derivatives


class Scan(NamedTuple):
    """The operands of a selective scan, as :func:`lkm_kit.ssm.selective_scan` names them.

    B and C are (batch, n, length), (batch, groups, n, length) or (d, n); with a complex A all three are complex. The
    fused kernels take real tensors and no constant B or C.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    softplus: bool
    reverse: bool


class ScanGradients(NamedTuple):
    """Gradients besides those of u, Δ and z: A (d, n); B and C in the shapes of B and C; D and delta_bias (d,)."""

    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    delta_bias: Tensor


def grouped(t: Tensor) -> Tensor:
    """B or C as (batch, groups, n, length): the n rows of a group serve its share of the channels.

    >>> grouped(torch.zeros(2, 3, 5)).shape
    torch.Size([2, 1, 3, 5])
    """
    return t if t.ndim == 4 else t.unsqueeze(1)


def wide(dtype: torch.dtype) -> torch.dtype:
    """What a scan computes in: float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def rows_like(x: Tensor, dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor of x's shape (batch, channels, length), channels next to each other."""
    return x.new_empty(x.shape[0], x.shape[2], x.shape[1], dtype=dtype).transpose(1, 2)


def register_scan(
    name: str,
    forward: Callable[[Scan, Tensor | None, Tensor], Tensor],
    backward: Callable[[Scan, Tensor, Tensor, Tensor, Tensor, Tensor | None], ScanGradients],
    kept_shape: Callable[[Scan, bool], tuple[int, ...]],
    device_types: str | None = None,
    *,
    writes_half: bool = False,
) -> Callable[[Scan], tuple[Tensor, Tensor]]:
    """Make the operators ``lkm_kit::name`` and ``lkm_kit::name_backward`` of a scan.

    Args:
        name: of the operator.
        forward: (scan, kept, y) writes y, and the states to keep if ``kept`` is there; returns the last state.
        backward: (scan, kept, dy, du, ddelta, dz) writes the last three and returns the other gradients.
        kept_shape: (scan, keep) → shape of the states that are kept.
        device_types: where the operators run.
        writes_half: y and the gradients are written in the tensors' own dtypes, not in the one of the computation.

    Returns:
        a function scan → y, last state.
    """
    operands = "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
    shared = {"mutates_args": (), "device_types": device_types}

    def room(t: Tensor, u: Tensor) -> Tensor:
        return rows_like(t, t.dtype if writes_half else wide(u.dtype))

    def run(*given):
        scan, keep = Scan(*given[:-1]), given[-1]
        y, kept = room(scan.u, scan.u), _kept(scan, keep)
        last = forward(scan, kept if keep else None, y)
        return y.to(scan.u.dtype), last, kept

    def run_back(dy, kept, *given):
        scan = Scan(*given)
        du, ddelta = room(scan.u, scan.u), room(scan.delta, scan.u)
        dz = None if scan.z is None else room(scan.z, scan.u)
        sums = backward(scan, kept, dy, du, ddelta, dz)
        gradients = du, ddelta, sums.A, sums.B, sums.C, sums.D, dz, sums.delta_bias
        return tuple(
            dy.new_empty(0) if t is None or g is None else g.to(t.dtype)
            for g, t in zip(gradients, scan[:8], strict=True)
        )

    def _kept(scan: Scan, keep: bool) -> Tensor:
        return scan.u.new_empty(kept_shape(scan, keep), dtype=wide(scan.u.dtype))

    operator = torch.library.custom_op(
        f"lkm_kit::{name}",
        run,
        schema=f"({operands}bool softplus, bool reverse, bool keep) -> (Tensor, Tensor, Tensor)",
        **shared,
    )
    gradient = torch.library.custom_op(
        f"lkm_kit::{name}_backward",
        run_back,
        schema=f"(Tensor dy, Tensor kept, {operands}bool softplus, bool reverse) -> ({', '.join(['Tensor'] * 8)})",
        **shared,
    )

    @operator.register_fake
    def _(*given):
        scan, u = Scan(*given[:-1]), given[0]
        last = u.new_empty(*u.shape[:2], scan.A.shape[1], dtype=wide(u.dtype))
        return rows_like(u, u.dtype), last, _kept(scan, given[-1])

    @gradient.register_fake
    def _(dy, kept, *given):
        scan = Scan(*given)._asdict()
        rows = ("u", "delta", "z")  # by name: one tensor may be given twice
        return tuple(
            dy.new_empty(0) if t is None else rows_like(t, t.dtype) if name in rows else t.new_empty(t.shape)
            for name, t in list(scan.items())[:8]
        )

    def setup_context(ctx, inputs, output):
        *scan, keep = inputs
        _, last, kept = output
        ctx.set_materialize_grads(False)  # else zeros are written for outputs that have no gradient
        ctx.mark_non_differentiable(last, kept)
        ctx.flags = scan[8:]
        if keep:
            ctx.save_for_backward(kept, *scan[:8])

    def autograd(ctx, dy, _dlast, _dkept):
        if dy is None:  # only the last state was used, and that has no gradient
            return (None,) * 11
        kept, *tensors = ctx.saved_tensors
        gradients = gradient._opoverload(dy, kept, *tensors, *ctx.flags)
        return *(None if t is None else g for t, g in zip(tensors, gradients, strict=True)), None, None, None

    operator.register_autograd(autograd, setup_context=setup_context)
    only_first_derivatives(operator, gradient)

    def selective_scan(scan: Scan) -> tuple[Tensor, Tensor]:
        keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in scan[:8])
        y, last, _ = operator._opoverload(*scan, keep)
        return y, last

    return selective_scan


def register_convolution(
    name: str,
    forward: Callable[[Tensor, Tensor, Tensor, bool, Tensor], None],
    backward: Callable[[Tensor, Tensor, Tensor, Tensor, bool, Tensor], tuple[Tensor, Tensor]],
    device_types: str | None = None,
    *,
    writes_half: bool = False,
) -> Callable[[Tensor, Tensor, Tensor, bool], Tensor]:
    """Make the operators of a causal convolution with SiLU, ``lkm_kit::name`` and ``lkm_kit::name_backward``.

    Args:
        name: of the operator.
        forward: (x, weight, bias, reverse, y) writes y.
        backward: (dy, x, weight, bias, reverse, dx) writes dx; returns the gradients of weight and bias.
        device_types, writes_half: as of :func:`register_scan`.

    Returns:
        a function (x, weight, bias, reverse) → y.
    """
    operands, shared = "Tensor x, Tensor weight, Tensor bias, bool reverse", {
        "mutates_args": (), "device_types": device_types
    }  # fmt: skip

    def room(x: Tensor) -> Tensor:
        return rows_like(x, x.dtype if writes_half else wide(x.dtype))

    def run(x, weight, bias, reverse):
        y = room(x)
        forward(x, weight, bias, reverse, y)
        return y.to(x.dtype)

    def run_back(dy, x, weight, bias, reverse):
        dx = room(x)
        dweight, dbias = backward(dy, x, weight, bias, reverse, dx)
        plain = torch.contiguous_format
        dweight, dbias = dweight.to(weight.dtype).clone(memory_format=plain), dbias.to(bias.dtype).clone()
        return dx.to(x.dtype), dweight, dbias

    operator = torch.library.custom_op(f"lkm_kit::{name}", run, schema=f"({operands}) -> Tensor", **shared)
    gradient = torch.library.custom_op(
        f"lkm_kit::{name}_backward", run_back, schema=f"(Tensor dy, {operands}) -> (Tensor, Tensor, Tensor)", **shared
    )
    operator.register_fake(lambda x, weight, bias, reverse: rows_like(x, x.dtype))
    gradient.register_fake(
        lambda dy, x, weight, bias, reverse: (
            rows_like(x, x.dtype), weight.new_empty(weight.shape), bias.new_empty(bias.shape)
        )
    )  # fmt: skip

    def setup_context(ctx, inputs, output):
        *tensors, ctx.reverse = inputs
        ctx.save_for_backward(*tensors)

    def autograd(ctx, dy):
        return *gradient._opoverload(dy, *ctx.saved_tensors, ctx.reverse), None

    operator.register_autograd(autograd, setup_context=setup_context)
    only_first_derivatives(operator, gradient)
    return operator._opoverload
