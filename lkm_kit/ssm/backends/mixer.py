"""Mamba's mixer as one operator, for one or several directions at once: what the CPU's and the GPU's have in common.

Once the scan is fast, the rest of the mixer costs more than it: copies between layouts, gradients that are
concatenated, flipped and added. Here every quantity is written once, to the place where the next step reads it. All
directions share one product for their inputs, one for their input gradients, and add their outputs while these are
computed. What a device does in its own way (convolution, scan, the gradient of a tall product) is its :class:`Engine`.

Source: the order of operations is that of ``Mamba``; the parameters are those of mamba_ssm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lkm_kit.devices import without_autocast
from lkm_kit.ssm.backends.derivatives import only_first_derivatives
from lkm_kit.ssm.backends.operators import Scan


class Direction(NamedTuple):
    """Parameters of one Mamba, as the operators take them: shapes with d inner channels, c outer ones, rank r.

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


class Saved(NamedTuple):
    """What the backward pass reads again: x after the convolution, its projection (Δ's rank, B, C), Δ, kept states."""

    x: Tensor
    projected: Tensor
    delta: Tensor
    kept: Tensor


class Engine(Protocol):
    """The steps that differ between devices. Maps of tokens are views (batch, channels, tokens) of any strides.

    ``order`` is a table (windows, length) of token numbers, or None where the tokens are read as they lie.
    """

    def keep(self, y: Tensor, n: int, keep: bool, order: Tensor | None) -> Tensor:
        """Room for the states that the backward pass starts from again; empty without ``keep``."""
        ...

    def convolve(self, x: Tensor, d: Direction, reverse: bool, order: Tensor | None, y: Tensor) -> None:
        """Causal convolution and SiLU of x into y."""

    def convolve_back(
        self, dy: Tensor, x: Tensor, d: Direction, reverse: bool, order: Tensor | None, dx: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write the gradient of x; return those of weight and bias."""
        ...

    def scan(self, scan: Scan, order: Tensor | None, kept: Tensor | None, y: Tensor, add: bool) -> None:
        """Scan into y, or onto it with ``add``."""

    def scan_back(
        self, dy: Tensor, kept: Tensor, scan: Scan, order: Tensor | None, du: Tensor, ddelta: Tensor, dz: Tensor,
        dprojected: Tensor, room: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Write the gradients of u, Δ and z, and those of B and C into the last 2n columns of ``dprojected``, a row for
        each token. Return those of Δ's bias, A and D. ``room``, of u's shape, may be written to: nobody reads it."""
        ...

    def tall_product(self, dy: Tensor, x: Tensor, batch: int) -> Tensor:
        """dyᵀ x of two matrices with a row for each token."""
        ...


def directions_of(weights: Sequence[Tensor]) -> list[Direction]:
    """A flat list of parameters, one direction after the other, by their names."""
    size = len(Direction._fields)
    return [Direction(*weights[i : i + size]) for i in range(0, len(weights), size)]


def _columns(rows: Tensor, batch: int, first: int, size: int) -> Tensor:
    """Columns of a matrix with a row for each token, as a view (batch, columns, tokens)."""
    return rows.view(batch, -1, rows.shape[1])[..., first : first + size].transpose(1, 2)


def _scan(d: Direction, saved: Saved, xz: Tensor, batch: int, number: int, reverse: bool) -> Scan:
    (inner, n), rank = d.A.shape, d.dt_weight.shape[1]
    return Scan(
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
    engine: Engine, tokens: Tensor, weights: Sequence[Tensor], reverse: Sequence[bool], keep: bool,
    order: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """y (batch, tokens, d), and with ``keep`` what :func:`backward` reads again."""
    directions = directions_of(weights)
    inner = directions[0].D.shape[0]
    batch, length = tokens.shape[:2]
    xz = tokens.reshape(batch * length, -1) @ torch.cat([d.in_proj for d in directions]).t()
    y = tokens.new_empty(batch, length, inner)
    saved = [xz]
    for number, (d, backwards) in enumerate(zip(directions, reverse, strict=True)):
        x = tokens.new_empty(batch * length, inner)
        x_in = _columns(xz, batch, 2 * number * inner, inner)
        engine.convolve(x_in, d, backwards, order, _columns(x, batch, 0, inner))
        projected = x @ d.x_proj.t()
        delta = projected[:, : d.dt_weight.shape[1]] @ d.dt_weight.t()
        kept = engine.keep(y.transpose(1, 2), d.A.shape[1], keep, order)
        this = Saved(x, projected, delta, kept)
        scan = _scan(d, this, xz, batch, number, backwards)
        engine.scan(scan, order, kept if keep else None, y.transpose(1, 2), number > 0)
        saved += this if keep else []
    return y, saved if keep else []


def _fake_forward(engine, tokens, weights, reverse, keep, order):
    directions = directions_of(weights)
    inner, rows = directions[0].D.shape[0], tokens.shape[0] * tokens.shape[1]
    y = tokens.new_empty(*tokens.shape[:2], inner)
    saved = [tokens.new_empty(rows, 2 * inner * len(directions))]
    for d in directions:
        saved += [tokens.new_empty(rows, k) for k in (inner, d.x_proj.shape[0], inner)]
        saved.append(engine.keep(y.transpose(1, 2), d.A.shape[1], keep, order))
    return y, saved if keep else []


def backward(
    engine: Engine, dy: Tensor, tokens: Tensor, weights: Sequence[Tensor], saved: Sequence[Tensor],
    reverse: Sequence[bool], order: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """Gradients of the tokens and of all weights."""
    directions = directions_of(weights)
    inner = directions[0].D.shape[0]
    batch, length = tokens.shape[:2]
    rows = batch * length
    dy = dy.contiguous().transpose(1, 2)
    xz, rest = saved[0], saved[1:]
    dxz = torch.empty_like(xz)
    dx, ddelta = (tokens.new_empty(rows, inner) for _ in range(2))  # of one direction after the other
    gradients = []
    for number, (d, backwards) in enumerate(zip(directions, reverse, strict=True)):
        this = Saved(*rest[4 * number : 4 * number + 4])
        rank = d.dt_weight.shape[1]
        x_in, dx_in = (_columns(t, batch, 2 * number * inner, inner) for t in (xz, dxz))
        dz = _columns(dxz, batch, (2 * number + 1) * inner, inner)
        du = _columns(dx, batch, 0, inner)
        dprojected = torch.empty_like(this.projected)
        scan = _scan(d, this, xz, batch, number, backwards)
        dbias, dA, dD = engine.scan_back(
            dy, this.kept, scan, order, du, _columns(ddelta, batch, 0, inner), dz, dprojected, dx_in
        )
        dprojected[:, :rank] = ddelta @ d.dt_weight
        dx.addmm_(dprojected, d.x_proj)
        dconv = engine.convolve_back(du, x_in, d, backwards, order, dx_in)
        dx_proj, ddt = dprojected.t() @ this.x, ddelta.t() @ this.projected[:, :rank]
        gradients += [None, *dconv, dx_proj, ddt, dbias, dA, dD]
    dtokens = (dxz @ torch.cat([d.in_proj for d in directions])).view_as(tokens)
    din_proj = engine.tall_product(dxz, tokens.reshape(rows, -1), batch)
    gradients[:: len(Direction._fields)] = din_proj.split(2 * inner)
    plain = torch.contiguous_format
    return dtokens, [g.to(w.dtype).clone(memory_format=plain) for g, w in zip(gradients, weights, strict=True)]


def register(name: str, engine: Engine, device_types: str | None) -> Callable:
    """Make the operators ``lkm_kit::name`` and ``lkm_kit::name_backward`` of an engine; return a function that mixes.

    Both leave autocast: ``backward()`` may be called inside it, and would round the projections' gradients.
    """

    def run(tokens, weights, reverse, keep, order):
        with without_autocast(tokens.device):
            return forward(engine, tokens, weights, reverse, keep, order)

    def run_back(dy, tokens, weights, saved, reverse, order):
        with without_autocast(tokens.device):
            return backward(engine, dy, tokens, weights, saved, reverse, order)

    shared = {"mutates_args": (), "device_types": device_types}
    operator = torch.library.custom_op(
        f"lkm_kit::{name}",
        run,
        schema="(Tensor tokens, Tensor[] weights, bool[] reverse, bool keep, Tensor? order) -> (Tensor, Tensor[])",
        **shared,
    )
    gradient = torch.library.custom_op(
        f"lkm_kit::{name}_backward",
        run_back,
        schema="(Tensor dy, Tensor tokens, Tensor[] weights, Tensor[] saved, bool[] reverse, Tensor? order)"
        " -> (Tensor, Tensor[])",
        **shared,
    )

    @operator.register_fake
    def _(tokens, weights, reverse, keep, order):
        return _fake_forward(engine, tokens, weights, reverse, keep, order)

    @gradient.register_fake
    def _(dy, tokens, weights, saved, reverse, order):
        return tokens.new_empty(tokens.shape), [w.new_empty(w.shape) for w in weights]

    def setup_context(ctx, inputs, output):
        tokens, weights, ctx.reverse, keep, order = inputs
        _, saved = output
        ctx.set_materialize_grads(False)  # else zeros are written for outputs that have no gradient
        ctx.mark_non_differentiable(*saved)
        ctx.count = len(weights)
        if keep:
            ctx.save_for_backward(tokens, order, *weights, *saved)

    def autograd(ctx, dy, _dsaved):
        if dy is None:
            return None, [None] * ctx.count, None, None, None
        tokens, order, *rest = ctx.saved_tensors
        weights, saved = rest[: ctx.count], rest[ctx.count :]
        dtokens, dweights = gradient._opoverload(dy, tokens, weights, saved, ctx.reverse, order)
        return dtokens, dweights, None, None, None

    operator.register_autograd(autograd, setup_context=setup_context)
    only_first_derivatives(operator, gradient)

    def mix(
        tokens: Tensor, directions: Sequence[Direction], reverse: Sequence[bool], order: Tensor | None = None
    ) -> Tensor:
        """Sum over directions of a Mamba before its output projection: (batch, tokens, c) → (batch, tokens, d)."""
        weights = [weight for direction in directions for weight in direction]
        keep = torch.is_grad_enabled() and any(t.requires_grad for t in (tokens, *weights))
        return operator._opoverload(tokens, weights, list(reverse), keep, order)[0]

    return mix
