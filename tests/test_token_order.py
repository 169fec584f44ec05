"""Token orders: which pixels form a sequence, exact inverses, and the messages for maps that cannot be cut."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lkm_kit.blocks import ORDERS, to_map, to_tokens
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
    tokens = {p: [to_tokens(x, k, p).shape[1] for k in (10, 20, 40)] for p in PARTITIONS}
    assert tokens == {
        "contiguous": [100, 400, 1600], "dilated": [1024, 256, 64], "count": [1024, 256, 64],
        "shuffled": [100, 400, 1600],
    }  # fmt: skip
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
