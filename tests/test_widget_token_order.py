"""The walk through a map: every pixel is read once, in the library's order, and every control redraws."""

import math

import numpy as np
import pytest
import torch

from lkm_kit.blocks import to_tokens
from lkm_kit.errors import KitError
from lkm_kit.plots import sequences as plots
from lkm_kit.widgets.mates import MatesExplorer
from lkm_kit.widgets.token_order import TokenOrderExplorer, animation, fitting_windows, token_places


@pytest.mark.parametrize("partition", ["contiguous", "dilated", "count"])
@pytest.mark.parametrize(("size", "window"), [((6, 6), 3), ((4, 8, 8), (2, 4, 4))])
def test_the_walk_is_the_order_of_to_tokens(size, window, partition, monkeypatch):
    """Where the walk is, is looked at here; the drawing of a step, which takes most of the time, is below."""
    monkeypatch.setattr(plots, "token_walk", lambda *where: None)
    explorer = TokenOrderExplorer(size, fitting_windows(size)[0])
    explorer.window.options = [("window", window if isinstance(window, tuple) else (window,) * len(size))]
    explorer.partition.value = partition
    pixels = torch.arange(math.prod(size)).reshape(1, 1, *size)
    wanted = to_tokens(pixels, window, partition)[..., 0]
    for step in range(0, math.prod(size), 7):
        explorer.step.value = step
        assert pixels[0, 0][explorer.pixel] == wanted[explorer.number, explorer.token] == wanted.flatten()[step]


def test_every_control_redraws_and_the_jump_is_in_pixels():
    explorer = TokenOrderExplorer((12, 12), 4)
    drawn = [explorer.figure]
    for control, value in ((explorer.step, 3), (explorer.partition, "dilated"), (explorer.window, (6, 6))):
        control.value = value
        drawn.append(explorer.figure)
    assert len({id(figure) for figure in drawn}) == 4
    explorer.step.value = 1
    assert explorer.pixel == (0, 6) and explorer.jump == 6
    explorer.partition.value = "contiguous"
    assert explorer.pixel == (0, 1) and explorer.jump == 1
    explorer.step.value = 36  # a new window begins
    assert explorer.number == 1 and explorer.token == 0 and math.isnan(explorer.jump)
    assert "sequence 2 of 4, token 1 of 36" in explorer.figure.get_suptitle()


def test_a_volume_has_a_panel_per_slice_and_its_walk_goes_through_them():
    explorer = TokenOrderExplorer((4, 8, 8), 4)
    assert len(explorer.figure.axes) == 4
    explorer.step.value = 16
    assert explorer.pixel == (1, 0, 0) and explorer.jump == pytest.approx(math.sqrt(1 + 9 + 9))
    shown = [next(line.get_xydata() for line in ax.lines if line.get_markersize() == 8) for ax in explorer.figure.axes]
    assert [len(points) for points in shown] == [0, 1, 0, 0]  # the orange token lies in slice 1


def test_only_fitting_windows_are_offered():
    assert fitting_windows((12, 8)) == [(1, 1), (2, 2), (4, 4), (12, 8)]
    with pytest.raises(KitError, match="cannot be cut"):
        token_places((12, 12), 5)


def test_the_animation_has_a_frame_per_step():
    import io

    from PIL import Image

    picture = animation((4, 4), {"windows": (2, "contiguous"), "grid": (2, "dilated")}, every=4)
    assert Image.open(io.BytesIO(picture.data)).n_frames == 4


def test_a_walk_draws_the_path_in_reading_order():
    places = token_places((4, 4), 2)
    path = plots.token_walk(*places, 1, 2).axes[0].lines[0].get_xydata()
    np.testing.assert_array_equal(path, [[2, 0], [3, 0], [2, 1]])  # x is the column


@pytest.mark.parametrize("order", ["contiguous", "dilated", "hilbert"])
def test_a_chosen_pixel_shows_its_sequence_in_reading_order(order):
    """Held against the library's tokens: the distance of two pixels is that of their places in one sequence."""
    explorer = MatesExplorer((8, 8), window=4)
    explorer.order.value, explorer.row.value, explorer.column.value = order, 2, 5
    index = to_tokens(torch.arange(64).reshape(1, 1, 8, 8), 4, order)[..., 0]
    mine = next(row for row in index.tolist() if 2 * 8 + 5 in row)
    wanted = [mine.index(i) - mine.index(2 * 8 + 5) if i in mine else math.nan for i in range(64)]
    np.testing.assert_array_equal(explorer.apart.ravel(), wanted)
    assert explorer.farthest == max(math.dist((2, 5), divmod(i, 8)) for i in mine)
    assert explorer.message.value.startswith(f"{len(mine) - 1} pixels share its sequence")


def test_a_click_chooses_the_pixel_and_every_control_redraws():
    from matplotlib.backend_bases import MouseEvent

    explorer = MatesExplorer((12, 12), window=4)
    explorer.figure.canvas.draw()
    x, y = explorer.figure.axes[0].transData.transform((1.2, 9.9))
    explorer.click(MouseEvent("button_press_event", explorer.figure.canvas, x, y))
    assert (explorer.row.value, explorer.column.value) == (10, 1)
    assert "right: +1 tokens" in explorer.message.value and "below: +4 tokens" in explorer.message.value
    explorer.click(MouseEvent("button_press_event", explorer.figure.canvas, 1, 1))  # beside the map
    assert explorer.row.value == 10
    for control, value in ((explorer.order, "dilated"), (explorer.window, (6, 6)), (explorer.column, 11)):
        before = explorer.apart
        control.value = value
        assert not np.array_equal(before, explorer.apart, equal_nan=True)
    assert "below: never" in explorer.message.value and "right" not in explorer.message.value
