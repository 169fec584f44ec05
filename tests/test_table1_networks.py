"""The other papers' networks of Table 1: one tester for all of them, golden parameter counts, and their messages."""

import importlib.util
import itertools

import pytest
import torch
from combinations import first
from safetensors.torch import load_model, save_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lkm_kit.blocks import ORDERS, to_map, to_tokens
from lkm_kit.errors import KitError
from lkm_kit.networks import build_network, describe, network_names
from lkm_kit.networks.nnformer import TransformerLayer, WindowAttention, strangers
from lkm_kit.networks.umamba import MambaLayer, UMamba
from lkm_kit.ssm import Mamba
from lkm_kit.studies.published import swin_umamba

HAS_EINOPS = importlib.util.find_spec("einops") is not None
needs_einops = pytest.mark.skipif(not HAS_EINOPS, reason="MONAI's transformers need einops")

# Every registered name, shrunk until the whole file runs in seconds, and an image that it takes.
_UMAMBA = {
    2: {"features_per_stage": [4, 8, 8], "strides": [(1, 1), (2, 2), (2, 1)], "kernel_sizes": 3},
    3: {
        "features_per_stage": [4, 8, 8],
        "strides": [(1, 1, 1), (1, 2, 2), (2, 2, 2)],
        "kernel_sizes": [(1, 3, 3), 3, 3],
    },
}
_UNETR = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2}
_NNFORMER = {"features": 8, "num_heads": (2, 2, 4), "drop_path": 0.0}
SMALL = {
    "umamba-enc-january/2d": (_UMAMBA[2], (16, 8)),
    "umamba-bot-january/3d": (_UMAMBA[3], (4, 16, 8)),
    "umamba-bot/2d": (_UMAMBA[2], (16, 8)),
    "umamba-bot/3d": (_UMAMBA[3], (4, 16, 8)),
    "umamba-enc/2d": ({**_UMAMBA[2], "image_size": (16, 8)}, (16, 8)),
    "umamba-enc/3d": ({**_UMAMBA[3], "image_size": None}, (4, 16, 8)),
    "segresnet/2d": ({"init_filters": 8, "blocks_down": (1, 1, 1), "blocks_up": (1, 1)}, (16, 8)),
    "segresnet/3d": ({"init_filters": 8, "blocks_down": (1, 1, 1), "blocks_up": (1, 1)}, (4, 16, 8)),
    "unetr/2d": ({**_UNETR, "image_size": (48, 32)}, (48, 32)),
    "unetr/3d": ({**_UNETR, "image_size": (16, 32, 16), "pad": False}, (16, 32, 16)),
    "swin-unetr/2d": ({"feature_size": 12}, (64, 32)),
    "swin-unetr/3d": (
        {"feature_size": 12, "depths": (2, 1, 1, 1), "window_size": 2, "pad": False},
        (32, 64, 32),
    ),
    "nnformer/2d": ({**_NNFORMER, "windows": [(2, 4), 2, (2, 1)]}, (32, 16)),
    "nnformer/3d": ({**_NNFORMER, "windows": [2, (2, 2, 1), (1, 2, 1)], "pad": False}, (8, 32, 16)),
    "shuffled-lkm-unet/tiny-2d": ({"features_per_stage": [4] * 4, "windows": [8, 4, 4, 2]}, (16, 32)),
    "shuffled-lkm-unet/tiny-3d": ({"features_per_stage": [4] * 4, "windows": [4, 4, 2, 1]}, (8, 16, 16)),
}
PARAMETERS = [pytest.param(name, marks=[needs_einops] if name.startswith(("unetr", "swin")) else []) for name in SMALL]
FLAT = sum("2d" in name for name in SMALL)
# make test: the 2D ones, and one in 3D
every_network = pytest.mark.parametrize("name", first(sorted(PARAMETERS, key=lambda p: "3d" in p.values[0]), FLAT + 1))


def build(name, seed=0, **overrides):
    torch.manual_seed(seed)
    return build_network(name, input_channels=2, num_classes=3, **{**SMALL[name][0], **overrides})


