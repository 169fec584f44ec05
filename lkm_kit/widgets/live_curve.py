"""A loss and DSC curve that grows while a network trains: give it to ``train(..., watch=LiveCurve(...))``."""

from __future__ import annotations

import time
from typing import Any


class LiveCurve:
    """Redraw :func:`lkm_kit.plots.training.plot_live` in one place of the notebook, at most every ``seconds``.

    Args:
        iterations: length of the horizontal axis, in steps.
        title: above the curve.
        seconds: pause between two drawings; drawing must not cost the training its time.

    The last drawing stays in the notebook, so a saved chapter shows the finished curve. Outside a notebook it collects
    the losses and draws nothing.

    >>> curve = LiveCurve(iterations=3)
    >>> for step, loss in enumerate([2.0, 1.5, 1.1], start=1):
    ...     curve(step, loss, [])
    >>> curve.losses
    [2.0, 1.5, 1.1]
    """

    def __init__(self, iterations: int, title: str = "", seconds: float = 2.0):
        self.iterations, self.title, self.seconds = iterations, title, seconds
        self.steps: list[int] = []
        self.losses: list[float] = []
        self._handle, self._drawn = None, 0.0

    def __call__(self, step: int, loss: float, history: list[dict[str, Any]]) -> None:
        self.steps.append(step)
        self.losses.append(loss)
        if step == self.iterations or time.monotonic() - self._drawn > self.seconds:
            self._draw(history)

    def _draw(self, history: list[dict[str, Any]]) -> None:
        try:
            from IPython import get_ipython
            from IPython.display import display
        except ImportError:
            return
        if get_ipython() is None:
            return
        from lkm_kit.plots.training import plot_live

        figure = plot_live(self.steps, self.losses, history, self.iterations, self.title)
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)
        self._drawn = time.monotonic()
