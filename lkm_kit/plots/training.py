"""Figures of a training: its curve, scores per organ side by side, and a prediction beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lkm_kit.evaluation.metrics import about
from lkm_kit.plots.style import PALETTE, WIDTH, label_colors

if TYPE_CHECKING:
    import pandas as pd


def plot_live(
    steps: Sequence[int],
    losses: Sequence[float],
    history: Sequence[Mapping[str, Any]],
    iterations: int,
    title: str = "",
) -> Figure:
    """One training while it runs: the loss of every step, and the validation DSC so far.

    Args:
        steps, losses: one number a step.
        history: the rows of history.csv so far.
        iterations: where the training will end.

    >>> len(plot_live([1, 2], [2.0, 1.5], [], 10).axes)
    2
    """
    figure = Figure(figsize=(WIDTH["page"], 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, losses, color=PALETTE[0], alpha=0.35, linewidth=1)
    left.plot(steps, _smooth(losses), color=PALETTE[0])
    left.set(xlabel="step", ylabel="loss (Dice + cross-entropy)", xlim=(0, iterations))
    left.set_ylim(bottom=min(0.0, *losses))
    right.plot([row["step"] for row in history], [row["DSC"] for row in history], "o-", color=PALETTE[0], markersize=4)
    right.set(xlabel="step", ylabel="validation DSC", xlim=(0, iterations), ylim=(0, 1))
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def plot_history(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Training loss and validation DSC of several finished runs.

    Args:
        histories: name -> history table of a run.
    """
    figure = Figure(figsize=(WIDTH["page"], 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, history), color, marker in zip(histories.items(), PALETTE, "osD^v<>*"):
        look = {"marker": marker, "color": color, "markersize": 4, "label": name}
        left.plot(history["step"], history["train_loss"], **look)
        right.plot(history["step"], history["DSC"], **look)
    left.set(xlabel="step", ylabel="training loss\n(mean between marks)")
    left.set_ylim(bottom=min(0, *(h["train_loss"].min() for h in histories.values())))
    right.set(xlabel="step", ylabel="validation DSC\n(mean over labels)", ylim=(0, 1))
    left.legend()
    return figure


def plot_organ_scores(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Dot plot: one line an organ, one dot a network; a column of panels for each metric, a row for each test set.

    Args:
        tables: test set -> table of :func:`lkm_kit.evaluation.compare`.
    """
    rows = [len(table) for table in tables.values()]
    scores = list(dict.fromkeys(score for table in tables.values() for score in table.columns.get_level_values(0)))
    figure = Figure(figsize=(WIDTH["page"], 0.26 * sum(rows) + 0.75 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(tables), len(scores), squeeze=False, sharex="col", height_ratios=rows)
    for (title, table), panels in zip(tables.items(), axes):
        arms = list(dict.fromkeys(table.columns.get_level_values(1)))
        for ax, score in zip(panels, scores):
            places = np.arange(len(table))[::-1]
            both = table[score][arms]
            ax.hlines(places, both.min(axis=1), both.max(axis=1), color=PALETTE[7], linewidth=1, zorder=1)
            # smaller from arm to arm, so that dots on the same spot are all seen
            for (arm, color), (marker, size) in zip(zip(arms, PALETTE), (("o", 8), ("s", 4.5), ("D", 3.5), ("^", 3))):
                ax.plot(both[arm], places, marker, color=color, label=arm, markersize=size, zorder=2)
            ax.set_yticks(places, table.index if ax is panels[0] else [""] * len(table))
            ax.set_ylim(-0.6, len(table) - 0.4)
            ax.grid(axis="x", color="#dddddd", linewidth=0.6, zorder=0)
            if "mean" in table.index:
                ax.axhline(0.5, color="#bbbbbb", linewidth=0.8)
        panels[0].set_title(title, loc="left", fontweight="bold")
    for ax, score in zip(axes[-1], scores):
        unit = about(score)
        ax.set_xlabel(score if unit.scale != 1 else f"{score} ({unit.unit})")
        if unit.scale == 100:  # a fraction: the whole range, so that panels can be compared
            ax.set_xlim(-0.03, 1.03)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def plot_predictions(
    images: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    predictions: Mapping[str, Sequence[np.ndarray]],
    organs: Sequence[str],
    *,
    titles: Sequence[str] = (),
    gray: tuple[float, float] | None = None,
) -> Figure:
    """Slices in rows: the truth filled, then each network's prediction filled with the truth's outline over it.

    Args:
        images: (H, W) arrays, rows of pixels from the top of the picture.
        truths: (H, W) network classes.
        predictions: network -> (H, W) network classes, one for each image.
        organs: names of classes 1, 2, ...
        titles: one for each image.
        gray: value shown black and value shown white; default the 1st and 99th percentile of each image.
    """
    columns = 1 + len(predictions)
    height, width = images[0].shape
    side = min(WIDTH["page"] / columns, 2.6)
    figure = Figure(figsize=(side * columns, side * height / width * len(images) + 0.8), layout="constrained")
    axes = figure.subplots(len(images), columns, squeeze=False)
    colors = label_colors(organs)
    colours = ListedColormap([(0, 0, 0, 0), *(to_rgba(colors[name], 0.65) for name in organs)])
    for row, (image, truth) in enumerate(zip(images, truths)):
        shown = {"labels": truth, **{name: maps[row] for name, maps in predictions.items()}}
        low, high = gray or np.percentile(image, (1, 99))
        for ax, (name, classes) in zip(axes[row], shown.items()):
            ax.imshow(image, cmap="gray", vmin=low, vmax=high)
            ax.imshow(classes, cmap=colours, vmin=-0.5, vmax=len(organs) + 0.5)
            if name != "labels":
                for index, organ in enumerate(organs, start=1):
                    if (truth == index).any():
                        ax.contour(truth == index, levels=[0.5], colors=[colors[organ]], linewidths=1.2)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if row == 0:
                ax.set_title(name)
        if titles:
            axes[row][0].set_ylabel(titles[row])
    handles = [Patch(color=to_rgba(colors[name], 0.8), label=name) for name in organs]
    handles.append(Line2D([], [], color=PALETTE[7], linewidth=1.2, label="outline: the labels"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _smooth(values: Sequence[float], memory: float = 0.9) -> list[float]:
    """Exponential mean that does not start at zero."""
    smooth, weight, total = [], 0.0, 0.0
    for value in values:
        total, weight = memory * total + value, memory * weight + 1
        smooth.append(total / weight)
    return smooth
