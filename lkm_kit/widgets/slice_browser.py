"""A case slice by slice: scroll, choose the grey window, point at a pixel and read what is there."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from lkm_kit.data import Case, LabelTable
from lkm_kit.data.preprocess import clip_range
from lkm_kit.errors import KitError
from lkm_kit.plots.data import draw_slice
from lkm_kit.plots.style import WIDTH
from lkm_kit.plots.volumes import VIEWS, axis_names, grey_range, middle_of
from lkm_kit.widgets.canvas import clickable, show

WINDOWS_HU = {"soft tissue": (40, 400), "lung": (-600, 1500), "bone": (480, 2500)}
"""Centre and width of usual CT windows: the defaults of the OHIF Viewer, a free viewer of medical images (its file
``defaultWindowLevelPresets.ts``). Hospitals and makers differ by some tens of HU, for bone by hundreds."""


class SliceBrowser(widgets.VBox):
    """Slices of a case as a radiologist looks at them, with the labels over them.

    Args:
        case: in RAS order, as every case of the kit; of several channels the first is drawn.
        table: names of its labels; default the kit's organs.
        window: grey values drawn black and white to begin with, HU for CT; default those of the kit's pictures.

    ``voxel`` (i, j, k) lies in the ring. A click moves it (with ipympl installed), and so do the sliders; another
    view shows the plane through it. ``text`` says its place, its grey value and its label.

    Raises:
        KitError: a window whose ends are not finite or not in order.

    >>> from lkm_kit.data.phantom import make_phantom
    >>> browser = SliceBrowser(make_phantom(), window=(-100, 200))
    >>> browser.view.value = "coronal"
    >>> browser.go_to((30, 25, 20))
    >>> bool(browser.grey()[browser.row.value, browser.column.value] == browser.case.image[30, 25, 20])
    True
    """

    def __init__(self, case: Case, table: LabelTable | None = None, window: Sequence[float] | None = None):
        self.case, self.names = case, (table or LabelTable()).by_id
        self._image = _drawn(case)
        self._label = np.zeros(case.shape, np.uint8) if case.label is None else case.label
        windows = grey_windows(self._image, case.modality)
        start = next(iter(windows.values())) if window is None else _in_order(window)
        ends = [end for pair in (*windows.values(), start) for end in pair]
        span = max(ends) - min(ends)
        self.view = widgets.ToggleButtons(options=list(VIEWS))
        self.labels = widgets.Checkbox(True, description="labels")
        self.slice, self.row, self.column = (
            widgets.IntSlider(description=name, continuous_update=False) for name in ("slice", "row", "column")
        )
        self.preset = widgets.Dropdown(
            options=list(windows.items()), description="window", layout=widgets.Layout(width="24em")
        )
        self.window = widgets.FloatRangeSlider(
            value=start,
            min=min(ends),
            max=max(ends),
            step=5.0 if case.modality == "CT" else span / 500,
            readout_format=".0f" if span >= 100 else ".3g",
            description=_unit(case) or "no unit",
            layout=widgets.Layout(width="34em"),  # of which both ends of a window need a part
        )
        self.text = widgets.HTML()
        self.figure = Figure(figsize=(WIDTH["page"], 4.4), layout="constrained")
        self.voxel = middle_of(self._label)
        self._held = False
        self.canvas = clickable(self.figure, self.click)
        self.preset.observe(self._choose, names="value")
        self.view.observe(lambda _: self.go_to(self.voxel), names="value")
        for control in (self.slice, self.row, self.column):
            control.observe(self._point, names="value")
        for control in (self.window, self.labels):
            control.observe(self._draw, names="value")
        super().__init__([
            widgets.HBox([self.view, self.labels]),
            widgets.HBox([self.preset, self.window]),
            widgets.HBox([self.slice, self.row, self.column]),
            self.text,
            self.canvas,
        ])  # fmt: skip
        self.go_to(self.voxel)

    def go_to(self, voxel: Sequence[int]) -> None:
        """Show a voxel (i, j, k) in the view chosen; those outside count as the nearest one inside."""
        i, j, k = (int(np.clip(v, 0, n - 1)) for v, n in zip(voxel, self.case.shape))
        self.voxel = i, j, k
        across, up, cut = VIEWS[self.view.value]
        last = [n - 1 for n in self.case.shape]
        self._held = True  # one picture for three sliders
        for slider, axis, value in (
            (self.slice, cut, self.voxel[cut]),
            (self.row, up, last[up] - self.voxel[up]),
            (self.column, across, last[across] - self.voxel[across]),
        ):
            slider.max, slider.value = last[axis], value
        self._held = False
        self._draw()

    def click(self, event) -> None:
        """Choose the pixel where the mouse was pressed (a matplotlib event)."""
        if event.inaxes is not self.figure.axes[0] or event.xdata is None:
            return
        self._held = True
        self.row.value = int(np.clip(round(event.ydata), 0, self.row.max))
        self.column.value = int(np.clip(round(event.xdata), 0, self.column.max))
        self._held = False
        self._point()

    def grey(self) -> np.ndarray:
        """Grey values of the slice in view, HU for CT, in the order in which they are drawn: row, column."""
        return self._upright(self._image)

    def label(self) -> np.ndarray:
        """Label ids of the slice in view."""
        return self._upright(self._label)

    def _upright(self, volume: np.ndarray) -> np.ndarray:
        """The slice with front or head at the top, and the patient's right (front, if sagittal) at the left."""
        return np.take(volume, self.slice.value, axis=VIEWS[self.view.value][2])[::-1, ::-1].T

    def _point(self, _change=None) -> None:
        """From sliders to the voxel: rows and columns are counted from the upper left corner, against the axes."""
        if self._held:
            return
        across, up, cut = VIEWS[self.view.value]
        place = {cut: self.slice.value, up: self.row.max - self.row.value, across: self.column.max - self.column.value}
        self.voxel = place[0], place[1], place[2]
        self._draw()

    def _choose(self, _change=None) -> None:
        if self.preset.value is not None:
            self.window.value = self.preset.value

    def _draw(self, _change=None) -> None:
        if self._held:
            return
        window = tuple(self.window.value)
        self.preset.value = window if window in dict(self.preset.options).values() else None  # None: shown blank
        try:
            _in_order(window)
        except KitError as error:  # both ends at one value: say it, and keep what was there
            self.text.value = f"<b>{error.message}</b>: {error.remedy}"
            return
        self.text.value = html.escape(voxel_text(self.case, self.names, self.voxel))
        across, up, _ = VIEWS[self.view.value]
        draw_slice(
            self.figure,
            self.grey(),
            self.label() if self.labels.value else np.zeros_like(self.label()),
            self.names,
            f"{self.case.name}, {self.view.value} slice {self.slice.value}",
            window=window,
            unit=_unit(self.case),
            aspect=self.case.spacing[up] / self.case.spacing[across],
            pixel=(self.row.value, self.column.value),
            axes=axis_names(self.view.value),
        )
        show(self.canvas, self.figure)


