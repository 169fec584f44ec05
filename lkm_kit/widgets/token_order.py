"""Walk through a map in the order in which a state-space model reads it, by slider or as an animation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import ipywidgets as widgets
import numpy as np
from IPython.display import Image, display
from matplotlib.figure import Figure

from lkm_kit.blocks import ORDERS
from lkm_kit.blocks.locality import places
from lkm_kit.plots import sequences as plots
from lkm_kit.shapes import per_axis, size_text


def token_places(
    size: Sequence[int], window: int | Sequence[int], partition: str = "contiguous"
) -> tuple[np.ndarray, np.ndarray]:
    """Per pixel of a map: the number of its sequence, and its place in that sequence, both from 0.

    Args:
        size: (H, W) or (D, H, W).
        window, partition: as in :func:`lkm_kit.blocks.to_tokens`.

    Raises:
        KitError: a window that does not divide the map.

    >>> sequence, place = token_places((2, 4), 2)
    >>> sequence.tolist(), place.tolist()
    ([[0, 0, 1, 1], [0, 0, 1, 1]], [[0, 1, 0, 1], [2, 3, 2, 3]])
    """
    sequence, place = places(size, window, partition)
    return sequence.numpy(), place.numpy()


def fitting_windows(size: Sequence[int]) -> list[tuple[int, ...]]:
    """Windows with equal sides that divide the map, then the whole map as one window.

    >>> fitting_windows((4, 8))
    [(1, 1), (2, 2), (4, 4), (4, 8)]
    """
    common = math.gcd(*size)
    sides = [(k,) * len(size) for k in range(1, common + 1) if common % k == 0]
    return sides if tuple(size) in sides else [*sides, tuple(size)]


class TokenOrderExplorer(widgets.VBox):
    """Choose a window and a partition, then move or play the steps: which pixel is read now, and which before it?

    Args:
        size: of the map, (H, W) or (D, H, W); every slice of a volume gets a panel.
        window: to begin with; one of :func:`fitting_windows`.

    ``number``, ``token``, ``pixel`` and ``jump`` say where the walk is: number of the sequence and place in it (from
    0), the pixel, and a distance. It is that from the token read before it in the same sequence, in pixels (NaN at a
    start).

    >>> explorer = TokenOrderExplorer((8, 8), 4)
    >>> explorer.step.value = 4  # the fifth token of the first window begins its second row
    >>> explorer.pixel, round(explorer.jump, 2)
    ((1, 0), 3.16)
    """

    def __init__(self, size: Sequence[int] = (12, 12), window: int | Sequence[int] = 4):
        self.size = tuple(size)
        options = [(size_text(sides), sides) for sides in fitting_windows(self.size)]
        start = per_axis(window, len(self.size), "window")
        self.window = widgets.SelectionSlider(options=options, value=start, description="window")
        self.partition = widgets.Dropdown(options=list(ORDERS), description="partition")
        self.step = widgets.IntSlider(0, min=0, max=math.prod(self.size) - 1, description="step")
        play = widgets.Play(min=0, max=self.step.max, interval=250)
        widgets.jslink((play, "value"), (self.step, "value"))
        self.output = widgets.Output()
        self.figure: Figure | None = None
        for control in (self.window, self.partition):
            control.observe(self._cut, names="value")
        self.step.observe(self._draw, names="value")
        super().__init__([widgets.HBox([self.window, self.partition]), widgets.HBox([play, self.step]), self.output])
        self._cut()

    def _cut(self, _change=None) -> None:
        self.sequence, self.place = token_places(self.size, self.window.value, self.partition.value)
        self._draw()

    def _draw(self, _change=None) -> None:
        self.number, self.token = divmod(self.step.value, int(self.place.max()) + 1)
        self.pixel = _pixel(self.sequence, self.place, self.number, self.token)
        before = _pixel(self.sequence, self.place, self.number, self.token - 1) if self.token else (math.nan,)
        self.jump = math.dist(self.pixel, before) if self.token else math.nan
        self.figure = plots.token_walk(self.sequence, self.place, self.number, self.token)
        self.output.clear_output(wait=True)
        with self.output:
            display(self.figure)


def animation(size: Sequence[int], cuts: dict[str, tuple[int, str]], every: int = 1, seconds: float = 0.25) -> Image:
    """The walk through the first sequences of several cuts, side by side, as an animated picture.

    Args:
        size: (H, W) of the map.
        cuts: title → (window, partition).
        every: show every n-th step only.
        seconds: per frame.

    >>> animation((4, 4), {"windows of 2": (2, "contiguous")}, every=8).format
    'gif'
    """
    places = {title: token_places(size, *cut) for title, cut in cuts.items()}

    def frames() -> Iterator[Figure]:
        for step in range(0, math.prod(size), every):
            yield plots.token_walks({title: (*place, step) for title, place in places.items()})

    return Image(data=plots.as_gif(frames(), seconds), format="gif")


def _pixel(sequence: np.ndarray, place: np.ndarray, number: int, token: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere((sequence == number) & (place == token))[0])
