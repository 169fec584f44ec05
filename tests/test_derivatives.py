"""Each backend gives right derivatives or says no: never a zero in forward mode, never float32 for float64."""

import sys

import pytest
import torch
from torch.autograd import forward_ad

from lkm_kit.blocks import BiM
from lkm_kit.errors import KitError
from lkm_kit.ssm import Mamba, selective_scan
from lkm_kit.ssm.causal_conv import causal_conv_silu
from lkm_kit.ssm.selective_scan import choose_backend

choices = sys.modules[choose_backend.__module__]  # its name is the function's, too


def scan(x, backend):
    x = x.transpose(1, 2)
    A = -torch.arange(1.0, 3, dtype=x.dtype).expand(16, 2)
    return selective_scan(x, x, A, x[:, :2], x[:, 2:4], delta_softplus=True, backend=backend)


def convolution(x, backend):
    weight = torch.linspace(-1, 1, 64, dtype=x.dtype).view(16, 4)
    return causal_conv_silu(x.transpose(1, 2), weight, weight[:, 0], backend=backend)


def module(kind):
    def build(backend):
        torch.manual_seed(0)
        return kind(16, backend=backend).double()

    built = {backend: build(backend) for backend in ("auto", "cpu", "triton", "reference")}  # outside all transforms
    return lambda x, backend: built[backend](x)


FUNCTIONS = {"scan": scan, "convolution": convolution, "Mamba": module(Mamba), "BiM": module(BiM)}


def forward_mode(f, x):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, x))).tangent


TRANSFORMS = {
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x,))[1],
    "forward mode": forward_mode,
    "vmap": lambda f, x: torch.func.vmap(f)(torch.stack([x, -x])),
    "jacrev": lambda f, x: torch.func.jacrev(lambda x: f(x).sum((0, 1)))(x),
    "jacfwd": lambda f, x: torch.func.jacfwd(lambda x: f(x).sum((0, 1)))(x),
    "grad": lambda f, x: torch.func.grad(lambda x: f(x).sum())(x),
    "hessian": lambda f, x: torch.func.hessian(lambda x: f(x).square().sum())(x),
}


def tokens():
    return torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_auto_goes_where_the_derivative_is_right(function, name):
    x, transform = tokens(), TRANSFORMS[name]
    got, true = (transform(lambda x, b=b: function(x, b), x) for b in ("auto", "reference"))
    assert true.abs().max() > 1e-6
    # equal bits once failed, for a cause that was not found; a wrong way is off by far more than this
    torch.testing.assert_close(got, true, rtol=1e-12, atol=1e-12)
    with pytest.raises(KitError, match=r"'cpu'.*first derivatives") as error:
        transform(lambda x: function(x, "cpu"), x)
    assert "'reference'" in error.value.remedy


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_what_is_known_only_in_the_backward_pass_is_refused_with_a_remedy(function):
    x = tokens().requires_grad_()
    y = function(x, "auto")
    several = torch.ones(3, *y.shape, dtype=y.dtype)
    with pytest.raises(KitError, match="first derivatives") as error:
        torch.autograd.grad(y, x, several, is_grads_batched=True)
    assert "backend='reference'" in error.value.remedy
    (first,) = torch.autograd.grad(function(x, "auto").square().sum(), x, create_graph=True)
    with pytest.raises(KitError, match="first derivatives"):
        torch.autograd.grad(first.sum(), x)
    y = function(x, "reference")  # the remedy is true
    torch.autograd.grad(y, x, several, is_grads_batched=True, retain_graph=True)
    torch.autograd.grad(torch.autograd.grad(y.square().sum(), x, create_graph=True)[0].sum(), x)


def test_the_choice_knows_a_transform_while_compiling():
    def f(x):
        return torch.func.jvp(lambda x: scan(x, "auto"), (x,), (x,))[1]

    x = tokens()
    torch.testing.assert_close(torch.compile(f, backend="aot_eager")(x), f(x))
    assert f(x).abs().max() > 1e-6


def test_float64_is_never_rounded_on_the_quiet(monkeypatch):
    monkeypatch.setattr(choices, "_WHY_NOT", dict.fromkeys(choices._WHY_NOT))
    gpu = torch.device("cuda")
    assert choose_backend(gpu) == "cuda"
    assert choose_backend(gpu, dtype=torch.bfloat16) == "cuda"
    assert choose_backend(gpu, dtype=torch.float64) == "reference"
    for name in ("cuda", "triton"):
        with pytest.raises(KitError, match="float64") as error:
            choose_backend(gpu, name, torch.float64)
        assert "'reference'" in error.value.remedy


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_triton_says_no_to_float64(function):
    """In the interpreter, which takes tensors on the CPU."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("only where the interpreter serves")
    with pytest.raises(KitError, match=r"'triton'.*float64"):
        function(tokens(), "triton")
