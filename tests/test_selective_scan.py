"""The selective scan: every backend against float64 autograd through the reference, and its corner cases."""

import numpy as np
import pytest
import torch

from lkm_kit.errors import KitError
from lkm_kit.ssm import scan_backends, selective_scan
from lkm_kit.ssm.backends.vector_ir import exp2_coefficients


def operands(b, d, l, n, *, gate=True, dtype=torch.float64, channels_last=True):
    g = torch.Generator().manual_seed(b + d + l + n)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    def sequence(channels):
        return normal(b, l, channels).transpose(1, 2) if channels_last else normal(b, channels, l)

    p = {
        "u": sequence(d),
        "delta": sequence(d) * 0.5,
        "A": -torch.rand(d, n, generator=g, dtype=torch.float64).to(dtype) * 4 - 0.1,
        "B": sequence(n),
        "C": sequence(n),
        "D": normal(d),
        "z": sequence(d) if gate else None,
        "delta_bias": normal(d),
    }
    return {k: v for k, v in p.items() if v is not None}


def run(p, dtype, weight, **options):
    leaves = {k: v.detach().to(dtype).requires_grad_() for k, v in p.items()}
    y = selective_scan(**leaves, **options)
    grads = torch.autograd.grad(y, list(leaves.values()), weight.to(dtype))
    return {"y": y.detach(), **dict(zip(leaves, grads, strict=True))}


SHAPES = [
    (2, 32, 37, 16),
    (3, 16, 1, 4),
    (1, 48, 33, 5),
    (2, 20, 18, 1),
    (1, 64, 48, 64),
    (1, 32, 16, 16),
    (9, 7, 5, 3),
    (1, 16, 40, 2),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-5), (torch.float64, 1e-11)])
