"""The ERF explorer without a browser: every control changes what it says, a click moves the probe, faults are told."""

import sys

import numpy as np
import pytest
import torch
from matplotlib.backend_bases import MouseButton, MouseEvent
from torch import nn

from lkm_kit.erf import Probe, erf
from lkm_kit.networks import build_network
from lkm_kit.widgets.erf_explorer import ErfExplorer


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    names = {"LKM-UNet": "lkm-unet/tiny-2d", "no Mamba": "residual-unet/tiny-2d"}
    return {name: build_network(preset, input_channels=1, num_classes=3).eval() for name, preset in names.items()}


@pytest.fixture
def explorer(networks):
    image = torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    return ErfExplorer(
        networks, image, classes=["background", "liver", "spleen"], layers=["encoder.stages.1"], windows={"logit": 24}
    )


def picture(explorer):
    explorer.figure.canvas.draw()
    return [np.asarray(ax.images[-1].get_array().filled(0)) for ax in explorer.figure.axes if len(ax.images) == 2]


def press(explorer, row, column, panel=0):
    explorer.figure.canvas.draw()
    ax = explorer.figure.axes[panel]
    x, y = ax.transData.transform((column, row))
    event = MouseEvent("button_press_event", explorer.figure.canvas, x, y, button=MouseButton.LEFT)
    explorer.click(event)


def test_one_network_needs_no_name():
    explorer = ErfExplorer(nn.Conv2d(1, 2, 3, padding=1), torch.zeros(1, 1, 9, 9))
    assert list(explorer.maps) == ["Conv2d"] and int((explorer.maps["Conv2d"].values > 0).sum()) == 9


def test_both_networks_are_shown_with_the_maps_of_the_library(explorer, networks):
    assert list(explorer.maps) == ["LKM-UNet", "no Mamba"]
    expected = erf(networks["no Mamba"], explorer.image, Probe(position=(48, 48), window=24))
    torch.testing.assert_close(explorer.maps["no Mamba"].values, expected.values)
    assert len(picture(explorer)) == 2 and explorer.table.index.tolist() == list(explorer.maps)
    assert {"own_pixel", "area_50", "locality"} <= set(explorer.table)


def test_a_click_moves_the_probe_of_both_panels(explorer):
    before = picture(explorer)
    press(explorer, 20, 70, panel=1)
    assert (explorer.row.value, explorer.column.value) == (20, 70)
    assert all(m.place == (20, 70) for m in explorer.maps.values())
    for old, new in zip(before, picture(explorer)):
        assert not np.array_equal(old, new)
    explorer.click(MouseEvent("button_press_event", explorer.figure.canvas, 1, 1))  # beside the panels
    assert (explorer.row.value, explorer.column.value) == (20, 70)


@pytest.mark.parametrize(
    ("control", "value"),
    [("cls", 2), ("norm_stats", "live"), ("row", 11), ("layer", "encoder.stages.1"), ("network", "no Mamba")],
)
def test_every_control_changes_the_map(explorer, control, value):
    before = next(iter(explorer.maps.values())).values
    getattr(explorer, control).value = value
    assert not torch.equal(next(iter(explorer.maps.values())).values, before)


def test_a_deeper_layer_is_asked_at_the_cell_of_the_pixel(explorer):
    explorer.row.value = 31
    explorer.layer.value = "encoder.stages.1"
    assert all(m.grid == (48, 48) and m.place == (15, 24) for m in explorer.maps.values())


def test_threshold_redraws_and_computes_nothing(explorer):
    maps, before = explorer.maps, picture(explorer)
    explorer.decades.value = 1
    assert explorer.maps is maps
    assert (picture(explorer)[0] > 0).sum() < (before[0] > 0).sum()


def test_one_network_alone_and_no_ipympl(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipympl", None)
    monkeypatch.setattr("lkm_kit.widgets.canvas.find_spec", lambda name: None)
    explorer = ErfExplorer({"conv": nn.Conv2d(1, 1, 3, padding=1)}, torch.zeros(1, 1, 9, 9))
    explorer.column.value = 1
    assert explorer.maps["conv"].place == (4, 1) and len(explorer.maps) == 1


def test_what_cannot_be_answered_is_said_and_the_picture_stays():
    class TwoSizes(nn.Module):
        def forward(self, x):
            return x * x

    explorer = ErfExplorer({"square": TwoSizes()}, torch.ones(1, 1, 6, 6), classes=["a", "b", "c"])
    maps = explorer.maps
    explorer.cls.value = 2
    assert "class 2 is outside" in explorer.message.value and explorer.maps is maps
    explorer.cls.value = 0
    assert explorer.message.value == "" and explorer.maps is not maps
