"""Figures of a claim held against its code: which pixels a sequence has, what a setting means, what a gap is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lkm_kit.plots.style import CMAP, PALETTE, WIDTH

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axis import Axis


def plot_sequence_places(panels: Mapping[str, np.ndarray], size: tuple[int, int]) -> Figure:
    """The pixels of one sequence on their whole map, coloured by when they are read; one colour scale.

    Args:
        panels: title → (tokens, 2), row and column of each token, in the order of reading.
        size: height and width of the map in pixels.

    >>> len(plot_sequence_places({"a diagonal": np.array([[0, 0], [1, 1]])}, (2, 2)).axes)
    2
    """
    figure = Figure(figsize=(WIDTH["wide"], WIDTH["wide"] / len(panels) * 0.8 + 0.5), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, (title, places) in zip(axes, panels.items()):
        when = np.linspace(0, 100, len(places))
        points = ax.scatter(places[:, 1], places[:, 0], c=when, s=7, marker="s", cmap=CMAP, vmin=0, vmax=100)
        ax.set(title=title, xlabel="column (pixel)", xlim=(-5, size[1] + 4), ylim=(size[0] + 4, -5), aspect="equal")
        ax.set_facecolor("#f2f2f2")
    axes[0].set_ylabel("row (pixel)")
    figure.colorbar(points, ax=list(axes), label="read so far (%)", shrink=0.8)
    return figure


def plot_score_by_tokens(tokens: pd.DataFrame, scores: pd.Series, ylabel: str) -> Figure:
    """The same scores against what each reading makes of the setting; a panel per reading.

    Args:
        tokens: a row per setting, a column per reading: tokens per sequence.
        scores: one per setting, same index; the name of a setting is written beside its point.
        ylabel: of the scores.

    >>> import pandas as pd
    >>> len(plot_score_by_tokens(pd.DataFrame({"text": [64, 256]}), pd.Series([1.0, 2.0]), "DSC").axes)
    1
    """
    figure = Figure(figsize=(WIDTH["wide"], 3.0), layout="constrained")
    axes = figure.subplots(1, tokens.shape[1], squeeze=False, sharey=True, sharex=True)[0]
    for ax, reading, color in zip(axes, tokens.columns, PALETTE):
        row = tokens[reading].sort_values()
        ax.plot(row, scores[row.index], "o-", color=color)
        for setting in row.index:
            rightmost = row[setting] == row.max()
            ax.annotate(
                str(setting),
                (row[setting], scores[setting]),
                xytext=(-6 if rightmost else 6, 0),
                textcoords="offset points",
                ha="right" if rightmost else "left",
                va="center",
            )
        ax.set(title=reading, xlabel="tokens per sequence at stage 0", xscale="log")
    _powers_of_four(axes[0].xaxis, int(tokens.to_numpy().max()))
    axes[0].set_ylabel(ylabel)
    axes[0].margins(x=0.15, y=0.15)
    return figure


def _powers_of_four(axis: Axis, largest: int) -> None:
    """Ticks at 1, 4, 16, ... of a logarithmic axis: a map's tokens divide by four when its sides halve."""
    ticks = [4**n for n in range(12) if 4**n <= 4 * largest]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
