"""Figures of the first chapter: how cost grows with the number of tokens, and published scores beside their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from lkm_kit.plots.style import PALETTE, WIDTH


def plot_published(scores: Mapping[str, Sequence[float]], *, xlabel: str) -> Figure:
    """Draw scores as dots, one line per method; several dots on a line are several runs of the same method.

    Args:
        scores: method -> its scores, from the top of the picture down.
        xlabel: score and unit.

    >>> figure = plot_published({"a": [74.5], "b, re-run": [77.3, 76.1]}, xlabel="DSC (%)")
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['a', 'b, re-run']
    """
    figure = Figure(figsize=(WIDTH["page"], 0.34 * len(scores) + 0.8), layout="constrained")
    ax = figure.subplots()
    places = range(len(scores))[::-1]
    for place, values in zip(places, scores.values()):
        color = PALETTE[0] if len(values) == 1 else PALETTE[5]
        ax.hlines(place, min(values), max(values), color=color, linewidth=2, alpha=0.4)
        ax.plot(values, [place] * len(values), "o", color=color)
        for value in values:
            ax.annotate(
                f"{value:.2f}", (value, place), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8
            )
    ax.set_yticks(places, list(scores))
    ax.set(xlabel=xlabel, ylim=(-0.5, len(scores) - 0.2))
    ax.margins(x=0.06)
    ax.grid(axis="y", color="#eeeeee", linewidth=0.6)
    ax.set_axisbelow(True)
    return figure
