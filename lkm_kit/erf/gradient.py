"""The effective receptive field: how strongly a probe reacts to every pixel, averaged over images."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Literal, overload

import torch
from torch import Tensor, nn

from lkm_kit.erf.maps import ErfMap
from lkm_kit.erf.probe import Probe
from lkm_kit.erf.taps import LOGIT, backward, check_network, like_weights, run
from lkm_kit.errors import KitError, one_of

Reduce = Callable[[Tensor], Tensor]

REDUCE: dict[str, Reduce] = {
    "l1": lambda g: g.abs().sum(1),
    "l2": lambda g: g.square().sum(1).sqrt(),
    "relu": lambda g: g.relu().sum(1),
    "signed": lambda g: g.sum(1),
}
"""ρ over the image's channels: gradient (batch, channels, *spatial) → (batch, *spatial)."""


@overload
def erf(
    network: nn.Module, images: Tensor, probe: Probe = ..., *, reduce: str | Reduce | None = ...,
    norm_stats: Literal["frozen", "live"] = ..., batch_size: int = ..., draws: int = ..., seed: int = ...,
) -> ErfMap: ...  # fmt: skip
@overload
def erf(
    network: nn.Module, images: Tensor, probe: Sequence[Probe], *, reduce: str | Reduce | None = ...,
    norm_stats: Literal["frozen", "live"] = ..., batch_size: int = ..., draws: int = ..., seed: int = ...,
) -> list[ErfMap]: ...  # fmt: skip
def erf(
    network: nn.Module,
    images: Tensor,
    probe: Probe | Sequence[Probe] = Probe(),  # noqa: B008  frozen
    *,
    reduce: str | Reduce | None = None,
    norm_stats: Literal["frozen", "live"] = "frozen",
    batch_size: int = 8,
    draws: int = 16,
    seed: int = 0,
):
    """Effective receptive field A(p) = mean over images of ρ(∂s/∂x(p)).

    Args:
        network: any module; compare a network before and after training by calling this with both.
        images: (batch, channels, *spatial), normalised as for the network; moved to the weights' device and dtype.
        probe: one, or several (other layers and places): each (image, probe) is one entry of a batch.
        reduce: ρ over the image's channels: "l1" Σ|g|, "l2" √Σg², "relu" Σrelu(g), "signed" Σg, or a function
            (batch, channels, *spatial) → (batch, *spatial). Default "l1"; "l2" for the rule "rademacher", the only one
            that it allows.
        norm_stats: "frozen" takes the statistics of InstanceNorm and its kind as constants; "live" does not
            (:mod:`lkm_kit.erf.norms`).
        batch_size: entries of one forward and backward pass.
        draws: random signs per image for the rule "rademacher": A(p) = √(mean over draws of ‖vᵀJ‖²) ≈ ‖J_{q,p}‖_F.
        seed: of those signs.

    Returns:
        one :class:`ErfMap`, or a list of them for a sequence of probes.

    Raises:
        KitError: see :func:`lkm_kit.erf.taps.check_network`, :func:`lkm_kit.erf.taps.run`, :class:`Probe`; or
            gradients that overflow.

    Source: Luo et al. 2016 (the gradient of one unit). Deviations by default: magnitudes instead of signs
    (signs cancel over images), constants for statistics. :mod:`lkm_kit.erf.protocols` has the published settings.

    >>> box = nn.Conv2d(1, 1, 3, padding=1)
    >>> int((erf(box, torch.zeros(1, 1, 7, 7)).values > 0).sum())
    9
    """
    probes = [probe] if isinstance(probe, Probe) else list(probe)
    reducers = [_reducer(p, reduce) for p in probes]
    check_network(network, images, {p.layer for p in probes})
    totals: list = [0.0] * len(probes)
    grids: list = [None] * len(probes)
    n_draws = [draws if p.rule == "rademacher" else 1 for p in probes]
    passes = gradients(
        network, images, probes, n_draws=n_draws, norm_stats=norm_stats, batch_size=batch_size, seed=seed
    )
    squares: Tensor | float = 0.0  # of the draws of one image and probe, which follow each other
    for entry, gradient, grid in passes:
        if not torch.isfinite(gradient).all():
            raise KitError(
                f"the gradient of layer {probes[entry.probe].layer!r} is not finite",
                remedy="compute in float64: network.double(); or look for overflow in the network",
            )
        k = entry.probe
        value = reducers[k](gradient[None].double())[0].cpu()
        if probes[k].rule == "rademacher":
            squares = squares + value.square() / draws
            if entry.draw + 1 < draws:
                continue
            value, squares = squares.sqrt(), 0.0
        totals[k] = totals[k] + value / len(images)
        grids[k] = grid
    maps = [ErfMap(total, grid, p.locate(grid), p, len(images)) for total, grid, p in zip(totals, grids, probes)]
    return maps[0] if isinstance(probe, Probe) else maps


