"""The Mamba mixer against transformers' MambaMixer with the same weights, its initial values and its reverse form."""

import pytest
import torch

from lkm_kit.errors import KitError
from lkm_kit.ssm import Mamba, mix


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_equals_transformers_mixer(backend):
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    torch.manual_seed(0)
    ours = Mamba(16, d_state=8, backend=backend)
    config = MambaConfig(hidden_size=16, state_size=8, conv_kernel=4, expand=2, time_step_rank=ours.dt_rank)
    theirs = MambaMixer(config, layer_idx=0)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # no default value may hide a mistake
    theirs.load_state_dict(ours.state_dict())
    tokens = torch.randn(3, 37, 16)
    torch.testing.assert_close(ours(tokens), theirs(tokens), atol=2e-6, rtol=1e-4)


def test_reverse_equals_flipping():
    torch.manual_seed(0)
    mixer = Mamba(8)
    tokens = torch.randn(2, 21, 8)
    torch.testing.assert_close(mixer(tokens, reverse=True), mixer(tokens.flip(1)).flip(1), atol=1e-6, rtol=1e-5)


def test_backends_agree_in_every_parameter_gradient():
    torch.manual_seed(0)
    cpu = Mamba(8, backend="cpu")
    reference = Mamba(8, backend="reference")
    reference.load_state_dict(cpu.state_dict())
    tokens = torch.randn(2, 19, 8)
    for mixer in (cpu, reference):
        for reverse in (False, True):
            mixer(tokens, reverse).square().sum().backward()
    for (name, a), b in zip(cpu.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


def test_initial_values_are_mamba_ssms():
    torch.manual_seed(0)
    mixer = Mamba(64)
    assert mixer.dt_rank == 4
    assert torch.allclose(torch.exp(mixer.A_log), torch.arange(1.0, 17.0).expand(128, 16))
    assert (mixer.D == 1).all()
    dt = torch.nn.functional.softplus(mixer.dt_proj.bias)
    assert dt.min() >= 1e-4 and dt.max() <= 0.1001
    assert mixer.dt_proj.weight.abs().max() <= 4**-0.5
    assert mixer.in_proj.bias is None and mixer.x_proj.bias is None and mixer.out_proj.bias is None


def test_autocast_is_finite_and_close():
    torch.manual_seed(0)
    mixer = Mamba(16)
    tokens = torch.randn(2, 64, 16)
    with torch.autocast("cpu", torch.bfloat16):
        low = mixer(tokens)
    assert torch.isfinite(low).all()
    torch.testing.assert_close(low.float(), mixer(tokens), atol=2e-2, rtol=5e-2)


def test_bad_tokens():
    with pytest.raises(KitError, match="needs \\(batch, length, 8\\)"):
        Mamba(8)(torch.zeros(1, 8, 5))
    half = Mamba(8, out_proj=False)
    assert torch.equal(half(torch.ones(1, 5, 8)), half.mix(torch.ones(1, 5, 8)))


def two_directions(d_model=8, dtype=torch.float32):
    """Two mixers of different weights, as in BiM."""
    torch.manual_seed(0)
    mixers = [Mamba(d_model, d_state=3, backend="cpu", out_proj=False).to(dtype) for _ in range(2)]
    with torch.no_grad():
        for mixer in mixers:
            for parameter in mixer.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return mixers


@pytest.mark.parametrize(("batch", "length", "d_model"), [(1, 1, 8), (3, 37, 8), (2, 16, 16), (1, 50, 24)])
def test_the_fused_mixer_equals_its_composition(batch, length, d_model):
    """One operator for both directions against projections, convolution and scan one by one, in every gradient."""
    mixers = two_directions(d_model)
    tokens = torch.randn(batch, length, d_model, requires_grad=True)
    weight = torch.randn(batch, length, 2 * d_model)
    parameters = [tokens, *(p for mixer in mixers for p in mixer.parameters())]

    def gradients(y):
        return torch.autograd.grad((y * weight).sum(), parameters)

    fused = mix(mixers, tokens, [False, True])
    composed = mixers[0]._compose(tokens, False, "reference") + mixers[1]._compose(tokens, True, "reference")
    torch.testing.assert_close(fused, composed, atol=1e-5, rtol=1e-4)
    for a, b in zip(gradients(fused), gradients(composed), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=2e-4)


def test_gradcheck_and_opcheck_of_the_fused_mixer():
    mixers = two_directions(dtype=torch.float64)
    directions = [tuple(t.detach().requires_grad_() for t in mixer._fused_parameters()) for mixer in mixers]
    tokens = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)

    def mixed(tokens, *weights):
        return torch.ops.lkm_kit.mamba_mix_cpu(tokens, list(weights), [False, True], True, None)[0]

    weights = [t for direction in directions for t in direction]
    assert torch.autograd.gradcheck(mixed, (tokens, *weights), fast_mode=True)
    single = [t.detach().float().requires_grad_() for t in weights]
    torch.library.opcheck(torch.ops.lkm_kit.mamba_mix_cpu, (tokens.detach().float(), single, [False, True], True, None))


@pytest.mark.parametrize("reason", ["float16 weights", "odd channels"])
def test_what_cannot_be_fused_is_composed(reason):
    mixer = Mamba(5 if reason == "odd channels" else 8, backend="cpu", out_proj=False)
    tokens = torch.randn(2, 9, mixer.d_model)
    assert mix([mixer], tokens, [False]).shape == (2, 9, mixer.d_inner)
    if reason == "float16 weights":
        mixer.half()
        assert torch.isfinite(mix([mixer], tokens.half(), [True])).all()