def image(name, batch=2):
    return torch.randn(batch, 2, *SMALL[name][1])


def heads_at_least(name):
    return 1 if name.startswith(("segresnet", "unetr", "swin")) else 2


def test_every_name_of_table_1_is_tested_here():
    names = ["umamba-bot", "umamba-enc", "segresnet", "unetr", "swin-unetr", "nnformer"]
    assert {f"{name}/{dims}d" for name in names for dims in (2, 3)} <= set(SMALL) & set(network_names())
    names += ["umamba-enc-january", "umamba-bot-january"]
    assert {f"{name}/tiny-{dims}d" for name in names for dims in (2, 3)} <= set(network_names())


@every_network
class TestEveryNetwork:
    def test_logits_per_pixel_and_finite_gradients_everywhere(self, name):
        network = build(name, deep_supervision=True)
        x = image(name).requires_grad_()
        outputs = network(x)
        assert isinstance(outputs, list)
        assert outputs[0].shape == (2, 3, *x.shape[2:])
        sum(output.square().mean() for output in outputs).backward()
        assert x.grad.isfinite().all()
        assert (x.grad != 0).any()
        # every parameter takes part: one that did not would stop multi-process training
        assert [key for key, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []

    def test_deep_supervision_is_a_switch_and_the_first_output_stays(self, name):
        network = build(name, deep_supervision=True).eval()
        x = image(name)
        outputs = network(x)
        assert len(outputs) >= heads_at_least(name)
        sizes = [output.shape[2:] for output in outputs]
        assert all(a[0] >= b[0] and a[1] > b[1] for a, b in itertools.pairwise(sizes))
        network.decoder.deep_supervision = False
        assert torch.equal(network(x), outputs[0])
        twin = build(name, deep_supervision=False).eval()
        twin.load_state_dict(network.state_dict())  # the same parameters either way
        assert torch.equal(twin(x), outputs[0])

    def test_odd_sizes_with_pad_and_an_error_without(self, name):
        fits = SMALL[name][1]
        odd = tuple(n - 1 for n in fits)
        x = torch.randn(1, 2, *odd)
        with pytest.raises(KitError) as error:
            build(name)(x)
        assert "×".join(map(str, odd)) in str(error.value)
        if name == "umamba-enc/2d":
            assert "image_size" in error.value.remedy
            return
        assert "pad=True" in error.value.remedy
        network = build(name, pad=True, deep_supervision=True)
        assert network(x)[0].shape == (1, 3, *odd)
        whole = image(name)
        twin = build(name)
        twin.load_state_dict(network.state_dict())
        network.decoder.deep_supervision = False
        assert torch.equal(network.eval()(whole), twin.eval()(whole))  # nothing to pad: the same network

    def test_autocast_bf16(self, name):
        network = build(name).eval()
        x = image(name)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(x)
        assert logits.isfinite().all()
        if x.ndim == 4:  # on a CPU, torch 2.13's bf16 weight gradient of a small 3D convolution reads stray memory
            logits.float().square().mean().backward()
            assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
        exact = network(x)
        assert (logits.float() - exact).abs().mean() < 0.2 * exact.abs().mean()

    def test_describe_counts_parameters_and_what_torch_counts(self, name):
        network, x = build(name, deep_supervision=True).eval(), image(name, batch=1)
        table = describe(network, x.shape[2:])
        assert table.parameters.sum() == sum(p.numel() for p in network.parameters())
        with FlopCounterMode(display=False) as counter:
            network(x)
        if any(isinstance(module, Mamba) for module in network.modules()):
            # four channels are eight inside, and the CPU's kernels make them sixteen
            assert counter.get_total_flops() >= table.flops.sum() > table.mixer_flops.sum() > 0
        else:
            assert counter.get_total_flops() == table.flops.sum() > 0

    def test_save_and_load(self, name, tmp_path):
        network, other, x = build(name).eval(), build(name, seed=1).eval(), image(name)
        save_model(network, str(tmp_path / "weights.safetensors"))
        assert not torch.equal(network(x), other(x))
        load_model(other, str(tmp_path / "weights.safetensors"))
        assert torch.equal(network(x), other(x))

    def test_one_seed_one_start(self, name):
        a, b = build(name).state_dict(), build(name).state_dict()
        assert all(torch.equal(a[key], b[key]) for key in a)

    def test_one_step_against_the_gradient_lowers_the_loss(self, name):
        network, x = build(name).eval(), image(name)
        target = torch.randint(0, 3, (2, *x.shape[2:]), generator=torch.Generator().manual_seed(0))
        before = nn.functional.cross_entropy(network(x), target)
        gradients = torch.autograd.grad(before, list(network.parameters()), allow_unused=True)
        norm = sum(g.square().sum() for g in gradients if g is not None).sqrt()
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients):
                if gradient is not None:
                    parameter -= 1e-2 / norm * gradient
        assert nn.functional.cross_entropy(network(x), target) < before

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [(lambda x: x[0], "shape"), (lambda x: x[:, :1], "2 channels|takes 2"), (lambda x: x.long(), "int64")],
        ids=["rank", "channels", "dtype"],
    )
    def test_wrong_images_are_named(self, name, spoil, message):
        with pytest.raises(KitError, match=message):
            build(name)(spoil(image(name)))


