"""Figures of the state-space chapters: arrays in, Figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from lkm_kit.plots.style import PALETTE, WIDTH


def trajectories(
    times: np.ndarray, exact: np.ndarray, steps: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = ""
) -> Figure:
    """The exact answer of a continuous system as a line, discretisations as dots.

    Args:
        times, exact: (m,), time in the unit of the system and y(t).
        steps: name → (times, values) of a discretisation.

    >>> t = np.linspace(0, 1, 5)
    >>> len(trajectories(t, t, {"euler": (t, t)}).axes)
    1
    """
    figure = Figure(figsize=(WIDTH["page"], 2.8))
    axis = figure.add_subplot()
    axis.plot(times, exact, color="black", label="exact")
    for (name, (t, y)), color, marker in zip(steps.items(), PALETTE, "osD^v"):
        axis.plot(t, y, marker, ms=4, color=color, label=name, alpha=0.9)
    axis.set(xlabel="time t", ylabel="output y(t)", title=title)
    axis.legend(ncols=len(steps) + 1)
    return figure


def error_against_step(deltas: Sequence[float], errors: Mapping[str, Sequence[float]]) -> Figure:
    """Largest error against the step length, both logarithmic, with slopes one and two for comparison.

    Args:
        deltas: step lengths.
        errors: method → error at each step length.

    >>> len(error_against_step([0.1, 0.2], {"euler": [1, 2]}).axes)
    1
    """
    figure = Figure(figsize=(WIDTH["column"], 3.2))
    axis = figure.add_subplot()
    for (name, values), color in zip(errors.items(), PALETTE):
        axis.loglog(deltas, values, "o-", color=color, ms=4, label=name)
    reference = np.asarray(deltas, dtype=float)
    first = max(values[0] for values in errors.values())
    for order, style in ((1, ":"), (2, "--")):
        axis.loglog(reference, first * (reference / reference[0]) ** order, style, color="grey", label=f"slope {order}")
    axis.set(xlabel="step length Δ", ylabel="largest error of y")
    axis.set_xticks(deltas, [f"{d:g}" for d in deltas])
    axis.minorticks_off()
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def kernels(curves: Mapping[str, np.ndarray], title: str = "", limits: tuple[float, float] | None = None) -> Figure:
    """Convolution kernels K̄ as functions of how many tokens ago.

    Args:
        curves: label → (length,).
        limits: of the vertical axis; default as the curves need.

    >>> len(kernels({"slow": np.ones(4)}).axes)
    1
    """
    figure = Figure(figsize=(WIDTH["page"], 2.8))
    axis = figure.add_subplot()
    for (name, kernel), color in zip(curves.items(), PALETTE):
        axis.plot(np.arange(len(kernel)), kernel, color=color, label=name)
    axis.axhline(0, color="lightgrey", lw=0.8, zorder=0)
    axis.set(xlabel="tokens ago", ylabel="weight in the output", title=title, ylim=limits)
    axis.legend(loc="upper right")
    return figure


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


def mixed_rule(z: np.ndarray, zoh: np.ndarray, euler: np.ndarray) -> Figure:
    """B̄ by zero-order hold and by Mamba's short cut, against |ΔA|, and how far apart they are.

    Args:
        z: |ΔA|; zoh, euler: B̄ / (ΔB) of both rules, all (m,).

    >>> z = np.linspace(0.1, 1, 3)
    >>> len(mixed_rule(z, z, z).axes)
    2
    """
    figure = Figure(figsize=(WIDTH["page"], 2.8))
    left, right = figure.subplots(1, 2)
    left.semilogx(z, zoh, color=PALETTE[0], label="zero-order hold (Eq. 2)")
    left.semilogx(z, euler, color=PALETTE[1], label="ΔB (Mamba)")
    left.set(xlabel="|ΔA|", ylabel="B̄ / (ΔB)")
    left.legend()
    right.loglog(z, np.abs(euler / zoh - 1), color=PALETTE[5])
    right.set(xlabel="|ΔA|", ylabel="relative difference of B̄")
    return figure


def selection(x: np.ndarray, marks: np.ndarray, fixed: np.ndarray, selective: np.ndarray) -> Figure:
    """The selective-copy toy: which tokens are marked, what a fixed and a selective system remember.

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


