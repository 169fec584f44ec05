"""A figure that hears clicks where ipympl is installed, and is shown as a picture where it is not."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import ipywidgets as widgets
from IPython.display import display
from matplotlib.figure import Figure


def clickable(figure: Figure, click: Callable[[Any], None]) -> widgets.Widget:
    """The place of a figure among controls.

    Args:
        figure: drawn into by its owner, who then calls :func:`show`.
        click: gets matplotlib's event of a mouse button.

    >>> isinstance(clickable(Figure(), print), widgets.Widget)
    True
    """
    if find_spec("ipympl") is None:
        return widgets.Output()
    from ipympl.backend_nbagg import Canvas, FigureManager

    canvas = Canvas(figure)
    FigureManager(canvas, 0)
    canvas.header_visible = canvas.toolbar_visible = canvas.footer_visible = False
    canvas.mpl_connect("button_press_event", click)
    return canvas


def show(canvas: widgets.Widget, figure: Figure) -> None:
    """Bring what was drawn into ``figure`` to the reader."""
    if isinstance(canvas, widgets.Output):
        canvas.clear_output(wait=True)
        with canvas:
            display(figure)
    else:
        canvas.draw_idle()