def count(name, **overrides):
    with torch.device("meta"):
        network = build_network(name, input_channels=1, num_classes=14, **overrides)
    return sum(p.numel() for p in network.parameters())


def test_umamba_enc_has_the_published_number_of_parameters():
    assert count("umamba-enc/2d") == 47_015_538  # published: 47.0 M
    assert count("umamba-enc/3d") == 42_842_798  # published: 42.8 M
    # pixels as tokens at every stage, as the text says, would be another size
    assert count("umamba-enc/2d", image_size=None) == 49_355_476


def test_umamba_of_january_has_the_sizes_beside_which_its_scores_were_published():
    assert count("umamba-enc-january/2d") == 67_333_428  # published beside 76.25: 67 M
    assert count("umamba-bot-january/2d") == 63_344_180  # published beside 75.88: 63 M
    million = swin_umamba["million parameters"]
    assert count("umamba-enc-january/2d") / 1e6 == pytest.approx(million["U-Mamba_Enc"], abs=0.5)
    assert count("umamba-bot-january/2d") / 1e6 == pytest.approx(million["U-Mamba_Bot"], abs=0.5)
    with torch.device("meta"):
        network = build_network("umamba-bot-january/2d", input_channels=1, num_classes=14)
    table = describe(network, (320, 320))
    assert table.flops.sum() / 2e9 == pytest.approx(swin_umamba.loc["U-Mamba_Bot", "G multiply-adds"], rel=0.02)
    assert table.tokens.tolist() == [0, 0, 0, 0, 0, 0, 25]


def test_umamba_of_january_is_the_residual_unet_and_mamba():
    torch.manual_seed(0)
    small = {key: _UMAMBA[2][key] for key in ("features_per_stage", "strides", "kernel_sizes")}
    bare = build_network("residual-unet/2d", input_channels=2, num_classes=3, **small).eval()
    x = image("umamba-enc-january/2d")
    for name in ("umamba-enc-january/2d", "umamba-bot-january/2d"):
        torch.manual_seed(0)
        network = build_network(name, input_channels=2, num_classes=3, **small).eval()
        weights = network.state_dict()
        convolutions = {key: value for key, value in bare.state_dict().items() if "norm" not in key}
        assert all(torch.equal(value, weights[key]) for key, value in convolutions.items())
        begins_as_skip = weights["encoder.stages.1.blocks.0.conv2.norm.weight"].eq(0).all()
        assert begins_as_skip == (name == "umamba-enc-january/2d")
        network.load_state_dict(bare.state_dict(), strict=False)
        assert not torch.equal(network(x), bare(x))
        network.encoder.mixers = nn.ModuleList(nn.Identity() for _ in range(3))
        assert torch.equal(network(x), bare(x))


def test_nnformer_has_the_published_number_of_parameters():
    synapse = {"windows": [4, 4, 8, 4], "deep_supervision": True}
    assert count("nnformer/3d", **synapse) / 1e6 == pytest.approx(150.5, rel=0.005)  # published: 150.5 M


