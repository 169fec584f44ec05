"""Figures of the first chapter: how cost grows with the number of tokens, and published scores beside their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lkm_kit.plots.style import PALETTE, WIDTH


def plot_growth(tokens: Sequence[int], milliseconds: Mapping[str, Sequence[float]]) -> Figure:
    """Draw time against sequence length, both axes logarithmic, with the slopes of linear and quadratic growth.

    Args:
        tokens: sequence lengths, rising.
        milliseconds: method -> time at each length.

    >>> len(plot_growth([100, 400], {"scan": [1.0, 4.0]}).axes[0].lines)
    3
    """
    figure = Figure(figsize=(WIDTH["column"], 3.2), layout="constrained")
    ax = figure.subplots()
    tokens = np.asarray(tokens, float)
    for (name, times), color, marker in zip(milliseconds.items(), PALETTE, "osD^v"):
        ax.plot(tokens, times, marker=marker, color=color, label=name)
    start = min(times[-1] * (tokens[0] / tokens[-1]) for times in milliseconds.values())
    for power, style in ((1, ":"), (2, "--")):
        ax.plot(tokens, start * (tokens / tokens[0]) ** power, style, color=PALETTE[7], linewidth=1)
        ax.annotate(
            f"∝ L{'²' if power == 2 else ''}",
            (tokens[-1], start * (tokens[-1] / tokens[0]) ** power),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=PALETTE[7],
        )
    ax.set(xscale="log", yscale="log", xlabel="tokens L in one sequence", ylabel="time, forward (ms)")
    ax.xaxis.set_major_locator(FixedLocator(list(tokens)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.legend()
    return figure


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
