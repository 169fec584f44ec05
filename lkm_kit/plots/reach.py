"""The figure of the functional receptive field: accuracy against the distance of the cue, and maps by its offset."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MultipleLocator

from lkm_kit.plots.style import CMAP, PALETTE, WIDTH

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_reach(
    table: pd.DataFrame,
    offsets: pd.DataFrame,
    panels: Mapping[str, Sequence[tuple[str, str, str]]],
    maps: Mapping[str, str],
    window: int,
) -> Figure:
    """Above: accuracy by distance, a line an arm. Below: accuracy by the steps from the pixel to the cue, a map an arm.

    A line is the mean of the seeds and its band spans all of them. Dotted is what the theoretical receptive field would
    allow; chance is at 0.5. A grey line or a white square shows the side of PiM's window.

    Args:
        table: of :func:`lkm_kit.studies.functional_tables.by_distance`.
        offsets: of :func:`lkm_kit.studies.functional_tables.by_offset`.
        panels: title → lines (label, arm, cue), where cue is "anywhere", "before" or "after".
        maps: arm → title of its map.
        window: side of a window, in pixels of the image.

    >>> import pandas as pd
    >>> row = {"arm": "pim", "seed": 0, "cue": "anywhere", "accuracy": 0.9, "bound": 1.0}
    >>> table = pd.DataFrame([{**row, "distance": r} for r in range(9)])
    >>> offsets = pd.DataFrame([{"arm": "pim", "down": r, "right": 0, "accuracy": 0.9} for r in (-3, 0, 3)])
    >>> len(plot_reach(table, offsets, {"PiM": [("PiM", "pim", "anywhere")]}, {"pim": "PiM"}, 4).axes)
    3
    """
    figure = Figure(figsize=(WIDTH["wide"], 6.9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[4.4, 2.5])
    curves = above.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, lines) in zip(curves, panels.items()):
        for number, (label, arm, cue) in enumerate(lines):
            _curve(axes, table[(table["arm"] == arm) & (table["cue"] == cue)], label, PALETTE[number])
        if axes is curves[0]:
            axes.plot([], [], ":", color="0.4", linewidth=1, label="most that the field allows")
        axes.axhline(0.5, color=PALETTE[7], linewidth=0.8)
        axes.axvline(window, color="0.75", linewidth=0.8, zorder=0)
        axes.text(window, 0.385, f" window {window}", color="0.45", fontsize=8)
        axes.set(
            title=textwrap.fill(title, 30), xlabel="distance to the cue (pixels)", xlim=(0, table["distance"].max())
        )
        axes.set_ylim(0.37, 1.03)
        axes.xaxis.set_major_locator(MultipleLocator(10))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    curves[0].set_ylabel("share of right answers")
    curves[0].text(table["distance"].max(), 0.49, "chance", ha="right", va="top", color=PALETTE[7], fontsize=8)

    pictures = below.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, (arm, title) in zip(pictures, maps.items()):
        drawn = _map(axes, offsets[offsets["arm"] == arm], window)
        axes.set_title(textwrap.fill(title, 12))
        axes.set_xlabel("to the right")
    pictures[0].set_ylabel("cue below (pixels)")
    below.suptitle("Share of right answers by where the cue is (white square: as large as a window)", fontsize=10)
    below.colorbar(drawn, ax=list(pictures), label="share", shrink=0.9)
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, label: str, color: str) -> None:
    by = rows.groupby("distance")
    accuracy = by["accuracy"].agg(["mean", "min", "max"]).dropna()
    bound = by["bound"].mean().dropna()
    axes.plot(bound.index, bound, ":", color=color, linewidth=1)
    axes.fill_between(accuracy.index, accuracy["min"], accuracy["max"], color=color, alpha=0.25, linewidth=0)
    axes.plot(accuracy.index, accuracy["mean"], color=color, label=label)


def _map(axes: Axes, cells: pd.DataFrame, window: int):
    table = cells.pivot(index="down", columns="right", values="accuracy")
    step = np.diff(sorted({*cells["down"], *cells["right"]})).min() / 2
    extent = (table.columns[0] - step, table.columns[-1] + step, table.index[-1] + step, table.index[0] - step)
    axes.set_facecolor("0.8")  # of steps at which no cue was
    drawn = axes.imshow(table, cmap=CMAP, vmin=0.5, vmax=1, extent=extent)
    half = window / 2
    axes.add_patch(Rectangle((-half, -half), window, window, fill=False, edgecolor="white", linewidth=0.8))
    return drawn
