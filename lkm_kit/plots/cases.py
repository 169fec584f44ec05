"""Pictures of cases: a slice in grey, and the same slice with its organ labels in the kit's colours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lkm_kit.data.report import Preview
from lkm_kit.plots.style import WIDTH, label_colors, literal

Picture = Preview
"""One slice, ready to be shown: grey values, label ids, height and width in mm."""


def plot_cases(
    pictures: Mapping[str, Picture], names: Mapping[int, str], *, field_mm: tuple[float, float] = (300.0, 400.0)
) -> Figure:
    """Draw slices side by side at one scale: the image above, its labels over it below.

    Args:
        pictures: title -> picture.
        names: label id -> name.
        field_mm: height and width of what is shown, around the middle of the labels.

    >>> one = Picture(np.zeros((4, 6)), np.eye(4, 6, dtype=int), (40.0, 60.0))
    >>> len(plot_cases({"ct": one}, {1: "liver"}).axes)
    2
    """
    width = WIDTH["wide"] * min(1, len(pictures) / 3)
    height = 2 * width / len(pictures) * field_mm[0] / field_mm[1]
    ids = sorted(names)
    across = max(1, int(width / 1.75))  # names in a row of the legend
    figure = Figure(figsize=(width, height + 0.9 + 0.2 * -(-len(ids) // across)), layout="constrained")
    axes = figure.subplots(2, len(pictures), squeeze=False, sharex=True, sharey=True)
    colors = label_colors(names[i] for i in ids)
    colours = ListedColormap([(0, 0, 0, 0), *(to_rgba(colors[names[i]], 0.65) for i in ids)])
    seen = set()
    for column, (title, picture) in zip(axes.T, pictures.items()):
        extent = _extent(picture, field_mm)
        classes = np.searchsorted([0, *ids], picture.label)
        seen |= set(np.unique(picture.label)) - {0}
        for ax in column:
            ax.imshow(picture.image, cmap="gray", vmin=0, vmax=1, extent=extent)
            ax.set(facecolor="black", xlim=(0, field_mm[1] / 10), ylim=(field_mm[0] / 10, 0))
            ax.spines[:].set_visible(False)
        column[1].imshow(classes, cmap=colours, vmin=-0.5, vmax=len(ids) + 0.5, extent=extent)
        column[1].set(xlim=column[0].get_xlim(), ylim=column[0].get_ylim(), xlabel="right → left (cm)")
        column[0].set_title(literal(title))
    for ax in axes[:, 0]:
        ax.set_ylabel("front → back (cm)")
    handles = [Patch(color=to_rgba(colors[names[i]], 0.8), label=literal(names[i])) for i in ids if i in seen]
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, min(across, len(handles))))
    return figure


def _extent(picture: Picture, field_mm: tuple[float, float]) -> tuple[float, float, float, float]:
    """Where the picture's edges lie, in cm, when the middle of its labels lies in the middle of the field."""
    middle = []
    for axis in (0, 1):
        occupied = np.nonzero((picture.label > 0).any(axis=1 - axis))[0]
        share = (occupied.min() + occupied.max() + 1) / 2 / picture.label.shape[axis] if len(occupied) else 0.5
        middle.append(share * picture.size_mm[axis])
    top, left = (field / 2 - centre for field, centre in zip(field_mm, middle))
    return left / 10, (left + picture.size_mm[1]) / 10, (top + picture.size_mm[0]) / 10, top / 10
