"""Figures of what sequence layers pass on: from token to token, through windows, and across their borders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lkm_kit.plots.style import CMAP, PALETTE, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def reach(
    curves: Mapping[str, np.ndarray],
    mark: float | None = None,
    mark_text: str = "",
    ylabel: str = "influence on the last output",
) -> Figure:
    """Influence on the last token against how long ago a token was read, on a logarithmic axis.

    Args:
        curves: label → (length,), influence of the token that was read k tokens ago, k = 0, 1, ...
        mark, mark_text: place of a dotted line, in tokens ago, and what is written beside it.
        ylabel: says so when the influence is relative to something.

    >>> len(reach({"forward": np.ones(4)}).axes)
    1
    """
    figure = Figure(figsize=(WIDTH["page"], 3.0), layout="constrained")
    ax = figure.subplots()
    for (label, curve), color in zip(curves.items(), PALETTE):
        ax.semilogy(np.arange(len(curve)), curve, color=color, label=label)
    if mark is not None:
        ax.axvline(mark, color=PALETTE[7], linestyle=":", linewidth=1)
        ax.annotate(
            mark_text, (mark, 1), xycoords=("data", "axes fraction"), xytext=(4, -12), textcoords="offset points"
        )
    ax.set(xlabel="tokens ago", ylabel=ylabel)
    ax.legend(loc="best")
    return figure


def influence_matrices(matrices: Mapping[str, np.ndarray]) -> Figure:
    """How much output t (row) depends on token s (column), one logarithmic colour scale; white is no influence at all.

    Args:
        matrices: title → (length, length), not negative.

    >>> len(influence_matrices({"a": np.eye(3), "b": np.eye(3)}).axes)
    3
    """
    figure = Figure(figsize=(WIDTH["wide"], WIDTH["wide"] / len(matrices) * 0.86 + 0.3), layout="constrained")
    axes = figure.subplots(1, len(matrices), squeeze=False, sharey=True)[0]
    positive = np.concatenate([matrix[matrix > 0] for matrix in matrices.values()])
    scale = LogNorm(positive.min(), positive.max()) if positive.min() < positive.max() else None
    for ax, (title, matrix) in zip(axes, matrices.items()):
        picture = ax.imshow(np.ma.masked_equal(matrix, 0), cmap=CMAP, norm=scale)
        ax.set(title=title, xlabel="token s that is read")
        _whole_ticks(ax)
    axes[0].set_ylabel("token t that is written")
    figure.colorbar(picture, ax=list(axes), label="influence of s on t", shrink=0.85)
    return figure


def errors_by_place(panels: Mapping[str, Mapping[str, np.ndarray]], bound: Mapping[str, np.ndarray]) -> Figure:
    """Squared error of each token of a sequence, a panel per task and a line per network, with a bound dashed.

    Args:
        panels: task → network → (length,) mean squared error, 1 for knowing nothing.
        bound: task → (length,) what no network of some kind can get below; tasks without one are left out.

    >>> len(errors_by_place({"mean": {"forward": np.ones(4)}}, {}).axes)
    1
    """
    figure = Figure(figsize=(WIDTH["wide"], 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, (task, lines) in zip(axes, panels.items()):
        # hollow and smaller from line to line, so that markers on the same spot are all seen
        for (name, error), color, size in zip(lines.items(), PALETTE, (4, 9, 6, 3)):
            face = color if size == 4 else "none"
            ax.plot(np.arange(len(error)), error, "o", markersize=size, color=color, markerfacecolor=face, label=name)
        if task in bound:
            ax.plot(bound[task], "--", color=PALETTE[7], linewidth=1, label="best possible forward")
        ax.set(title=task, xlabel="place of the token in the sequence", ylim=(-0.05, None))
        _whole_ticks(ax, "x")
    axes[0].set_ylabel("mean squared error\n(1: knows nothing)")
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
    return figure


def window_maps(maps: Mapping[str, np.ndarray], label: str, numbers: str = "") -> Figure:
    """Maps over the pixels of one window, side by side, with one colour scale that starts at zero.

    Args:
        maps: title → (H, W), not negative.
        label: of the colour bar.
        numbers: format of the value written into each pixel, such as ".1f"; empty writes none.

    >>> len(window_maps({"a": np.ones((3, 3))}, "influence").axes)
    2
    """
    figure = Figure(figsize=(WIDTH["wide"], WIDTH["wide"] / len(maps) * 0.8 + 0.4), layout="constrained")
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    largest = max(values.max() for values in maps.values())
    for ax, (title, values) in zip(axes, maps.items()):
        picture = ax.imshow(values, cmap=CMAP, vmin=0, vmax=largest)
        for (row, column), value in np.ndenumerate(values) if numbers else ():
            color = "black" if value > 0.6 * largest else "white"
            ax.text(column, row, format(value, numbers), ha="center", va="center", fontsize=8, color=color)
        ax.set(title=title, xlabel="column (pixel)")
        _whole_ticks(ax)
    axes[0].set_ylabel("row (pixel)")
    figure.colorbar(picture, ax=list(axes), label=label, shrink=0.8)
    return figure


def _whole_ticks(ax: Axes, which: str = "xy") -> None:
    """A few ticks at whole numbers: tokens and pixels have no halves."""
    for axis in which:
        getattr(ax, f"{axis}axis").set_major_locator(MaxNLocator(6, integer=True))