PUBLISHED = {
    "nnU-Net": "plain-unet",
    "SegResNet": "segresnet",
    "UNETR": "unetr",
    "SwinUNETR": "swin-unetr",
    "nnFormer": "nnformer",
    "U-Mamba_Bot": "umamba-bot-january",
    "U-Mamba_Enc": "umamba-enc-january",
}


@needs_einops
def test_sizes_are_the_published_ones_but_for_nnformer():
    """Operations agree for all seven (chapter 12). No width gives both published figures of nnFormer (60 M, 50.2 G)."""
    million = swin_umamba["million parameters"]
    apart = {name: count(f"{name}/2d") / 1e6 - million[row] for row, name in PUBLISHED.items()}
    assert apart.pop("nnformer") == pytest.approx(114.343122 - 60)
    assert max(map(abs, apart.values())) < 0.5
    narrower = {"features": 140, "num_heads": (5, 10, 20, 40)}
    assert count("nnformer/2d", **narrower) / 1e6 == pytest.approx(60, rel=0.02)


@pytest.mark.parametrize("name", [n for n in network_names() if not n.startswith(("unetr", "swin", "lkm"))])
def test_every_preset_builds(name):
    assert count(name) > 50_000


@needs_einops
@pytest.mark.parametrize("name", ["unetr/3d", "swin-unetr/tiny-2d", "swin-unetr/2d", "unetr/tiny-2d"])
def test_monais_transformers_build_without_memory(name):
    with torch.device("meta"):
        network = build_network(name, input_channels=1, num_classes=14)
    assert {p.device.type for p in network.parameters()} == {"meta"}


def test_monais_transformers_say_what_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("unetr/tiny-2d", "swin-unetr/tiny-2d"):
        with pytest.raises(KitError, match="needs the package einops") as error:
            build_network(name, input_channels=1, num_classes=3)
        assert "pip install" in error.value.remedy


def test_umamba_reads_small_maps_channel_by_channel_and_large_ones_pixel_by_pixel():
    torch.manual_seed(0)
    x = torch.randn(1, 6, 2, 2)
    by_channel, by_pixel = MambaLayer(6, pixels=4), MambaLayer(6)
    assert (by_channel.mamba.d_model, by_pixel.mamba.d_model) == (4, 6)
    # causal: what is read later cannot change what was read before
    changed = x.clone()
    changed[:, 3] += 1
    same = [torch.equal(a, b) for a, b in zip(by_channel(x).unbind(1), by_channel(changed).unbind(1))]
    assert same == [True] * 3 + [False] * 3
    changed = x.clone()
    changed[..., 1, 0] += 1
    same = torch.isclose(by_pixel(x), by_pixel(changed), rtol=0, atol=0).all(1)[0].flatten().tolist()
    assert same == [True, True, False, False]


def test_window_attention_is_attention_inside_windows_only():
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, (2, 4)).double()
    x = torch.randn(1, 8, 4, 8, dtype=torch.float64)
    whole = attention(x, x, shifted=False)
    alone = attention(x[..., 2:, 4:], x[..., 2:, 4:], shifted=False)
    torch.testing.assert_close(whole[..., 2:, 4:], alone)
    # against torch's own attention, in the first window
    tokens = x[0, :, :2, :4].reshape(8, 8).T
    q, (k, v) = attention.query(tokens), attention.key_value(tokens).chunk(2, -1)
    split = [t.reshape(8, 2, 4).transpose(0, 1) for t in (q, k, v)]
    own = nn.functional.scaled_dot_product_attention(*split, attn_mask=attention.bias[:, attention.bias_index])
    expected = attention.project(own.transpose(0, 1).reshape(8, 8)).T.reshape(8, 2, 4)
    torch.testing.assert_close(whole[0, :, :2, :4], expected)


