"""Figures of a study before it runs: hours of each arm as a range, and differences that a number of seeds can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from lkm_kit.plots.style import PALETTE, WIDTH

if TYPE_CHECKING:
    import pandas as pd


def plot_hours(table: pd.DataFrame, titles: Mapping[str, str], assumption: str) -> Figure:
    """One bar an arm, from the low to the high estimate, on a logarithmic axis.

    Args:
        table: of :func:`lkm_kit.studies.design.extrapolate`.
        titles: arm -> what to print, from top to bottom.
        assumption: printed below the axis.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"hours_low": [10.0], "hours_high": [40.0]}, index=["pim"])
    >>> plot_hours(table, {"pim": "PiM"}, "assumed").axes[0].get_xscale()
    'log'
    """
    figure = Figure(figsize=(WIDTH["page"], 0.26 * len(titles) + 1.2), layout="constrained")
    ax = figure.subplots()
    places = range(len(titles))
    low, high = table.loc[list(titles), "hours_low"], table.loc[list(titles), "hours_high"]
    ax.barh(places, high - low, left=low, color=PALETTE[0], height=0.6)
    ax.set_yticks(places, titles.values())
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.set_xlim(low.min() / 1.6, high.max() * 1.6)
    ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low.min() / 1.6 <= n <= high.max() * 1.6]
    ax.set_xticks(ticks, [str(n) for n in ticks])
    ax.minorticks_off()
    ax.grid(axis="x", alpha=0.4)
    ax.set_axisbelow(True)
    ax.set_xlabel(f"GPU-hours of one training, extrapolated\n({assumption})")
    return figure


def plot_detectable(
    seeds: Sequence[int], curves: Mapping[str, Sequence[float]], published: Mapping[str, float]
) -> Figure:
    """Curves of the smallest difference that a number of seeds shows; published differences as horizontal lines.

    Args:
        seeds: numbers of trainings of each arm.
        curves: legend -> detectable difference in points, for each of ``seeds``.
        published: what -> difference in points.

    >>> len(plot_detectable([2, 3], {"spread 0.5": [2.7, 1.5]}, {"Table 2": 1.46}).axes[0].lines)
    2
    """
    figure = Figure(figsize=(WIDTH["wide"], 3.8), layout="constrained")
    ax = figure.subplots()
    for color, marker, (name, values) in zip(PALETTE, "osD^", curves.items()):
        ax.plot(seeds, values, marker=marker, markersize=4, color=color, label=name)
    for name, value in published.items():
        ax.axhline(value, color=PALETTE[7], linewidth=0.8, linestyle="--")
        ax.text(1.01, value, f"{name}: {value:.2f}", transform=ax.get_yaxis_transform(), va="center", fontsize="small")
    ax.set_yscale("log")
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]
    bottom, top = ax.get_ylim()
    ax.set_yticks([n for n in ticks if bottom <= n <= top], [f"{n:g}" for n in ticks if bottom <= n <= top])
    ax.minorticks_off()
    ax.set_xticks(seeds)
    ax.set(xlabel="trainings (seeds) of each arm", ylabel="smallest difference shown (points of DSC)")
    ax.legend(title="standard deviation between seeds", fontsize="small", title_fontsize="small")
    return figure
