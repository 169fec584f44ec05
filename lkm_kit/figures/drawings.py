"""What the drawings of ideas are made of: a sheet measured in inches, boxes, arrows and maps of squares.

A drawing is a white sheet with dark letters, so that it reads the same on a light and on a dark page. Its numbers are
computed by the function that draws it, with the library where the library has them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from lkm_kit.plots.style import PALETTE, WIDTH

BLUE, ORANGE, GREEN, PINK, SKY, RED, BROWN, DARK = PALETTE
LETTERS = 10.5
Point = tuple[float, float]


def sheet(height: float, width: float = WIDTH["page"]) -> tuple[Figure, Axes]:
    """A white page without axes; coordinates are inches from its lower left corner.

    >>> figure, axes = sheet(2.0)
    >>> axes.get_ylim() == (0.0, 2.0)
    True
    """
    figure = Figure(figsize=(width, height), layout="none", facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
    return figure, axes


def tint(color: str, strength: float = 0.2) -> tuple[float, ...]:
    """The colour on white paper, thinned to ``strength``.

    >>> tint("#000000", 0.0)
    (1.0, 1.0, 1.0)
    """
    return tuple(1 - strength * (1 - part) for part in to_rgb(color))


def say(ax: Axes, at: Point, text: str, color: str = DARK, letters: float = LETTERS, **options) -> None:
    """Write a text, centred unless ``ha`` and ``va`` say otherwise."""
    ax.text(
        *at,
        text,
        color=color,
        fontsize=letters,
        **{"ha": "center", "va": "center_baseline", "linespacing": 1.35, **options},
    )


def box(
    ax: Axes, center: Point, size: Point, text: str = "", color: str = DARK, letters: float = LETTERS, **options
) -> None:
    """A rounded box with a text in it; ``size`` (width, height) in inches, ``letters`` in points."""
    corner = center[0] - size[0] / 2, center[1] - size[1] / 2
    style = "round,pad=0,rounding_size=0.08"
    ax.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, facecolor=tint(color), edgecolor=color, linewidth=1.2))
    say(ax, center, text, "black", letters, **options)


def ring(ax: Axes, center: Point, text: str) -> None:
    """A sum or a product: a small circle with its sign."""
    ax.add_patch(Circle(center, 0.16, facecolor="white", edgecolor=RED, linewidth=1.2))
    say(ax, center, text, "black", va="center")


def signed(number: float) -> str:
    """A number with a minus sign, where a computer writes a hyphen.

    >>> signed(-1.0)
    '−1'
    """
    return f"{number:g}".replace("-", "−")


def arrow(ax: Axes, start: Point, end: Point, color: str = DARK, bend: float = 0.0, **options) -> None:
    """An arrow, straight or bent."""
    look = {"arrowstyle": "-|>", "mutation_scale": 11, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0, **options}
    ax.add_patch(FancyArrowPatch(start, end, color=color, connectionstyle=f"arc3,rad={bend}", **look))


def squares(
    ax: Axes, corner: Point, colors: np.ndarray, side: float, numbers: np.ndarray | None = None, size: float = 8
) -> None:
    """A map as squares: ``corner`` is its upper left one, ``colors`` (rows, columns, 3), a number in each if wanted."""
    for (row, column), _ in np.ndenumerate(colors[..., 0]):
        x, y = corner[0] + column * side, corner[1] - (row + 1) * side
        ax.add_patch(Rectangle((x, y), side, side, facecolor=colors[row, column], edgecolor="white", linewidth=0.8))
        if numbers is not None:
            say(ax, (x + side / 2, y + side / 2), f"{numbers[row, column]}", "black", size)


def frame(ax: Axes, corner: Point, cells: Sequence[int], side: float, color: str = DARK, **options) -> None:
    """Outline of (top, left, rows, columns) squares of a map."""
    top, left, rows, columns = cells
    at = corner[0] + left * side, corner[1] - (top + rows) * side
    ax.add_patch(
        Rectangle(at, columns * side, rows * side, fill=False, edgecolor=color, **{"linewidth": 1.6, **options})
    )


def path(ax: Axes, corner: Point, places: np.ndarray, side: float, color: str = DARK) -> None:
    """The way of a scan over the squares ``places`` (tokens, 2), with an arrow at its end."""
    points = [(corner[0] + (c + 0.5) * side, corner[1] - (r + 0.5) * side) for r, c in places]
    ax.plot(*zip(*points), color=color, linewidth=1.1)
    arrow(ax, points[-2], points[-1], color, mutation_scale=9)


def shades(values: np.ndarray, color: str = BLUE) -> np.ndarray:
    """(rows, columns) of numbers between 0 and 1 → colours from white to ``color``.

    >>> shades(np.zeros((1, 1))).tolist()
    [[[1.0, 1.0, 1.0]]]
    """
    return 1 - np.clip(values, 0, 1)[..., None] * (1 - np.array(to_rgb(color)))
