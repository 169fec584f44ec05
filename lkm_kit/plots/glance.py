"""Three panels that say what the kit is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from lkm_kit.plots.erf import show_map
from lkm_kit.plots.orders import draw_order
from lkm_kit.plots.style import PALETTE, WIDTH

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from lkm_kit.erf import ErfMap
    from lkm_kit.plots.orders import Places


def plot_glance(order: Places, image: np.ndarray, field: ErfMap, study: pd.DataFrame) -> Figure:
    """An order's path, a receptive field over its image, and arms of a study with their intervals.

    Args:
        order: (sequence, place), integer arrays (H, W), as :func:`lkm_kit.blocks.locality.places` gives them.
        image: (H, W), grey.
        field: receptive field of one of its pixels.
        study: columns title, difference, low, high in points of DSC; a row an arm, from the top down.

    >>> import numpy as np, pandas as pd, torch
    >>> from lkm_kit.erf import ErfMap
    >>> one = np.zeros((8, 8), int), np.arange(64).reshape(8, 8)
    >>> arms = pd.DataFrame({"title": ["PiM"], "difference": [-0.3], "low": [-0.7], "high": [0.1]})
    >>> figure = plot_glance(one, np.eye(4), ErfMap.at(torch.ones(4, 4)), arms)
    >>> [ax.get_title() for ax in figure.axes][0]
    'choose how pixels are read'
    """
    figure = Figure(figsize=(WIDTH["wide"], 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.6))
    draw_order(left, *order, (len(order[0]) // 2, len(order[0]) // 3))
    left.set_title("choose how pixels are read")
    show_map(middle, field, image=image)
    middle.set(title="see what a network uses", xticks=[], yticks=[])
    heights = range(len(study))[::-1]
    right.axvline(0, color="0.3", linewidth=0.9)
    right.hlines(heights, study["low"], study["high"], color=PALETTE[0], linewidth=1.5)
    right.plot(study["difference"], list(heights), "o", color=PALETTE[0])
    right.set_yticks(list(heights), list(study["title"]))
    right.set(xlabel="DSC minus network without Mamba (points)", ylim=(-0.6, len(study) - 0.4))
    right.set_title("ask what it is worth")
    return figure
