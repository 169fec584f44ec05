"""The volume viewer without a browser: what it hands over, what a click does, and what it says."""

import sys

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from lkm_kit.data import Case
from lkm_kit.erf import Probe, erf
from lkm_kit.errors import KitError
from lkm_kit.widgets.volume_viewer import DECADES, VolumeErf, VolumeViewer

pytest.importorskip("ipyniivue")
AFFINE = np.array([[2.0, 0, 0, -10], [0, 3.0, 0, 5], [0, 0, 4.0, 100], [0, 0, 0, 1]])


def case(shape=(10, 12, 6), modality="CT"):
    rng = np.random.default_rng(0)
    label = np.zeros(shape, np.uint8)
    label[2:5, 3:6, 1:3] = 1
    return Case(rng.normal(0, 100, shape).astype(np.float32), label, (2.0, 3.0, 4.0), AFFINE, "small", modality)


def stored(layer):
    return nibabel.Nifti1Image.from_bytes(layer.data)


def test_image_and_organs_reach_the_browser_in_their_geometry():
    viewer = VolumeViewer(one := case())
    image, organs = (stored(layer) for layer in viewer.layers)
    assert np.allclose(image.affine, AFFINE) and np.allclose(organs.affine, AFFINE)
    assert np.allclose(image.get_fdata(), one.image, atol=1e-4)
    assert np.array_equal(np.asarray(organs.dataobj), one.label)
    assert (viewer.layers[0].cal_min, viewer.layers[0].cal_max) == (-160, 240)


def test_the_line_below_names_voxel_place_and_organ():
    viewer = VolumeViewer(case())
    viewer.go_to((3, 4, 2))
    assert "voxel (3, 4, 2), at (-4, 17, 108) mm" in viewer.text.value and "liver" in viewer.text.value
    viewer.go_to((99, -3, 2))
    assert viewer.voxel == (9, 0, 2) and "no label" in viewer.text.value


def test_the_slider_fades_what_lies_over_the_image():
    viewer = VolumeViewer(case())
    viewer.opacity.value = 0.2
    assert [layer.opacity for layer in viewer.layers] == [1.0, 0.2]


def test_a_click_shows_the_field_of_that_voxel():
    torch.manual_seed(0)
    network = nn.Conv3d(1, 3, (1, 3, 5), padding=(0, 1, 2))
    one = case()
    image = torch.from_numpy(np.moveaxis(one.image, 2, 0).copy())[None, None]
    explorer = VolumeErf(network, image, one, cls=1)
    explorer.go_to((5, 6, 3))
    found = explorer.ask()
    assert torch.equal(found.values, erf(network, image, Probe(position=(3, 5, 6), cls=1)).values)
    field = np.asarray(stored(explorer.layers[1]).dataobj)  # (x, y, z): kernel of 1 along z, 3 along x, 5 along y
    seen = np.argwhere(field > 0)
    assert seen.min(0).tolist() == [4, 4, 3] and seen.max(0).tolist() == [6, 8, 3]
    assert field.max() == pytest.approx(DECADES)
    assert "half of its field's mass" in explorer.text.value


def test_wrong_input_is_named(monkeypatch):
    with pytest.raises(KitError, match=r"\(10, 12, 6\) voxels \(x, y, z\), the image \(10, 12, 6\)"):
        VolumeErf(nn.Conv3d(1, 1, 1), torch.zeros(1, 1, 10, 12, 6), case())
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(KitError, match="not installed") as error:
        VolumeViewer(case())
    assert ".[viz]" in error.value.remedy
