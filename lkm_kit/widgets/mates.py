"""Click a pixel: who shares its sequence, how long before or after it is read, and how far away it lies."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from lkm_kit.blocks import ORDERS
from lkm_kit.plots.orders import draw_mates
from lkm_kit.shapes import size_text
from lkm_kit.widgets.canvas import clickable, show
from lkm_kit.widgets.token_order import fitting_windows, token_places


class MatesExplorer(widgets.VBox):
    """A map in which a pixel is chosen, by a click (with ipympl installed) or by two sliders, and its sequence shown.

    Args:
        size: (H, W) of the map.
        window: side to begin with; a divisor of both sides of the map.

    ``apart`` (H, W) says how many tokens after the chosen pixel each one is read, negative for before, NaN for never in
    the same sequence. ``farthest`` is the largest distance in pixels within the sequence.

    >>> explorer = MatesExplorer((8, 8), window=4)
    >>> explorer.row.value, explorer.column.value = 1, 2
    >>> explorer.apart[[2, 1, 1], [2, 1, 4]].tolist()  # below, left, and over the border
    [4.0, -1.0, nan]
    """

    def __init__(self, size: Sequence[int] = (12, 12), window: int = 4):
        self.size = height, width = tuple(size)
        options = [(size_text(sides), sides) for sides in fitting_windows(self.size)]
        self.window = widgets.SelectionSlider(options=options, value=(window, window), description="window")
        self.order = widgets.Dropdown(options=list(ORDERS), description="order")
        self.row = widgets.IntSlider(height // 2, max=height - 1, description="row")
        self.column = widgets.IntSlider(width // 2, max=width - 1, description="column")
        self.message = widgets.HTML()
        self.figure = Figure(figsize=(5.2, 4.2), layout="constrained")
        self.apart = np.zeros(self.size)
        self.farthest = 0.0
        self._held = False
        self.canvas = clickable(self.figure, self.click)
        for control in (self.window, self.order, self.row, self.column):
            control.observe(self._draw, names="value")
        rows = [widgets.HBox([self.window, self.order]), widgets.HBox([self.row, self.column])]
        super().__init__([*rows, self.message, self.canvas])
        self._draw()

    def click(self, event) -> None:
        """Choose the pixel where the mouse was pressed (a matplotlib event)."""
        if event.inaxes is not self.figure.axes[0] or event.xdata is None:
            return
        self._held = True  # one picture for two sliders
        self.row.value = int(np.clip(round(event.ydata), 0, self.row.max))
        self.column.value = int(np.clip(round(event.xdata), 0, self.column.max))
        self._held = False
        self._draw()

    def _draw(self, _change=None) -> None:
        if self._held:
            return
        pixel = self.row.value, self.column.value
        sequence, place = token_places(self.size, self.window.value, self.order.value)
        together = sequence == sequence[pixel]
        self.apart = np.where(together, (place - place[pixel]).astype(float), np.nan)
        self.farthest = float(np.hypot(*(np.argwhere(together) - pixel).T).max())
        near = {"right": (0, 1), "below": (1, 0)}
        said = [f"{int(together.sum()) - 1} pixels share its sequence, the farthest {self.farthest:.1f} pixels away"]
        for name, step in near.items():
            row, column = pixel[0] + step[0], pixel[1] + step[1]
            if row < self.size[0] and column < self.size[1]:
                gap = self.apart[row, column]
                said.append(f"the neighbour {name}: " + ("never" if np.isnan(gap) else f"{gap:+.0f} tokens"))
        self.message.value = "; ".join(said)
        draw_mates(self.figure, self.apart, pixel)
        show(self.canvas, self.figure)
