"""The released network's weights and outputs: the numbers its authors' code produced, reproduced to 1e-4."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lkm_kit.errors import KitError
from lkm_kit.networks import LKMUNet, from_official
from lkm_kit.networks.lkm_unet import released_pools, released_windows

ORACLE = Path(__file__).resolve().parents[2] / "shared" / "oracles" / "official_lkmunet_2d.safetensors"
STRIDES, KERNELS = [(1, 1), (2, 2), (2, 2), (2, 2)], [(3, 3)] * 4


@pytest.fixture(scope="module")
def oracle():
    if not ORACLE.is_file():
        pytest.skip("the released network's outputs are not beside this checkout")
    tensors = load_file(ORACLE)
    return tensors, {name[len("state.") :]: t for name, t in tensors.items() if name.startswith("state.")}


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_reproduces_the_released_network(oracle, backend):
    tensors, state = oracle
    network = from_official(state, STRIDES, KERNELS, backend=backend)
    assert not network.training
    block = network.encoder.mixers[0]
    with torch.no_grad():
        torch.testing.assert_close(block.pim(tensors["pim0.in"]), tensors["pim0.out"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(block.pam(tensors["pam0.in"]), tensors["pam0.out"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(network(tensors["input"]), tensors["logits"], rtol=1e-4, atol=1e-4)


def test_the_papers_reading_gives_other_numbers(oracle):
    """The same weights with contiguous windows are another network: the oracle tells the two apart."""
    tensors, state = oracle
    network = from_official(state, STRIDES, KERNELS)
    for mixer in network.encoder.mixers:
        mixer.pim.partition = "contiguous"
    with torch.no_grad():
        assert (network(tensors["input"]) - tensors["logits"]).abs().max() > 0.01


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


def official_names(state):
    """The kit's names back into the released code's, for networks that have no oracle here."""
    renamed = {}
    for name, tensor in state.items():
        for kit, released in (("pim", "mamba_layers"), ("pam", "w_mamba_layers")):
            parts = name.split(".")
            if parts[:2] == ["encoder", "mixers"] and parts[3] == kit:
                name = ".".join(["encoder", released, parts[2], *parts[5:]])
        renamed[name.replace("mamba_forward", "mamba_forw").replace("mamba_backward", "mamba_backw")] = tensor
    return renamed


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
        (lambda s: None, STRIDES[:3], 3, "4 stages"),
        (lambda s: None, [(1, 1), (2, 2), (2, 2), (2, 1)], 3, "transpconvs.0.weight has shape"),
        (lambda s: None, STRIDES, 5, "has shape .* with these strides and kernel sizes"),
        (lambda s: None, STRIDES, [3, 3, 3], "kernel_sizes has 3 entries"),
    ],
)
def test_what_does_not_belong_is_named(oracle, spoil, strides, kernels, message):
    state = dict(oracle[1])
    spoil(state)
    with pytest.raises(KitError, match=message):
        from_official(state, strides, kernels)
