"""S4D and minGRU against their recurrences, and what mixers of this kind share."""

import pytest
import torch

from lkm_kit.blocks import MIXERS
from lkm_kit.errors import KitError
from lkm_kit.networks import build_network
from lkm_kit.ssm import S4D, causal_convolution, gated_average, s4d_kernel

RECURRENT = ("mamba2", "s4d", "mingru")


def test_s4ds_kernel_is_its_recurrence():
    """Zero-order hold of every complex state, step by step, in float64; and the convolution with it is the scan."""
    g = torch.Generator().manual_seed(0)
    A, C = (torch.randn(3, 4, dtype=torch.complex128, generator=g) for _ in range(2))
    A = torch.complex(-A.real.abs(), A.imag)
    delta, x = torch.rand(3, dtype=torch.float64, generator=g), torch.randn(2, 3, 9, dtype=torch.float64, generator=g)
    A_bar = torch.exp(delta[:, None] * A)
    h, ys = torch.zeros(2, 3, 4, dtype=torch.complex128), []
    for x_t in x.unbind(-1):
        h = A_bar * h + (A_bar - 1) / A * x_t[..., None]
        ys.append(2 * (C * h).sum(-1).real)
    kernel = s4d_kernel(delta, A, C, 9)
    for method in ("fft", "direct"):
        torch.testing.assert_close(causal_convolution(x, kernel, method), torch.stack(ys, -1))


def test_s4d_is_linear_and_its_system_the_same_for_all_tokens():
    """A shift of the tokens shifts the answer of the system: what selection gives up."""
    torch.manual_seed(0)
    layer = S4D(4, d_conv=1).double()
    u = torch.randn(1, 8, 12, dtype=torch.float64)
    u[..., :3] = 0
    y, moved = (causal_convolution(t, layer.kernel(12)) for t in (u, u.roll(-3, -1)))
    torch.testing.assert_close(y[..., 3:], moved[..., :-3])
    with pytest.raises(KitError, match="d_state is 3"):
        S4D(4, d_state=3)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_mingru_is_its_recurrence_with_all_gradients(backend):
    g = torch.Generator().manual_seed(0)
    c = torch.randn(2, 3, 11, dtype=torch.float64, generator=g).requires_grad_()
    k = (6 * torch.randn(2, 3, 11, dtype=torch.float64, generator=g)).requires_grad_()
    h, hs = torch.zeros(2, 3, dtype=torch.float64), []
    for c_t, k_t in zip(c.unbind(-1), k.unbind(-1), strict=True):
        h = (1 - k_t.sigmoid()) * h + k_t.sigmoid() * c_t
        hs.append(h)
    true, ours = torch.stack(hs, -1), gated_average(c, k, backend)
    torch.testing.assert_close(ours, true, atol=1e-6, rtol=1e-6)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), (c, k)) for y in (ours, true)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_mingrus_gate_may_be_shut_or_open():
    gate = torch.tensor([[[-200.0, 200.0, -200.0, 0.0]]], requires_grad=True)
    h = gated_average(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), gate, "reference")
    torch.testing.assert_close(h, torch.tensor([[[0.0, 2.0, 2.0, 3.0]]]))
    h.sum().backward()
    assert gate.grad.isfinite().all()


@pytest.mark.parametrize("name", RECURRENT)
def test_mixers_look_back_or_both_ways(name):
    torch.manual_seed(0)
    tokens = torch.randn(1, 9, 6)
    other = tokens.clone()
    other[:, 5] = torch.randn(6)
    for bidirectional in (False, True):
        mixer = MIXERS[name](6, window=3, bidirectional=bidirectional, d_state=4, d_conv=3, expand=2, backend="auto")
        changed = (mixer(tokens) - mixer(other)).abs().amax(-1)[0] > 1e-5
        assert changed[5:].all() and changed[:5].all() == bidirectional == changed[:5].any()
    with pytest.raises(KitError, match="reads one order forward and backward"):
        MIXERS[name](6, directions="cross-scan")


@pytest.mark.parametrize("name", RECURRENT)
def test_networks_take_them_by_name(name):
    network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3, mixer=name, windows=[8, 8, 4, 2],
                            features_per_stage=[4] * 4)  # fmt: skip
    network(torch.randn(1, 1, 32, 32)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in network.encoder.mixers.parameters())
