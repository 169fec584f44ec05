"""A loss and DSC curve that grows while a network trains: give it to ``train(..., watch=LiveCurve(...))``."""

from __future__ import annotations

import os
import time
from typing import Any

SHARE = 0.05
"""Of a training's time, what drawing may take at most."""


class LiveCurve:
    """Redraw :func:`lkm_kit.plots.training.plot_live` in one place of the notebook, at most every ``seconds``.

    Drawing takes :data:`SHARE` of the time at most. Where nobody watches it waits for the last step: ``lkm course
    build`` says so by LKM_UNWATCHED=1.

    Args:
        iterations: length of the horizontal axis, in steps.
        title: above the curve.
        seconds: shortest pause between two drawings.

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
        self._handle, self._next = None, 0.0
        if os.environ.get("LKM_UNWATCHED") == "1":
            self._next = float("inf")

    def __call__(self, step: int, loss: float, history: list[dict[str, Any]]) -> None:
        self.steps.append(step)
        self.losses.append(loss)
        if step == self.iterations or time.monotonic() > self._next:
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

        began = time.monotonic()
        figure = plot_live(self.steps, self.losses, history, self.iterations, self.title)
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)
        now = time.monotonic()
        self._next = now + max(self.seconds, (now - began) / SHARE)
