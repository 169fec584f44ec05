"""The figure of a study: every seed as a dot, and every arm's difference to the control with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from lkm_kit.evaluation.metrics import about
from lkm_kit.plots.style import PALETTE, WIDTH, literal

if TYPE_CHECKING:
    import pandas as pd

# flat ends: an interval ends where its line does
THIN, THICK = {"linewidth": 0.9, "solid_capstyle": "butt"}, {"linewidth": 3, "alpha": 0.5, "solid_capstyle": "butt"}
BELOW = 0.27  # rows: the published diamond hangs under our dot, so that neither hides the other


def plot_study(
    per_seed: pd.DataFrame,
    differences: pd.DataFrame,
    titles: Mapping[str, str],
    control: str,
    published: Mapping[str, float] | None = None,
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
        published: arm → published difference to the paper's own baseline, drawn as a hollow diamond under ours.
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
        if published and arm in published:
            right.plot(published[arm], height - BELOW, "D", color=PALETTE[1], markersize=5, fillstyle="none")
    right.axvline(0, color=PALETTE[7], linewidth=0.8)
    left.set_yticks([heights[arm] for arm in arms], [titles[arm] for arm in arms])
    left.set(xlabel=f"{score} ({about(score).unit})", ylim=(-0.6, len(arms) - 0.4))
    right.set(xlabel=f"{score} minus {titles[control]} ({about(score).difference})")
    seed, mean = {"markersize": 4, "alpha": 0.6, "label": "a seed"}, {"markersize": 12, "label": "mean of the seeds"}
    for marker, look in (("o", seed), ("|", {**mean, "markeredgewidth": 1.6})):
        left.plot([], [], marker, color=PALETTE[0], **look)
    right.plot([], [], "o", color=PALETTE[0], markersize=5, label="mean difference")
    right.plot([], [], color=PALETTE[0], **THIN, label="95 % interval, Student")
    right.plot([], [], color=PALETTE[0], **THICK, label="95 % interval, bootstrap")
    if published:
        right.plot([], [], "D", color=PALETTE[1], fillstyle="none", label="published gain over\nthe paper's baseline")
    figure.legend(loc="outside lower center", ncols=3)
    if about_it:
        figure.suptitle(literal(about_it), fontsize=10)
    return figure
