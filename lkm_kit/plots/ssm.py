"""Figures of the state-space chapters: arrays in, Figure out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lkm_kit.plots.style import PALETTE, WIDTH


def selective_walk(deltas: Sequence[float], tokens: np.ndarray, states: np.ndarray, weights: np.ndarray) -> Figure:
    """A selective scan token by token: Δ, input and output, and what each token contributes to the last output.

    Args:
        deltas, tokens, states, weights: (length,) each; the last per unit of input. The axes do not follow them.

    >>> len(selective_walk([0.1, 1.0], np.ones(2), np.ones(2), np.ones(2)).axes)
    3
    """
    figure = Figure(figsize=(WIDTH["page"], 4.6), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1.6, 1))
    place = np.arange(1, len(tokens) + 1)
    top.bar(place, deltas, color=PALETTE[2], width=0.5)
    top.set(yscale="log", ylim=(0.008, 4), ylabel="Δ")
    middle.vlines(place, 0, tokens, color=PALETTE[7])
    middle.plot(place, tokens, "o", color=PALETTE[7], label="input u")
    middle.plot(place, states, "s-", color=PALETTE[5], label="output y")
    middle.axhline(0, color="lightgrey", lw=0.8, zorder=0)
    middle.set(ylim=(-1.6, 1.6), ylabel="value")
    middle.legend(loc="upper right", ncols=2)
    bottom.bar(place, weights, color=PALETTE[0], width=0.5)
    bottom.axhline(0, color="lightgrey", lw=0.8, zorder=0)
    bottom.set(ylim=(-1.1, 1.1), xlabel="token", ylabel="weight in\nthe last y", xticks=place)
    return figure


def selection(x: np.ndarray, marks: np.ndarray, fixed: np.ndarray, selective: np.ndarray) -> Figure:
    """Tokens of which some are marked, and what a fixed and a selective system hold of them.

    Args:
        x, marks, fixed, selective: (length,) each: input, 1 where the token should be kept, and two outputs.

    >>> x = np.ones(4)
    >>> len(selection(x, x, x, x).axes)
    2
    """
    figure = Figure(figsize=(WIDTH["page"], 3.6))
    top, bottom = figure.subplots(2, 1, sharex=True)
    t = np.arange(len(x))
    top.vlines(t, 0, x, color="lightgrey")
    top.plot(t[marks > 0], x[marks > 0], "o", color=PALETTE[5], label="marked: keep this one")
    top.set(ylabel="input x")
    top.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98))
    bottom.plot(t, fixed, color=PALETTE[0], label="fixed Δ")
    bottom.plot(t, selective, color=PALETTE[1], label="Δ chosen by the input")
    bottom.set(xlabel="token", ylabel="output y")
    bottom.legend(loc="upper right", ncols=2)
    return figure
