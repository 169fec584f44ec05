"""BiM, PiM, PaM and the LM block against slow versions written out here, and what each of them can see."""

import math

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from lkm_kit.blocks import DIRECTIONS, MIXERS, ORDERS, BiM, LMBlock, PaM, PiM, to_map, to_tokens
from lkm_kit.errors import KitError
from lkm_kit.networks import LKMUNet, build_network, describe
from lkm_kit.ssm import Mamba
from lkm_kit.studies.costs import kept_for_backward


def lively(module: torch.nn.Module) -> torch.nn.Module:
    """Move every parameter off its default, so that no 1 or 0 hides a mistake."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def support(layer: torch.nn.Module, x: torch.Tensor, *position: int) -> torch.Tensor:
    """Pixels on which the output at ``position`` depends, exactly: a NaN sent back reaches them all."""
    x = x.clone().requires_grad_()
    seed = torch.zeros_like(x)
    seed[(0, slice(None), *position)] = float("nan")
    layer(x).backward(seed)
    return x.grad[0].isnan().any(0)


def test_bim_is_two_mambas_on_flipped_copies_with_one_projection_of_the_sum():
    bim, tokens = lively(BiM(6)), torch.randn(3, 20, 6)
    normed = F.layer_norm(tokens, (6,), bim.norm.weight, bim.norm.bias)
    forward = bim.mamba_forward.mix(normed)
    backward = bim.mamba_backward.mix(normed.flip(1)).flip(1)
    torch.testing.assert_close(bim(tokens), (forward + backward) @ bim.out_proj.weight.T, rtol=1e-4, atol=1e-5)


def test_without_its_backward_half_bim_is_layernorm_and_one_mamba():
    bim, mamba, tokens = lively(BiM(6, bidirectional=False)), Mamba(6), torch.randn(3, 20, 6)
    mamba.load_state_dict(bim.mamba_forward.state_dict() | {"out_proj.weight": bim.out_proj.weight})
    torch.testing.assert_close(bim(tokens), mamba(bim.norm(tokens)), rtol=1e-4, atol=1e-5)
    assert not any("backward" in name for name in bim.state_dict())


@pytest.mark.parametrize(("bidirectional", "seen"), [(True, range(12)), (False, range(6))])
def test_what_a_token_sees(bidirectional, seen):
    bim, tokens = lively(BiM(4, bidirectional)), torch.randn(1, 12, 4, requires_grad=True)
    bim(tokens)[0, 5].sum().backward()
    assert tokens.grad[0].abs().sum(-1).nonzero().flatten().tolist() == list(seen)


CUTS = [((8, 12), (4, 3)), ((4, 6, 8), (2, 3, 4))]


@pytest.mark.parametrize(("spatial", "window"), CUTS)
@pytest.mark.parametrize("partition", ["contiguous", "dilated"])
def test_pim_runs_bim_over_each_sequence_alone_and_adds_the_input(spatial, window, partition):
    pim, x = lively(PiM(4, window, partition)), torch.randn(2, 4, *spatial)
    expected = x.clone()
    counts = [size // k for size, k in zip(spatial, window)]
    ranges = counts if partition == "contiguous" else window
    for index in torch.cartesian_prod(*(torch.arange(n) for n in ranges)).tolist():
        if partition == "contiguous":
            cut = tuple(slice(i * k, (i + 1) * k) for i, k in zip(index, window))
        else:
            cut = tuple(slice(i, None, k) for i, k in zip(index, window))
        part = x[(..., *cut)]
        tokens = pim.bim(part.flatten(2).transpose(1, 2))
        expected[(..., *cut)] += tokens.transpose(1, 2).reshape(part.shape)
    torch.testing.assert_close(pim(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("spatial", "pool"), CUTS)
def test_pam_is_equation_6(spatial, pool):
    pam, x = lively(PaM(4, pool)), torch.randn(2, 4, *spatial)
    pooled = x
    for axis, k in enumerate(pool, start=2):
        pooled = pooled.unflatten(axis, (-1, k)).mean(axis + 1)
    mixed = pam.bim(pooled.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(pooled.shape)
    for axis, k in enumerate(pool, start=2):
        mixed = mixed.repeat_interleave(k, axis)
    torch.testing.assert_close(pam(x), x + mixed, rtol=1e-4, atol=1e-5)


def test_activation_checkpointing_gives_the_same_numbers_and_keeps_the_input_alone():
    x = torch.randn(1, 4, 8, 8, requires_grad=True)
    plain = lively(LMBlock(4, window=4))
    saving = LMBlock(4, window=4, activation_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    found = [(block(x), *torch.autograd.grad(block(x).sum(), [x, *block.parameters()])) for block in (plain, saving)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    kept, least = (kept_for_backward(block, x.detach(), block.parameters()) for block in (plain, saving))
    assert least == x.numel() * x.element_size() < kept / 10
    with torch.no_grad():
        assert torch.equal(saving(x), found[0][0])


def test_lm_block_is_pim_then_pam_and_its_switches_leave_parts_out():
    x = torch.randn(1, 4, 8, 8)
    block = lively(LMBlock(4, window=4))
    assert block.pam.pool == 4  # the paper: one representative per window
    assert torch.equal(block(x), block.pam(block.pim(x)))
    assert LMBlock(4, window=4, pool=2).pam.pool == 2
    assert LMBlock(4, window=4, pam=False).pam is None
    assert LMBlock(4, window=4, pim=False).pim is None
    nothing = LMBlock(4, window=4, pim=False, pam=False)
    assert torch.equal(nothing(x), x)
    assert not nothing.state_dict()


def test_count_gives_as_many_representatives_as_windows():
    """2 windows per axis on 8×8: windows and patches of side 4, so the result is that of window=4."""
    x, by_count, by_side = torch.randn(1, 4, 8, 8), LMBlock(4, 2, partition="count"), LMBlock(4, 4)
    by_side.load_state_dict(lively(by_count).state_dict())
    torch.testing.assert_close(by_count(x), by_side(x))
    own_pool = LMBlock(4, 2, pool=4, partition="count")  # a pool that is given stays a side in pixels
    own_pool.load_state_dict(by_side.state_dict())
    torch.testing.assert_close(own_pool(x), by_side(x))


def test_contiguous_pim_sees_its_window_dilated_pim_a_lattice_pam_everything():
    x = torch.randn(1, 4, 20, 20)
    inside = torch.zeros(20, 20, dtype=torch.bool)
    inside[5:10, 10:15] = True
    assert torch.equal(support(lively(PiM(4, 5)), x, 7, 12), inside)
    lattice = torch.zeros(20, 20, dtype=torch.bool)
    lattice[2::5, 2::5] = True
    assert torch.equal(support(lively(PiM(4, 5, "dilated")), x, 7, 12), lattice)
    assert lattice.sum() == 16
    assert support(lively(PaM(4, 5)), x, 7, 12).all()


@pytest.mark.parametrize("order", list(ORDERS))
@pytest.mark.parametrize(("spatial", "window"), [((8, 4), (4, 2)), ((4, 2, 4), (2, 2, 2))])
def test_a_pixel_sees_what_its_order_read_before(order, spatial, window):
    """Exact support of one direction: the pixel's sequence up to it; of both directions: all of the sequence."""
    x, position = torch.randn(1, 3, *spatial), tuple(size - 2 for size in spatial)
    number = torch.arange(math.prod(spatial)).reshape(spatial)[position].item()
    (sequence,) = (row for row in ORDERS[order](spatial, window).tolist() if number in row)
    for bidirectional, seen in ((False, sequence[: sequence.index(number) + 1]), (True, sequence)):
        layer = PiM(3, window, order, bidirectional, d_state=1, backend="reference")
        assert support(layer, x, *position).flatten().nonzero().flatten().tolist() == sorted(seen)


