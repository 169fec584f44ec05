"""Figures of orders: how a map is read, and beside it what one block sees through that order."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from lkm_kit.plots.erf import DECADES, RING, scale, show_map
from lkm_kit.plots.style import CMAP, PALETTE, WIDTH, ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lkm_kit.erf import ErfMap

Places = tuple[np.ndarray, np.ndarray]
ACROSS = 6
"""Panels beside each other."""
READ = "share of the sequence\nthat has been read"
MASS = "share of the mass\nin one pixel"
NOBODY = "0.92"
"""Grey of pixels in other sequences."""
KINDS = ("order", "field")
"""What rows of panels are called, where there are two kinds."""


def plot_orders(
    orders: Mapping[str, Sequence[Places]], pixel: Sequence[int], maps: Mapping[str, ErfMap] | None = None
) -> Figure:
    """Draw orders, each with the sequence of one pixel, and where given what a block in that order sees from there.

    Args:
        orders: title → one or more (sequence, place), two integer arrays (H, W): which sequence a pixel belongs to,
            and its place in it, as :func:`lkm_kit.widgets.token_order.token_places` returns them. Colours are those
            of the first.
        pixel: (row, column), in a red ring. Pixels of other sequences are grey.
        maps: title → effective receptive field, drawn below; all on one logarithmic scale.

    >>> one = np.zeros((2, 2), int), np.arange(4).reshape(2, 2)
    >>> len(plot_orders({"rows": [one], "again": [one]}, (0, 0)).axes)  # two panels and a colour bar
    3
    """
    across = min(ACROSS, len(orders))
    blocks = ceil(len(orders) / across)
    rows = blocks * (1 if maps is None else 2)
    side = WIDTH["wide"] / (ACROSS + 0.8)
    figure = Figure(figsize=(side * across + 1.2, (side + 0.28) * rows), layout="constrained")
    panels = figure.subplots(rows, across, squeeze=False)
    for ax in panels.flat:
        ax.axis("off")
    norm = None if maps is None else scale(list(maps.values()))
    for number, (title, (first, *others)) in enumerate(orders.items()):
        block, column = divmod(number, across)
        ax = panels[block * rows // blocks, column]
        read = draw_order(ax, *first, pixel)
        for places in others:
            _path(ax, *places, pixel, PALETTE[5])
        ax.set_title(textwrap.fill(title, 24))
        if maps is not None:
            below = panels[block * rows // blocks + 1, column]
            seen = show_map(below, maps[title], norm)
            _frame(below)
            for kind, one in zip(KINDS, (ax, below)) if column == 0 else ():
                one.set_ylabel(kind)
    half = rows if maps is None else rows // 2
    figure.colorbar(read, ax=list(panels[:half].flat), label=_of(maps, 0, READ), shrink=0.8, pad=0.01)
    if maps is not None:
        bar = {"extend": "min", "shrink": 0.8, "pad": 0.01}
        figure.colorbar(seen, ax=list(panels[half:].flat), label=_of(maps, 1, MASS), **bar)
    return figure


def draw_order(ax: Axes, sequence: np.ndarray, place: np.ndarray, pixel: Sequence[int]):
    """One map: the sequence of ``pixel`` from dark (read first) to bright, its path, and the others in grey.

    Returns:
        the picture, for a colour bar from 0 to 1.

    >>> ax = Figure().subplots()
    >>> draw_order(ax, np.zeros((1, 2), int), np.array([[0, 1]]), (0, 0)).get_array().tolist()
    [[0.0, 1.0]]
    """
    own = sequence == sequence[tuple(pixel)]
    share = place / max(int(place.max()), 1)
    ax.set_facecolor("#e4e4e4")
    picture = ax.imshow(np.ma.masked_where(~own, share), cmap=CMAP, vmin=0, vmax=1)
    _path(ax, sequence, place, pixel, "white")
    ax.plot(pixel[1], pixel[0], **RING)
    _frame(ax)
    return picture


def _frame(ax: Axes) -> None:
    ax.axis("on")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color("#9a9a9a")


def _of(maps: Mapping[str, ErfMap] | None, kind: int, label: str) -> str:
    """The label of a colour bar, which says of which rows it is where there are two kinds."""
    return label if maps is None else f'rows "{KINDS[kind]}": {label}'


def _path(ax: Axes, sequence: np.ndarray, place: np.ndarray, pixel: Sequence[int], color: str) -> None:
    rows, columns = np.nonzero(sequence == sequence[tuple(pixel)])
    order = np.argsort(place[rows, columns])
    ax.plot(columns[order], rows[order], color=color, linewidth=0.9)


def draw_scan(
    figure: Figure, orders: Mapping[str, Places], erf_map: ErfMap, title: str, decades: int = DECADES
) -> Figure:
    """Clear a figure and draw the orders of one block, then what the block sees: the picture of the explorer.

    Args:
        orders: title → (sequence, place), one for each order that the block reads.
        erf_map: of the block; its probe is the pixel whose sequences are drawn.
        title: above the field.
        decades: powers of ten below the largest share that are shown.

    >>> import torch
    >>> from lkm_kit.erf import ErfMap
    >>> one = np.zeros((2, 2), int), np.arange(4).reshape(2, 2)
    >>> len(draw_scan(Figure(), {"rows": one}, ErfMap.at(torch.ones(2, 2)), "field").axes)
    4
    """
    figure.clear()
    axes = figure.subplots(1, len(orders) + 1, squeeze=False)[0]
    for ax, (name, places) in zip(axes, orders.items()):
        picture = draw_order(ax, *places, erf_map.place)
        ax.set(title=name, xlabel="column (pixel)")
    axes[0].set_ylabel("row (pixel)")
    figure.colorbar(picture, ax=list(axes[:-1]), label=READ.replace("\n", " "), shrink=0.8, location="bottom")
    field = show_map(axes[-1], erf_map, scale([erf_map], decades))
    _frame(axes[-1])
    axes[-1].set(title=title, xlabel="column (pixel)")
    figure.colorbar(
        field, ax=axes[-1], label=MASS.replace("\n", " "), extend="min", shrink=0.8, location="bottom"
    )  # fmt: skip
    return figure


def draw_mates(figure: Figure, apart: np.ndarray, pixel: Sequence[int]) -> Figure:
    """Clear a figure and draw who shares a pixel's sequence: blue was read before it, red comes after it.

    Args:
        apart: (H, W), tokens after the pixel, negative for before, NaN for another sequence.
        pixel: (row, column), in a ring.

    >>> len(draw_mates(Figure(), np.array([[0.0, 1.0], [np.nan, 2.0]]), (0, 0)).axes)
    2
    """
    figure.clear()
    ax = figure.subplots()
    ax.set_facecolor(NOBODY)
    largest = max(np.nanmax(np.abs(apart)), 1)
    picture = ax.imshow(np.ma.masked_invalid(apart), cmap="RdBu_r", vmin=-largest, vmax=largest)
    if max(apart.shape) <= 16:
        for (row, column), value in np.ndenumerate(apart):
            if not np.isnan(value):
                look = {"color": ink(picture.to_rgba(value)), "fontsize": 7, "ha": "center", "va": "center"}
                ax.text(column, row, f"{value:.0f}", **look)
    ax.plot(pixel[1], pixel[0], "o", markersize=15, markerfacecolor="none", markeredgewidth=2, color=PALETTE[1])
    ax.set(xlabel="column (pixel)", ylabel="row (pixel)")
    figure.colorbar(picture, ax=ax, label="tokens after the chosen pixel", shrink=0.85)
    return figure
