"""Choose an order, a mixer and a window, and see at once how a map is read and what one untrained block then sees."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets
import pandas as pd
import torch
from IPython.display import display
from matplotlib.figure import Figure

from lkm_kit.blocks import DIRECTIONS, MIXERS, ORDERS, PiM
from lkm_kit.blocks.locality import locality
from lkm_kit.erf import Change, ErfMap, Probe, erf, measures, support
from lkm_kit.errors import KitError
from lkm_kit.plots.orders import draw_scan
from lkm_kit.shapes import size_text
from lkm_kit.widgets.token_order import fitting_windows, token_places

SEVERAL = "directions: "
"""What stands before the name of a set of directions, which may also be that of an order."""
SHOWN = ("n_eff", "area_50", "area_90", "direction_0", "direction_1")


class ScanExplorer(widgets.VBox):
    """The field's three choices, order × mixer × window, each moved on its own: order drawn, field measured.

    A field is that of the change that one untrained PiM makes at a pixel: its input, which it adds, is left out.

    Args:
        size: (H, W) of the map.
        window: to begin with; one of :func:`lkm_kit.widgets.token_order.fitting_windows`.
        channels: of the map.

    ``block``, ``map`` (an :class:`lkm_kit.erf.ErfMap`) and ``table`` say what is shown: tokens of a sequence, pixels
    with a path to the probe, measures of the field. Also how many neighbours share a sequence, and how far apart they
    are in it. What the kit refuses (attention in an order that is no grid) is said, and the picture stays.

    >>> explorer = ScanExplorer((8, 8), window=4)
    >>> explorer.order.value, explorer.mixer.value = "dilated", "mean"
    >>> explorer.table.loc["dilated, mean", ["tokens", "pixels with a path"]].tolist()
    [4, 4]
    """

    def __init__(self, size: Sequence[int] = (24, 24), window: int = 8, channels: int = 8):
        height, width = self.size = tuple(size)
        self.channels = channels
        options = [(size_text(sides), sides) for sides in fitting_windows(self.size)]
        sets = [SEVERAL + name for name in DIRECTIONS if name != "both-ways"]
        self.order = widgets.Dropdown(options=[*ORDERS, *sets], description="order")
        self.mixer = widgets.Dropdown(options=list(MIXERS), description="mixer")
        self.both = widgets.Checkbox(True, description="both ways")
        self.window = widgets.SelectionSlider(options=options, value=(window, window), description="window")
        self.row = widgets.IntSlider(5 * height // 12, max=height - 1, description="row", continuous_update=False)
        self.column = widgets.IntSlider(5 * width // 12, max=width - 1, description="column", continuous_update=False)
        self.seed = widgets.IntSlider(0, max=9, description="random start", continuous_update=False)
        self.output, self.numbers, self.message = widgets.Output(), widgets.Output(), widgets.HTML()
        self.figure = Figure(figsize=(9.2, 4.6), layout="constrained")
        self.block: PiM | None = None
        self.map: ErfMap | None = None
        self.table = pd.DataFrame()
        for control in (self.order, self.mixer, self.both, self.window, self.row, self.column, self.seed):
            control.observe(self._compute, names="value")
        super().__init__([
            widgets.HBox([self.order, self.mixer, self.both]),
            widgets.HBox([self.window, self.seed]),
            widgets.HBox([self.row, self.column]),
            self.message,
            self.output,
            self.numbers,
        ])  # fmt: skip
        self._compute()

    @property
    def orders(self) -> list[str]:
        """Orders that the chosen block reads: one, or those of its set of directions."""
        chosen = self.order.value
        if not chosen.startswith(SEVERAL):
            return [chosen]
        return list(dict.fromkeys(order or "contiguous" for order, _ in DIRECTIONS[chosen.removeprefix(SEVERAL)]))

    def _make_block(self) -> PiM:
        chosen = self.order.value
        several = chosen.startswith(SEVERAL)
        how = {"directions": chosen.removeprefix(SEVERAL)} if several else {"partition": chosen}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed.value)
            return PiM(
                self.channels, self.window.value, bidirectional=self.both.value, mixer=self.mixer.value, **how
            ).eval()

    def _compute(self, _change=None) -> None:
        probe = Probe(position=(self.row.value, self.column.value))
        image = torch.randn(1, self.channels, *self.size, generator=torch.Generator().manual_seed(self.seed.value))
        try:
            block = self._make_block()
            field, seen = erf(Change(block), image, probe), support(Change(block), image, probe)
        except KitError as error:  # a mixer that cannot read this order: say it, and keep what was there
            self.message.value = f"<b>{error.message}</b>: {error.remedy}"
            return
        self.message.value, self.block, self.map = "", block, field
        near = locality(self.size, self.window.value, self.orders[0])
        row = {
            "tokens": block.layout(self.size)[2],
            "pixels with a path": int(seen.sum()),
            "neighbours together": round(near.together, 3),
            "tokens apart": round(near.distance, 2),
        }
        found = measures({f"{self.order.value}, {self.mixer.value}": field})
        self.table = found[[name for name in SHOWN if name in found]].round(3)
        for place, (name, value) in enumerate(row.items()):
            self.table.insert(place, name, value)
        self._draw()

    def _draw(self) -> None:
        drawn = {order: token_places(self.size, self.window.value, order) for order in self.orders}
        draw_scan(self.figure, drawn, self.map, f"what one block of {self.mixer.value} sees")
        for output, what in ((self.output, self.figure), (self.numbers, self.table)):
            output.clear_output(wait=True)
            with output:
                display(what)
