"""Scroll through a case: a slider for the slice, a choice of the view, labels on or off."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure

from lkm_kit.data import Case, LabelTable
from lkm_kit.plots.data import plot_slice
from lkm_kit.plots.volumes import grey_range

VIEWS = {"axial": 2, "coronal": 1, "sagittal": 0}


class SliceBrowser(widgets.VBox):
    """Slices of a case as a radiologist looks at them, with the labels over them.

    Args:
        case: in RAS order, as every case of the kit.
        table: names of its labels; default the kit's organs.

    >>> from lkm_kit.data.phantom import make_phantom
    >>> browser = SliceBrowser(make_phantom())
    >>> browser.view.value = "coronal"
    >>> browser.grey().ndim
    2
    """

    def __init__(self, case: Case, table: LabelTable | None = None):
        self.case, self.table = case, table or LabelTable()
        low, high = grey_range(case.image, case.modality)
        self._grey = np.clip((case.image - low) / (high - low), 0, 1)
        self._label = np.zeros(case.shape, np.uint8) if case.label is None else case.label
        self.view = widgets.ToggleButtons(options=list(VIEWS))
        self.slice = widgets.IntSlider(description="slice", continuous_update=False)
        self.labels = widgets.Checkbox(True, description="labels")
        self.output = widgets.Output()
        self.figure: Figure | None = None
        self._to_the_middle()
        self.view.observe(self._to_the_middle, names="value")
        for control in (self.slice, self.labels):
            control.observe(self._draw, names="value")
        self.view.observe(self._draw, names="value")
        super().__init__([widgets.HBox([self.view, self.labels]), self.slice, self.output])
        self._draw()

    def _to_the_middle(self, _change=None) -> None:
        """Start where the most labelled voxels are."""
        axis = VIEWS[self.view.value]
        others = tuple(a for a in range(3) if a != axis)
        best = int((self._label > 0).sum(axis=others).argmax()) if self._label.any() else self.case.shape[axis] // 2
        self.slice.max = self.case.shape[axis] - 1
        self.slice.value = best

    def _upright(self, volume: np.ndarray) -> np.ndarray:
        """The slice with front or head at the top, and the patient's right (front, if sagittal) at the left."""
        plane = np.take(volume, self.slice.value, axis=VIEWS[self.view.value])
        return plane[::-1, ::-1].T

    def grey(self) -> np.ndarray:
        """The slice in view, grey values between 0 and 1."""
        return self._upright(self._grey)

    def label(self) -> np.ndarray:
        """Label ids of the slice in view."""
        return self._upright(self._label)

    def _draw(self, _change=None) -> None:
        axis = VIEWS[self.view.value]
        across, up = (a for a in range(3) if a != axis)
        label = self.label() if self.labels.value else np.zeros_like(self.label())
        self.figure = plot_slice(
            self.grey(),
            label,
            self.table.by_id,
            f"{self.case.name}, {self.view.value} slice {self.slice.value}",
            aspect=self.case.spacing[up] / self.case.spacing[across],
        )
        self.output.clear_output(wait=True)
        with self.output:
            display(self.figure)
