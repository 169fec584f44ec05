"""Click a pixel and see what the network sees there: effective receptive fields, live, for one network or two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure
from torch import Tensor, nn

from lkm_kit.erf import ErfMap, Probe, erf, measures
from lkm_kit.plots.erf import draw_explorer
from lkm_kit.widgets.canvas import clickable, show

SHOWN = (
    "own_pixel",
    "n_eff",
    "area_50",
    "area_90",
    "locality",
    "enrichment",
    "seam_index",
    "direction_0",
    "direction_1",
)


class ErfExplorer(widgets.VBox):
    """An image with the effective receptive field of one pixel laid over it; choose network, layer, class and more.

    A click on either panel moves the probe in all panels (with ipympl installed); two sliders do the same everywhere.

    Args:
        networks: one network, or name → network, in evaluation mode. Two are shown side by side; choose from more.
        image: (1, channels, H, W), normalised as for the networks; the first channel is drawn.
        classes: names of the logits, background first; default numbers.
        layers: other modules to ask, beside the logits; they must exist in every network.
        windows: layer → side of its window, to be outlined; the logits' is that of the first stage.

    ``maps`` (name → :class:`lkm_kit.erf.ErfMap`), ``table`` (its measures) and ``probe`` say what is shown. Every
    control is an attribute, so that a script can move it.

    Raises:
        KitError: what :func:`lkm_kit.erf.erf` refuses.

    >>> import torch
    >>> explorer = ErfExplorer({"a convolution": nn.Conv2d(1, 2, 3, padding=1)}, torch.zeros(1, 1, 9, 9))
    >>> explorer.row.value = 2
    >>> explorer.probe.position, int((explorer.maps["a convolution"].values > 0).sum())
    ((2, 4), 9)
    """

    def __init__(
        self,
        networks: nn.Module | Mapping[str, nn.Module],
        image: Tensor,
        *,
        classes: Sequence[str] = (),
        layers: Sequence[str] = (),
        windows: Mapping[str, int] | None = None,
    ):
        if isinstance(networks, nn.Module):
            networks = {type(networks).__name__: networks}
        self.networks, self.image, self.windows = dict(networks), image, dict(windows or {})
        names, (height, width) = list(self.networks), image.shape[-2:]
        self.network = widgets.Dropdown(options=names, description="network")
        self.other = widgets.Dropdown(
            options=["(none)", *names], value=names[1] if len(names) > 1 else "(none)", description="beside it"
        )
        self.layer = widgets.Dropdown(options=["logit", *layers], description="layer")
        self.cls = widgets.Dropdown(
            options=[("all", None), *((name, k) for k, name in enumerate(classes))], description="class"
        )
        self.norm_stats = widgets.ToggleButtons(options=["frozen", "live"], description="statistics")
        self.decades = widgets.IntSlider(4, min=1, max=8, description="10⁻ⁿ shown")
        self.row = widgets.IntSlider(height // 2, min=0, max=height - 1, description="row", continuous_update=False)
        self.column = widgets.IntSlider(width // 2, min=0, max=width - 1, description="column", continuous_update=False)
        self.numbers, self.message = widgets.Output(), widgets.HTML()
        self.figure = Figure(figsize=(9.2, 4.3), layout="constrained")
        self.maps: dict[str, ErfMap] = {}
        self.table = pd.DataFrame()
        self._held = False
        self.canvas = clickable(self.figure, self.click)
        for control in (self.network, self.other, self.layer, self.cls, self.norm_stats, self.row, self.column):
            control.observe(self._compute, names="value")
        self.decades.observe(self._draw, names="value")
        super().__init__([
            widgets.HBox([self.network, self.other, self.layer]),
            widgets.HBox([self.cls, self.norm_stats, self.decades]),
            widgets.HBox([self.row, self.column]),
            self.message,
            self.canvas,
            self.numbers,
        ])  # fmt: skip
        self._compute()

    @property
    def probe(self) -> Probe:
        """What is asked, for a layer with the image's own size; deeper layers are asked at the cell of that pixel."""
        return Probe(position=(self.row.value, self.column.value), cls=self.cls.value)

    def click(self, event) -> None:
        """Move the probe to where the mouse was pressed (a matplotlib event)."""
        if event.inaxes is None or event.xdata is None or not self.maps:
            return
        row, column = round(event.ydata), round(event.xdata)
        self._held = True  # one computation for two sliders
        self.row.value = int(np.clip(row, 0, self.row.max))
        self.column.value = int(np.clip(column, 0, self.column.max))
        self._held = False
        self._compute()

    def _compute(self, _change=None) -> None:
        if self._held:
            return
        from lkm_kit.errors import KitError

        chosen = [self.network.value] + [n for n in (self.other.value,) if n not in ("(none)", self.network.value)]
        try:
            self.maps = {name: self._map(self.networks[name]) for name in chosen}
        except KitError as error:  # a class that this layer has not, and so on: say it, and keep what was there
            self.message.value = f"<b>{error.message}</b>: {error.remedy}"
            return
        self.message.value = ""
        found = measures(self.maps).dropna(axis="columns", how="all")
        self.table = found[[name for name in SHOWN if name in found]]
        self.numbers.clear_output(wait=True)
        with self.numbers:
            display(self.table.round(4))
        self._draw()

    def _map(self, network: nn.Module) -> ErfMap:
        layer, place = self.layer.value, self.probe.position
        cls = self.cls.value if layer == "logit" else None
        window = self.windows.get(layer)
        if layer != "logit":
            grid = erf(network, self.image, Probe(layer=layer), norm_stats=self.norm_stats.value).grid
            place = tuple(q * n // size for q, n, size in zip(place, grid, self.image.shape[-2:]))
        return erf(network, self.image, Probe(layer, place, cls, window=window), norm_stats=self.norm_stats.value)

    def _draw(self, _change=None) -> None:
        draw_explorer(self.figure, self.image[0, 0].numpy(), self.maps, self.decades.value)
        show(self.canvas, self.figure)
