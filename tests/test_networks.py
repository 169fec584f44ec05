"""One tester for every network of the kit, the golden numbers, and the messages for images that do not fit."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch._dynamo.testing import CompileCounter
from torch.utils.flop_counter import FlopCounterMode

from lkm_kit.errors import KitError
from lkm_kit.networks import LKMUNet, UNet, build_network, describe, network_names

# Small enough for seconds, with all that makes trouble: anisotropic strides, kernels and windows, equal features.
SMALL = {
    2: {"features_per_stage": [4, 6, 6], "strides": [(1, 1), (2, 2), (2, 1)]},
    3: {
        "features_per_stage": [4, 6, 6],
        "strides": [(1, 1, 1), (1, 2, 2), (2, 2, 2)],
        "kernel_sizes": [(1, 3, 3), (3, 3, 3), (3, 3, 3)],
    },
}
WINDOWS = {2: [(8, 4), 4, 2], 3: [(2, 8, 4), (2, 4, 4), (1, 2, 2)]}
FITS = {2: (16, 8), 3: (4, 16, 8)}
NETWORKS = {
    f"{name} {dims}d": (cls, {**SMALL[dims], **more, **({"windows": WINDOWS[dims]} if cls is LKMUNet else {})})
    for dims in (2, 3)
    for name, cls, more in [
        ("plain", UNet, {"block": "plain"}),
        ("residual", UNet, {"block": "residual"}),
        ("lkm", LKMUNet, {}),
        ("dilated", LKMUNet, {"partition": "dilated", "pools": 2 if dims == 2 else [(2, 2, 2), (2, 2, 2), (1, 2, 2)]}),
        ("one direction", LKMUNet, {"bidirectional": False, "pam": False}),
        ("no mamba", LKMUNet, {"pim": False, "pam": False}),
    ]
}


def build(name, **overrides):
    cls, arguments = NETWORKS[name]
    torch.manual_seed(0)
    return cls(2, 3, **{**arguments, **overrides})


def image(network, size=None):
    return torch.randn(2, 2, *(size or FITS[network.dims]))


@pytest.mark.parametrize("name", NETWORKS)
class TestEveryNetwork:
    def test_logits_per_pixel_and_finite_gradients_everywhere(self, name):
        network = build(name)
        x = image(network).requires_grad_()
        logits = network(x)
        assert logits.shape == (2, 3, *x.shape[2:])
        logits.square().mean().backward()
        assert x.grad.isfinite().all()
        assert x.grad.abs().sum() > 0
        deep = [f"decoder.seg_layers.{i}." for i in range(len(network.decoder.seg_layers) - 1)]
        for key, parameter in network.named_parameters():
            if key.startswith(tuple(deep)):
                assert parameter.grad is None, key  # these speak with deep supervision only
            else:
                assert parameter.grad.isfinite().all(), key

    def test_deep_supervision_is_a_switch_and_the_first_output_stays(self, name):
        network = build(name, deep_supervision=True).eval()
        x = image(network)
        outputs = network(x)
        assert isinstance(outputs, list)
        assert len(outputs) == 2
        sizes = [tuple(output.shape[2:]) for output in outputs]
        assert sizes == [FITS[network.dims], tuple(s // k for s, k in zip(FITS[network.dims], network.strides[1]))]
        assert {output.shape[1] for output in outputs} == {3}
        network.decoder.deep_supervision = False
        assert torch.equal(network(x), outputs[0])

    def test_odd_sizes_with_pad_and_an_error_without(self, name):
        odd = (13, 7) if "2d" in name else (3, 13, 7)
        network = build(name, pad=True, deep_supervision=True)
        x = image(network, odd)
        outputs = network(x)
        halves = tuple(math.ceil(s / k) for s, k in zip(odd, network.strides[1]))
        assert [tuple(output.shape[2:]) for output in outputs] == [odd, halves]
        fitting = image(network)
        network.decoder.deep_supervision = False
        twin = build(name)
        twin.load_state_dict(network.state_dict())
        assert torch.equal(network.eval()(fitting), twin.eval()(fitting))  # nothing to pad: the same network
        with pytest.raises(KitError, match="pad=True"):
            twin(x)

    def test_autocast_and_back(self, name):
        network = build(name)
        x = image(network)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(x)
        assert logits.dtype == torch.bfloat16 and logits.isfinite().all()
        if x.ndim == 4:  # on a CPU, torch 2.13's bf16 weight gradient of a small 3D convolution reads stray memory
            logits.float().square().mean().backward()
            assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
        torch.testing.assert_close(logits.float(), network(x), rtol=0.1, atol=0.1)

    def test_save_and_load(self, name, tmp_path):
        network = build(name)
        save_file(network.state_dict(), tmp_path / "weights.safetensors")
        torch.manual_seed(1)
        cls, arguments = NETWORKS[name]
        other = cls(2, 3, **arguments)
        x = image(network)
        assert not torch.equal(network(x), other(x))
        other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        assert torch.equal(network(x), other(x))

    def test_describe_counts_what_torch_counts(self, name):
        network = build(name, deep_supervision=True)
        table = describe(network, FITS[network.dims])
        assert table.parameters.sum() == sum(p.numel() for p in network.parameters())
        with FlopCounterMode(display=False) as counter:
            network(image(network)[:1])
        counted = {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items()}
        # torch has no rule for the scan (9 d n a token in our table) and cannot see into the fused convolution of Mamba
        # (4 taps), so these are added to its matrix products.
        inner, products = 2 * table.channels, sum(f for op, f in counted.items() if op in ("aten.mm", "aten.addmm"))
        pim_passes, pam_passes = directions(network)
        tokens = table.sequences * table.tokens * pim_passes + table.pam_sequences * table.pam_tokens * pam_passes
        assert table.mixer_flops.sum() == products + (tokens * inner * (9 * 16 + 2 * 4)).sum()
        if table.mixer_flops.sum() == 0:
            assert table.flops.sum() == counter.get_total_flops()


def directions(network):
    """Scans over each token of PiM and of PaM: 0, 1 or 2."""
    mixer = network.encoder.mixers[0]
    return [0 if part is None else 1 + part.bim.bidirectional
            for part in (getattr(mixer, "pim", None), getattr(mixer, "pam", None))]  # fmt: skip


def meta(name, **overrides):
    with torch.device("meta"):  # no memory, no arithmetic: only shapes
        return build_network(name, input_channels=1, num_classes=14, **overrides)


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        ("lkm-unet/released-2d", 80_886_452),
        ("lkm-unet/released-3d", 63_782_246),
        ("lkm-unet/paper-2d", 80_886_452),
        ("lkm-unet/paper-3d", 63_782_246),
        ("residual-unet/2d", 61_648_436),
        ("residual-unet/3d", 57_156_326),
        ("plain-unet/2d", 33_489_940),
        ("plain-unet/3d", 30_713_158),
    ],
)
def test_golden_parameter_counts(name, golden):
    assert parameters(meta(name)) == golden


PIM_2D, PAM_2D = [1600, 400, 400, 100, 100, 25, 25], [64, 64, 16, 16, 4, 4, 1]
PIM_3D, PAM_3D = [13440, 13440, 1680, 1680, 210, 210], [128, 32, 32, 4, 4, 1]


@pytest.mark.parametrize(
    ("preset", "size", "tokens", "sequences", "pam_tokens", "mamba"),
    [
        ("paper-2d", (320, 320), PIM_2D, PAM_2D, PAM_2D, 9_619_008),
        ("released-2d", (320, 320), PAM_2D, PIM_2D, [1600, 1600, 400, 400, 100, 100, 25], 9_619_008),
        ("paper-3d", (40, 224, 192), PIM_3D, PAM_3D, PAM_3D, 3_312_960),
        ("released-3d", (40, 224, 192), PAM_3D, PIM_3D, [26880, 6720, 6720, 840, 840, 210], 3_312_960),
    ],
)
def test_golden_token_tables(preset, size, tokens, sequences, pam_tokens, mamba):
    table = describe(meta(f"lkm-unet/{preset}"), size)
    assert table.tokens.tolist() == tokens
    assert table.sequences.tolist() == sequences
    assert table.pam_tokens.tolist() == pam_tokens
    assert table.pim_parameters.sum() == table.pam_parameters.sum() == mamba
    assert [math.prod(size) for size in table["map"]] == (table.tokens * table.sequences).tolist()


@pytest.mark.parametrize(("preset", "size"), [("tiny-2d", (96, 96)), ("tiny-3d", (32, 64, 64))])
def test_tiny_presets_fit_their_sizes_and_run(preset, size):
    network = build_network(f"lkm-unet/{preset}", input_channels=1, num_classes=7)
    table = describe(network, size)
    assert table.tokens.iloc[-1] == math.prod(table.window.iloc[-1])
    with torch.no_grad():
        assert network(torch.randn(1, 1, *size)).shape == (1, 7, *size)


@pytest.mark.parametrize("dims", [2, 3])
def test_without_mamba_it_is_the_residual_unet_weight_for_weight(dims):
    control, residual, full = build(f"no mamba {dims}d"), build(f"residual {dims}d"), build(f"lkm {dims}d")
    assert list(control.state_dict()) == list(residual.state_dict())
    x = image(control)
    assert torch.equal(control(x), residual(x))
    for name, parameter in residual.named_parameters():  # one seed, one start for all arms
        assert torch.equal(parameter, full.get_parameter(name)), name


def test_residual_blocks_start_as_their_skip():
    network = build("residual 2d")
    block = network.encoder.stages[1].blocks[0]
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(block(x), torch.nn.functional.leaky_relu(block.skip(x), 0.01))


def test_an_image_that_does_not_fit_names_stage_map_window_and_sizes_that_do():
    network = meta("lkm-unet/paper-2d")
    with pytest.raises(KitError) as error:
        describe(network, (256, 256))
    for part in ("stage 0", "256×256", "PiM windows of 40×40", "240×240 or 280×280", "320×320", "pad=True"):
        assert part in str(error.value)
    with pytest.raises(KitError, match=r"stage 2: its map of 36×36 .image 144×144. .* windows of 24×24"):
        build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3, windows=24)(torch.zeros(1, 1, 144, 144))
    with pytest.raises(KitError, match="strides multiply to 8×8"):
        build_network("plain-unet/tiny-2d", input_channels=1, num_classes=3)(torch.zeros(1, 1, 90, 96))
    with pytest.raises(KitError, match="PaM patches of 5×5"):
        describe(meta("lkm-unet/tiny-2d", pim=False, pools=5), (96, 96))
    with pytest.raises(KitError, match="one pixel at the last stage"):
        build_network("plain-unet/tiny-2d", input_channels=1, num_classes=3)(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((96, 96), torch.float32, r"image\[None, None\]"),
        ((1, 1, 32, 64, 64), torch.float32, "2D network"),
        ((1, 3, 96, 96), torch.float32, "has 3 channels; this network takes 1"),
        ((1, 1, 96, 96), torch.int64, "dtype torch.int64"),
    ],
)
def test_wrong_images_are_named(shape, dtype, message):
    network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3)
    with pytest.raises(KitError, match=message):
        network(torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes is 1"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"input_channels": 0}, "input_channels is 0"),
        ({"windows": [24, 24, 12]}, "windows has 3 entries for 4 stages"),
        ({"windows": [(24, 24, 24)] * 4}, "windows, stage 0,"),
        ({"pools": [2, 2, 2, 0]}, "pools, stage 3,"),
        ({"kernel_sizes": [3, 3]}, "kernel_sizes has 2 entries"),
        ({"strides": [1, 2, 2, 2]}, "make no 2D or 3D network"),
        ({"n_blocks_per_stage": [1, 1]}, "n_blocks_per_stage is"),
        ({"partition": "diluted"}, "no partition 'diluted'"),
        ({"window": 24}, "no argument 'window'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(KitError, match=message):
        build_network("lkm-unet/tiny-2d", **{"input_channels": 1, "num_classes": 3, **arguments})


def test_every_stage_may_have_an_order_and_a_mixer_of_its_own():
    shape = {"features_per_stage": [4, 4], "strides": [(1, 1), (2, 2)], "windows": [6, 4]}
    network = LKMUNet(1, 3, **shape, partition=["hilbert", "dilated"], mixer=[None, "mingru"])
    first, second = network.encoder.mixers
    assert (first.pim, first.pam, second.pim.partition) == (None, None, "dilated")
    assert [type(part.bim.forward_layer).__name__ for part in (second.pim, second.pam)] == ["MinGRU", "MinGRU"]
    assert network.size_multiple() == (8, 8)  # the first stage's window divides nothing
    assert network(torch.zeros(1, 1, 16, 16)).shape == (1, 3, 16, 16)
    with pytest.raises(KitError, match="partition is \\['hilbert'\\]"):
        LKMUNet(1, 3, **shape, partition=["hilbert"])


def test_designs_like_the_published_ones_read_whole_maps():
    vm_unet, segmamba = (meta(name) for name in ("vm-unet-like/tiny-2d", "segmamba-like/tiny-3d"))
    rows = describe(vm_unet, 96)
    assert rows.sequences.tolist() == [1] * 4 and rows.tokens.tolist() == [n * n for n in (96, 48, 24, 12)]
    assert [len(block.pim.bim.mambas) for block in vm_unet.encoder.mixers] == [4] * 4
    rows = describe(segmamba, (32, 64, 64))
    assert rows.tokens.tolist() == [0, 32**3, 16**3, 8**3] and rows.pam_tokens.tolist() == [0] * 4
    assert "mamba_forward_first-axis" in dict(segmamba.encoder.mixers[1].pim.bim.named_children())


def test_names():
    with pytest.raises(KitError, match="did you mean 'lkm-unet/paper-2d'"):
        build_network("lkm-unet/paper2d", input_channels=1, num_classes=2)
    for name in network_names():
        assert parameters(meta(name)) > 0


def test_torch_counts_the_fused_operators_as_describe_does():
    network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=7)
    with FlopCounterMode(display=False) as counter:
        logits = network(torch.randn(1, 1, 96, 96, requires_grad=True))
    assert counter.get_total_flops() == describe(network, 96).flops.sum() == 352_967_680
    with FlopCounterMode(display=False) as counter:
        logits.sum().backward()
    by_operator = {str(operator): flops for operator, flops in counter.get_flop_counts()["Global"].items()}
    forward = describe(network, 96).mixer_flops.sum()
    products = 2 * sum(2 * m.pim.bim.out_proj.weight.numel() * n for m, n in zip(network.encoder.mixers, TOKENS))
    assert by_operator["lkm_kit.mamba_mix_cpu_backward"] == 2 * forward - products


# of PiM and PaM of tiny-2d at 96x96, stage by stage
TOKENS = [96 * 96 + 16, 48 * 48 + 4, 24 * 24 + 4, 12 * 12 + 1]


def test_describe_asks_for_the_sides_where_a_network_does_not_say_its_dimension():
    with pytest.raises(KitError, match="Conv2d does not say its dimension"):
        describe(torch.nn.Conv2d(1, 2, 3), 96)
    assert describe(torch.nn.Conv2d(1, 2, 3), (96, 96))["parameters"].tolist() == [20]


def test_describe_leaves_the_network_and_its_backend_alone():
    network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3, backend="reference").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    table = describe(network, 96)
    assert network.training and network.encoder.mixers[0].pim.bim.mamba_forward.backend == "reference"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert table.equals(describe(network.to("meta"), 96))


@pytest.mark.thorough  # one block of the network: test_compile.py
@pytest.mark.parametrize(
    "less",
    [pytest.param({"pim": False, "pam": False, "pad": True}, id="pad"), pytest.param({"pam": False}, id="windows")],
)
def test_three_sizes_are_one_graph(less):
    """With sizes as symbols; a text about a size would break the graph at each. (torch itself makes other graphs for
    larger images, where it takes another convolution, and for one window, which it does not take for a symbol.)"""
    torch._dynamo.reset()
    one_block = {"n_blocks_per_stage": 1, "n_blocks_decoder": 1}
    network = LKMUNet(1, 2, features_per_stage=[8, 8], strides=[(1, 1), (2, 2)], windows=[8, 4], **one_block, **less)
    graphs = CompileCounter()
    compiled = torch.compile(network.eval(), backend=graphs, fullgraph=True, dynamic=True)
    missing = 1 if network.pad else 0
    with torch.no_grad():
        for height, width in ((16, 24), (24, 40), (40, 32)):  # equal sides would be one symbol
            x = torch.randn(1, 1, height - missing, width - missing)
            torch.testing.assert_close(compiled(x), network(x))
    assert graphs.frame_count == 1
