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


class LowRank(torch.nn.Module):
    """A layer with a trainable product of two thin matrices beside it, as LoRA adds one."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.thin = layer, torch.nn.Linear(layer.in_features, layer.out_features)

    def forward(self, x):
        return self.layer(x) + self.thin(x)


def as_one_layer(wrapped):
    """The ordinary layer that computes what the wrapped one does."""
    same = torch.nn.Linear(wrapped.thin.in_features, wrapped.thin.out_features, bias=wrapped.layer.bias is not None)
    with torch.no_grad():
        same.weight.copy_(wrapped.layer.weight + wrapped.thin.weight)
        if same.bias is not None:
            same.bias.copy_(wrapped.layer.bias + wrapped.thin.bias)
    return same


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", ["in_proj", "x_proj", "dt_proj"])
def test_a_layer_that_was_replaced_is_called(name, backend):
    torch.manual_seed(0)
    mixer, twin = Mamba(8, backend=backend), Mamba(8, backend=backend)
    twin.load_state_dict(mixer.state_dict())
    wrapped = LowRank(getattr(mixer, name))
    if name != "dt_proj":  # the layer itself has no bias
        torch.nn.init.zeros_(wrapped.thin.bias)
    setattr(mixer, name, wrapped)
    setattr(twin, name, as_one_layer(wrapped))
    tokens = torch.randn(2, 9, 8)
    for reverse in (False, True):
        torch.testing.assert_close(mixer(tokens, reverse), twin(tokens, reverse), atol=1e-5, rtol=1e-4)
    mixer(tokens).sum().backward()
    assert wrapped.thin.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("reverse", [False, True])
def test_a_convolution_that_was_replaced_is_called(reverse):
    torch.manual_seed(0)
    mixer, twin = Mamba(8), Mamba(8)
    twin.load_state_dict(mixer.state_dict())
    mixer.conv1d = torch.nn.Sequential(mixer.conv1d)
    tokens = torch.randn(2, 9, 8)
    torch.testing.assert_close(mixer(tokens, reverse), twin(tokens, reverse), atol=1e-5, rtol=1e-4)
    mixer.conv1d = torch.nn.Conv1d(16, 16, 4, groups=16, padding=6, dilation=2)  # whose weights alone say too little
    torch.testing.assert_close(mixer(tokens, True), mixer(tokens.flip(1)).flip(1), atol=1e-5, rtol=1e-4)
    early = tokens.clone().requires_grad_()
    mixer(early)[0, 7].sum().backward()
    assert (early.grad[0, 8] == 0).all() and (early.grad[0, :8] != 0).any(-1).all()


@pytest.mark.parametrize("name", ["in_proj", "x_proj", "dt_proj", "conv1d", "out_proj"])
def test_hooks_and_parametrizations_of_a_layer_are_not_passed_by(name):
    torch.manual_seed(0)
    mixer, tokens, seen = Mamba(8), torch.randn(2, 9, 8), []
    before = mixer(tokens)
    hook = getattr(mixer, name).register_forward_hook(lambda layer, given, out: seen.append(out) or 2 * out)
    assert not torch.allclose(mixer(tokens), before) and len(seen) == 1
    hook.remove()
    assert torch.equal(mixer(tokens), before)
    layer = torch.nn.utils.parametrizations.spectral_norm(getattr(mixer, name), n_power_iterations=30)
    mixer(tokens).sum().backward()
    assert layer.parametrizations.weight.original.grad.abs().sum() > 0
    after = mixer.eval()(tokens)
    torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")
    torch.testing.assert_close(mixer(tokens), after, atol=1e-4, rtol=1e-3)


def test_hooks_of_a_mixer_see_what_it_adds_to_the_sum():
    mixers, tokens, seen = two_directions(), torch.randn(2, 9, 8), []
    before = mix(mixers, tokens, [False, True])
    mixers[1].register_forward_hook(lambda mixer, given, out: seen.append(out))
    torch.testing.assert_close(mix(mixers, tokens, [False, True]), before, atol=1e-6, rtol=1e-5)
    assert torch.equal(seen[0], mixers[1].mix(tokens, True))
    assert torch.equal(mixers[1](tokens, True), seen[0]) and len(seen) == 2


def test_backward_inside_autocast_does_not_round_the_projections():
    mixers, tokens = two_directions(), torch.randn(2, 9, 8, requires_grad=True)
    leaves = [tokens, *(p for mixer in mixers for p in mixer.parameters())]

    def gradients(inside):
        loss = mix(mixers, tokens, [False, True]).square().sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            return torch.autograd.grad(loss, leaves)

    assert all(torch.equal(a, b) for a, b in zip(gradients(True), gradients(False), strict=True))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_any_order_of_tokens_is_that_of_tokens_cut_out(backend):
    mixers, tokens = two_directions(), torch.randn(2, 12, 8)
    for mixer in mixers:
        mixer.backend = backend
    order = torch.randperm(12).int().view(3, 4)
    mixed = mix(mixers, tokens, [True, False], order)
    for row in order.long():
        torch.testing.assert_close(mixed[:, row], mix(mixers, tokens[:, row], [True, False]), atol=1e-6, rtol=1e-5)
    with pytest.raises(KitError, match="each of the pixels 0 to 11 once"):
        mix(mixers, tokens, [True, False], torch.zeros_like(order))


def test_the_decay_is_an_exponential_in_float32_and_keeps_float64():
    mixer = Mamba(8, d_state=3).double()
    with torch.no_grad():
        mixer.A_log.add_(1e-9)
    assert torch.equal(mixer._fused_parameters().A, -torch.exp(mixer.A_log))
    half = mixer.bfloat16()
    assert torch.equal(half._fused_parameters().A, -torch.exp(half.A_log.float()))
