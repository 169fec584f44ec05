"""Figures of what sequence layers pass on: from token to token, through windows, and across their borders."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap, LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from lkm_kit.plots.style import CMAP, PALETTE, WIDTH

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


MARKERS = "osD^vP*X"
"""One for each colour of the palette."""


def reach(
    curves: Mapping[str, np.ndarray],
    mark: float | None = None,
    mark_text: str = "",
    ylabel: str = "Jacobian norm on the last output",
) -> Figure:
    """Jacobian norm on the last token against how long ago a token was read, on a logarithmic axis.

    Args:
        curves: label → (length,), Jacobian norm for the token that was read k tokens ago, k = 0, 1, ...
        mark, mark_text: place of a dotted line, in tokens ago, and what is written beside it.
        ylabel: says so when the norm is relative to something.

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


def influence_matrices(matrices: Mapping[str, np.ndarray], label: str = "Jacobian norm, s to t") -> Figure:
    """How much output t (row) depends on token s (column), one logarithmic colour scale; white is exactly zero.

    Args:
        matrices: title → (length, length), not negative.
        label: of the colour scale: what the numbers are.

    >>> len(influence_matrices({"a": np.eye(3), "b": np.eye(3)}).axes)
    3
    """
    figure = Figure(figsize=(WIDTH["wide"], WIDTH["wide"] / len(matrices) * 0.86 + 0.6), layout="constrained")
    axes = figure.subplots(1, len(matrices), squeeze=False, sharey=True)[0]
    positive = np.concatenate([matrix[matrix > 0] for matrix in matrices.values()])
    scale = LogNorm(positive.min(), positive.max()) if positive.min() < positive.max() else None
    for ax, (title, matrix) in zip(axes, matrices.items()):
        picture = ax.imshow(np.ma.masked_equal(matrix, 0), cmap=CMAP, norm=scale)
        ax.set(title=title, xlabel="token s that is read")
        _whole_ticks(ax)
    axes[0].set_ylabel("token t that is written")
    figure.colorbar(picture, ax=list(axes), label=textwrap.fill(label, 16), shrink=0.85)
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


def window_maps(maps: Mapping[str, np.ndarray], label: str, numbers: str = "", log: bool = False) -> Figure:
    """Maps over pixels, side by side, with one colour scale that starts at zero, or is logarithmic with zeros white.

    Args:
        maps: title → (H, W), not negative.
        label: of the colour bar.
        numbers: format of the value written into each pixel, such as ".1f"; empty writes none.
        log: see above.

    >>> len(window_maps({"a": np.ones((3, 3))}, "Jacobian norm").axes)
    2
    """
    figure = Figure(figsize=(WIDTH["wide"], WIDTH["wide"] / len(maps) * 0.8 + 0.6), layout="constrained")
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    largest = max(values.max() for values in maps.values())
    smallest = min(values[values > 0].min() for values in maps.values()) if log else 0
    for ax, (title, values) in zip(axes, maps.items()):
        scale = {"norm": LogNorm(smallest, largest)} if log else {"vmin": 0, "vmax": largest}
        picture = ax.imshow(np.ma.masked_equal(values, 0) if log else values, cmap=CMAP, **scale)
        for (row, column), value in np.ndenumerate(values) if numbers else ():
            color = "black" if value > 0.6 * largest else "white"
            ax.text(column, row, format(value, numbers), ha="center", va="center", fontsize=8, color=color)
        ax.set(title=title, xlabel="column (pixel)")
        _whole_ticks(ax)
    axes[0].set_ylabel("row (pixel)")
    figure.colorbar(picture, ax=list(axes), label=label, shrink=0.8)
    return figure


def token_walk(sequence: np.ndarray, place: np.ndarray, number: int, token: int) -> Figure:
    """One moment of a scan: the token that is read (orange), those of its sequence read before, and the path so far.

    Args:
        sequence, place: (H, W) or (D, H, W) integers, the number of a pixel's sequence and its place in it.
        number, token: which sequence, and how far it has been read.

    >>> len(token_walk(np.zeros((2, 3, 3), int), np.arange(18).reshape(2, 3, 3), 0, 4).axes)
    2
    """
    slices = [(sequence, place)] if sequence.ndim == 2 else list(zip(sequence, place))
    width = WIDTH["half"] if len(slices) == 1 else WIDTH["wide"]
    figure = Figure(figsize=(width, width / len(slices) + 0.7), layout="constrained")
    axes = figure.subplots(1, len(slices), squeeze=False)[0]
    for depth, (ax, (numbers, places)) in enumerate(zip(axes, slices)):
        _walk(ax, numbers, places, number, token, sequence.max() + 1)
        ax.set(title=f"slice {depth}" if len(slices) > 1 else "", xlabel="column (pixel)")
    axes[0].set_ylabel("row (pixel)")
    length = place.max() + 1
    figure.suptitle(f"sequence {number + 1} of {sequence.max() + 1}, token {token + 1} of {length}", fontsize=10)
    return figure


