"""The Triton scan against the reference: values, every gradient, both directions, whole and cut into chunks.

Without a GPU the kernels run in Triton's interpreter: the same arithmetic, token by token, which is slow; hence few
and small sizes.
"""

import ast
import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from combinations import first

from lkm_kit.errors import KitError
from lkm_kit.ssm import selective_scan
from lkm_kit.ssm.backends import triton as backend
from lkm_kit.ssm.causal_conv import causal_conv_silu
from lkm_kit.ssm.selective_scan import choose_backend

pytest.importorskip("triton")
ROOT = Path(__file__).parents[1]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def blocks_that_are_filled(monkeypatch):
    """16 channels with the 4 states of most tests: the interpreter computes what is masked, too."""
    if DEVICE == "cpu":
        monkeypatch.setattr(backend, "THREADS", 64)


def operands(batch=1, d=5, length=20, n=3, gate=True, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)

    def tokens(channels):  # as they come from a linear layer: channels contiguous
        return torch.randn(batch, length, channels, generator=random).to(DEVICE, dtype).transpose(1, 2)

    p = {"u": tokens(d), "delta": tokens(d), "A": -torch.rand(d, n, generator=random).to(DEVICE) - 0.1}
    p |= {"B": tokens(n), "C": tokens(n), "D": torch.randn(d, generator=random).to(DEVICE)}
    p |= {"delta_bias": torch.randn(d, generator=random).to(DEVICE)} | ({"z": tokens(d)} if gate else {})
    return {k: v.detach().requires_grad_() for k, v in p.items()}


def compare(p, reverse, softplus=True, atol=2e-5, rtol=2e-4):
    weight = torch.randn(p["u"].shape, generator=torch.Generator().manual_seed(9)).to(DEVICE)
    results = []
    for name in ("triton", "reference"):
        how = {"delta_softplus": softplus, "reverse": reverse, "return_last_state": True, "backend": name}
        y, last = selective_scan(**p, **how)
        results.append((y, last, *torch.autograd.grad((y.float() * weight).sum(), list(p.values()))))
    for what, a, b in zip(("y", "last state", *p), *results, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), atol=atol, rtol=rtol, msg=lambda m, what=what: f"{what}: {m}")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("d", "length", "n"), [(16, 16, 4), (3, 1, 1), (19, 21, 5), (3, 12, 17)])
def test_values_and_gradients(d, length, n, reverse):
    """A full tile; one token; channels, tokens and states that fill no block, no tile and no power of two; long states,
    whose tiles are half as long."""
    compare(operands(d=d, length=length, n=n), reverse)