def stage_probes(network: nn.Module, pattern: str, probe: Probe = Probe()) -> list[Probe]:  # noqa: B008  frozen
    """The same probe at every layer whose name matches, in the network's order: one per encoder stage, say.

    Args:
        pattern: shell pattern of layer names; ``*`` does not cross a dot.
        probe: what to take at each of them.

    Raises:
        KitError: no layer matches.

    >>> [p.layer for p in stage_probes(nn.Sequential(nn.ReLU(), nn.ReLU()), "*")]
    ['0', '1']
    """
    depth = pattern.count(".")
    names = [n for n, _ in network.named_modules() if n and n.count(".") == depth and fnmatchcase(n, pattern)]
    if not names:
        tops = ", ".join(name for name, _ in network.named_children())
        raise KitError(f"no layer's name matches {pattern!r}", remedy=f"the network's parts are {tops}")
    return [dataclasses.replace(probe, layer=name) for name in names]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One place of a batch: number of the image, of the probe, of the draw of random signs."""

    image: int
    probe: int
    draw: int


def gradients(
    network: nn.Module,
    images: Tensor,
    probes: Sequence[Probe],
    *,
    n_draws: Sequence[int],
    norm_stats: str,
    batch_size: int = 8,
    seed: int = 0,
    seed_gradient: float = 1.0,
) -> Iterator[tuple[Entry, Tensor, tuple[int, ...]]]:
    """∂s/∂x of every image, probe and draw: (entry, (channels, *spatial), size of the layer's map), in that order.

    ``seed_gradient`` is what the backward pass starts from at s: 1, or NaN for :func:`lkm_kit.erf.support`.
    """
    images = like_weights(network, images)
    entries = [
        Entry(image, probe, draw)
        for image, (probe, draws) in itertools.product(range(len(images)), enumerate(n_draws))
        for draw in range(draws)
    ]
    for start in range(0, len(entries), batch_size):
        chunk = entries[start : start + batch_size]
        layers = {probes[e.probe].layer for e in chunk}
        with torch.inference_mode(False), torch.enable_grad():
            x = images[[e.image for e in chunk]].clone().requires_grad_()
            outputs = run(network, x, layers, norm_stats)
            scalars, grids = [], []
            for row, e in enumerate(chunk):
                probe = probes[e.probe]
                output = outputs[probe.layer][row : row + 1]
                channels, _ = probe.select(output)
                signs = _signs(channels, seed, e) if probe.rule == "rademacher" else None
                scalars.append(probe.scalar(channels, signs))
                grids.append(tuple(output.movedim(probe.channel_axis, -1).shape[1:-1]))
            found = backward(torch.cat(scalars), x, seed_gradient)
        yield from zip(chunk, found, grids)


def _signs(channels: Tensor, seed: int, entry: Entry) -> Tensor:
    """Random signs that depend on the entry alone, not on how entries share batches."""
    generator = torch.Generator().manual_seed(hash((seed, entry.image, entry.probe, entry.draw)) & (2**63 - 1))
    return (torch.randint(0, 2, channels.shape, generator=generator) * 2 - 1).to(channels)


def _reducer(probe: Probe, reduce: str | Reduce | None) -> Reduce:
    if reduce is None:
        return REDUCE["l2" if probe.rule == "rademacher" else "l1"]
    if probe.rule == "rademacher" and reduce != "l2":
        raise KitError(
            f"rule 'rademacher' estimates ‖J‖_F, which needs reduce='l2', not {reduce!r}", remedy="leave reduce out"
        )
    if callable(reduce):
        return reduce
    return REDUCE[one_of(reduce, REDUCE, "reduce", remedy=f"choose one of {', '.join(REDUCE)}, or a function")]


__all__ = ["LOGIT", "REDUCE", "Entry", "erf", "gradients", "stage_probes"]
