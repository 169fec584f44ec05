"""Figures of the first chapter: how cost grows with the number of tokens, and published scores beside their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

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


def plot_cost(table: pd.DataFrame) -> Figure:
    """Time and memory against sequence length for two or more kinds of block, all axes logarithmic.

    Args:
        table: of :func:`lkm_kit.bench.growth.table`: ``tokens``, and ``NAME ms`` and ``NAME MiB`` for each block.

    >>> frame = pd.DataFrame({"tokens": [1, 2], "BiM ms": [1, 2], "BiM MiB": [1, 2]})
    >>> [ax.get_ylabel() for ax in plot_cost(frame).axes]
    ['time, forward + backward (ms)', 'kept for the backward pass (MiB)']
    """
    figure = Figure(figsize=(WIDTH["page"], 3.4), layout="constrained")
    for ax, unit, label in zip(
        figure.subplots(1, 2), ("ms", "MiB"), ("time, forward + backward (ms)", "kept for the backward pass (MiB)")
    ):
        names = [column.removesuffix(f" {unit}") for column in table.columns if column.endswith(f" {unit}")]
        for name, color, marker in zip(names, PALETTE, "osD^v"):
            ax.plot(table["tokens"], table[f"{name} {unit}"], marker=marker, color=color, label=name)
        ax.set(xscale="log", yscale="log", xlabel="tokens in one sequence", ylabel=label)
        ax.xaxis.set_major_locator(FixedLocator(list(table["tokens"])))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    figure.axes[0].legend()
    return figure