def test_sets_of_directions_have_names():
    assert len(BiM(2, directions="three-axes").mambas) == 6
    named, written, turned = (
        PiM(4, 4, directions=d, backend="reference") for d in ("cross-scan", DIRECTIONS["cross-scan"], "cross-scan")
    )
    weights = lively(named).state_dict()
    written.load_state_dict(weights)
    turned.load_state_dict(weights)
    x = torch.randn(1, 4, 4, 8)
    assert torch.equal(named(x), written(x))
    # the map and its transpose change places with rows and columns
    for a, b in (("forward", "forward_first-axis"), ("backward", "backward_first-axis")):
        rows, columns = (getattr(turned.bim, f"mamba_{name}").state_dict() for name in (a, b))
        kept = {k: v.clone() for k, v in rows.items()}
        getattr(turned.bim, f"mamba_{a}").load_state_dict(columns)
        getattr(turned.bim, f"mamba_{b}").load_state_dict(kept)
    torch.testing.assert_close(turned(x.mT).mT, named(x), atol=1e-5, rtol=1e-4)
    with pytest.raises(KitError, match="no set of directions 'crosscan'"):
        BiM(2, directions="crosscan")


@pytest.mark.parametrize("spatial", [(7, 10), (5, 7, 9)])
def test_pad_computes_on_the_zero_padded_map_and_crops(spatial):
    x, grown = torch.randn(1, 4, *spatial), [-(-s // 4) * 4 for s in spatial]
    padded = torch.zeros(1, 4, *grown)
    padded[(..., *(slice(s) for s in spatial))] = x
    block = lively(LMBlock(4, 4, pad=True))
    # Between PiM and PaM the padding is cropped and appended anew, so each is compared on its own.
    for layer in (block.pim, block.pam):
        torch.testing.assert_close(layer(x), layer(padded)[(..., *(slice(s) for s in spatial))])
    assert block(x).shape == x.shape


@pytest.mark.parametrize("layer", [PiM(4, 4, where="stage 2 PiM"), PaM(4, 4, where="stage 2 PaM")])
def test_a_map_that_does_not_fit_is_an_error_and_never_another_method(layer):
    with pytest.raises(KitError, match=f"{layer.where}: a map of 6×8 .* 4×4") as error:
        layer(torch.zeros(1, 4, 6, 8))
    assert "4×8 or 8×8" in error.value.remedy


def test_wrong_channels_are_named():
    with pytest.raises(KitError, match="batch, length, 4"):
        PiM(4, 4)(torch.zeros(1, 3, 8, 8))
    with pytest.raises(KitError, match="batch, length, 4"):
        BiM(4)(torch.zeros(8, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing_inside_the_block(dtype):
    block, x = lively(LMBlock(4, 4)), torch.randn(1, 4, 8, 8)
    with torch.autocast("cpu", dtype=dtype):
        inside = block(x)
        half = block(x.to(dtype))
    assert torch.equal(inside, block(x))
    torch.testing.assert_close(half, block(x.to(dtype).float()))


def test_gradients_are_finite_and_reach_every_parameter():
    block = lively(LMBlock(4, (2, 4, 4)))
    block(torch.randn(2, 4, 4, 8, 8)).square().mean().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_backends_agree():
    fast = lively(LMBlock(4, 4))
    slow = LMBlock(4, 4, backend="reference")
    slow.load_state_dict(fast.state_dict())
    x = torch.randn(2, 4, 16, 16)
    torch.testing.assert_close(fast(x), slow(x), rtol=1e-4, atol=1e-5)


class Noting(BiM):
    """Notes the shape of its tokens, and answers with them."""

    def forward(self, tokens):
        self.seen = tuple(tokens.shape)
        return tokens


@pytest.mark.parametrize("make", [lambda: PiM(4, window=4), lambda: PaM(4, pool=4)], ids=["PiM", "PaM"])
@pytest.mark.parametrize("why", ["subclass", "stand-in", "hook"])
def test_whatever_wants_tokens_gets_them_where_the_backend_reads_maps(make, why, monkeypatch):
    """The path without tokens would pass a subclass's order, a stand-in or a hook by in silence."""
    monkeypatch.setattr("lkm_kit.blocks.bim.choose_backend", lambda *given: "triton")
    layer = make()
    if why == "hook":
        layer.bim.register_forward_hook(lambda bim, given, out: setattr(bim, "seen", tuple(given[0].shape)))
    else:
        layer.bim = Noting(4) if why == "subclass" else type("StandIn", (torch.nn.Module,), dict(vars(Noting)))()
    layer(torch.randn(2, 4, 8, 8))
    assert layer.bim.seen == ((8, 16, 4) if isinstance(layer, PiM) else (2, 4, 4))


@pytest.mark.parametrize("dims", [2, 3])
def test_every_pixel_gets_the_value_of_its_own_patch(dims):
    """Every side to 60 from one, two and odd numbers of patches: "nearest" misses some, as 41 on 82 pixels."""
    pam = PaM(1, 1)
    for side in range(1, 61):
        for count in (1, 2, 5) if dims == 2 else (1, 3):
            counts = (count, 1, 1)[:dims] if side > 20 and dims == 3 else (count, 2, 1)[:dims]
            pam.pool = (side, 3, 1)[:dims]
            values = torch.arange(float(torch.tensor(counts).prod())).reshape(1, 1, *counts)
            pam.bim = type(
                "Numbers", (torch.nn.Module,), {"forward": lambda self, t, v=values: v.flatten()[None, :, None]}
            )()
            size = [n * k for n, k in zip(counts, pam.pool)]
            wanted = values
            for axis, k in enumerate(pam.pool, start=2):
                wanted = wanted.repeat_interleave(k, axis)
            assert torch.equal(pam(torch.zeros(1, 1, *size)), wanted), (side, counts)


@pytest.mark.parametrize("pool", [(41, 41), 25, (7, 49)])
def test_pam_by_hand_for_sides_that_a_rounded_scale_misses(pool):
    pam = lively(PaM(4, pool))
    sides = pool if isinstance(pool, tuple) else (pool, pool)
    x = torch.randn(1, 4, 2 * sides[0], 3 * sides[1])
    pooled = F.avg_pool2d(x, sides)
    mixed = pam.bim(pooled.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(pooled.shape)
    wanted = x + mixed.repeat_interleave(sides[0], 2).repeat_interleave(sides[1], 3)
    torch.testing.assert_close(pam(x), wanted, atol=1e-6, rtol=1e-5)


@pytest.fixture
def columns():
    """An order of one's own: a window's pixels with the first axis fastest."""

    def by_columns(spatial, window):
        numbers = ORDERS["contiguous"](spatial, window).reshape(-1, *window)
        return numbers.permute(0, *range(len(window), 0, -1)).flatten(1)

    ORDERS["columns"] = by_columns
    yield
    del ORDERS["columns"]


@pytest.fixture
def averages():
    """A mixer of one's own: what each token is above the mean of its sequence, through one layer."""

    class Averages(torch.nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.layer = torch.nn.Linear(channels, channels)

        def forward(self, tokens):
            return self.layer(tokens - tokens.mean(1, keepdim=True))

    MIXERS["averages"] = lambda channels, **options: Averages(channels)
    yield Averages
    del MIXERS["averages"]


SMALL = {
    2: {"features_per_stage": [4, 6], "strides": [(1, 1), (2, 2)], "windows": [(8, 4), 2]},
    3: {"features_per_stage": [4, 6], "strides": [(1, 1, 1), (1, 2, 2)], "windows": [(2, 8, 4), (1, 2, 2)]},
}
IMAGE = {2: (16, 8), 3: (4, 16, 8)}


def train_one_step(network, dims):
    x = torch.randn(2, 1, *IMAGE[dims])
    before = [p.clone() for p in network.encoder.mixers.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(x).square().mean().backward()
    optimizer.step()
    changed = [not torch.equal(p, b) for p, b in zip(network.encoder.mixers.parameters(), before, strict=True)]
    return sum(changed) / len(changed)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_an_order_of_ones_own_serves_everywhere(dims, backend, columns):
    torch.manual_seed(0)
    network = LKMUNet(1, 3, **SMALL[dims], partition="columns", backend=backend)
    twin = LKMUNet(1, 3, **SMALL[dims], backend=backend)
    twin.load_state_dict(network.state_dict())
    pim, straight = network.encoder.mixers[0].pim, twin.encoder.mixers[0].pim
    x = torch.randn(2, 4, *IMAGE[dims])
    axes = (0, 1, *range(dims + 1, 1, -1))  # reading by columns is reading the transposed map by rows
    straight.window = straight.window[::-1]
    torch.testing.assert_close(pim(x), straight(x.permute(axes)).permute(axes), atol=1e-5, rtol=1e-4)
    assert torch.equal(
        to_map(
            to_tokens(x, 4 if dims == 2 else (2, 4, 4), "columns"), x.shape, 4 if dims == 2 else (2, 4, 4), "columns"
        ),
        x,
    )
    contiguous = describe(LKMUNet(1, 3, **SMALL[dims]), IMAGE[dims])
    pd.testing.assert_frame_equal(describe(network, IMAGE[dims]), contiguous)
    assert train_one_step(network, dims) > 0.9


@pytest.mark.parametrize("dims", [2, 3])
def test_a_mixer_of_ones_own_serves_everywhere(dims, averages):
    torch.manual_seed(0)
    named = LKMUNet(1, 3, **SMALL[dims], mixer="averages")
    torch.manual_seed(0)
    called = LKMUNet(1, 3, **SMALL[dims], mixer=averages)
    x = torch.randn(2, 4, *IMAGE[dims])
    block, window = named.encoder.mixers[0], SMALL[dims]["windows"][0]
    assert torch.equal(block(x), called.encoder.mixers[0](x))
    tokens = to_tokens(x, window)
    torch.testing.assert_close(block.pim(x) - x, to_map(block.pim.bim(tokens), x.shape, window), atol=1e-6, rtol=1e-5)
    table = describe(named, IMAGE[dims])
    assert table.pim_parameters.tolist() == [4 * 4 + 4, 6 * 6 + 6]
    products = 2 * table.channels**2 * (table.sequences * table.tokens + table.pam_sequences * table.pam_tokens)
    assert table.mixer_flops.tolist() == products.tolist()
    assert train_one_step(named, dims) > 0.8  # a constant can be lost in the InstanceNorm that follows
    name = f"lkm-unet/tiny-{dims}d"
    assert isinstance(
        build_network(name, input_channels=1, num_classes=2, mixer="averages").encoder.mixers[0].pam.bim, averages
    )
    with pytest.raises(KitError, match="no mixer 'average'") as error:
        PiM(4, 4, mixer="average")
    assert "averages" in error.value.remedy


FOUR = [(None, False), (None, True), ("columns", False), ("columns", True)]


@pytest.mark.parametrize(("spatial", "window"), CUTS)
def test_four_directions_are_two_orders_read_both_ways_and_added(spatial, window, columns):
    pim, x = lively(PiM(8, window, directions=FOUR)), torch.randn(2, 8, *spatial)
    bim = pim.bim
    assert [name for name, _ in bim.named_children()] == [
        "norm", "mamba_forward", "mamba_backward", "mamba_forward_columns", "mamba_backward_columns", "out_proj"
    ]  # fmt: skip
    normed = bim.norm(x.movedim(1, -1)).movedim(-1, 1)
    total = 0
    for mamba, (order, reverse) in zip(bim.mambas, FOUR, strict=True):
        cut = (window, order or "contiguous")
        tokens = to_tokens(normed, *cut)
        mixed = mamba.mix(tokens.flip(1)).flip(1) if reverse else mamba.mix(tokens)
        total = total + to_map(mixed, x.shape, *cut)
    wanted = x + bim.out_proj(total.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(pim(x), wanted, atol=1e-5, rtol=1e-4)
    seen = support(pim, x, *(0,) * len(spatial))
    assert seen.sum() == math.prod(window)
    # PaM reads its representatives as one window, a network passes the directions on, one way is half of them
    pam = PaM(8, window, directions=FOUR, bidirectional=False)
    assert pam.bim.directions == [(None, False), ("columns", False)]
    assert support(lively(PaM(8, window, directions=FOUR)), x, *(0,) * len(spatial)).all()
    dims = len(spatial)
    network = LKMUNet(1, 3, **SMALL[dims], directions=FOUR, d_state=3, d_conv=2, expand=3)
    mamba = network.encoder.mixers[1].pam.bim.mamba_backward_columns
    assert (mamba.d_state, mamba.d_conv, mamba.d_inner) == (3, 2, 18)
    assert train_one_step(network, dims) > 0.9


def test_directions_that_make_no_sense_are_named(columns):
    with pytest.raises(KitError, match="no partition 'diagonals'"):
        BiM(4, directions=[("diagonals", False)])
    for directions in ([], [(None, True), (None, True)]):
        with pytest.raises(KitError, match="twice, or none"):
            BiM(4, directions=directions)
    with pytest.raises(KitError, match="tokens alone do not say what 'columns' is"):
        BiM(4, directions=FOUR)(torch.zeros(1, 5, 4))


def test_layouts_are_those_of_the_tokens():
    x = torch.zeros(1, 4, 12, 24)
    for partition in ORDERS:
        sides, sequences, tokens = PiM(4, (4, 6), partition).layout((12, 24))
        assert to_tokens(x, (4, 6), partition).shape == (sequences, tokens, 4)
        assert sides == ((3, 4) if partition == "count" else (4, 6))
    assert PiM(4, 5, pad=True).layout((12, 24)) == ((5, 5), 15, 25)
    assert PaM(4, 5, pad=True).layout((12, 24)) == ((5, 5), 1, 15)
    assert PaM(4, 4, partition="count").layout((12, 24)) == ((3, 6), 1, 16)
    with pytest.raises(KitError, match="PiM: a map of 12×24"):
        PiM(4, 5).layout((12, 24))
