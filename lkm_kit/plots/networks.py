"""Figures of token orders, of what a layer sees, and of what a network is made of."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lkm_kit.plots.style import CMAP, PALETTE, WIDTH

if TYPE_CHECKING:
    import pandas as pd


def plot_token_orders(orders: Mapping[str, tuple[np.ndarray, np.ndarray]], highlight: int = 0) -> Figure:
    """Draw how a map is cut: one colour per sequence, and the path the scan takes through one of them.

    Args:
        orders: title → (sequence, position), two integer arrays (H, W): which sequence a pixel belongs to, and its
            place in it.
        highlight: number of the sequence whose path is drawn and numbered.

    >>> sequence, position = np.array([[0, 0], [1, 1]]), np.array([[0, 1], [0, 1]])
    >>> len(plot_token_orders({"rows": (sequence, position)}).axes)
    1
    """
    figure = Figure(figsize=(WIDTH["wide"], WIDTH["wide"] / len(orders) * 0.98 + 0.3), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(orders)))
    disc = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": PALETTE[7], "linewidth": 0.6}
    for ax, (title, (sequence, position)) in zip(axes, orders.items()):
        ax.imshow(sequence, cmap=ListedColormap(tints(sequence.max() + 1)))
        rows, columns = np.nonzero(sequence == highlight)
        order = np.argsort(position[rows, columns])
        rows, columns = rows[order], columns[order]
        ax.plot(columns, rows, color=PALETTE[7], linewidth=1, zorder=2)
        for place, (row, column) in enumerate(zip(rows, columns), start=1):
            ax.text(column, row, place, ha="center", va="center", fontsize=8, zorder=3, bbox=disc)
        height, width = sequence.shape
        ax.set(title=title, xlabel="column (pixel)", ylabel="row (pixel)")
        ax.set_xticks(np.arange(width + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(height + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=1)
        ax.tick_params(which="minor", length=0)
    return figure


def plot_supports(supports: Mapping[str, np.ndarray], probe: tuple[int, int]) -> Figure:
    """Draw which pixels one output pixel depends on, one panel per layer.

    Args:
        supports: title → boolean array (H, W).
        probe: (row, column) of the output pixel.
    """
    figure = Figure(figsize=(WIDTH["wide"], WIDTH["wide"] / len(supports) + 0.5), layout="constrained")
    colours = ListedColormap(["#f2f2f2", PALETTE[4]])
    for ax, (title, seen) in zip(np.atleast_1d(figure.subplots(1, len(supports))), supports.items()):
        ax.imshow(seen, cmap=colours, vmin=0, vmax=1)
        ax.plot(probe[1], probe[0], "s", color=PALETTE[5], markersize=6)
        name = textwrap.fill(title, 28)
        ax.set(title=f"{name}\n{int(seen.sum())} of {seen.size} pixels", xlabel="column (pixel)", ylabel="row (pixel)")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


def plot_tokens_per_stage(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the length of PiM's and PaM's sequences over the stages.

    Args:
        tables: name of a network → its table from :func:`lkm_kit.networks.describe`.
    """
    figure = Figure(figsize=(WIDTH["page"], 3.1), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for ax, column, title in zip(panels, ("tokens", "pam_tokens"), ("PiM", "PaM")):
        for number, (name, table) in enumerate(tables.items()):
            ax.plot(table.index, table[column], "os"[number % 2] + "-", color=PALETTE[number], label=name)
            for stage, tokens in table[column].items():
                ax.annotate(f"{tokens:,}", (stage, tokens), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        ax.set(title=title, xlabel="stage", yscale="log")
        ax.xaxis.set_major_locator(FixedLocator(list(table.index)))
        ax.margins(x=0.09, y=0.1)
    ticks = sorted({int(v) for table in tables.values() for c in ("tokens", "pam_tokens") for v in table[c] if v})
    panels[0].yaxis.set_major_locator(FixedLocator(_spread(ticks)))
    panels[0].yaxis.set_minor_locator(NullLocator())
    panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panels[0].set_ylabel("tokens per sequence")
    panels[0].legend()
    return figure


def plot_parameters(table: pd.DataFrame, xlabel: str = "parameters (millions)") -> Figure:
    """Draw stacked bars, a bar per row and a segment per column, with the sum at the end of each bar.

    Args:
        table: numbers of parameters; index and columns are the labels.
    """
    figure = Figure(figsize=(WIDTH["page"], 0.42 * len(table) + 1.3), layout="constrained")
    ax = figure.subplots()
    left = np.zeros(len(table))
    places = np.arange(len(table))
    for number, column in enumerate(table.columns):
        values = table[column].to_numpy() / 1e6
        ax.barh(places, values, left=left, color=PALETTE[number], label=column)
        left += values
    for place, total in zip(places, left):
        ax.text(total, place, f" {total:.1f} M" if total >= 1 else f" {total * 1e3:.0f} k", va="center", fontsize=9)
    ax.set(yticks=places, yticklabels=table.index, xlabel=xlabel, xlim=(0, left.max() * 1.12))
    if table.index.name:
        ax.set_ylabel(table.index.name)
    ax.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=len(table.columns))
    return figure


def plot_encoder(image: np.ndarray, before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> Figure:
    """Draw an image on its way down the encoder: each stage's map, and what the LM block there changes.

    Args:
        image: (H, W).
        before, after: per stage a map (channels, h, w) ahead of and behind its LM block; drawn are the mean magnitude
            over the channels of ``before``, and of ``after - before``.
    """
    n = len(before)
    figure = Figure(figsize=(WIDTH["wide"], WIDTH["wide"] / (n + 1) * 2 + 0.4), layout="constrained")
    panels = figure.subplots(2, n + 1)
    panels[0, 0].imshow(image, cmap="gray")
    panels[0, 0].set_title("image")
    panels[1, 0].axis("off")
    for stage, (ahead, behind) in enumerate(zip(before, after)):
        for ax, values in zip(panels[:, stage + 1], (ahead, behind - ahead)):
            ax.imshow(np.abs(values).mean(0), cmap=CMAP)
        panels[0, stage + 1].set_title(f"stage {stage}\n{ahead.shape[0]} channels")
    panels[0, 1].set_ylabel("before the\nLM block")
    panels[1, 1].set_ylabel("change by\nthe LM block")
    for ax in panels.flat:
        ax.xaxis.set_major_locator(FixedLocator([0, ax.get_xlim()[1] - 0.5]))
        ax.yaxis.set_major_locator(FixedLocator([0, ax.get_ylim()[0] - 0.5]))
    figure.supxlabel("pixels of each map; every panel has its own colour scale", fontsize=9)
    return figure


def tints(n: int) -> list[tuple[float, float, float]]:
    """n light colours: the palette, paler each time it starts again."""
    hues = [np.array(to_rgb(color)) for color in PALETTE]
    strengths = np.linspace(0.5, 0.15, -(-n // len(hues)))
    return [tuple(1 - strengths[i // len(hues)] * (1 - hues[i % len(hues)])) for i in range(n)]


def _spread(ticks: Sequence[int], factor: float = 1.8) -> list[int]:
    """Ticks that stand far enough apart on a log axis to be read."""
    kept: list[int] = []
    for tick in ticks:
        if not kept or tick >= factor * kept[-1]:
            kept.append(tick)
    return kept
