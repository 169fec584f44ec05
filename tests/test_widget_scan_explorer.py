"""The explorer of order × mixer × window without a browser: every control counts, and refusals are said."""

import numpy as np
import pytest
import torch

from lkm_kit.blocks import DIRECTIONS, MIXERS, ORDERS
from lkm_kit.erf import Change, Probe, erf
from lkm_kit.widgets.scan_explorer import SEVERAL, ScanExplorer


@pytest.fixture
def explorer():
    return ScanExplorer((12, 12), window=4, channels=4)


def picture(explorer):
    explorer.figure.canvas.draw()
    return [np.asarray(ax.images[-1].get_array().filled(0)) for ax in explorer.figure.axes if ax.images]


def test_the_field_is_that_of_the_block_that_is_named(explorer):
    explorer.seed.value = 3
    image = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(3))
    expected = erf(Change(explorer.block), image, Probe(position=(5, 5)))
    torch.testing.assert_close(explorer.map.values, expected.values)
    assert explorer.table.loc["contiguous, bim", ["tokens", "pixels with a path"]].tolist() == [16, 16]
    assert explorer.table.loc["contiguous, bim", "tokens apart"] == 2.5  # (1 + 4) / 2
    assert len(picture(explorer)) == 2


@pytest.mark.parametrize(
    ("control", "value"),
    [("order", "hilbert"), ("order", f"{SEVERAL}cross-scan"), ("mixer", "mamba2"), ("mixer", "mean"), ("both", False),
     ("window", (3, 3)), ("row", 2), ("column", 9), ("seed", 1)],
)  # fmt: skip
def test_every_control_changes_the_field_and_the_picture(explorer, control, value):
    before, drawn = explorer.map, picture(explorer)
    getattr(explorer, control).value = value
    assert not torch.equal(explorer.map.values, before.values)
    now = picture(explorer)
    assert len(now) != len(drawn) or not np.array_equal(now[-1], drawn[-1])


def test_known_fields(explorer):
    """A forward scan sees what was read before; a grid its lattice; a mean its window; local windows the whole map."""

    def seen():
        return explorer.table["pixels with a path"].item()

    explorer.both.value = False
    assert seen() == 4 + 1 + 1
    explorer.both.value, explorer.order.value = True, "dilated"
    rows, columns = np.nonzero(explorer.map.array)
    assert seen() == 9 and set(rows % 4) == set(columns % 4) == {1}
    explorer.mixer.value, explorer.order.value = "mean", "snake"
    assert seen() == 16
    explorer.order.value = "local"
    assert seen() == 144


def test_all_orders_and_mixers_are_offered_and_what_is_refused_is_said(explorer):
    assert set(explorer.order.options) == {*ORDERS, *(SEVERAL + name for name in DIRECTIONS if name != "both-ways")}
    assert list(explorer.mixer.options) == list(MIXERS)
    explorer.order.value = f"{SEVERAL}cross-scan"
    assert explorer.orders == ["contiguous", "first-axis"] and len(picture(explorer)) == 3
    shown = explorer.map
    explorer.mixer.value = "mamba2"
    assert "reads one order forward and backward" in explorer.message.value and explorer.map is shown
    explorer.order.value = "local"
    assert explorer.message.value == "" and explorer.map is not shown
    explorer.mixer.value = "attention"
    assert "which are no grid" in explorer.message.value