def token_walks(walks: Mapping[str, tuple[np.ndarray, np.ndarray, int]]) -> Figure:
    """The same moment of several ways to cut one map; see :func:`token_walk`.

    Args:
        walks: title → (sequence, place, step), maps (H, W) and the number of tokens read before, all sequences counted.
    """
    figure = Figure(figsize=(WIDTH["page"], WIDTH["page"] / len(walks) + 0.7), dpi=72, layout="constrained")
    for ax, (title, (sequence, place, step)) in zip(figure.subplots(1, len(walks), squeeze=False)[0], walks.items()):
        number, token = divmod(step, int(place.max()) + 1)
        _walk(ax, sequence, place, number, token, sequence.max() + 1)
        ax.set(
            title=title, xlabel=f"sequence {number + 1}, token {token + 1} of {place.max() + 1}", xticks=[], yticks=[]
        )
    return figure


def as_gif(figures: Iterable[Figure], seconds: float) -> bytes:
    """Figures of one size as the frames of a GIF that repeats, ``seconds`` each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    frames = []
    for figure in figures:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("P", palette=Image.ADAPTIVE, colors=32))
    stream = io.BytesIO()
    frames[0].save(stream, "gif", save_all=True, append_images=frames[1:], duration=int(1000 * seconds), loop=0)
    return stream.getvalue()


def distances(table: pd.DataFrame, meeting: pd.DataFrame) -> Figure:
    """Distance in the sequence against distance in the image, and how many pairs are in one sequence at all.

    Args:
        table: tokens apart (NaN where no pair shares a sequence); a row per distance in pixels, a column per order.
        meeting: share of pairs in one sequence, same rows and columns.
    """
    figure = Figure(figsize=(WIDTH["wide"], 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, color), marker in zip(zip(table.columns, PALETTE), MARKERS):
        left.loglog(table.index, table[name], marker + "-", color=color, markersize=4, label=name)
        right.plot(meeting.index, 100 * meeting[name], marker + "-", color=color, markersize=4)
    left.set(xlabel="distance in the image (pixels)", ylabel="distance in the sequence (tokens)")
    ticks = [r for r in (1, 2, 4, 8, 16, 32) if r <= table.index.max()]
    left.set_xticks(ticks, [str(tick) for tick in ticks])
    left.minorticks_off()
    right.set(xlabel="distance in the image (pixels)", ylabel="pairs in one sequence (%)", ylim=(-3, 103))
    figure.legend(loc="outside upper center", ncols=len(table.columns))
    return figure


def costs(table: pd.DataFrame, xlabel: str, ylabel: str) -> Figure:
    """Costs against a size, both logarithmic; a line per column, with gaps where a value is missing.

    Args:
        table: index of sizes, a column per method.

    >>> import pandas as pd
    >>> figure = costs(pd.DataFrame({name: [1, 2] for name in "abcdefg"}, index=[8, 16]), "tokens", "steps")
    >>> len(figure.axes[0].lines)
    7
    """
    figure = Figure(figsize=(WIDTH["page"], 3.0), layout="constrained")
    ax = figure.subplots()
    for (name, color), marker in zip(zip(table.columns, PALETTE), MARKERS):
        ax.loglog(table.index, table[name], marker + "-", color=color, markersize=5, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_xticks(list(table.index), [str(size) for size in table.index])
    low, high = ax.get_ylim()
    if high / low < 30:  # powers of ten alone would leave one tick or none
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.minorticks_off()
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _walk(ax: Axes, sequence: np.ndarray, place: np.ndarray, number: int, token: int, count: int) -> None:
    """Tint by sequence; the current sequence's tokens so far in blue, the current one in orange, joined by a line."""
    strengths = [0.45, 0.2][: max(1, min(2, -(-count // len(PALETTE))))]  # two lightnesses, where colours run out
    tints = [
        tuple(1 - strengths[i // len(PALETTE) % len(strengths)] * (1 - np.array(to_rgb(PALETTE[i % len(PALETTE)]))))
        for i in range(count)
    ]
    ax.imshow(sequence, cmap=ListedColormap(tints), vmin=-0.5, vmax=count - 0.5)
    rows, columns = np.nonzero((sequence == number) & (place <= token))
    order = np.argsort(place[rows, columns])
    rows, columns = rows[order], columns[order]
    ax.plot(columns, rows, "o-", color=PALETTE[0], markersize=4, linewidth=1)
    now = (sequence == number) & (place == token)
    ax.plot(*np.nonzero(now)[::-1], "o", color=PALETTE[5], markersize=8)
    height, width = sequence.shape
    ax.set_xticks(np.arange(width + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(height + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1)
    ax.tick_params(which="minor", length=0)
    _whole_ticks(ax)


def _whole_ticks(ax: Axes, which: str = "xy") -> None:
    """A few ticks at whole numbers: tokens and pixels have no halves."""
    for axis in which:
        getattr(ax, f"{axis}axis").set_major_locator(MaxNLocator(6, integer=True))
