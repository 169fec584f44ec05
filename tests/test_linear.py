"""Eq. 1-4: recurrence = direct = FFT convolution; discretisations against scipy and the exact answer."""

import pytest
import scipy.signal
import torch

from lkm_kit.errors import KitError
from lkm_kit.ssm import causal_convolution, convolution_kernel, discretize, exact_response, recurrence


def system(n=5, diagonal=False, seed=0):
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(n, n, generator=g, dtype=torch.float64)
    A = A - (torch.linalg.eigvals(A).real.max() + 0.3) * torch.eye(n, dtype=torch.float64)
    B, C = torch.randn(2, n, generator=g, dtype=torch.float64)
    return (-torch.rand(n, generator=g, dtype=torch.float64) - 0.1 if diagonal else A), B, C


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("method", ["zoh", "euler", "bilinear"])
def test_recurrence_equals_both_convolutions(diagonal, method):
    A, B, C = system(diagonal=diagonal)
    A_bar, B_bar = discretize(A, B, 0.05, method)
    x = torch.randn(3, 97, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = recurrence(A_bar, B_bar, C, x)
    kernel = convolution_kernel(A_bar, B_bar, C, 97)
    for way in ("direct", "fft"):
        torch.testing.assert_close(causal_convolution(x, kernel, way), y, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("method", ["zoh", "euler", "bilinear"])
@pytest.mark.parametrize("delta", [1e-3, 0.1, 2.0])
def test_discretize_equals_scipy(method, delta):
    A, B, _ = system()
    got = discretize(A, B, delta, method)
    true = scipy.signal.cont2discrete((A.numpy(), B.numpy()[:, None], A.numpy()[:1], [[0.0]]), delta, method)
    torch.testing.assert_close(got[0], torch.from_numpy(true[0]), atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(got[1], torch.from_numpy(true[1][:, 0]), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("method", ["zoh", "euler", "bilinear"])
def test_diagonal_equals_full(method):
    A, B, _ = system(diagonal=True)
    A[0] = 0.0  # singular
    diagonal, full = discretize(A, B, 0.3, method), discretize(torch.diag(A), B, 0.3, method)
    torch.testing.assert_close(torch.diag(diagonal[0]), full[0])
    torch.testing.assert_close(diagonal[1], full[1])


def test_zoh_of_a_double_integrator():
    """A is nilpotent, so Eq. 2's inverse does not exist; the answer is Newton's."""
    A = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    A_bar, B_bar = discretize(A, torch.tensor([0.0, 1.0], dtype=torch.float64), 0.5)
    torch.testing.assert_close(A_bar, torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(B_bar, torch.tensor([0.125, 0.5], dtype=torch.float64))


def test_orders_of_accuracy_against_the_exact_response():
    """Zero-order hold is exact for a constant input; for a cosine Euler's error halves with Δ, bilinear's quarters."""
    A, B, C = system(3, seed=2)
    end = 2.0
    exact = exact_response(A, B, C, torch.tensor([end], dtype=torch.float64)).item()
    A_bar, B_bar = discretize(A, B, 0.1)
    assert abs(recurrence(A_bar, B_bar, C, torch.ones(20, dtype=torch.float64))[-1].item() - exact) < 1e-12

    omega, errors = 3.0, {"euler": [], "bilinear": []}
    true = exact_response(A, B, C, torch.tensor([end], dtype=torch.float64), omega).item()
    for steps in (200, 400):
        delta = end / steps
        t = torch.arange(steps, dtype=torch.float64) * delta
        inputs = {
            "euler": torch.cos(omega * t),
            "bilinear": (torch.cos(omega * t) + torch.cos(omega * (t + delta))) / 2,
        }
        for method, x in inputs.items():
            y = recurrence(*discretize(A, B, delta, method), C, x)
            errors[method].append(abs(y[-1].item() - true))
    assert errors["euler"][0] / errors["euler"][1] == pytest.approx(2, rel=0.1)
    assert errors["bilinear"][0] / errors["bilinear"][1] == pytest.approx(4, rel=0.1)


def test_convolution_is_causal():
    x = torch.zeros(8, dtype=torch.float64)
    x[5] = 1
    y = causal_convolution(x, torch.ones(8, dtype=torch.float64), "direct")
    assert (y[:5] == 0).all() and (y[5:] == 1).all()


def test_selective_scan_with_constant_parameters_is_this_recurrence():
    from lkm_kit.ssm import selective_scan

    A, B, C = system(4, diagonal=True)
    delta = 0.2
    x = torch.randn(1, 1, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    constant = torch.ones(1, 1, 50, dtype=torch.float64)
    y = selective_scan(x, delta * constant, A[None], B[:, None] * constant, C[:, None] * constant)
    mamba = discretize(A, B, delta, "zoh")[0], discretize(A, B, delta, "euler")[1]
    torch.testing.assert_close(y[0], recurrence(*mamba, C, x[0]), atol=1e-12, rtol=1e-12)


def test_unstable_systems_are_warned_of():
    one = torch.ones(1)
    with pytest.warns(UserWarning, match="unstable"):
        convolution_kernel(2 * one, one, one, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda A, B: discretize(A[:3], B, 0.1), "A has shape"),
        (lambda A, B: discretize(A, B[:2], 0.1), "B has shape"),
        (lambda A, B: discretize(A, B, -0.1), "delta"),
        (lambda A, B: discretize(A, B, 0.1, "zho"), "did you mean 'zoh'"),
        (lambda A, B: recurrence(A, B, B[:2], B), "C has shape"),
        (lambda A, B: convolution_kernel(A, B, B, 0), "length"),
        (lambda A, B: causal_convolution(B, B, "slow"), "slow"),
    ],
)
def test_bad_input(call, message):
    A, B, _ = system()
    with pytest.raises(KitError, match=message):
        call(A, B)
