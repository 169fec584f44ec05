"""Tables of numbers as pictures side by side, with one colour scale for all."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lkm_kit.plots.style import CMAP, WIDTH, ink

TOKENS = {"xlabel": "token s that is read", "ylabel": "token t that is written"}
"""Labels of a matrix of tokens."""


def _log(low: float, high: float) -> Normalize:
    return LogNorm(low, high) if low < high else Normalize()


SCALES: dict[str, Callable[[float, float, float], Normalize]] = {
    "from zero": lambda low, smallest, high: Normalize(0, high),
    "range": lambda low, smallest, high: Normalize(low, high),
    "log": lambda low, smallest, high: _log(smallest, high),
    "signed": lambda low, smallest, high: Normalize(-max(high, -low), max(high, -low)),
    "signed log": lambda low, smallest, high: SymLogNorm(
        max(high, -low) / 100, vmin=-max(high, -low), vmax=max(high, -low)
    ),
}
"""Of the smallest number, the smallest above zero and the largest of all maps. "log" leaves zeros white."""


def plot_maps(
    maps: Mapping[str, np.ndarray],
    label: str,
    *,
    scale: str = "from zero",
    xlabel: str = "column (pixel)",
    ylabel: str = "row (pixel)",
    numbers: str = "",
    size: tuple[float, float] | None = None,
) -> Figure:
    """Draw maps side by side.

    Args:
        maps: title → (rows, columns); nan is left white.
        label: of the colour scale: what the numbers are.
        scale: of :data:`SCALES`.
        xlabel, ylabel: of rows and columns; :data:`TOKENS` for a matrix of tokens.
        numbers: format of the value written into each place, such as ".1f"; empty writes none.
        size: height and width that all maps are stretched to, where they differ in their pixels.

    >>> len(plot_maps({"a": np.ones((3, 3)), "b": np.eye(3)}, "Jacobian norm", scale="log").axes)
    3
    """
    wide = WIDTH["wide" if len(maps) > 2 else "page"]
    figure = Figure(figsize=(wide, wide / len(maps) * 0.8 + 0.6), layout="constrained")
    axes = figure.subplots(1, len(maps), squeeze=False, sharey=size is None)[0]
    every = np.concatenate([np.ravel(values) for values in maps.values()])
    every = every[np.isfinite(every)]
    norm = SCALES[scale](every.min(), every[every > 0].min(initial=np.inf), every.max())
    extent = None if size is None else (0, size[1], size[0], 0)
    for ax, (title, values) in zip(axes, maps.items()):
        shown = np.ma.masked_equal(values, 0) if scale == "log" else np.ma.masked_invalid(values)
        cmap = "RdBu_r" if scale.startswith("signed") else CMAP
        picture = ax.imshow(shown, cmap=cmap, norm=norm, extent=extent)
        for (row, column), value in np.ndenumerate(values) if numbers else ():
            look = {"color": ink(picture.to_rgba(value)), "fontsize": 8, "ha": "center", "va": "center"}
            ax.text(column, row, format(value, numbers), **look)
        ax.set(title=title, xlabel=xlabel)
        for axis in (ax.xaxis, ax.yaxis):  # tokens and pixels have no halves
            axis.set_major_locator(MaxNLocator(6, integer=True))
    axes[0].set_ylabel(ylabel)
    bar = figure.colorbar(picture, ax=list(axes), label=textwrap.fill(label, 24), shrink=0.85)
    if isinstance(norm, SymLogNorm):  # below the threshold it is linear: powers of ten would be written over the zero
        bar.set_ticks([tick for tick in bar.get_ticks() if tick == 0 or norm.linthresh < abs(tick) <= norm.vmax])
    return figure
