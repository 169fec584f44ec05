"""Pictures of volumes: three orthogonal slices in grey, organs outlined over them, boxes where windows lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from lkm_kit.plots.style import WIDTH, label_colors, literal

VIEWS = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""View -> axis drawn from left to right, axis drawn from bottom to top, axis that is cut; of a volume in RAS order."""

ENDS = {0: ("right", "left"), 1: ("front", "back"), 2: ("feet", "head")}
"""What lies at the left (bottom) and right (top) end of each axis as drawn: as a radiologist looks at a patient."""


class Box(NamedTuple):
    """A block of voxels, from ``low`` up to and without ``high``."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]


def grey_range(image: np.ndarray, modality: str) -> tuple[float, float]:
    """Black and white of a picture: a soft-tissue window for CT (HU), the 1st and 99th percentile for MR."""
    if modality == "CT":
        return -160.0, 240.0
    low, high = np.percentile(image[:: max(1, image.shape[0] // 128)], (1, 99))
    return float(low), float(max(high, low + 1e-6))


def axis_names(view: str) -> tuple[str, str]:
    """What lies along the horizontal axis of a view, from left to right, and along the vertical one, upward.

    >>> axis_names("coronal")
    ('right → left', 'feet → head')
    """
    across, up, _ = VIEWS[view]
    (left, right), (bottom, top) = ENDS[across], ENDS[up] if up != 1 else ENDS[1][::-1]
    return f"{left} → {right}", f"{bottom} → {top}"


def middle_of(label: np.ndarray) -> tuple[int, int, int]:
    """The slice with most labelled voxels along each axis; without labels, the middle of the volume.

    >>> label = np.zeros((4, 5, 6), np.uint8); label[1, 2:4, 3] = 1
    >>> middle_of(label)
    (1, 2, 3)
    """
    occupied = label > 0
    if not occupied.any():
        return tuple(n // 2 for n in label.shape)
    return tuple(int(occupied.sum(axis=tuple({0, 1, 2} - {axis})).argmax()) for axis in range(3))


def plot_orthogonal(
    rows: Mapping[str, np.ndarray],
    image: np.ndarray,
    spacing: Sequence[float],
    names: Mapping[int, str],
    *,
    grey: tuple[float, float],
    at: Sequence[int] | None = None,
    boxes: Sequence[Box] = (),
) -> Figure:
    """One row of three views for each label map.

    Args:
        rows: title -> (x, y, z) label ids, all zero for the bare image.
        image: (x, y, z) in RAS order.
        spacing: mm along x, y, z.
        names: label id -> name.
        grey: values drawn black and white.
        at: voxel where the three planes cross; default :func:`middle_of` the first row.
        boxes: outlined where a plane cuts them.

    >>> volume = np.zeros((8, 9, 10))
    >>> len(plot_orthogonal({"nothing": volume.astype(int)}, volume, (1, 1, 1), {1: "liver"}, grey=(0, 1)).axes)
    3
    """
    at = middle_of(next(iter(rows.values()))) if at is None else tuple(at)
    extents = [n * s / 10 for n, s in zip(image.shape, spacing)]  # cm
    widths = [extents[VIEWS[view][0]] for view in VIEWS]
    # what labels of axes leave of the page, for three views beside each other
    height = (WIDTH["page"] - 1.9) * max(extents[VIEWS[view][1]] for view in VIEWS) / sum(widths)
    figure = Figure(figsize=(WIDTH["page"], len(rows) * (height + 0.8) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), len(VIEWS), squeeze=False, width_ratios=widths)
    seen: set[int] = set()
    for row, (title, label) in zip(axes, rows.items()):
        for ax, (view, (across, up, cut)) in zip(row, VIEWS.items()):
            seen |= _draw(ax, image, label, spacing, view, at[cut], grey, names)
            for box in boxes:
                if box.low[cut] <= at[cut] < box.high[cut]:
                    _outline(ax, box, spacing, extents, across, up)
            ax.set_title(f"{literal(title)}: {view}" if view == "axial" else view)
    colors = label_colors(names.values())
    handles = [Line2D([], [], color=colors[names[i]], lw=2, label=literal(names[i])) for i in sorted(seen)]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(6 if len(handles) < 7 else 4, len(handles))
        )
    return figure


def _draw(ax: Axes, image, label, spacing, view: str, at: int, grey, names) -> set[int]:
    across, up, cut = VIEWS[view]
    plane = [np.take(volume, at, axis=cut) for volume in (image, label)]
    width, height = (image.shape[a] * spacing[a] / 10 for a in (across, up))
    # RAS grows to the right, anterior and superior: pictures show right and front at the left, front and head on top
    flip_across = across in (0, 1)
    picture, ids = ((p[::-1] if flip_across else p).T for p in plane)
    extent = (0, width, 0, height)
    ax.imshow(picture, cmap="gray", vmin=grey[0], vmax=grey[1], extent=extent, origin="lower", aspect="equal")
    present = {int(i) for i in np.unique(ids)} & set(names)
    colors = label_colors(names.values())
    x = (np.arange(ids.shape[1]) + 0.5) * width / ids.shape[1]
    y = (np.arange(ids.shape[0]) + 0.5) * height / ids.shape[0]
    for organ in present:
        if min(ids.shape) > 1:
            ax.contour(x, y, ids == organ, levels=[0.5], colors=[colors[names[organ]]], linewidths=1.3)
    xlabel, ylabel = axis_names(view)
    ax.set(xlabel=f"{xlabel} (cm)", ylabel=f"{ylabel} (cm)")
    ax.spines[:].set_visible(False)
    return present


def _outline(ax: Axes, box: Box, spacing, extents, across: int, up: int) -> None:
    low, high = ([v * s / 10 for v, s in zip(corner, spacing)] for corner in box)
    left = extents[across] - high[across] if across in (0, 1) else low[across]
    ax.add_patch(
        Rectangle(
            (left, low[up]), high[across] - low[across], high[up] - low[up], fill=False, edgecolor="white", lw=0.9
        )
    )