def test_shifted_windows_never_join_opposite_edges():
    torch.manual_seed(0)
    layer = TransformerLayer(4, 1, (4, 4), shifted=True).double()
    x = torch.randn(1, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    layer(x)[0, :, 0, 0].sum().backward()
    seen = x.grad.abs().sum(1)[0] > 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:2, :2] = True  # the corner is left with a quarter of a window
    assert torch.equal(seen, expected)
    x.grad = None
    layer(x)[0, :, 3, 3].sum().backward()
    seen = x.grad.abs().sum(1)[0] > 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, 2:6] = True
    assert torch.equal(seen, expected)
    assert strangers((8, 8), (4, 4), (2, 2)).any()


def test_umamba_upsamples_by_any_stride_to_the_pixel():
    """In float32, 41 · (1/41) is less than 1: nearest-neighbour resizing by such a factor takes a neighbour's value."""
    small = {"features_per_stage": [2, 2], "kernel_sizes": 1, "n_blocks_per_stage": 1, "n_blocks_decoder": 1}
    for stride in (3, 5, 41, 47):
        network = UMamba(1, 2, strides=[(1, 1), (stride, 1)], **small)
        network.upsamplings[0], network.decoder_stages[0] = nn.Identity(), nn.Identity()
        network.seg_layers[0], network.stem, network.mambas[1] = nn.Identity(), nn.Identity(), nn.Identity()
        network.stages[0], network.stages[1] = nn.Identity(), nn.AvgPool2d(1, (stride, 1))
        rows = torch.arange(4.0 * stride).reshape(1, 1, -1, 1).expand(1, 1, -1, 3)
        assert torch.equal(network.heads(rows)[0], rows.div(stride, rounding_mode="floor") * stride)


def test_shuffled_control_has_the_weights_of_lkm_unet_and_reads_every_pixel_of_a_window():
    name, plain = "shuffled-lkm-unet/tiny-2d", "lkm-unet/tiny-2d"
    small = {"features_per_stage": [4] * 4, "windows": [8, 4, 4, 2], "pam": False}
    torch.manual_seed(0)
    lkm = build_network(plain, input_channels=2, num_classes=3, **small).eval()
    shuffled = build(name, pam=False).eval()
    assert all(torch.equal(v, shuffled.state_dict()[k]) for k, v in lkm.state_dict().items())
    x = image(name)
    assert not torch.equal(lkm(x), shuffled(x))
    pim, straight = shuffled.encoder.mixers[0].pim, lkm.encoder.mixers[0].pim
    map_ = torch.randn(1, 4, 16, 8)
    order = ORDERS["shuffled"]((8, 8), (8, 8))[0]
    rows = to_tokens(map_, 8)[:, order]
    change = torch.empty_like(rows)
    change[:, order] = straight.bim(rows)
    torch.testing.assert_close(pim(map_) - map_, to_map(change, map_.shape, 8), atol=1e-6, rtol=1e-5)
    neighbours = (order[1:] - order[:-1]).abs() == 1
    assert neighbours.float().mean() < 0.1
    assert order.sort().values.tolist() == list(range(64))
    assert order[:4].tolist() == torch.randperm(64, generator=torch.Generator().manual_seed(64))[:4].tolist()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("umamba-enc/2d", {"where": "decoder"}, "no place 'decoder'"),
        ("umamba-enc/2d", {"n_blocks_per_stage": [1, 2]}, "n_blocks_per_stage"),
        ("segresnet/2d", {"init_filters": 12}, "multiple of 8"),
        ("nnformer/2d", {"patch": (3, 3)}, "patch is"),
        ("nnformer/2d", {"num_heads": (7, 6, 6, 6)}, "7 heads cannot share"),
        pytest.param("unetr/2d", {"image_size": (40, 40)}, "patches have 16", marks=needs_einops),
        pytest.param("swin-unetr/2d", {"feature_size": 20}, "multiple of 12", marks=needs_einops),
        ("segresnet/2d", {"num_classes": 1}, "num_classes is 1"),
        ("segresnet/2d", {"input_channels": 0}, "input_channels is 0"),
    ],
)
def test_wrong_arguments_are_named(name, arguments, message):
    with pytest.raises(KitError, match=message):
        build_network(name, **{"input_channels": 1, "num_classes": 3, **arguments})
