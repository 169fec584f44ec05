"""Validation DSC against steps, a panel an arm, a colour a learning rate: of a sweep, and of a study."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lkm_kit.plots.style import CMAP, PALETTE, WIDTH, literal

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist

STYLES = ("-", "--", ":", "-.")


def plot_curves(
    curves: pd.DataFrame, titles: Mapping[str, str], best: pd.DataFrame | None = None, about_it: str = ""
) -> Figure:
    """Every training a thin line, their mean a thick one; the last quarter of the steps is shaded.

    The axis begins a little below what had been reached by half of the steps, so that the ends can be told apart.

    Args:
        curves: of :func:`lkm_kit.studies.learning.history`, of all trainings.
        titles: arm → what to print; also the order of the panels.
        best: of :func:`lkm_kit.studies.sweep.best`: the end of each arm's best rate is ringed.
        about_it: whose scores these are, in a line above the figure.

    >>> import pandas as pd
    >>> seen = {"arm": "a", "rate": 0.01, "warmup": 0.1, "seed": 1000, "step": [50, 100], "DSC": [0.4, 0.8]}
    >>> [ax.get_title() for ax in plot_curves(pd.DataFrame(seen), {"a": "PiM"}).axes]
    ['PiM']
    """
    columns = min(4, len(titles))
    rows = math.ceil(len(titles) / columns)
    figure = Figure(figsize=(WIDTH["wide"] * max(0.5, columns / 4), 2.0 * rows + 1.2), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    rates, warmups = (sorted(curves[name].unique()) for name in ("rate", "warmup"))
    # the palest fifth of the map is left out: it cannot be seen on white
    norm = LogNorm(rates[0], rates[-1] * (rates[-1] / rates[0]) ** 0.25) if len(rates) > 1 else None
    cmap = matplotlib.colormaps[CMAP]
    colors = {rate: cmap(float(norm(rate))) if norm else PALETTE[0] for rate in rates}
    styles = {warmup: STYLES[i % len(STYLES)] for i, warmup in enumerate(warmups)}
    for panel, (arm, title) in zip(panels.flat, titles.items()):
        mine = curves[curves["arm"] == arm]
        for (rate, warmup), runs in mine.groupby(["rate", "warmup"]):
            each = [name for name in ("seed", "fold") if name in runs]
            by_seed = 100 * runs.pivot(index="step", columns=each, values="DSC")
            look = {"color": colors[rate], "linestyle": styles[warmup]}
            panel.plot(by_seed.index, by_seed, linewidth=0.6, alpha=0.6, **look)
            mean = by_seed.mean(axis=1, skipna=False)
            panel.plot(mean.index, mean, linewidth=1.8, **look)
            if best is not None and arm in best.index and (rate, warmup) == (best["rate"][arm], best["warmup"][arm]):
                panel.plot(mean.index[-1], mean.iloc[-1], "o", color=colors[rate], markersize=8, fillstyle="none")
                said = f"best: {rate:g}" + (f", warm-up {100 * warmup:g} %" if len(warmups) > 1 else "")
                panel.text(0.97, 0.05, said, transform=panel.transAxes, ha="right")
        end = mine["step"].max()
        panel.axvspan(0.75 * end, end, color=PALETTE[7], alpha=0.08, linewidth=0)
        panel.set_title(textwrap.fill(literal(title), 24))
    for panel in panels.flat[len(titles) :]:
        panel.set_visible(False)
    panels[0, 0].set_ylim(*_range(curves))
    for panel in panels.flat[max(0, len(titles) - columns) : len(titles)]:  # the lowest of each column
        panel.set_xlabel("optimiser steps")
        panel.tick_params(labelbottom=True)
    for panel in panels[:, 0]:
        panel.set_ylabel("validation DSC (%)")
    lines = _signs(several=_several(curves), ringed=best is not None)
    lines += [panels[0, 0].plot([], [], color=colors[rate], label=f"learning rate {rate:g}")[0] for rate in rates]
    if len(warmups) > 1:
        shares = ((f"warm-up {100 * warmup:g} % of the steps", styles[warmup]) for warmup in warmups)
        lines += [panels[0, 0].plot([], [], style, color=PALETTE[7], label=label)[0] for label, style in shares]
    figure.legend(handles=lines, loc="outside lower center", ncols=min(3, columns))
    if about_it:
        figure.suptitle(literal(about_it), fontsize=10)
    return figure


def _several(curves: pd.DataFrame) -> bool:
    """Whether a line is a mean: some arm was trained more than once at one setting."""
    return curves.groupby(["arm", "rate", "warmup", "step"]).size().max() > 1


def _signs(several: bool, ringed: bool) -> list[Artist]:
    """What is the same in every panel, for the legend."""
    grey = {"color": PALETTE[7]}
    signs = [Line2D([], [], linewidth=0.6, alpha=0.6, label="one training", **grey)] if several else []
    signs.append(Line2D([], [], linewidth=1.8, label="mean" if several else "one training", **grey))
    signs.append(Patch(alpha=0.08, label="last quarter of the steps", **grey))
    if ringed:
        signs.append(Line2D([], [], marker="o", ls="", ms=8, fillstyle="none", label="the arm's best rate", **grey))
    return signs


def _range(curves: pd.DataFrame) -> tuple[float, float]:
    late = 100 * curves.loc[curves["step"] >= curves.groupby("arm")["step"].transform("max") / 2, "DSC"].dropna()
    if not len(late):
        return 0.0, 100.0
    return max(0.0, 5 * math.floor(late.min() / 5) - 5.0), min(100.0, 5 * math.ceil(late.max() / 5) + 1.0)
