"""Figures of what sequence layers pass on: from token to token, through windows, and across their borders."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lkm_kit.plots.networks import tints
from lkm_kit.plots.style import PALETTE, WIDTH

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


MARKERS = "osD^vP*X"
"""One for each colour of the palette."""


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


def _walk(ax: Axes, sequence: np.ndarray, place: np.ndarray, number: int, token: int, count: int) -> None:
    """Tint by sequence; the current sequence's tokens so far in blue, the current one in orange, joined by a line."""
    ax.imshow(sequence, cmap=ListedColormap(tints(count)), vmin=-0.5, vmax=count - 0.5)
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
