"""Mixers without a scan against slow versions written out here: values, gradients, and what a token sees."""

import math

import pytest
import torch
import torch.nn.functional as F

from lkm_kit.blocks import MIXERS, ORDERS, LMBlock, PaM, PiM
from lkm_kit.blocks.mixers import sequence_sides
from lkm_kit.blocks.window_mixers import WindowAttention, WindowConvolution, WindowMean, rotate
from lkm_kit.errors import KitError
from lkm_kit.networks import build_network, describe

NAMES = ["depthwise", "mean", "attention"]
SIDES = {2: (3, 4), 3: (2, 3, 2)}


def made(name, dims=2, channels=3, **options):
    torch.manual_seed(0)
    mixer = MIXERS[name](channels, window=SIDES[dims], **options).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer


def tokens_of(dims, channels=3):
    return torch.randn(2, math.prod(SIDES[dims]), channels, dtype=torch.float64)


def by_hand(mixer, tokens, mixed):
    """The block around the mixing, with one linear layer for each part of the projection."""
    normed = F.layer_norm(tokens, tokens.shape[-1:], mixer.norm.weight, mixer.norm.bias)
    *values, gate = (normed @ part.T for part in mixer.in_proj.weight.split(mixer.inner))
    return (mixed(*values) * gate * torch.sigmoid(gate)) @ mixer.out_proj.weight.T


@pytest.mark.parametrize("dims", [2, 3])
def test_the_mean_is_that_of_the_window(dims):
    mixer, tokens = made("mean", dims), tokens_of(dims)
    average = by_hand(mixer, tokens, lambda v: sum(v[:, i] for i in range(v.shape[1]))[:, None] / v.shape[1])
    torch.testing.assert_close(mixer(tokens), average)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_convolution_is_a_sum_over_neighbours_inside_the_window(dims):
    mixer, tokens, sides = made("depthwise", dims, kernel_size=3), tokens_of(dims), SIDES[dims]
    places = [tuple(index.tolist()) for index in torch.cartesian_prod(*map(torch.arange, sides))]

    def neighbours(values):
        result = mixer.conv.bias.expand_as(values).clone()
        for here, place in enumerate(places):
            for there, other in enumerate(places):
                step = [b - a for a, b in zip(place, other)]
                if max(map(abs, step)) <= 1:
                    weight = mixer.conv.weight[(slice(None), 0, *(1 + s for s in step))]
                    result[:, here] += weight * values[:, there]
        return result

    torch.testing.assert_close(mixer(tokens, sides), by_hand(mixer, tokens, neighbours))