def test_values_and_all_gradients(shape, reverse, softplus, dtype, tolerance):
    for gate in (True, False):
        p = operands(*shape, gate=gate)
        if not softplus:  # a negative time step would make the scan explode
            p["delta"], p["delta_bias"] = p["delta"].abs(), p["delta_bias"].abs()
        weight = torch.randn(p["u"].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        options = {"delta_softplus": softplus, "reverse": reverse}
        got = run(p, dtype, weight, **options, backend="cpu")
        true = run(p, torch.float64, weight, **options, backend="reference")
        for name, value in true.items():
            error = (got[name] - value).abs().max() / value.abs().max().clamp(min=1e-9)
            assert error < tolerance, f"{name}: relative error {error:.1e}"


@pytest.mark.parametrize("n", [*range(1, 20), 31, 32, 33, 64])
def test_every_state_size_with_an_incomplete_tile(n):
    """Scratch memory of one quantity must not be another's, whatever sizes the allocator sees."""
    p = operands(1, 16, 21, n)
    got, true = (selective_scan(**p, delta_softplus=True, backend=b) for b in ("cpu", "reference"))
    torch.testing.assert_close(got, true, atol=1e-11, rtol=1e-11)


def of_kinds(p, B, C):
    """Operands whose B and C are of these kinds: a number of groups, or "constant"."""
    (b, d, l), n = p["u"].shape, p["A"].shape[1]
    g = torch.Generator().manual_seed(3)

    def rows(kind):
        shape = (d, n) if kind == "constant" else (b, kind, n, l)
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(p["u"].dtype)

    return {**p, "B": rows(B), "C": rows(C)}


KINDS = [(2, 2), (3, 3), ("constant", "constant"), ("constant", 3), (2, "constant")]


@pytest.mark.parametrize("kinds", KINDS, ids=str)
def test_groups_and_constants_mean_one_row_for_each_channel(kinds):
    """The reference, against itself with B and C written out for every channel."""
    p = of_kinds(operands(2, 12, 7, 3), *kinds)

    def written_out(t):
        return t[None, ..., None].expand(2, 12, 3, 7) if t.ndim == 2 else t.repeat_interleave(12 // t.shape[1], 1)

    whole = {**p, "B": written_out(p["B"]), "C": written_out(p["C"])}
    y, last = selective_scan(**whole, delta_softplus=True, return_last_state=True, backend="reference")
    for channel in range(12):
        own = {k: v[channel : channel + 1] if k in ("A", "D", "delta_bias") else v[:, channel : channel + 1]
               for k, v in p.items() if k not in ("B", "C")}  # fmt: skip
        rows = {k: whole[k][:, channel] for k in ("B", "C")}
        one = selective_scan(**own, **rows, delta_softplus=True, backend="reference")
        torch.testing.assert_close(y[:, channel : channel + 1], one)
    short = selective_scan(**p, delta_softplus=True, return_last_state=True, backend="reference")
    torch.testing.assert_close(short, (y, last))


@pytest.mark.parametrize("kinds", KINDS, ids=str)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("d", [96, 12])  # whole blocks of channels a group, and padded ones
def test_values_and_all_gradients_of_groups_and_constants(kinds, reverse, d):
    p = of_kinds(operands(2, d, 19, 3), *kinds)
    weight = torch.randn(p["u"].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    options = {"delta_softplus": True, "reverse": reverse}
    got, true = (run(p, torch.float64, weight, **options, backend=b) for b in ("cpu", "reference"))
    for name, value in true.items():
        torch.testing.assert_close(got[name], value, atol=1e-10, rtol=1e-9, msg=name)
    last = [selective_scan(**p, **options, return_last_state=True, backend=b)[1] for b in ("cpu", "reference")]
    torch.testing.assert_close(*last, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("constant", [False, True])
def test_complex_states_stand_for_pairs_of_conjugates(constant):
    """2 Re(C h) of a loop in complex128; a scan of real tensors with the conjugates as further states is the same."""
    p = operands(2, 4, 6, 3)
    g = torch.Generator().manual_seed(5)
    A, B, C = (torch.randn(4, 3, generator=g, dtype=torch.complex128) for _ in range(3))
    A = torch.complex(-A.real.abs(), A.imag)
    if constant:
        rows = {"B": B, "C": C}
    else:
        rows = {k: torch.randn(2, 2, 3, 12, generator=g, dtype=torch.float64) for k in "BC"}
        B, C = (torch.view_as_complex(rows[k].unflatten(-1, (6, 2))).repeat_interleave(2, 1) for k in "BC")
    y, last = selective_scan(**{**p, "A": A, **rows}, delta_softplus=True, return_last_state=True)
    h = torch.zeros(2, 4, 3, dtype=torch.complex128)
    delta = torch.nn.functional.softplus(p["delta"] + p["delta_bias"][:, None])
    for t in range(6):
        B_t, C_t = (v if constant else v[..., t] for v in (B, C))
        h = torch.exp(delta[:, :, t, None] * A) * h + (delta * p["u"])[:, :, t, None] * B_t
        true = 2 * (h * C_t).sum(-1).real + p["D"] * p["u"][:, :, t]
        true = true * torch.nn.functional.silu(p["z"][:, :, t])
        torch.testing.assert_close(y[:, :, t], true)
    torch.testing.assert_close(last, h)
    leaves = [v.requires_grad_() for v in (A, *rows.values())]
    assert torch.autograd.gradcheck(lambda *a: selective_scan(p["u"], p["delta"] ** 2, *a), leaves)
    with pytest.raises(KitError, match="real, and A is complex"):
        selective_scan(**{**p, "A": A, **rows}, backend="cpu")


def test_last_state_and_layouts():
    p = operands(2, 32, 21, 8, dtype=torch.float32, channels_last=False)
    for reverse in (False, True):
        y, h = selective_scan(**p, delta_softplus=True, reverse=reverse, return_last_state=True, backend="cpu")
        y_true, h_true = selective_scan(
            **p, delta_softplus=True, reverse=reverse, return_last_state=True, backend="reference"
        )
        torch.testing.assert_close(y, y_true, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(h, h_true, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("delta", [1e-9, 1e-4, 30.0, 1e4])
def test_tiny_and_huge_time_steps(delta):
    """Underflow of exp(ΔA) and both ends of softplus."""
    p = operands(1, 16, 40, 4)
    raw = np.log(np.expm1(delta)) if delta < 20 else delta
    p["delta"], p["delta_bias"] = torch.full_like(p["delta"], raw), torch.zeros_like(p["delta_bias"])
    weight = torch.ones_like(p["u"])
    got = run(p, torch.float32, weight, delta_softplus=True, backend="cpu")
    true = run(p, torch.float64, weight, delta_softplus=True, backend="reference")
    for name, value in true.items():
        assert torch.isfinite(got[name]).all(), name
        error = (got[name] - value).abs().max() / value.abs().max().clamp(min=1e-9)
        assert error < 1e-4, f"{name}: relative error {error:.1e}"


def test_a_long_memory_keeps_its_digits():
    """Ā so close to 1 that a relative error of the exponential would show after 20,000 tokens."""
    length = 20_000
    u = torch.ones(1, 16, length)
    one = torch.ones(1, 1, length)
    args = (torch.full((1, 16, length), 1e-5), -torch.ones(16, 1), one, one)
    y = selective_scan(u, *args, backend="cpu")
    true = -np.expm1(-1e-5 * length) * 1e-5 / -np.expm1(-1e-5)
    assert abs(y[0, 0, -1].item() / true - 1) < 1e-3  # float32 itself rounds 1 - 1e-5 by a part in 300


def test_nan_is_not_swallowed():
    p = operands(1, 16, 8, 4, dtype=torch.float32)
    for name in ("u", "delta", "A", "B"):
        broken = {k: v.clone() for k, v in p.items()}
        broken[name][0] = float("nan")
        assert selective_scan(**broken, delta_softplus=True, backend="cpu")[0, 0].isnan().all(), name


def test_half_precision_goes_through_float32():
    p = operands(2, 16, 24, 4, dtype=torch.float32)
    low = {k: v.bfloat16() for k, v in p.items()}
    y = selective_scan(**low, delta_softplus=True, backend="cpu")
    true = selective_scan(**{k: v.float() for k, v in low.items()}, delta_softplus=True, backend="reference")
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), true, atol=3e-2, rtol=1e-2)


def test_gradcheck_and_opcheck():
    p = operands(1, 16, 5, 2)
    leaves = [v.requires_grad_() for v in p.values()]
    assert torch.autograd.gradcheck(
        lambda *a: selective_scan(*a, delta_softplus=True, reverse=True, backend="cpu"), leaves, atol=1e-6
    )
    single = {k: v.detach().float().requires_grad_() for k, v in p.items()}
    torch.library.opcheck(torch.ops.lkm_kit.selective_scan_cpu, (*single.values(), True, False, True))


def test_compile_without_graph_breaks():
    p = operands(1, 16, 9, 2, dtype=torch.float32)
    compiled = torch.compile(lambda a: selective_scan(**a, delta_softplus=True, backend="cpu"), fullgraph=True,
                             backend="aot_eager")  # fmt: skip
    torch.testing.assert_close(compiled(p), selective_scan(**p, delta_softplus=True, backend="cpu"))


def test_exp2_coefficients_are_accurate():
    r = np.linspace(-0.5, 0.5, 1001)
    for double, tolerance in ((False, 3e-8), (True, 3e-15)):
        q = exp2_coefficients(double)
        got = r * np.polynomial.polynomial.polyval(r, q)
        true = np.expm1(r * np.log(2))
        keep = r != 0
        assert np.abs(got[keep] / true[keep] - 1).max() < tolerance


def test_backends_say_what_they_are():
    assert scan_backends()["reference"] == "ok"
    assert scan_backends()["cpu"] == "ok"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": torch.zeros(2, 3)}, "batch, d, length"),
        ({"A": torch.zeros(5, 2)}, "A has shape"),
        ({"B": torch.zeros(1, 2, 9)}, "B has shape"),
        ({"C": torch.zeros(1, 3, 4, 8)}, "groups that divides 16"),
        ({"B": torch.zeros(4, 16)}, "B has shape"),
        ({"B": torch.zeros(1, 2, 4, 8), "C": torch.zeros(1, 4, 8)}, "equally many groups"),
        ({"B": torch.zeros(16, 4, dtype=torch.complex64)}, "floating point"),
        (
            {"A": torch.zeros(16, 4, dtype=torch.complex64), "B": torch.zeros(16, 4), "C": torch.zeros(16, 4)},
            "as A has",
        ),
        ({"z": torch.zeros(1, 16, 9)}, "z has shape"),
        ({"D": torch.zeros(16, dtype=torch.int64)}, "floating point"),
        ({"u": torch.zeros(1, 16, 0)}, "empty scan"),
        ({"backend": "cuba"}, "no scan backend 'cuba'"),
    ],
)
def test_bad_input(change, message):
    p = {**operands(1, 16, 8, 4, dtype=torch.float32), **change}
    with pytest.raises(KitError, match=message):
        selective_scan(**p)
