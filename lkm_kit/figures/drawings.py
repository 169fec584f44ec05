"""What the drawings of ideas are made of: a sheet measured in inches, boxes, arrows and maps of squares.

A drawing takes its colours from a theme and names none itself, so that one function gives its light and its dark form.
Its numbers are computed by the function that draws it, with the library where the library has them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from lkm_kit.figures.theme import Theme
from lkm_kit.plots.style import WIDTH

LETTERS = 10.5
Point = tuple[float, float]


def signed(number: float) -> str:
    """A number with a minus sign, where a computer writes a hyphen.

    >>> signed(-1.0)
    '−1'
    """
    return f"{number:g}".replace("-", "−")


class Sheet:
    """A page without axes; coordinates are inches from its lower left corner.

    Args:
        height, width: in inches.
        theme: of its paper, and of what is drawn without a colour.

    >>> from lkm_kit.figures.theme import DARK
    >>> Sheet(2.0, DARK).ax.get_ylim() == (0.0, 2.0)
    True
    """

    def __init__(self, height: float, theme: Theme, width: float = WIDTH["page"]):
        self.theme = theme
        self.figure = Figure(figsize=(width, height), layout="none", facecolor=theme.paper)
        self.ax = self.figure.add_axes((0, 0, 1, 1))
        self.ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
        self.ax.axis("off")

    def say(self, at: Point, text: str, color: str = "", letters: float = LETTERS, **options) -> None:
        """Write a text, centred unless ``ha`` and ``va`` say otherwise."""
        look = {"ha": "center", "va": "center_baseline", "linespacing": 1.35, **options}
        self.ax.text(*at, text, color=color or self.theme.grey, fontsize=letters, **look)

    def box(
        self, center: Point, size: Point, text: str = "", color: str = "", letters: float = LETTERS, **options
    ) -> None:
        """A rounded box with a text in it; ``size`` (width, height) in inches, ``letters`` in points."""
        corner, color = (center[0] - size[0] / 2, center[1] - size[1] / 2), color or self.theme.grey
        look = {"facecolor": self.theme.tint(color), "edgecolor": color, "linewidth": 1.2}
        self.ax.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0,rounding_size=0.08", **look))
        self.say(center, text, self.theme.ink, letters, **options)

    def ring(self, center: Point, text: str) -> None:
        """A sum or a product: a small circle with its sign."""
        look = {"facecolor": self.theme.paper, "edgecolor": self.theme.red, "linewidth": 1.2}
        self.ax.add_patch(Circle(center, 0.16, **look))
        self.say(center, text, self.theme.ink, va="center")

    def arrow(self, start: Point, end: Point, color: str = "", bend: float = 0.0, **options) -> None:
        """An arrow, straight or bent."""
        look = {"arrowstyle": "-|>", "mutation_scale": 11, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0, **options}
        look |= {"color": color or self.theme.grey, "connectionstyle": f"arc3,rad={bend}"}
        self.ax.add_patch(FancyArrowPatch(start, end, **look))

    def squares(
        self, corner: Point, colors: np.ndarray, side: float, numbers: np.ndarray | None = None, size: float = 8
    ) -> None:
        """A map as squares: ``corner`` is its upper left one, ``colors`` (rows, columns, 3), with numbers if wanted."""
        for (row, column), _ in np.ndenumerate(colors[..., 0]):
            x, y = corner[0] + column * side, corner[1] - (row + 1) * side
            look = {"facecolor": colors[row, column], "edgecolor": self.theme.paper, "linewidth": 0.8}
            self.ax.add_patch(Rectangle((x, y), side, side, **look))
            if numbers is not None:
                self.say((x + side / 2, y + side / 2), f"{numbers[row, column]}", self.theme.ink, size)

    def frame(self, corner: Point, cells: Sequence[int], side: float, color: str | Sequence[float] = "", **options):
        """Outline of (top, left, rows, columns) squares of a map."""
        top, left, rows, columns = cells
        at = corner[0] + left * side, corner[1] - (top + rows) * side
        look = {"fill": False, "edgecolor": color or self.theme.grey, "linewidth": 1.6, **options}
        self.ax.add_patch(Rectangle(at, columns * side, rows * side, **look))

    def path(self, corner: Point, places: np.ndarray, side: float, color: str = "") -> None:
        """The way of a scan over the squares ``places`` (tokens, 2), with an arrow at its end."""
        points = [(corner[0] + (c + 0.5) * side, corner[1] - (r + 0.5) * side) for r, c in places]
        self.ax.plot(*zip(*points), color=color or self.theme.grey, linewidth=1.1)
        self.arrow(points[-2], points[-1], color, mutation_scale=9)
