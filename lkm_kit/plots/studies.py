"""The figure of a study: every seed as a dot, and every arm's difference to the control with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lkm_kit.evaluation.metrics import about
from lkm_kit.plots.style import PALETTE, WIDTH, literal

if TYPE_CHECKING:
    import pandas as pd

# flat ends: an interval ends where its line does
THIN, THICK = {"linewidth": 0.9, "solid_capstyle": "butt"}, {"linewidth": 3, "alpha": 0.5, "solid_capstyle": "butt"}
TICK = {"marker": "|", "linestyle": "", "markersize": 12, "markeredgewidth": 2}
RING = {"marker": "o", "linestyle": "", "markersize": 4, "markerfacecolor": "white"}
MISS = {"color": PALETTE[3], "marker": "x", "linestyle": "", "markersize": 8, "markeredgewidth": 2}
BELOW = 0.27  # rows: the diamonds hang under the dot, so that neither hides the other
DIAMOND = {"marker": "D", "linestyle": "", "color": PALETTE[1], "markersize": 5}
GAINS = {"published": "none", "ours": "full"}


def plot_study(
    per_seed: pd.DataFrame,
    differences: pd.DataFrame,
    titles: Mapping[str, str],
    control: str,
    gains: pd.DataFrame | None = None,
    score: str = "DSC",
    about_it: str = "",
) -> Figure:
    """Left: a small dot a seed and a tick at their mean. Right: mean difference to the control and its 95 % intervals.

    Args:
        per_seed: index arm, columns seed, values as the metric prints them; nan where a run diverged or is missing.
        differences: index arm, columns difference, low, high (thin line), low bootstrap, high bootstrap (thick one), in
            its unit of differences.
        titles: arm → what to print; also the order from top to bottom.
        control: name of the arm that is the zero line.
        gains: index arm, columns published, ours, low gain, high gain: over the paper's baseline, which is not the
            control. Drawn under the difference, as a hollow diamond, and a full one with its 95 % interval.
        score: name of the metric.
        about_it: what was scored, in a line above the figure.

    >>> import pandas as pd
    >>> scores = pd.DataFrame({0: [70.0, 72.0]}, index=["control", "arm"])
    >>> gain = {"difference": 2.0, "low": -1.0, "high": 5.0, "low bootstrap": 1.0, "high bootstrap": 3.0}
    >>> gain = pd.DataFrame(gain, index=["arm"])
    >>> len(plot_study(scores, gain, {"control": "no Mamba", "arm": "PiM"}, "control").axes)
    2
    """
    arms = list(titles)
    figure = Figure(figsize=(WIDTH["wide"], 0.34 * len(arms) + 1.7), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    heights = {arm: len(arms) - 1 - row for row, arm in enumerate(arms)}
    for arm, height in heights.items():
        color = PALETTE[7] if arm == control else PALETTE[0]
        values = per_seed.loc[arm].dropna().to_numpy() if arm in per_seed.index else np.array([])
        if len(values):
            left.plot(values, np.full(len(values), height), "o", color=color, markersize=4, alpha=0.6)
            left.plot([values.mean()] * 2, [height - 0.25, height + 0.25], color=color)
        else:
            left.text(0.02, height, "no result", transform=left.get_yaxis_transform(), va="center", color=PALETTE[5])
        if arm in differences.index:
            row = differences.loc[arm]
            right.plot([row["low"], row["high"]], [height] * 2, color=color, **THIN)
            right.plot([row["low bootstrap"], row["high bootstrap"]], [height] * 2, color=color, **THICK)
            right.plot(row["difference"], height, "o", color=color, markersize=5)
        if gains is not None and arm in gains.index:
            row = gains.loc[arm]
            right.plot([row["low gain"], row["high gain"]], [height - BELOW] * 2, color=DIAMOND["color"], **THIN)
            for name, fill in GAINS.items():
                right.plot(row[name], height - BELOW, **DIAMOND, fillstyle=fill)
    right.axvline(0, color=PALETTE[7], linewidth=0.8)
    left.set_yticks([heights[arm] for arm in arms], [titles[arm] for arm in arms])
    left.set(xlabel=f"{score} ({about(score).unit})", ylim=(-0.6, len(arms) - 0.4))
    right.set(xlabel=f"{score} minus {titles[control]} ({about(score).difference})")
    right.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))  # "-17.5 -15.0" and so on would touch
    seed, mean = {"markersize": 4, "alpha": 0.6, "label": "a seed"}, {"markersize": 12, "label": "mean of the seeds"}
    for marker, look in (("o", seed), ("|", {**mean, "markeredgewidth": 1.6})):
        left.plot([], [], marker, color=PALETTE[0], **look)
    right.plot([], [], "o", color=PALETTE[0], markersize=5, label="mean difference")
    right.plot([], [], color=PALETTE[0], **THIN, label="95 % interval, Student")
    right.plot([], [], color=PALETTE[0], **THICK, label="95 % interval, bootstrap")
    if gains is not None and len(gains):
        for name, fill in GAINS.items():
            right.plot([], [], **DIAMOND, fillstyle=fill, label=f"gain over the\nplain U-Net, {name}")
    figure.legend(loc="outside lower center", ncols=3)
    if about_it:
        figure.suptitle(literal(about_it), fontsize=10)
    return figure


def plot_draws(
    found: pd.DataFrame,
    seeds: Sequence[np.ndarray],
    truth: float,
    limit: float,
    *,
    rows: int = 20,
    xlabel: str = "",
    truth_name: str = "true difference",
) -> Figure:
    """Studies of one truth below one another: a ring a seed, a tick at their mean, its 95 % intervals.

    Args:
        found: index the study's number, columns difference, low, high, low bootstrap, high bootstrap and verdict (1,
            -1, 0 or None, of :func:`lkm_kit.studies.conclusions.verdict`).
        seeds: each study's differences, seed by seed.
        truth: the difference that the studies look for.
        limit: the axis ends there on both sides; an arrow says that an interval goes on.
        rows: places for studies, empty ones too.
        xlabel, truth_name: what the axis shows, and its broken line.

    >>> import pandas as pd
    >>> ends = {"low": -1.0, "high": 3.0, "low bootstrap": 0.5, "high bootstrap": 1.5}
    >>> found = pd.DataFrame({"difference": 1.0, **ends, "verdict": 0}, index=[1])
    >>> figure = plot_draws(found, [np.array([0.5, 1.5])], truth=0.0, limit=2.0)
    >>> float(figure.axes[0].get_xlim()[1])  # the interval up to 3 goes on
    2.0
    """
    figure = Figure(figsize=(WIDTH["page"], 0.21 * rows + 1.6), layout="constrained")
    axes = figure.subplots()
    shown = {1: PALETTE[0], -1: PALETTE[5]}
    for place, ((_, row), own) in enumerate(zip(found.iterrows(), seeds)):
        color = shown.get(row["verdict"], PALETTE[7])
        axes.plot([row["low"], row["high"]], [place] * 2, color=color, **THIN)
        axes.plot([row["low bootstrap"], row["high bootstrap"]], [place] * 2, color=color, **THICK)
        axes.plot(row["difference"], place, color=color, **TICK)
        axes.plot(own, np.full(len(own), place), color=color, **RING)
        for end, marker in ((row["low"], "<"), (row["high"], ">")):
            if abs(end) > limit:
                axes.plot(np.copysign(limit, end), place, marker, color=color, markersize=6, clip_on=False)
        if not row["low"] <= truth <= row["high"]:
            axes.plot(truth, place, **MISS)
    axes.axvline(0, color=PALETTE[7], linewidth=0.8, zorder=0)
    axes.axvline(truth, color=PALETTE[3], linestyle="--", linewidth=1.2, zorder=0)
    axes.set(xlim=(-limit, limit), ylim=(rows - 0.4, -0.6), xlabel=xlabel, ylabel="study")
    axes.set_yticks(range(len(found)), found.index)
    axes.tick_params("y", length=0, pad=8)  # room for arrows
    for name, look in {
        "a seed": RING,
        "mean of the seeds": TICK,
        truth_name: {"color": PALETTE[3], "linestyle": "--", "linewidth": 1.2},
        "95 % interval, Student": THIN,
        "95 % interval, bootstrap": THICK,
        "Student's misses the broken line": {**MISS, "markersize": 7},
        "better": {"color": shown[1], "linewidth": 3},
        "worse": {"color": shown[-1], "linewidth": 3},
        "neither is shown": {"linewidth": 3},
    }.items():
        axes.plot([], [], **{"color": PALETTE[7], **look}, label=name)
    figure.legend(loc="outside lower center", ncols=3)
    return figure
