"""Figures of the data chapter: tables and arrays in, Figure out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from lkm_kit.plots.style import PALETTE, WIDTH, label_colors, literal


def plot_intensities(samples: Mapping[tuple[str, str], np.ndarray]) -> Figure:
    """Histograms of intensities inside organs, one panel per case.

    Args:
        samples: (case, organ) -> intensities of its voxels.

    >>> len(plot_intensities({("ct", "liver"): np.arange(9.0)}).axes)
    1
    """
    cases = list(dict.fromkeys(case for case, _ in samples))
    figure = Figure(figsize=(WIDTH["wide"] * min(1, len(cases) / 3), 2.9), layout="constrained")
    for ax, case in zip(figure.subplots(1, len(cases), squeeze=False)[0], cases):
        organs = {organ: values for (name, organ), values in samples.items() if name == case}
        low, high = np.percentile(np.concatenate(list(organs.values())), (0.5, 99.5))
        bins = np.linspace(low, high, 60)
        colors = label_colors(organs)
        for organ, values in organs.items():
            color = colors[organ]  # the outline keeps an organ visible under another one
            look = {"histtype": "stepfilled", "facecolor": (*to_rgb(color), 0.35), "edgecolor": color}
            ax.hist(values, bins, density=True, label=literal(organ), **look)
        ax.set(
            title=literal(case), xlabel="intensity (HU)" if case.startswith("ct") else "intensity (no unit)", yticks=[]
        )
    figure.axes[0].set_ylabel("share of the organ's voxels")
    figure.axes[0].legend()
    return figure


def plot_distributions(groups: Mapping[str, np.ndarray], xlabel: str) -> Figure:
    """Histograms of several groups of numbers over each other, each with its mean as a line.

    Args:
        groups: name -> numbers; groups may differ in size, their areas do not.

    >>> len(plot_distributions({"same person": np.arange(4.0), "others": np.arange(9.0)}, "correlation").axes[0].lines)
    2
    """
    figure = Figure(figsize=(WIDTH["page"], 2.9), layout="constrained")
    ax = figure.subplots()
    together = np.concatenate(list(groups.values()))
    bins = np.linspace(together.min(), together.max() + 1e-9, 31)
    for (name, values), color in zip(groups.items(), PALETTE):
        look = {"histtype": "stepfilled", "facecolor": (*to_rgb(color), 0.35), "edgecolor": color}
        mean = f"mean {np.mean(values):.2f} of {len(values)}"
        ax.hist(values, bins, density=True, label=f"{literal(name)}: {mean}", **look)
        ax.axvline(np.mean(values), color=color, linestyle="--", linewidth=1.2)
    ax.set(xlabel=xlabel, ylabel="share", yticks=[])
    figure.legend(loc="outside upper center", ncols=min(3, len(groups)))
    return figure


def draw_slice(
    figure: Figure,
    grey: np.ndarray,
    label: np.ndarray,
    names: Mapping[int, str],
    title: str,
    *,
    window: tuple[float, float],
    unit: str = "",
    aspect: float = 1.0,
    pixel: tuple[int, int] | None = None,
    axes: tuple[str, str] = ("", ""),
) -> Figure:
    """Clear a figure and draw one slice with its labels over it, and a legend of the organs in view.

    Args:
        grey: (rows, columns) of grey values.
        label: ids of the same pixels, 0 for none.
        names: id -> organ.
        window: grey values drawn black and white.
        unit: of the grey values; empty for none.
        aspect: height of a pixel over its width.
        pixel: (row, column), in a ring.
        axes: what lies along columns and rows.

    >>> len(draw_slice(Figure(), np.zeros((4, 4)), np.eye(4, dtype=int), {1: "liver"}, "z = 0", window=(0, 1)).axes)
    2
    """
    figure.clear()
    figure.set_layout_engine("constrained", rect=(0, 0, 0.74, 1))  # whose legend it is, the picture stays in its place
    ax = figure.subplots()
    picture = ax.imshow(grey, cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect)
    overlay = np.zeros((*label.shape, 4))
    present = [i for i in names if (label == i).any()]
    colors = label_colors(names.values())
    for i in present:
        overlay[label == i] = to_rgba(colors[names[i]], 0.55)
    ax.imshow(overlay, aspect=aspect)
    if pixel is not None:
        (ring,) = ax.plot(pixel[1], pixel[0], "o", color="white", markersize=9, markerfacecolor="none")
        ring.set(markeredgewidth=1.5, path_effects=[withStroke(linewidth=3, foreground="black")])  # seen on bone, too
    ax.set(title=literal(title), xlabel=axes[0], ylabel=axes[1], xticks=[], yticks=[])
    figure.colorbar(picture, ax=ax, label=f"grey value ({unit or 'no unit'})", shrink=0.8, extend="both")
    if present:
        handles = [Patch(color=colors[names[i]], label=literal(names[i])) for i in present]
        figure.legend(handles=handles, loc="center left", bbox_to_anchor=(0.745, 0.5))
    return figure
