"""A contact sheet: one small picture of every case of a data set, so that a person sees what no check looks for."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lkm_kit.plots.cases import Picture
from lkm_kit.plots.style import WIDTH, label_colors, literal

FRAMES = {"error": "#D62728", "warning": "#E69F00"}
"""Colour of the frame around a case with findings."""


def plot_contact_sheet(
    pictures: Mapping[str, Picture],
    names: Mapping[int, str],
    *,
    marked: Mapping[str, str] | None = None,
    columns: int = 8,
) -> Figure:
    """Draw every case once: its slice in grey, its organs over it, a coloured frame where something was found.

    Args:
        pictures: case -> picture.
        names: label id -> name.
        marked: case -> ``"error"`` or ``"warning"``.
        columns: pictures in a row.

    >>> one = Picture(np.zeros((4, 6)), np.eye(4, 6, dtype=int), (40.0, 60.0))
    >>> len(plot_contact_sheet({"a": one, "b": one}, {1: "liver"}, marked={"b": "error"}).axes)
    2
    """
    marked = marked or {}
    columns = max(1, min(columns, len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    ids = sorted(names)
    colors = label_colors(names[i] for i in ids)
    colour = {i: colors[names[i]] for i in ids}
    colours = ListedColormap([(0, 0, 0, 0), *(to_rgba(colour[i], 0.5) for i in ids)])
    tile = WIDTH["wide"] / 8
    width = max(WIDTH["column"], columns * tile)
    figure = Figure(figsize=(width, rows * width / columns * 0.95 + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    seen: set[int] = set()
    for ax, (case, (image, label, size_mm)) in zip(axes, pictures.items()):
        extent = (0, size_mm[1], size_mm[0], 0)
        ax.imshow(image, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="nearest")
        known = np.where(np.isin(label, ids), label, 0)
        classes = np.searchsorted([0, *ids], known)
        ax.imshow(classes, cmap=colours, vmin=-0.5, vmax=len(ids) + 0.5, extent=extent, interpolation="nearest")
        seen |= set(np.unique(known).tolist()) - {0}
        frame = FRAMES.get(marked.get(case, ""))
        ax.set(xticks=[], yticks=[])
        ax.set_title(literal(case), fontsize=7, color=frame or "black")
        ax.spines[:].set(visible=frame is not None, color=frame or "black", linewidth=2.5)
    for ax in axes[len(pictures) :]:
        ax.remove()
    shown = {marked.get(case) for case in pictures}
    handles = [Patch(color=to_rgba(colour[i], 0.8), label=literal(names[i])) for i in ids if i in seen]
    handles += [Patch(fill=False, edgecolor=c, label=level) for level, c in FRAMES.items() if level in shown]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(7, len(handles)), fontsize=8)
    figure.suptitle("one slice of every case; the patient's right is at the left", fontsize=9)
    return figure
