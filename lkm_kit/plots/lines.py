"""Numbers against one axis: lines with a legend, or dots in rows, and marks that they are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lkm_kit.plots.style import PALETTE, WIDTH, literal

Line = Sequence[float] | np.ndarray | pd.Series | tuple[Sequence[float], Sequence[float]]
MARKED = ("o-", "s-", "D-", "^-", "v-", "P-", "*-", "X-")
"""A marker for each line, for lines of few points."""


def plain_decades(axis: Axis) -> None:
    """Label 1, 2, 5, 10, ... in plain numbers where a logarithmic axis spans less than two and a half decades.

    Powers of ten alone would leave one label or two there, and the labels between them would read 2 × 10¹.
    """
    low, high = sorted(axis.get_view_interval())
    if high / low < 300:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())


def plot_lines(
    lines: Mapping[str, Line] | Mapping[str, Mapping[str, Line]] | pd.DataFrame,
    xlabel: str,
    ylabel: str,
    *,
    looks: Sequence[str] = ("-",),
    colors: Sequence[str] = PALETTE,
    log: str = "",
    ticks: Sequence[float] | None = None,
    at: Mapping[str, float] | None = None,
    levels: Mapping[str, float] | None = None,
    size: tuple[float, float] = (WIDTH["page"], 3.0),
    beside: bool = False,
    legend: str | None = None,
    sharey: bool = True,
    **properties: Any,
) -> Figure:
    """Lines of any kind over one horizontal axis.

    Args:
        lines: label → values for 0, 1, 2, ...; or a pair (places, values); or a Series, over its index. A table has a
            line for each column. For panels side by side: title → such lines.
        xlabel, ylabel: with units.
        looks: matplotlib's format of each line in turn, such as "o-"; see :data:`MARKED`.
        colors: of each line in turn.
        log: which axes are logarithmic: "x", "y" or "xy".
        ticks: numbers to stand at the horizontal axis.
        at, levels: text → where a dotted vertical, a dashed horizontal line is drawn.
        size: of the figure in inches.
        beside: the legend stands beside the axes; that of panels always stands above them.
        legend: its title.
        sharey: panels have one vertical axis.
        **properties: more of the axes' properties in matplotlib: title, xlim, ylim.

    >>> figure = plot_lines({"measured": ([1, 2], [3.0, 4.0]), "0, 1, 2": np.ones(3)}, "tokens", "ms", at={"window": 2})
    >>> [[int(x) for x in line.get_xdata()] for line in figure.axes[0].lines]
    [[1, 2], [0, 1, 2], [2, 2]]
    >>> len(plot_lines(pd.DataFrame({"forward": [1, 2], "backward": [3, 4]}), "tokens", "ms").axes[0].lines)
    2
    """
    panels = lines if all(isinstance(each, (Mapping, pd.DataFrame)) for _, each in lines.items()) else {"": lines}
    figure = Figure(figsize=size, layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False, sharey=sharey)[0]
    for ax, (title, own) in zip(every, panels.items()):
        for (name, line), look, color in zip(own.items(), cycle(looks), cycle(colors)):
            x, y = line if isinstance(line, tuple) else (getattr(line, "index", None), line)
            x = x if isinstance(line, (tuple, pd.Series)) else range(len(line))
            ax.plot(np.asarray(x), np.asarray(y), look, color=color, markersize=4, label=literal(name))
        ax.set(**{"xlabel": xlabel, "title": title, **{f"{axis}scale": "log" for axis in log}, **properties})
        for text, x in (at or {}).items():
            ax.axvline(x, color=PALETTE[7], linestyle=":", linewidth=1)
            place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8}
            seam = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}  # a line may pass behind it
            ax.annotate(text, (x, 1), xytext=(4, -10), bbox=seam, **place)
        for text, y in (levels or {}).items():
            ax.axhline(y, color=PALETTE[7], linestyle="--", linewidth=0.8, zorder=0)
            ax.text(1.01, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=8)
        if ticks is not None:
            ax.set_xticks(list(ticks), [f"{tick:,}" for tick in ticks])
            ax.xaxis.set_minor_locator(NullLocator())
        if "y" in log:
            plain_decades(ax.yaxis)
    every[0].set_ylabel(ylabel)
    handles = {name: handle for ax in every for handle, name in zip(*ax.get_legend_handles_labels())}
    if len(every) > 1:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), title=legend)
    else:
        place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if beside else {"loc": "best"}
        every[0].legend(title=legend, **place)
    return figure


def plot_dots(
    table: pd.DataFrame, xlabel: str, *, joined: bool = False, at: Mapping[str, float] | None = None, **axes: Any
) -> Figure:
    """A row of dots for each row of a table, a marker and colour for each column.

    Args:
        table: numbers; nan where there is none. Index and columns are the labels.
        xlabel: with its unit.
        joined: the dots of a row lie on a line.
        at: text → where a vertical line is drawn that the dots are held against.
        **axes: more of matplotlib's properties: xscale, title.

    >>> ax = plot_dots(pd.DataFrame({"a": {"liver": 2.0}, "b": {"liver": None}}), "%", xscale="log").axes[0]
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['liver']
    """
    height = 0.3 * len(table) + 1.3 + 0.2 * len(at or ())
    figure = Figure(figsize=(WIDTH["page"], height), layout="constrained")
    ax = figure.subplots()
    places = np.arange(len(table))[::-1]
    if joined:
        ax.hlines(places, table.min(axis=1), table.max(axis=1), color=PALETTE[7], linewidth=1)
    for (name, column), look, color in zip(table.items(), MARKED, PALETTE):
        ax.plot(column, places, look[0], color=color, label=literal(name), markersize=6)
    for (text, x), look, color in zip((at or {}).items(), ("--", ":", "-."), PALETTE[::-1]):
        ax.axvline(x, linestyle=look, color=color, label=text)
    ax.set_yticks(places, [literal(name) for name in table.index])
    ax.set(xlabel=xlabel, ylabel=table.index.name, ylim=(-0.6, len(table) - 0.4), **axes)
    if ax.get_xscale() == "log":
        plain_decades(ax.xaxis)
    ax.grid(axis="both", color="#eeeeee", linewidth=0.6)
    ax.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=1 if at else len(table.columns))
    return figure
