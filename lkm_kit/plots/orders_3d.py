"""The figure of orders of a volume: three planes through one voxel, and beside them what a block sees from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from lkm_kit.erf.mass import mass
from lkm_kit.plots.erf import RING, scale
from lkm_kit.plots.orders import MASS, READ
from lkm_kit.plots.style import CMAP, WIDTH

if TYPE_CHECKING:
    from lkm_kit.erf import ErfMap
    from lkm_kit.plots.orders import Places

PLANES = ("rows ↓\ncolumns →", "slices ↓\ncolumns →", "slices ↓\nrows →")
"""The planes through a voxel (slice, row, column) that hold its slice, its row and its column constant."""


def plot_orders_3d(orders: Mapping[str, Places], voxel: Sequence[int], maps: Mapping[str, ErfMap]) -> Figure:
    """A row for each plane through the voxel, a column for each order and each receptive field.

    Args:
        orders: title → (sequence, place), two integer arrays (slices, rows, columns), as
            :func:`lkm_kit.blocks.locality.places` gives them.
        voxel: (slice, row, column), in a red ring. Voxels of other sequences are grey.
        maps: title → effective receptive field of the volume; all on one logarithmic scale.

    >>> import torch
    >>> from lkm_kit.erf import ErfMap
    >>> one = np.zeros((2, 2, 2), int), np.arange(8).reshape(2, 2, 2)
    >>> field = ErfMap.at(torch.ones(2, 2, 2), (0, 0, 1))
    >>> len(plot_orders_3d({"rows": one}, (0, 0, 1), {"field": field}).axes)  # six panels and two colour bars
    8
    """
    columns, norm = len(orders) + len(maps), scale(list(maps.values()))
    side = WIDTH["wide"] / (columns + 0.8)
    figure = Figure(figsize=(side * columns + 1.2, (side + 0.1) * 3 + 0.4), layout="constrained")
    panels = figure.subplots(3, columns, squeeze=False)
    for column, (title, (sequence, place)) in enumerate(orders.items()):
        share = np.ma.masked_where(sequence != sequence[tuple(voxel)], place / max(int(place.max()), 1))
        read = _column(panels[:, column], title, share, voxel, vmin=0, vmax=1)
    for column, (title, erf_map) in enumerate(maps.items(), start=len(orders)):
        seen = _column(panels[:, column], title, np.ma.masked_less_equal(mass(erf_map.array), 0), voxel, norm=norm)
    for ax, name in zip(panels[:, 0], PLANES):
        ax.set_ylabel(name)
    below = {"location": "bottom", "shrink": 0.7, "pad": 0.02, "aspect": 30}
    figure.colorbar(read, ax=list(panels[:, : len(orders)].flat), label=" ".join(READ.split()), **below)
    label = " ".join(MASS.split()).replace("pixel", "voxel")
    figure.colorbar(seen, ax=list(panels[:, len(orders) :].flat), label=label, extend="min", **below)
    return figure


def _column(axes: Sequence, title: str, values: np.ma.MaskedArray, voxel: Sequence[int], **colours):
    """One volume in the three planes through a voxel, on grey where it is masked; returns the last picture."""
    for axis, ax in enumerate(axes):
        ax.set_facecolor("white" if "norm" in colours else "#e4e4e4")
        picture = ax.imshow(np.ma.take(values, voxel[axis], axis=axis), cmap=CMAP, **colours)
        row, column = (v for k, v in enumerate(voxel) if k != axis)
        ax.plot(column, row, **RING)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
        ax.spines[:].set_color("#9a9a9a")
    axes[0].set_title(title)
    return picture
