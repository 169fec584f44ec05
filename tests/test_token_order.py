"""Token orders: which pixels form a sequence, exact inverses, and the messages for maps that cannot be cut."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lkm_kit.blocks import ORDERS, to_map, to_tokens
from lkm_kit.blocks.locality import locality
from lkm_kit.blocks.locality import table as order_table_of_facts
from lkm_kit.blocks.orders import window_sides
from lkm_kit.errors import KitError
from lkm_kit.shapes import crop, pad_to_multiple

PARTITIONS = tuple(ORDERS)


@settings(max_examples=60, deadline=None)
@given(
    window=st.lists(st.integers(1, 4), min_size=2, max_size=3),
    counts=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    partition=st.sampled_from(PARTITIONS),
    batch=st.integers(1, 3),
    channels=st.integers(1, 3),
)
def test_to_map_undoes_to_tokens(window, counts, partition, batch, channels):
    spatial = [k * n for k, n in zip(window, counts)]
    x = torch.randn(batch, channels, *spatial)
    tokens = to_tokens(x, window, partition)
    assert tokens.shape[0] * tokens.shape[1] == batch * x[0, 0].numel()
    assert torch.equal(to_map(tokens, x.shape, window, partition), x)
    assert torch.equal(to_map(tokens, spatial, window, partition), x)  # the spatial part alone is enough


@pytest.mark.parametrize(("spatial", "window"), [((12, 8), (3, 4)), ((6, 8, 10), (3, 2, 5))])
def test_each_sequence_against_plain_slices(spatial, window):
    """Cut the slow way: a contiguous window is a block of the map, a dilated grid every k-th pixel of it."""
    x = torch.randn(2, 3, *spatial)
    counts = [size // k for size, k in zip(spatial, window)]
    blocks, grids = [], []
    for sample in x:
        for index in torch.cartesian_prod(*(torch.arange(n) for n in counts)).tolist():
            block = sample[(slice(None), *(slice(i * k, (i + 1) * k) for i, k in zip(index, window)))]
            blocks.append(block.flatten(1).T)
        for offset in torch.cartesian_prod(*(torch.arange(k) for k in window)).tolist():
            grids.append(sample[(slice(None), *(slice(o, None, k) for o, k in zip(offset, window)))].flatten(1).T)
    assert torch.equal(to_tokens(x, window), torch.stack(blocks))
    assert torch.equal(to_tokens(x, window, "dilated"), torch.stack(grids))
    assert torch.equal(to_tokens(x, counts, "count"), torch.stack(blocks))


def test_the_three_readings_of_table_2_at_320_pixels():
    """Tokens per stage-0 sequence for the settings 10, 20 and 40 of Table 2."""
    x = torch.empty(1, 1, 320, 320)
    tokens = {p: [to_tokens(x, k, p).shape[1] for k in (10, 20, 40)] for p in ("contiguous", "dilated", "count")}
    assert tokens == {"contiguous": [100, 400, 1600], "dilated": [1024, 256, 64], "count": [1024, 256, 64]}
    assert window_sides((320, 320), 40, "count") == (8, 8)


def test_any_memory_layout_gives_the_same_tokens():
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(to_tokens(x.to(memory_format=torch.channels_last), 4), to_tokens(x, 4))


def test_pad_appends_zeros_and_crop_removes_them():
    x = torch.randn(1, 2, 5, 8, 3)
    padded = pad_to_multiple(x, (4, 4, 2))
    assert padded.shape == (1, 2, 8, 8, 4)
    assert torch.equal(crop(padded, x.shape[2:]), x)
    assert padded.sum() == pytest.approx(x.sum().item(), abs=1e-4)
    assert pad_to_multiple(x, (5, 8, 3)) is x


@pytest.mark.parametrize("partition", PARTITIONS)
def test_a_map_that_does_not_divide_is_named_with_the_sizes_that_fit(partition):
    with pytest.raises(KitError, match="100×90") as error:
        to_tokens(torch.zeros(1, 1, 100, 90), 40, partition)
    assert "40×40" in str(error.value)
    assert "80×80 or 120×120" in error.value.remedy


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_tokens(torch.zeros(3, 8, 8), 4), "feature map of shape"),
        (lambda: to_tokens(torch.zeros(1, 3, 8, 8), 4, "dilate"), "no partition 'dilate'"),
        (lambda: to_tokens(torch.zeros(1, 3, 8, 8), (4, 4, 4)), "does not suit 2 spatial axes"),
        (lambda: to_tokens(torch.zeros(1, 3, 8, 8), 0), "does not suit 2 spatial axes"),
        (lambda: to_tokens(torch.zeros(1, 3, 8, 8), 2.5), "does not suit 2 spatial axes"),
        (lambda: to_map(torch.zeros(5, 16, 3), (1, 3, 8, 8), 4), r"gives \(batch \* 4, 16, channels\)"),
        (lambda: to_map(torch.zeros(4, 15, 3), (1, 3, 8, 8), 4), "tokens have shape"),
    ],
)
def test_bad_input_says_what_is_wrong(call, message):
    with pytest.raises(KitError, match=message):
        call()


@pytest.mark.parametrize(("spatial", "window"), [((12, 8), (3, 4)), ((6, 8, 10), (3, 2, 5))])
def test_shuffled_windows_are_the_permutation_of_their_length(spatial, window):
    x = torch.randn(2, 3, *spatial)
    length = math.prod(window)
    order = torch.randperm(length, generator=torch.Generator().manual_seed(length))
    assert torch.equal(to_tokens(x, window, "shuffled"), to_tokens(x, window)[:, order])


READ_WITHIN = ("shuffled", "first-axis", "second-axis", "snake", "diagonal", "hilbert")


@pytest.mark.parametrize("order", READ_WITHIN)
@pytest.mark.parametrize(("spatial", "window"), [((12, 8), (3, 4)), ((6, 8, 10), (3, 2, 5))])
def test_a_reading_keeps_the_windows_and_local_scans_join_them(order, spatial, window):
    """Which pixels share a sequence: those of a window; of the whole map where one window follows the other."""
    windows, table = ORDERS["contiguous"](spatial, window), ORDERS[order](spatial, window)
    assert torch.equal(table.sort().values, windows.sort().values)
    assert torch.equal(ORDERS["local"](spatial, window), windows.reshape(1, -1))
    other = ORDERS["local-first-axis"](spatial, window).reshape(windows.shape)
    assert {frozenset(w) for w in other.tolist()} == {frozenset(w) for w in windows.tolist()}


def steps(table, spatial):
    """How far apart in the image, as a sum over axes, pixels are that follow each other in a sequence."""
    at = torch.stack(torch.meshgrid(*map(torch.arange, spatial), indexing="ij")).flatten(1)[:, table]
    return at.diff(dim=-1).abs().sum(0)


@pytest.mark.parametrize(("order", "window"), [("snake", (3, 4)), ("snake", (3, 2, 5)), ("hilbert", (8, 8)),
                                               ("hilbert", (4, 4, 4))])  # fmt: skip
def test_snakes_and_hilberts_curve_go_from_neighbour_to_neighbour(order, window):
    spatial = tuple(2 * k for k in window)
    assert (steps(ORDERS[order](spatial, window), spatial) == 1).all()


def test_first_pixels_of_every_order():
    """Four rows of a window of 4×4 pixels, written out by hand; its pixels are 0 to 15, row by row."""
    known = {
        "contiguous": [0, 1, 2, 3, 4, 5], "first-axis": [0, 4, 8, 12, 1, 5], "second-axis": [0, 1, 2, 3, 4, 5],
        "snake": [0, 1, 2, 3, 7, 6], "diagonal": [0, 1, 4, 8, 5, 2], "hilbert": [0, 4, 5, 1, 2, 3],
    }  # fmt: skip
    assert {name: ORDERS[name]((4, 4), (4, 4))[0, :6].tolist() for name in known} == known
    volume = torch.arange(8).reshape(2, 2, 2)
    for axis, name in enumerate(["first-axis", "second-axis", "contiguous"]):
        ((*pixels,),) = ORDERS[name]((2, 2, 2), (2, 2, 2)).tolist()
        assert pixels[:2] == volume.movedim(axis, 0)[:, 0, 0].tolist()


def test_orders_that_name_a_source_read_as_it_does():
    """Facts of the released codes: EfficientVMamba's grids, SegMamba's slices, LocalMamba's place of a pixel."""
    pixels = torch.arange(48).reshape(6, 8)
    four = [pixels[row::2, column::2].flatten() for row in (0, 1) for column in (0, 1)]
    assert torch.equal(ORDERS["dilated"]((6, 8), (2, 2)), torch.stack(four))
    slices = torch.arange(48).chunk(4)  # of a volume of 4×3×4
    assert torch.equal(ORDERS["first-axis"]((4, 3, 4), (4, 3, 4))[0], torch.stack(slices, -1).flatten())
    row, column, k = *torch.meshgrid(torch.arange(6), torch.arange(8), indexing="ij"), 2
    place = (8 // k * (row // k) + column // k) * k * k + row % k * k + column % k
    assert torch.equal(ORDERS["local"]((6, 8), (k, k))[0].argsort(), place.flatten())


def test_how_near_in_the_sequence_neighbours_of_the_image_are():
    """Rows and snakes: 1 along a row, on average the window's width k across rows; windows of k keep k - 1 of k."""
    k = 8
    for name in ("contiguous", "snake", "first-axis"):
        found = locality((k, k), (k, k), name)
        assert found == (1.0, pytest.approx((1 + k) / 2))
        assert locality((4 * k, 4 * k), (k, k), name).together == pytest.approx(4 * (k - 1) / (4 * k - 1))
    assert locality((2, 2), (2, 2), "hilbert").distance == (1 + 1 + 1 + 3) / 4
    assert locality((3, 3), (3, 3), "diagonal").distance == sum([1, 4, 2, 2, 4, 1, 2, 1, 3, 3, 1, 2]) / 12
    assert locality((6, 6), (2, 2), "dilated").together == 0.0
    by_name = order_table_of_facts((16, 16), (8, 8))
    assert list(by_name.index) == list(ORDERS)
    assert by_name.loc["local", "together"] == 1 and by_name.loc["local", "tokens"] == 256
    assert by_name.loc["shuffled", "distance"] > 3 * by_name.loc["hilbert", "distance"]


@pytest.mark.parametrize("order", PARTITIONS)
@pytest.mark.parametrize(("spatial", "window"), [((12, 8), (3, 4)), ((6, 8, 10), (3, 2, 5))])
def test_an_order_is_the_table_of_its_tokens(order, spatial, window):
    table = ORDERS[order](spatial, window)
    x = torch.randn(2, 3, *spatial)
    assert table.dtype == torch.int64
    assert table.flatten().sort().values.tolist() == list(range(math.prod(spatial)))
    assert torch.equal(to_tokens(x, window, order).reshape(2, *table.shape, 3), x.flatten(2).mT[:, table])


def test_an_order_that_forgets_a_pixel_is_named(monkeypatch):
    monkeypatch.setitem(ORDERS, "careless", lambda spatial, window: torch.zeros(2, 8))
    with pytest.raises(KitError, match="order 'careless' does not name each of the pixels 0 to 15 once"):
        to_tokens(torch.zeros(1, 1, 4, 4), 2, "careless")