def token_matrices(matrices: Mapping[str, np.ndarray]) -> Figure:
    """What token s (column) contributes to output t (row), one colour scale for all; upper triangles are empty.

    Args:
        matrices: title -> (length, length).

    >>> bar = token_matrices({"a": np.eye(3), "b": np.eye(3)}).axes[2]
    >>> [float(tick) for tick in bar.get_yticks()]
    [-1.0, -0.1, 0.0, 0.1, 1.0]
    """
    figure = Figure(figsize=(WIDTH["page"], 3.9), layout="constrained")
    axes = figure.subplots(1, len(matrices), squeeze=False, sharey=True)[0]
    largest = max(np.abs(matrix).max() for matrix in matrices.values())
    scale = SymLogNorm(linthresh=largest / 100, vmin=-largest, vmax=largest)
    for ax, (title, matrix) in zip(axes, matrices.items()):
        shown = np.ma.masked_where(np.triu(np.ones_like(matrix, dtype=bool), 1), matrix)
        picture = ax.imshow(shown, cmap="RdBu_r", norm=scale)
        ax.set(title=title, xlabel="token s that is read")
    axes[0].set_ylabel("token t that is written")
    bar = figure.colorbar(picture, ax=list(axes), label="weight of s in output t", shrink=0.85)
    # below the threshold the scale is linear, and powers of ten would be written over the zero
    bar.set_ticks([tick for tick in bar.get_ticks() if tick == 0 or scale.linthresh < abs(tick) <= largest])
    return figure


def memory_lengths(memory: np.ndarray, windows: Mapping[str, int]) -> Figure:
    """How many tokens states remember, sorted, beside the lengths of windows.

    Args:
        memory: (channels, n) tokens until 1/e is left.
        windows: name -> tokens in one window.

    >>> len(memory_lengths(np.ones((4, 2)), {"8×8": 64}).axes)
    1
    """
    figure = Figure(figsize=(WIDTH["page"], 3.4), layout="constrained")
    ax = figure.subplots()
    share = (np.arange(memory.shape[0]) + 0.5) / memory.shape[0]
    for state, color in ((0, PALETTE[0]), (memory.shape[1] // 4, PALETTE[2]), (memory.shape[1] - 1, PALETTE[1])):
        ax.plot(np.sort(memory[:, state]), share, color=color, label=f"states with A = −{state + 1}")
    for name, tokens in windows.items():
        ax.axvline(tokens, color=PALETTE[7], linestyle=":", linewidth=1)
        ax.annotate(
            f"{name} window", (tokens, 0.02), xytext=(3, 0), textcoords="offset points", rotation=90, fontsize=8
        )
    ax.set(
        xscale="log", xlabel="memory length (tokens until 1/e is left)", ylabel="share of channels below", ylim=(0, 1)
    )
    ax.legend(loc="upper left")
    return figure


def speed_bars(table: pd.DataFrame, xlabel: str) -> Figure:
    """Times as dots on a logarithmic axis, one line per size, one colour per method.

    Args:
        table: a row per size, a column per method.
    """
    figure = Figure(figsize=(WIDTH["page"], 0.6 * len(table) + 1.3), layout="constrained")
    ax = figure.subplots()
    places = np.arange(len(table))[::-1]
    ax.hlines(places, table.min(axis=1), table.max(axis=1), color=PALETTE[7], linewidth=1)
    for (name, color), marker in zip(zip(table.columns, PALETTE), "osD^v"):
        ax.plot(table[name], places, marker, color=color, label=name, markersize=7)
    ax.set_yticks(places, [str(label) for label in table.index])
    ax.set(xscale="log", xlabel=xlabel, ylabel=table.index.name, ylim=(-0.6, len(table) - 0.4))
    figure.legend(loc="outside upper center", ncols=len(table.columns))
    return figure


def decays(curves: Mapping[str, np.ndarray], window: int, title: str = "") -> Figure:
    """What is left of a token after k more tokens, on a logarithmic axis, with the end of the window.

    Args:
        curves: label -> (length,) shares.
        window: tokens in the window.

    >>> len(decays({"A = -1": np.ones(4)}, 3).axes)
    1
    """
    figure = Figure(figsize=(WIDTH["column"], 3.0), layout="constrained")
    ax = figure.subplots()
    for (label, curve), color in zip(curves.items(), PALETTE):
        ax.plot(np.arange(len(curve)), curve, color=color, label=label)
    ax.axhline(np.exp(-1), color=PALETTE[7], linewidth=1, linestyle="--")
    ax.annotate("1/e", (0, np.exp(-1)), xytext=(2, 3), textcoords="offset points", fontsize=8)
    ax.axvline(window, color=PALETTE[7], linestyle=":", linewidth=1)
    ax.set(
        xlabel="tokens later", ylabel="share that is left", ylim=(0, 1.02), xlim=(0, len(next(iter(curves.values()))))
    )
    ax.set_title(title)
    ax.legend()
    return figure
