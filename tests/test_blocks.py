"""BiM, PiM, PaM and the LM block against slow versions written out here, and what each of them can see."""

import pytest
import torch
import torch.nn.functional as F

from lkm_kit.blocks import BiM, LMBlock, PaM, PiM
from lkm_kit.errors import KitError
from lkm_kit.ssm import Mamba


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
    monkeypatch.setattr("lkm_kit.blocks.bim.choose_backend", lambda device, backend: "triton")
    layer = make()
    if why == "hook":
        layer.bim.register_forward_hook(lambda bim, given, out: setattr(bim, "seen", tuple(given[0].shape)))
    else:
        layer.bim = Noting(4) if why == "subclass" else type("StandIn", (torch.nn.Module,), dict(vars(Noting)))()
    layer(torch.randn(2, 4, 8, 8))
    assert layer.bim.seen == ((8, 16, 4) if isinstance(layer, PiM) else (2, 4, 4))
