"""A volume in the hand: three planes and a body that turns, and the effective receptive field of a clicked voxel.

Needs the extra ``viz`` (ipyniivue, which draws in the browser and asks no other machine for anything).
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import nibabel
import numpy as np
import torch
from torch import nn

from lkm_kit.data import Case, LabelTable
from lkm_kit.erf import ErfMap, Probe, erf
from lkm_kit.erf.mass import area_curve
from lkm_kit.errors import KitError, install
from lkm_kit.plots.style import label_colors
from lkm_kit.plots.volumes import grey_range
from lkm_kit.widgets.slice_browser import voxel_text

DECADES = 4
"""The field's overlay spans this many powers of ten below its largest value."""


class VolumeViewer(widgets.VBox):
    """A case in ipyniivue with its organs over it; the line below says what lies under the crosshair.

    Args:
        case: image and, if it has one, label, both (x, y, z).
        table: names of its labels; default the kit's organs.

    Raises:
        KitError: ipyniivue is missing.

    >>> from lkm_kit.data.phantom import make_phantom
    >>> viewer = VolumeViewer(make_phantom())  # doctest: +SKIP
    >>> viewer.go_to((20, 30, 10))  # doctest: +SKIP
    """

    def __init__(self, case: Case, table: LabelTable | None = None):
        try:
            from ipyniivue import NiiVue, SliceType, Volume
        except ImportError:
            raise KitError(
                "volumes are shown by ipyniivue, which is not installed",
                remedy=f"{install('viz')}; or use the slice browser",
            ) from None
        self.case, self.names, self._volume = case, (table or LabelTable()).by_id, Volume
        low, high = grey_range(case.image, case.modality)
        grey = self._made("image", case.image.astype(np.float32), colormap="gray", cal_min=low, cal_max=high)
        self.layers = [grey]
        if case.label is not None:
            organs = self._made("organs", case.label, opacity=0.5)
            organs.set_colormap_label(_colors(self.names))
            self.layers.append(organs)
        self.niivue = NiiVue(height=420, back_color=(0, 0, 0, 1), show_3d_crosshair=True)
        self.niivue.set_slice_type(SliceType.MULTIPLANAR)
        self.niivue.set_radiological_convention(True)  # the patient's right at the left, as in every picture of the kit
        self.niivue.set_crosshair_width(0.5)
        self.niivue.load_volumes(self.layers)
        self.niivue.on_location_change(lambda place: self.go_to([round(v) for v in place["vox"][:3]]))
        self.opacity = widgets.FloatSlider(0.5, min=0, max=1, step=0.1, description="overlay")
        self.opacity.observe(self._fade, names="value")
        self.text = widgets.HTML()
        self.voxel = tuple(n // 2 for n in case.shape)
        super().__init__([self.opacity, self.niivue, self.text])
        self.go_to(self.voxel)

    def go_to(self, voxel: Sequence[int]) -> None:
        """Say what is at a voxel (x, y, z); those outside count as the nearest one inside."""
        i, j, k = (int(np.clip(v, 0, n - 1)) for v, n in zip(voxel, self.case.shape))
        self.voxel = i, j, k
        self.text.value = html.escape(voxel_text(self.case, self.names, self.voxel))

    def _fade(self, _change) -> None:
        for layer in self.layers[1:]:
            layer.opacity = self.opacity.value

    def _made(self, name: str, values: np.ndarray, **how):
        data = nibabel.Nifti1Image(values, self.case.affine).to_bytes()
        return self._volume(name=f"{name}.nii", data=data, colorbar_visible=False, **how)


class VolumeErf(VolumeViewer):
    """Click a voxel: the effective receptive field of the network's output there lies over the image.

    Args:
        network: of one input channel, on patches of this size.
        image: (1, 1, D, H, W), what the network sees: the case's (x, y, z) as (z, x, y), normalised.
        case: the same patch as a case, for the picture.
        cls: class whose logit is asked for; None for all together.

    Raises:
        KitError: ipyniivue is missing, or image and case are of different size.
    """

    def __init__(self, network: nn.Module, image: torch.Tensor, case: Case, cls: int | None = None):
        size = tuple(image.shape[2:])
        if tuple(case.shape[i] for i in (2, 0, 1)) != size:
            raise KitError(
                f"the case has {case.shape} voxels (x, y, z), the image {size} (z, x, y)",
                remedy="give the same patch twice: once as the network sees it, once as a case",
            )
        self.network, self.image, self.cls = network.eval(), image, cls
        self.map: ErfMap | None = None
        super().__init__(case)
        self.niivue.on_mouse_up(lambda _: self.ask())

    def ask(self, voxel: Sequence[int] | None = None) -> ErfMap:
        """Compute and show the field of a voxel (x, y, z); default the crosshair's."""
        if voxel is not None:
            self.go_to(voxel)
        x, y, z = self.voxel
        self.map = erf(self.network, self.image, Probe(position=(z, x, y), cls=self.cls))
        mass = self.map.values.double().numpy()
        decades = np.log10(np.maximum(mass / max(mass.max(), np.finfo(float).tiny), 10.0**-DECADES)) + DECADES
        field = np.ascontiguousarray(np.moveaxis(decades, 0, 2).astype(np.float32))
        how = {"colormap": "viridis", "cal_min": 0.01, "cal_max": DECADES, "opacity": self.opacity.value}
        self.layers = [self.layers[0], self._made("field", field, **how)]
        self.niivue.load_volumes(self.layers)
        self.text.value += f"; half of its field's mass in {100 * area_curve(mass, [0.5])[0]:.2g} % of the patch"
        return self.map


def _colors(names: Mapping[int, str]) -> dict[str, list]:
    """Niivue's table of label colours: nothing for 0, then the colour of each label."""
    ids, colors = sorted(names), label_colors(names.values())
    rgb = [(0, 0, 0)] + [tuple(int(colors[names[k]][i : i + 2], 16) for i in (1, 3, 5)) for k in ids]
    table = {channel: [color[i] for color in rgb] for i, channel in enumerate("RGB")}
    labels = ["background", *(names[k] for k in ids)]
    return {**table, "A": [0, *[255] * len(ids)], "I": [0, *ids], "labels": labels}
