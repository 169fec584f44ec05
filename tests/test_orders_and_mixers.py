"""What every order, set of directions and mixer of the kit owes a network: one shared test for all of them."""

import copy

import pytest
import torch
from combinations import first
from torch import nn

from lkm_kit.blocks import DIRECTIONS, MIXERS, ORDERS, PiM
from lkm_kit.blocks.locality import places
from lkm_kit.erf import Change, Probe, support
from lkm_kit.errors import KitError
from lkm_kit.networks import build_network, describe

SIZES = {2: ((7, 10), (4, 2)), 3: ((3, 5, 4), (2, 2, 4))}
"""Odd sizes, and a window that does not divide them, by number of axes."""
ONE_GRID = {"local", "local-first-axis"}
"""Orders whose sequences are longer than a window: mixers that want a grid refuse them by name."""


def whole(layer, spatial):
    """Odd sizes with pad, a gradient for every parameter, save and load, float64 and bfloat16."""
    x = torch.randn(1, 4, *spatial)
    y = layer(x)
    y.square().sum().backward()
    assert y.shape == x.shape
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in layer.parameters())
    again = copy.deepcopy(layer)
    with torch.no_grad():
        for p in again.parameters():
            p.zero_()
        again.load_state_dict({name: value.clone() for name, value in layer.state_dict().items()})
        assert torch.equal(again(x), y)
        torch.testing.assert_close(again.double()(x.double()).float(), y, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x).float(), y, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("mixer", MIXERS)
def test_every_mixer(mixer, dims):
    torch.manual_seed(0)
    spatial, window = SIZES[dims]
    whole(PiM(4, window, "snake", pad=True, mixer=mixer, d_state=2), spatial)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order(order, dims):
    torch.manual_seed(0)
    spatial, window = SIZES[dims]
    whole(PiM(4, window, order, pad=True, d_state=2), spatial)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("directions", DIRECTIONS)
def test_every_set_of_directions(directions, dims):
    torch.manual_seed(0)
    spatial, window = SIZES[dims]
    whole(PiM(4, window, pad=True, directions=directions, d_state=2), spatial)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mixer", MIXERS)
def test_every_pair_keeps_to_its_sequences(mixer, order):
    """A pixel sees its own sequence and nothing else, whatever mixer reads it; or the pair is refused by name."""
    layer, x, pixel = PiM(4, 4, order, mixer=mixer, d_state=2), torch.randn(1, 4, 8, 8), (2, 5)
    if order in ONE_GRID and getattr(layer.bim, "needs_sides", False):
        with pytest.raises(KitError, match="which are no grid"):
            layer(x)
        return
    seen = support(Change(layer), x, Probe(position=pixel))
    sequence = places((8, 8), 4, order)[0]
    own = sequence == sequence[pixel]
    assert not (seen & ~own).any()
    assert torch.equal(seen, own)  # a kernel of 7 x 7 is as large as these windows


@pytest.mark.parametrize(("dims", "orders"), [(2, ORDERS), (3, ("second-axis", "hilbert", "local"))])
def test_a_network_takes_and_describes_orders(dims, orders):
    """Rows of describe have the sequences and tokens of the order's table, in each stage."""
    spatial, windows = ((8, 8), [(4, 4), (2, 2)]) if dims == 2 else ((4, 8, 8), [(2, 4, 4), (2, 2, 2)])
    for order in orders:
        with torch.device("meta"):
            network = build_network(
                f"lkm-unet/tiny-{dims}d", input_channels=1, num_classes=2, features_per_stage=[4, 4],
                strides=[(1,) * dims, (1, 2, 2)[-dims:]], kernel_sizes=3, windows=windows, pam=False,
                partition=order,
            )  # fmt: skip
        for row, window in zip(describe(network, spatial).itertuples(), windows, strict=True):
            sequence, place = places(row.map, window, order)
            assert (row.sequences, row.tokens) == (int(sequence.max()) + 1, int(place.max()) + 1)
            assert row.pim_parameters > 0


def compiled_like_itself(layers, x):
    """fullgraph: a break anywhere would be an error. Traced alone, all layers at once; code is made in test_compile."""
    stack = nn.Sequential(*layers)
    compiled = torch.compile(stack, fullgraph=True, backend="eager")
    parameters = list(stack.parameters())
    (y, ours), (plain, theirs) = (
        (out, torch.autograd.grad(out.square().sum(), parameters)) for out in (compiled(x), stack(x))
    )
    torch.testing.assert_close(y, plain, atol=1e-5, rtol=1e-4)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_every_order_compiles():
    torch.manual_seed(0)
    layers = [PiM(2, (2, 2, 4), order, mixer="mean") for order in ORDERS]
    compiled_like_itself(layers, torch.randn(1, 2, 4, 4, 8))


@pytest.mark.parametrize(
    "mixers",
    first([pytest.param(["bim"], id="bim"), pytest.param([name for name in MIXERS if name != "bim"], id="others")]),
)
def test_every_mixer_compiles(mixers):
    torch.manual_seed(0)
    layers = [PiM(2, (2, 2), mixer=name, d_state=2) for name in mixers]
    compiled_like_itself([*layers, PiM(2, (2, 2), directions="cross-scan")], torch.randn(1, 2, 4, 4))
