"""Figures of effective receptive fields: maps from :mod:`lkm_kit.erf` in, Figure out.

Colours are the share of a map's mass in one pixel, on one logarithmic scale for all panels of a figure. White is
exactly zero, or below the scale's end. The red ring is the probe, the dashed box its window; both have a white seam, so
that they stand out from every colour.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from lkm_kit.erf.maps import ErfMap
from lkm_kit.erf.mass import area_curve, mass
from lkm_kit.errors import KitError
from lkm_kit.plots.style import CMAP, PALETTE, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROBE = "#D62728"
SEAM = (withStroke(linewidth=3, foreground="white"),)
DASHES = (0, (4, 2))
RING = {"marker": "o", "ls": "", "mfc": "none", "mec": PROBE, "ms": 8, "mew": 1.5, "path_effects": SEAM}
DECADES = 4
"""The colour scale spans so many powers of ten below the largest share of one pixel."""


def erf_grid(maps: ErfMap | Mapping[str, ErfMap] | Mapping[str, Mapping[str, ErfMap]], curves: bool = True) -> Figure:
    """Maps in a grid with one colour scale, and below each column the area curves of its rows.

    Args:
        maps: of 2D images, all of one size: one map; name → map, in one row; or name of the row → name of the column →
            map, the same columns in all rows.
        curves: also draw, per column, the share of the image that holds a share of the mass.

    Raises:
        KitError: none of these.

    >>> import torch
    >>> from lkm_kit.erf import ErfMap
    >>> a = ErfMap.at(torch.rand(9, 9))
    >>> len(erf_grid({"before": {"one": a, "two": a}, "after": {"one": a, "two": a}}).axes)
    7
    """
    rows = _rows(maps)
    columns = list(next(iter(rows.values())))
    maps = [m for row in rows.values() for m in row.values()]
    n_rows, n_columns = len(rows), len(columns)
    side = min(2.5, (WIDTH["wide"] - 1.3) / n_columns)
    high, wide = maps[0].values.shape
    below = 0.75 * side + 0.6
    ratios = [side * high / wide] * n_rows + [below] * curves
    size = max(side * n_columns + 1.3, WIDTH["column"]), sum(ratios) + 0.15 * n_rows + 0.6
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(len(ratios), n_columns, height_ratios=ratios)
    norm = scale(maps)
    axes, picture = [], None
    for r, (row, of_row) in enumerate(rows.items()):
        for c, column in enumerate(columns):
            ax = figure.add_subplot(grid[r, c])
            picture = show_map(ax, of_row[column], norm)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color="0.6")
            if r == 0:
                ax.set_title(textwrap.fill(column, max(12, int(12 * side))))
            if c == 0:
                ax.set_ylabel(textwrap.fill(row, max(12, int(12 * side))))
            axes.append(ax)
    axes[-n_columns].set_xlabel(f"{high}×{wide} pixels")
    figure.colorbar(picture, ax=axes, label="share of the mass\nin one pixel", shrink=0.9, extend="min", pad=0.01)
    lines, first = [], None
    for c, column in enumerate(columns if curves else ()):
        ax = first = figure.add_subplot(grid[n_rows, c], sharey=first)
        lines = _area_curves(ax, {row: of_row[column] for row, of_row in rows.items()})
        if c == 0:
            ax.set_ylabel("smallest area\n(% of the image)")
        ax.tick_params(labelleft=c == 0)
        if side < 1.2 and c != n_columns // 2:
            ax.set_xlabel("")  # beside each other they would overlap
    if first is not None:
        first.set_ylim(top=130)  # now that all columns have widened the axis they share
    figure.legend(handles=[*(lines if n_rows > 1 else ()), *_signs(maps)], loc="outside lower center", ncols=3)
    return figure


def _rows(maps: Any) -> dict[str, Mapping[str, ErfMap]]:
    """Row → column → map, of what :func:`erf_grid` was given."""
    rows = {"": maps} if isinstance(maps, ErfMap) else maps
    if isinstance(rows, Mapping) and all(isinstance(m, ErfMap) for m in rows.values()):
        rows = {"": rows}
    nested = isinstance(rows, Mapping) and all(isinstance(row, Mapping) for row in rows.values())
    given = [m for row in rows.values() for m in row.values()] if nested else []
    for m in given or [maps]:
        if not isinstance(m, ErfMap) or m.values.ndim != 2:
            raise KitError(
                f"erf_grid draws maps of 2D images, and was given {_what(m)}",
                remedy="give one ErfMap, {name: map}, or {row: {column: map}}; erf_slices draws the map of a volume",
            )
    if len({tuple(row) for row in rows.values()}) > 1:
        raise KitError(
            f"the rows of erf_grid have different columns: {'; '.join(', '.join(row) for row in rows.values())}",
            remedy="give every row the same names in the same order",
        )
    return dict(rows)


def _what(given: Any) -> str:
    return repr(given) if isinstance(given, ErfMap) else f"{type(given).__name__}, which is none"


def erf_slices(erf_map: ErfMap, spacing: Sequence[float] | None = None, title: str = "") -> Figure:
    """A map of a volume as three orthogonal slices through the probe, in mm or in voxels.

    Args:
        erf_map: of an image (D, H, W).
        spacing: of its axes in mm; None: in voxels.

    Raises:
        KitError: no map, or one of a 2D image.

    >>> import torch
    >>> from lkm_kit.erf import ErfMap
    >>> len(erf_slices(ErfMap.at(torch.rand(4, 6, 6)), (3.0, 1.0, 1.0)).axes)
    4
    """
    if not isinstance(erf_map, ErfMap) or erf_map.values.ndim != 3:
        raise KitError(
            f"erf_slices draws one ErfMap of a volume, and was given {_what(erf_map)}",
            remedy="give what erf(network, volume) returns, maps one by one; erf_grid draws maps of 2D images",
        )
    values, norm = mass(erf_map.array), scale([erf_map])
    place = [round(c) for c in erf_map.center]
    names = ("slice", "row", "column")
    unit = "voxel" if spacing is None else "mm"
    spacing = (1.0, 1.0, 1.0) if spacing is None else spacing
    extents = [n * mm for n, mm in zip(values.shape, (1.0, 1.0, 1.0) if spacing is None else spacing)]
    widths = [extents[2], extents[2], extents[1]]
    inch = (WIDTH["wide"] - 3.2) / sum(widths)
    figure = Figure(figsize=(WIDTH["wide"], inch * max(extents[:2]) + 1.3), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=widths)
    picture = None
    for axis, ax in enumerate(axes):
        up, right = [a for a in range(3) if a != axis]
        extent = [-0.5 * spacing[right], (values.shape[right] - 0.5) * spacing[right]]
        extent += [(values.shape[up] - 0.5) * spacing[up], -0.5 * spacing[up]]
        plane = np.ma.masked_less_equal(values.take(place[axis], axis), 0)
        picture = ax.imshow(plane, cmap=CMAP, norm=norm, extent=extent)
        ax.plot(place[right] * spacing[right], place[up] * spacing[up], **RING)
        if erf_map.window is not None:
            box = erf_map.box(erf_map.window)
            corner = [(box[a].start - 0.5) * spacing[a] for a in (right, up)]
            size = [(box[a].stop - box[a].start) * spacing[a] for a in (right, up)]
            ax.add_patch(_outline(corner, *size))
        ax.set(title=f"{names[axis]} {place[axis]}", xlabel=f"{names[right]} ({unit})", ylabel=f"{names[up]} ({unit})")
    figure.colorbar(picture, ax=axes, label="share of the mass\nin one voxel", extend="min", shrink=0.9, pad=0.01)
    figure.legend(handles=_signs([erf_map]), loc="outside lower center", ncols=2)
    if title:
        figure.suptitle(title)
    return figure


def draw_explorer(figure: Figure, image: np.ndarray, maps: Mapping[str, ErfMap], decades: int = DECADES) -> Figure:
    """Clear a figure and draw each map over the image, on one scale: the picture of the explorer.

    Args:
        image: (H, W), drawn in grey.
        maps: name → map; one panel each.
        decades: powers of ten below the largest share that are shown.

    >>> import torch
    >>> from lkm_kit.erf import ErfMap
    >>> len(draw_explorer(Figure(), np.zeros((5, 5)), {"a": ErfMap.at(torch.rand(5, 5))}).axes)
    2
    """
    figure.clear()
    norm = scale(list(maps.values()), decades)
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    picture = None
    for ax, (name, m) in zip(axes, maps.items()):
        picture = show_map(ax, m, norm, image)
        ax.set(xlabel="column (pixel)", ylabel="row (pixel)", title=textwrap.fill(name, 30))
    figure.colorbar(picture, ax=list(axes), label="share of the mass in one pixel", shrink=0.9)
    return figure


def show_map(ax: Axes, erf_map: ErfMap, norm: LogNorm | None = None, image: np.ndarray | None = None):
    """Draw one map of a 2D image into axes, with probe and window; over an image where one is given.

    Returns:
        the picture, for a colour bar.

    >>> import torch
    >>> from lkm_kit.erf import ErfMap
    >>> show_map(Figure().subplots(), ErfMap.at(torch.ones(3, 3))).get_array().shape
    (3, 3)
    """
    values = mass(erf_map.array)
    norm = scale([erf_map]) if norm is None else norm
    if image is not None:
        ax.imshow(image, cmap="gray")
    shown = np.ma.masked_less_equal(values, 0 if image is None else norm.vmin)
    picture = ax.imshow(shown, cmap=CMAP, norm=norm, alpha=None if image is None else 0.75)
    row, column = erf_map.center
    ax.plot(column, row, **RING)
    if erf_map.window is not None:
        box = erf_map.box(erf_map.window)
        high, wide = (s.stop - s.start for s in box)
        ax.add_patch(_outline((box[1].start - 0.5, box[0].start - 0.5), wide, high))
    return picture


def scale(maps: Sequence[ErfMap], decades: int = DECADES) -> LogNorm:
    """One colour scale for several maps; it ends at the largest share of a pixel that is not the probe's own.

    The probe's own pixel is left out because a residual path can put nearly all of the mass there.

    >>> import torch
    >>> from lkm_kit.erf import ErfMap
    >>> scale([ErfMap.at(torch.ones(2, 5))]).vmax
    0.1
    """
    largest = 0.0
    for m in maps:
        values = mass(m.array)
        others = values.copy()
        others[m.cell] = 0
        largest = max(largest, others.max() or values.max())
    return LogNorm(largest / 10**decades, largest)


def _area_curves(ax: Axes, maps: Mapping[str, ErfMap]) -> list[Line2D]:
    shares, lines = np.concatenate([np.linspace(0.02, 0.9, 45), np.linspace(0.91, 0.999, 40)]), []
    for k, (name, m) in enumerate(maps.items()):
        style = {"color": PALETTE[k], "ls": "-" if k % 2 == 0 else "--", "label": name}
        lines += ax.plot(100 * shares, 100 * area_curve(m.array, shares), **style)
    ax.set(yscale="log", xlabel="mass held (%)", xlim=(0, 100))
    ax.grid(alpha=0.3)
    return lines


def _signs(maps: Sequence[ErfMap]) -> list[Line2D]:
    """What the ring and the dashed box are, for a legend."""
    signs = [Line2D([], [], **{**RING, "path_effects": ()}, label="the output that is asked")]
    if any(m.window is not None for m in maps):
        signs.append(Line2D([], [], color=PROBE, lw=1.1, ls=DASHES, label="its window"))
    return signs


def _outline(corner: Sequence[float], width: float, height: float) -> Rectangle:
    return Rectangle(tuple(corner), width, height, fill=False, ec=PROBE, lw=1.1, ls=DASHES, path_effects=SEAM)
