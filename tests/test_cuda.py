"""The wrapper around mamba_ssm and causal_conv1d: probed without importing, called with the right arguments."""

import sys
import types

import pytest
import torch
import torch.nn.functional as F

from lkm_kit.commands import doctor
from lkm_kit.errors import KitError
from lkm_kit.ssm import scan_backends, selective_scan
from lkm_kit.ssm.backends import cuda, reference
from lkm_kit.ssm.backends.operators import Scan
from lkm_kit.ssm.causal_conv import causal_conv_silu
from lkm_kit.ssm.selective_scan import choose_backend

choices = sys.modules[choose_backend.__module__]


def operands():
    torch.manual_seed(0)
    u, delta, z = torch.randn(3, 2, 4, 9)
    B, C = torch.randn(2, 2, 3, 9)
    return u, delta, -torch.rand(4, 3), B, C, torch.randn(4), z, torch.randn(4)


@pytest.fixture
def stand_ins(monkeypatch):
    """Modules with the functions' published signatures, computed by torch; they know one direction."""

    def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False,
                          return_last_state=False):  # fmt: skip
        assert A.dtype == D.dtype == delta_bias.dtype == torch.float32
        y, last = reference.selective_scan(Scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, False))
        return (y, last) if return_last_state else y

    def causal_conv1d_fn(x, weight, bias=None, activation=None):
        assert activation == "silu" and weight.ndim == 2
        y = F.conv1d(x, weight[:, None], bias, groups=x.shape[1], padding=weight.shape[1] - 1)
        return F.silu(y[..., : x.shape[2]])

    interface = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = selective_scan_fn
    convolution = types.ModuleType("causal_conv1d")
    convolution.causal_conv1d_fn = causal_conv1d_fn
    for name, module in {
        "mamba_ssm": types.ModuleType("mamba_ssm"),
        "mamba_ssm.ops": types.ModuleType("mamba_ssm.ops"),
        "mamba_ssm.ops.selective_scan_interface": interface,
        "causal_conv1d": convolution,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_is_mapped_onto_selective_scan_fn(stand_ins, reverse):
    p = operands()
    y, last = cuda.selective_scan(Scan(*p, True, reverse))
    wanted, wanted_last = reference.selective_scan(Scan(*p, True, reverse))
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(last, wanted_last)


@pytest.mark.parametrize("reverse", [False, True])
def test_convolution_is_mapped_onto_causal_conv1d_fn(stand_ins, reverse):
    x, weight, bias = torch.randn(2, 4, 9), torch.randn(4, 3), torch.randn(4)
    ours = cuda.causal_conv_silu(x, weight, bias, reverse)
    torch.testing.assert_close(ours, causal_conv_silu(x, weight, bias, reverse, "reference"))


def test_reasons_are_told_in_words(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: None)
    assert "mamba-ssm is not installed" in cuda.why_not()
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: None if name == "selective_scan_cuda" else name)
    assert "without its CUDA scan" in cuda.why_not()
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", types.ModuleType("selective_scan_cuda"))
    assert cuda.why_not() is None


def test_a_scan_that_was_built_for_another_torch_is_not_chosen(monkeypatch, tmp_path):
    (tmp_path / "selective_scan_cuda.py").write_text("raise ImportError('undefined symbol: _ZN3c10')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: name)
    assert "built for another torch (undefined symbol" in cuda.why_not()
    monkeypatch.setattr(choices, "_WHY_NOT", {"cuda": cuda.why_not(), "triton": None, "cpu": None, "reference": None})
    assert choose_backend(torch.device("cuda")) == "triton"
    assert "--force-reinstall --no-deps" in doctor._bringing("cuda", torch, cuda.why_not())


@pytest.mark.parametrize(
    ("missing", "taken", "said"),
    [
        ({}, "cuda", ["cuda: ok", "triton: ok"]),
        (
            {"cuda": "mamba-ssm is not installed"},
            "triton",
            [f"-> {doctor.BRINGING['cuda']}"],
        ),
        ({"cuda": "not built", "triton": "not installed"}, "reference", ["-> pip install triton", "-> MAMBA_KEEP"]),
    ],
)
def test_doctor_says_on_a_gpu_which_scan_is_taken_and_what_brings_the_others(missing, taken, said, monkeypatch, capsys):
    known = {"cuda": None, "triton": None, "cpu": "numba is not installed", "reference": None}
    monkeypatch.setattr(choices, "_WHY_NOT", {**known, **missing})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "Card")
    doctor.doctor(speed=False)
    text = capsys.readouterr().out
    for part in (f"{taken}, on cuda", "cuda:0 Card", "-> pip install numba", *said):
        assert part in text


@pytest.mark.parametrize(
    ("tool", "build", "command"),
    [
        (None, None, None),
        ("nvidia-smi", None, "pip install --force-reinstall torch"),
        ("nvidia-smi", "12.8", "mend the driver"),
    ],
)
def test_doctor_knows_a_card_that_torch_does_not_see(tool, build, command, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: tool)
    found = doctor._bringing("triton", torch)
    assert found is None if command is None else command in found


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_is_refused_and_nothing_of_it_is_imported():
    assert scan_backends()["cuda"] == "torch sees no CUDA device"
    assert "mamba_ssm" not in sys.modules
    with pytest.raises(KitError, match="no CUDA device"):
        choose_backend(torch.device("cpu"), "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("reverse", [False, True])
def test_parity_on_a_gpu(reverse):
    if cuda.why_not():
        pytest.skip(cuda.why_not())
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    p = {k: v.cuda().requires_grad_() for k, v in zip(names, operands(), strict=True)}
    results = []
    for backend in ("cuda", "triton"):
        y = selective_scan(**p, delta_softplus=True, reverse=reverse, backend=backend)
        results.append((y, *torch.autograd.grad(y.square().sum(), list(p.values()))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