@pytest.mark.parametrize("reverse", first([True, False]))
def test_long_sequences_are_cut_into_chunks(reverse, monkeypatch):
    p = operands(length=70)
    whole = selective_scan(**p, delta_softplus=True, reverse=reverse, backend="reference")
    assert backend.plan(1, 5, 70, 3).chunks == 2
    compare(p, reverse)
    monkeypatch.setattr(backend, "WANTED_PROGRAMS", 1)
    assert backend.plan(1, 5, 70, 3).chunks == 1
    again = selective_scan(**p, delta_softplus=True, reverse=reverse, backend="triton")
    torch.testing.assert_close(again, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kinds", [(2, 2), ("constant", "constant"), (3, "constant")], ids=str)
def test_groups_and_constants(kinds):
    """Two groups of three channels fill no block; a long sequence is cut into chunks."""
    p = operands(d=6, length=40 if kinds == (2, 2) else 5)
    random = torch.Generator().manual_seed(4)
    for name, kind in zip("BC", kinds, strict=True):
        shape = (6, 3) if kind == "constant" else (1, kind, 3, p["u"].shape[2])
        p[name] = torch.randn(*shape, generator=random).to(DEVICE).requires_grad_()
    compare(p, reverse=True)


def test_without_gate_bias_skip_and_softplus():
    p = operands(gate=False, batch=2)
    p = {k: p[k] for k in ("u", "delta", "A", "B", "C")}
    p["delta"] = p["delta"].detach().abs().requires_grad_()
    compare(p, reverse=False, softplus=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_in_and_out_with_a_float32_state(dtype):
    p = {k: v.detach() for k, v in operands(length=40, dtype=dtype).items()}
    y, last = selective_scan(**p, delta_softplus=True, return_last_state=True, backend="triton")
    exact = selective_scan(**{k: v.double() for k, v in p.items()}, delta_softplus=True, backend="reference")
    assert y.dtype == dtype and last.dtype == torch.float32
    assert (y.double() - exact).abs().max() <= 2 * torch.finfo(dtype).eps * exact.abs().max()


def test_small_and_large_steps():
    """Δ of 1e-6 (the softplus must not lose it) and of 60 (decays that underflow)."""
    p = {k: v.detach() for k, v in operands(length=16).items()}
    for shift in (-14.0, 60.0):
        moved = {**p, "delta": p["delta"] + shift}
        ours = selective_scan(**moved, delta_softplus=True, backend="triton")
        exact = selective_scan(**{k: v.double() for k, v in moved.items()}, delta_softplus=True, backend="reference")
        torch.testing.assert_close(ours.double(), exact, atol=1e-5, rtol=1e-4)


def test_opcheck():
    p = operands(length=4, d=2, n=2)
    arguments = [p[k] for k in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.lkm_kit.selective_scan_triton, (*arguments, True, False, True), test_utils=checks)


def test_the_same_result_every_time():
    """No atomics: sums do not depend on the order in which programs run."""
    p = operands(length=17)
    first, second = (
        torch.autograd.grad(selective_scan(**p, delta_softplus=True, backend="triton").sum(), list(p.values()))
        for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_auto_never_takes_the_interpreter():
    assert choose_backend(torch.device("cpu")) == "cpu"


def test_cpu_tensors_without_the_interpreter_are_refused(monkeypatch):
    module = importlib.import_module("lkm_kit.ssm.selective_scan")  # the package has a function of that name
    monkeypatch.setattr(module, "_INTERPRETED", False)
    monkeypatch.setitem(module._WHY_NOT, "triton", None)
    with pytest.raises(KitError, match="the tensors are on cpu") as error:
        choose_backend(torch.device("cpu"), "triton")
    assert "auto" in error.value.remedy


pinned = pytest.mark.skipif(
    version("triton")[:4] != "3.7.", reason="asks parts of the Triton that constraints.txt pins, without a driver"
)
TARGETS = (75, 80, 86, 90, 120)  # RTX 2080, A100, RTX 3090, H100, RTX 5090
PAPER = {"network": "lkm-unet/paper-2d", "size": [320, 320]}
TINY = {"network": "lkm-unet/tiny-2d", "size": [96, 96]}
BACKWARD = "triton_kernels.backward"  # what needs most registers
ONE = [{**TINY, "targets": [75, 90], "kernels": BACKWARD, "d_state": 32}]
SOME = [
    {**PAPER, "targets": [80]},  # everything of a step at the paper's size
    {**PAPER, "targets": [75, 86, 90, 120], "kernels": ".backward"},  # others take 80 registers at most
    {**TINY, "targets": [75, 120], "kernels": ".backward", "dtype": "bfloat16"},  # and the convolution's
    {**TINY, "targets": [80, 120], "kernels": BACKWARD, "d_state": 64},
]
ALL = [{**PAPER, "targets": TARGETS}] + [
    {**TINY, "targets": TARGETS, "dtype": dtype, "d_state": n}
    for dtype in ("float32", "bfloat16")
    for n in (16, 32, 64)
]


@pinned
@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(ONE, marks=pytest.mark.thorough, id="one"),
        pytest.param(SOME, marks=pytest.mark.thorough, id="some"),
        pytest.param(ALL, marks=pytest.mark.paper, id="all"),
    ],
)
@pytest.mark.timeout(1800)
def test_what_training_launches_fits_a_gpu(cases, tmp_path):
    """Few variants to compile before the first step, no spills, and scans along the tokens within one thread."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests" / "triton_build.py"), json.dumps(cases)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr[-3000:]
    for given, told in zip(cases, json.loads(done.stdout), strict=True):
        assert [int(target) for target in told] == list(given["targets"])
        for target, (number, kernels) in told.items():
            # tiny stages have fewer channels than a block of the convolution, each its own number
            assert number <= (20 if given["network"] == PAPER["network"] else 30) and kernels
            for name, taken in kernels:
                # of states longer than 16: one value that waits outside the loop, in a pass over chunks
                waiting = 8 if given.get("d_state", 16) > 16 and name == "triton_kernels.forward" else 0
                assert taken["spilt"] <= waiting, (target, name, taken)
                assert taken["registers"] * taken["threads"] <= 65536 and taken["shared"] <= 16384, (
                    target,
                    name,
                    taken,
                )
                assert all(spread == [1, 1] for spread in taken["scans"]), (target, name, taken)
                assert len(taken["scans"]) == {"triton_kernels.backward": 2}.get(name, len(taken["scans"]))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="full sizes take the interpreter minutes")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(64, 64, 1600, 16), (1, 64, 26880, 16), (512, 64, 128, 16)])
def test_full_sizes_on_a_gpu(shape, reverse):
    batch, d, length, n = shape
    p = operands(batch, d, length, n)
    compare(p, reverse, atol=1e-2, rtol=1e-2)


def test_kernels_are_launched_in_one_place():
    """``kernel[grid](...)`` stands in ``launch`` alone, so that no launch does without the device of its tensors."""
    where = []
    for path in sorted((ROOT / "lkm_kit").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                where += [
                    f"{path.name}: {function.name}"
                    for node in ast.walk(function)
                    if isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Subscript)
                    and getattr(node.func.slice, "id", "") == "grid"
                ]
    assert where == ["triton.py: launch"]


def test_every_launch_is_on_the_device_of_its_tensors(monkeypatch):
    """triton launches on the current device, where a second GPU's tensors are none of its own."""
    inside, launched = [], []

    class Guard(torch.cuda.device_of):
        def __enter__(self):
            inside.append(True)
            return super().__enter__()

        def __exit__(self, *error):
            launched.append(inside.pop())
            return super().__exit__(*error)

    monkeypatch.setattr(torch.cuda, "device_of", Guard)
    p = operands(d=2, length=64)
    assert backend.plan(1, 2, 64, 3).chunks > 1
    y = selective_scan(**p, backend="triton")
    assert len(launched) == 3  # the chunks' effects, carried from one to the next, the output
    y.sum().backward()
    assert len(launched) == 6
    x, weight, bias = p["u"].detach().requires_grad_(), torch.ones(2, 4, device=DEVICE), torch.zeros(2, device=DEVICE)
    causal_conv_silu(x, weight, bias, backend="triton").sum().backward()
    assert len(launched) == 8