@pytest.mark.parametrize("dims", [2, 3])
def test_attention_weighs_by_products_of_turned_channels(dims):
    mixer, tokens, sides = made("attention", dims, channels=16), tokens_of(dims, 16), SIDES[dims]
    assert mixer.inner == 32  # two heads of 16: eight pairs of channels each

    def turned(vector, place):
        result = vector.clone()
        for pair in range(8):
            angle = place[pair % dims] * 100 ** -((pair // dims) * dims / 8)
            a, b = vector[pair], vector[8 + pair]
            result[pair], result[8 + pair] = (
                a * math.cos(angle) - b * math.sin(angle),
                a * math.sin(angle) + b * math.cos(angle),
            )
        return result

    places = torch.cartesian_prod(*map(torch.arange, sides)).tolist()

    def attend(query, key, value):
        result = torch.zeros_like(value)
        for item in range(len(value)):
            for head in (slice(0, 16), slice(16, 32)):
                q, k = (torch.stack([turned(t[item, i, head], p) for i, p in enumerate(places)]) for t in (query, key))
                result[item, :, head] = (q @ k.T / 4).softmax(-1) @ value[item, :, head]
        return result

    torch.testing.assert_close(mixer(tokens, sides), by_hand(mixer, tokens, attend))


def test_turned_products_depend_on_the_distance_alone():
    query, key = torch.randn(2, 1, 1, 1, 12, dtype=torch.float64).expand(2, 1, 1, 24, 12)
    products = (rotate(query, (4, 6)) @ rotate(key, (4, 6)).mT)[0, 0].reshape(4, 6, 4, 6)
    torch.testing.assert_close(products[:3, :5, 0, 0].T, products[1:, 1:, 1, 1].T)
    assert products[0, 0].std() > 0.1  # and on it they do


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_small_differences(name):
    mixer, sides = made(name), SIDES[2]
    parameters = dict(mixer.named_parameters())

    def run(tokens, *values):
        return torch.func.functional_call(mixer, dict(zip(parameters, values)), (tokens, sides))

    inputs = [tokens_of(2)[:1].requires_grad_(), *(p.detach().requires_grad_() for p in parameters.values())]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def reach(layer, x, *position):
    x = x.clone().requires_grad_()
    layer(x)[(0, slice(None), *position)].sum().backward()
    return x.grad[0].abs().sum(0) > 0


@pytest.mark.parametrize(("name", "sees"), [("depthwise", 16), ("mean", 64), ("attention", 64)])
def test_in_pim_nothing_crosses_the_border_of_a_window(name, sees):
    torch.manual_seed(0)
    seen = reach(PiM(4, (8, 8), mixer=name), torch.randn(1, 4, 16, 16), 7, 8)  # bottom left pixel of the second window
    assert seen.sum() == sees  # of a kernel of 7 x 7 in the corner, 4 x 4 are inside
    assert not seen[8:].any() and not seen[:, :8].any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("partition", ["contiguous", "dilated", "count", "shuffled"])
def test_every_order_serves(name, partition):
    x = torch.randn(1, 4, 4, 8, 8)
    pim, pam = PiM(4, (2, 4, 2), partition, mixer=name), PaM(4, (2, 4, 2), mixer=name)
    assert pim(x).shape == pam(x).shape == x.shape
    length = ORDERS[partition]((4, 8, 8), (2, 4, 2)).shape[1]
    assert math.prod(sequence_sides((4, 8, 8), (2, 4, 2), partition)) == length


def test_a_dilated_sequence_is_a_grid_of_its_own():
    conv = PiM(4, 4, "dilated", mixer="depthwise")
    seen = reach(conv, torch.randn(1, 4, 16, 16), 0, 0).nonzero()
    assert (seen % 4 == 0).all() and len(seen) == 16  # every fourth pixel, and of those 4 x 4


def test_the_projection_in_is_as_large_as_that_of_two_mambas():
    bim = MIXERS["bim"](8)
    both = sum(mamba.in_proj.weight.numel() for mamba in bim.mambas)
    assert [MIXERS[name](8, window=(4, 4)).in_proj.weight.numel() for name in NAMES] == [both] * 3
    one = [MIXERS[name](8, window=(4, 4), bidirectional=False).in_proj.weight.numel() for name in NAMES]
    assert one == [both / 2] * 3


@pytest.mark.parametrize("name", NAMES)
def test_networks_have_them_by_name_and_count_them(name):
    size = (96, 96)
    with torch.device("meta"):
        network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3, mixer=name)
    table = describe(network, size)
    tokens = table.loc[0, "sequences"] * table.loc[0, "tokens"] + table.loc[0, "pam_tokens"]
    inner = {"attention": 16}.get(name, 32)
    pairs = table.loc[0, "sequences"] * table.loc[0, "tokens"] ** 2 + table.loc[0, "pam_tokens"] ** 2
    mixing = {"depthwise": 2 * 49 * inner * tokens, "mean": 0, "attention": 4 * inner * pairs}[name]
    projections = 2 * tokens * 8 * ({"attention": 4}.get(name, 2) * inner + inner)
    assert table.loc[0, "mixer_flops"] == projections + mixing


def test_what_makes_no_sense_is_named():
    with pytest.raises(KitError, match="a window with 3 axes"):
        PiM(4, 2, mixer="depthwise")(torch.zeros(1, 4, 4, 4, 4))
    with pytest.raises(KitError, match="kernel of 4 has no middle"):
        WindowConvolution(4, (2, 2), kernel_size=4)
    ORDERS["pairs"] = lambda spatial, window: torch.arange(math.prod(spatial)).reshape(-1, 2)
    try:
        x = torch.zeros(1, 4, 4, 4)
        with pytest.raises(KitError, match="have 2 tokens, which are no grid of"):
            PiM(4, 4, "pairs", mixer="attention")(x)
        assert PiM(4, 4, "pairs", mixer="mean")(x).shape == x.shape
    finally:
        del ORDERS["pairs"]


def test_the_lm_block_takes_each_as_a_class_too():
    for kind in (WindowMean, WindowAttention, WindowConvolution):
        assert LMBlock(4, 4, mixer=kind)(torch.zeros(1, 4, 8, 8)).shape == (1, 4, 8, 8)