def grey_windows(image: np.ndarray, modality: str) -> dict[str, tuple[float, float]]:
    """Name -> grey values drawn black and white: usual windows, what a network of the kit sees, and everything.

    >>> grey_windows(np.array([-1000.0, 40.0, 1200.0]), "CT")["lung: centre -600, width 1500"]
    (-1350.0, 150.0)
    """
    if modality == "CT":
        found = {
            f"{name}: centre {centre}, width {width}": (centre - width / 2, centre + width / 2)
            for name, (centre, width) in WINDOWS_HU.items()
        }
    else:
        found = {"percentiles 1 to 99": grey_range(image, modality)}
    found["what the network sees"] = clip_range(image, modality)
    found["all grey values"] = float(image.min()), float(image.max())
    return {name: (low, high) for name, (low, high) in found.items() if low < high}


def voxel_text(case: Case, names: Mapping[int, str], voxel: tuple[int, int, int]) -> str:
    """What lies at a voxel (i, j, k), in words: its place in mm (right, front, head), its grey value and its label.

    >>> from lkm_kit.data.phantom import make_phantom
    >>> voxel_text(make_phantom(), {}, (0, 0, 0)).endswith(" HU, no label")
    True
    """
    mm = (case.affine @ [*voxel, 1])[:3].round(1) + 0.0  # no "-0"
    value = float(_drawn(case)[voxel]) + 0.0
    grey = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    said = f"voxel {voxel}, at ({mm[0]:g}, {mm[1]:g}, {mm[2]:g}) mm: {grey} {_unit(case) or '(no unit)'}"
    if case.label is not None:
        number = int(case.label[voxel])
        said += f", {names.get(number, f'label {number}, not in the table') if number else 'no label'}"
    return said


def _drawn(case: Case) -> np.ndarray:
    return case.image if case.image.ndim == 3 else case.image[0]


def _unit(case: Case) -> str:
    return "HU" if case.modality == "CT" else ""


def _in_order(window: Sequence[float]) -> tuple[float, float]:
    low, high = (float(end) for end in window)
    if not (np.isfinite([low, high]).all() and low < high):
        raise KitError(
            f"the grey window ({low:g}, {high:g}) has no width",
            remedy="give two finite grey values, the one drawn black before the larger one drawn white",
        )
    return low, high
