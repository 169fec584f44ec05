"""A state dict of the released code loads, and gives the outputs that the released code computed, to 1e-4.

``recorded/official.safetensors`` holds such outputs in 2D and 3D, for weights made by a seed (no others are published).
``recorded/make_official.py`` says how they were computed.
"""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent / "recorded"))
from make_official import NETWORKS, RECORD, seeded, thinned

from lkm_kit.errors import KitError
from lkm_kit.networks import LKMUNet, from_official
from lkm_kit.networks.lkm_unet import released_pools, released_windows

ORACLE = Path(__file__).resolve().parents[2] / "shared" / "oracles" / "official_lkmunet_2d.safetensors"
STRIDES, KERNELS = NETWORKS["2d"]["strides"], NETWORKS["2d"]["kernels"]


def official_names(state):
    """The kit's names back into the released code's."""
    renamed = {}
    for name, tensor in state.items():
        for kit, released in (("pim", "mamba_layers"), ("pam", "w_mamba_layers")):
            parts = name.split(".")
            if parts[:2] == ["encoder", "mixers"] and parts[3] == kit:
                name = ".".join(["encoder", released, parts[2], *parts[5:]])
        renamed[name.replace("mamba_forward", "mamba_forw").replace("mamba_backward", "mamba_backw")] = tensor
    return renamed


def recorded(name):
    """A network's input and logits, and the state dict of the released code that they belong to."""
    about = NETWORKS[name]
    n, dims = len(about["strides"]), len(about["strides"][0])
    empty = LKMUNet(
        1, about["classes"], features_per_stage=about["features"], strides=about["strides"],
        kernel_sizes=about["kernels"], windows=released_windows(n, dims), pools=released_pools(n), partition="dilated",
    )  # fmt: skip
    state = {key: seeded(key, tensor.shape) for key, tensor in official_names(empty.state_dict()).items()}
    return {"input": seeded("input", about["image"]), "logits": load_file(RECORD)[name]}, state


@pytest.fixture(scope="module")
def oracle():
    return recorded("2d")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_gives_the_outputs_of_the_released_code(name, backend):
    tensors, state = recorded(name)
    network = from_official(state, NETWORKS[name]["strides"], NETWORKS[name]["kernels"], backend=backend)
    assert not network.training
    with torch.no_grad():
        logits = thinned(network(tensors["input"]))
    torch.testing.assert_close(logits, tensors["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_gives_the_outputs_inside_the_released_blocks(backend):
    """A larger record, with what goes into the first PiM and PaM and what comes out."""
    if not ORACLE.is_file():
        pytest.skip("the larger record is not beside this checkout")
    tensors = load_file(ORACLE)
    state = {name[len("state.") :]: tensor for name, tensor in tensors.items() if name.startswith("state.")}
    network = from_official(state, [(1, 1), (2, 2), (2, 2), (2, 2)], 3, backend=backend)
    block = network.encoder.mixers[0]
    with torch.no_grad():
        torch.testing.assert_close(block.pim(tensors["pim0.in"]), tensors["pim0.out"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(block.pam(tensors["pam0.in"]), tensors["pam0.out"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(network(tensors["input"]), tensors["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_papers_reading_gives_other_numbers(name):
    """The same weights with contiguous windows are another network: the record tells the two apart."""
    tensors, state = recorded(name)
    network = from_official(state, NETWORKS[name]["strides"], NETWORKS[name]["kernels"])
    for mixer in network.encoder.mixers:
        mixer.pim.partition = "contiguous"
    with torch.no_grad():
        assert (thinned(network(tensors["input"])) - tensors["logits"]).abs().max() > 0.01


def test_reads_wrapped_and_repeated_names(oracle):
    tensors, state = oracle
    messy = {f"module.{name}": tensor for name, tensor in state.items()}
    messy |= {f"module.decoder.encoder.{name[8:]}": t for name, t in state.items() if name.startswith("encoder.")}
    messy |= {f"module.{name.replace('.conv.', '.all_modules.0.')}": t for name, t in state.items() if ".conv." in name}
    with torch.no_grad():
        logits = from_official(messy, STRIDES, 3)(tensors["input"])
    torch.testing.assert_close(logits, tensors["logits"], rtol=1e-4, atol=1e-4)


def test_sizes_where_the_released_code_switches_methods_silently_are_an_error(oracle):
    _, state = oracle
    network = from_official(state, STRIDES, KERNELS)
    with pytest.raises(KitError, match=r"stage 0.*64×64.*PiM grid strides of 10×10"):
        network(torch.zeros(1, 1, 64, 64))


CONFIGURATIONS = {
    "3d": dict(
        features_per_stage=[4, 8, 8],
        strides=[(1, 1, 1), (1, 2, 2), (2, 2, 2)],
        kernel_sizes=[(1, 3, 3), (3, 3, 3), (3, 1, 3)],
        n_blocks_per_stage=[1, 3, 2],
        n_blocks_decoder=[2, 1],
    ),
    "2d, anisotropic": dict(
        features_per_stage=[4, 6],
        strides=[(2, 2), (1, 2)],
        kernel_sizes=[(3, 5), (3, 3)],
        n_blocks_per_stage=[2, 1],
        n_blocks_decoder=[3],
    ),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_any_configuration_is_read_off_the_shapes(name):
    arguments = CONFIGURATIONS[name]
    n, dims = len(arguments["strides"]), len(arguments["strides"][0])
    torch.manual_seed(0)
    windows, pools = released_windows(n, dims), released_pools(n)
    network = LKMUNet(2, 3, **arguments, windows=windows, pools=pools, partition="dilated").eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    loaded = from_official(official_names(network.state_dict()), arguments["strides"], arguments["kernel_sizes"])
    assert (loaded.windows, loaded.pools) == (network.windows, network.pools)
    x = torch.randn(1, 2, *((20, 56, 48) if dims == 3 else (20, 20)))
    with torch.no_grad():
        assert torch.equal(loaded(x), network(x))


@pytest.mark.parametrize(
    ("spoil", "strides", "kernels", "message"),
    [
        (lambda s: s.pop("encoder.stem.convs.0.conv.weight"), STRIDES, 3, "stem.convs.0.conv.weight' is missing"),
        (lambda s: s.pop("encoder.mamba_layers.1.norm.weight"), STRIDES, 3, "mixers.1.pim.bim.norm.weight' is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), STRIDES, 3, "'extra' has no place"),
        (lambda s: None, STRIDES[:2], 3, "3 stages"),
        (lambda s: None, [(1, 1), (2, 2), (2, 1)], 3, "transpconvs.0.weight has shape"),
        (lambda s: None, STRIDES, 5, "has shape .* with these strides and kernel sizes"),
        (lambda s: None, STRIDES, [3, 3], "kernel_sizes has 2 entries"),
    ],
)
def test_what_does_not_belong_is_named(oracle, spoil, strides, kernels, message):
    state = dict(oracle[1])
    spoil(state)
    with pytest.raises(KitError, match=message):
        from_official(state, strides, kernels)
