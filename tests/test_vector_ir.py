"""The vector instructions of the CPU kernels: exponentials over all kinds of numbers, NaN with any payload included."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numba import njit, types
from numba.extending import intrinsic

from lkm_kit.ssm import selective_scan
from lkm_kit.ssm.backends.vector_ir import LANES, Emitter

FUNCTIONS = {
    "exp2": torch.exp2,
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "softplus": lambda x: F.softplus(x, threshold=50),
}


def vectorised(name, double):
    """A function of numbers in memory, sixteen at a time."""

    @intrinsic
    def step(typingctx, address):
        def codegen(context, builder, sig, args):
            e = Emitter(builder, double)
            e.store(getattr(e, name)(e.load(args[0])), args[0])
            return context.get_dummy_value()

        return types.void(types.int64), codegen

    size = (8 if double else 4) * LANES

    @njit
    def run(address, vectors):
        for i in range(vectors):
            step(address + i * size)

    return run


def special(double):
    """Every exponent, both signs, several fractions; NaNs whose payload is any one bit, quiet or signalling."""
    integer, number, mantissa, exponents = (
        (np.uint64, np.float64, 52, 2048) if double else (np.uint32, np.float32, 23, 256)
    )
    ones = [1 << i for i in range(mantissa)]
    fractions = [0, *ones, (1 << mantissa) - 1, *[one | 1 << mantissa - 1 for one in ones]]
    bits = np.array([[e << mantissa | f for f in fractions] for e in range(exponents)], dtype=integer).ravel()
    bits = np.concatenate([bits, bits | integer(1 << (63 if double else 31))])
    near = np.random.default_rng(0).uniform(-150, 150, 4096).astype(number)
    halves = np.arange(-120, 120, 0.5, dtype=number)
    x = np.concatenate([bits.view(number), near, halves])
    return torch.from_numpy(x[: len(x) // LANES * LANES].copy())


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_exponentials_of_all_kinds_of_numbers(name, double):
    x = special(double)
    got, true = x.clone(), FUNCTIONS[name](x.double())
    vectorised(name, double)(got.data_ptr(), len(x) // LANES)
    assert torch.equal(got.isnan(), x.isnan())
    largest = 2.0 ** (1022 if double else 126)
    keep = ~x.isnan()
    got, true = got.double()[keep], true[keep]
    if name in ("exp2", "exp"):  # they saturate below; above, what grows without end is infinite, as everywhere else
        true = true.clamp(min=1 / largest)
        true[true > 2**1.45 * largest] = float("inf")
        got[got > 2**1.45 * largest] = float("inf")
    # exp(x) = exp2(x / ln 2): the quotient's rounding counts as often as x is long
    relative = {"exp2": 3e-7, "exp": 2e-5, "sigmoid": 2e-5, "softplus": 2e-5}[name] * (1e-8 if double else 1)
    torch.testing.assert_close(got, true, rtol=relative, atol=2 / largest)


@pytest.mark.parametrize("bits", [0x7FC00001, 0xFFC00001, 0x7F800001, 0x7FC000FF, 0xFFFFFFFF])
@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "z"])
def test_a_scan_hands_on_any_nan(name, bits):
    nan = torch.from_numpy(np.array([bits], dtype=np.uint32).view(np.float32))
    g = torch.Generator().manual_seed(0)
    p = {k: torch.randn(1, 16, 8, generator=g) for k in ("u", "delta", "z")}
    p |= {k: torch.randn(1, 4, 8, generator=g) for k in "BC"}
    p["A"] = -torch.rand(16, 4, generator=g)
    p[name] = nan.expand(p[name].shape)
    assert selective_scan(**p, delta_softplus=True, backend="cpu")[0, :, 1:].isnan().all()


@pytest.mark.parametrize("name", ["A", "delta", "z"])
@pytest.mark.parametrize("extreme", [float("inf"), float("-inf"), 3e38, -3e38, 200.0])
def test_what_overflows_is_not_brought_back(name, extreme):
    """No finite number where the reference has none: a state that grows without end is a fault to be seen."""
    g = torch.Generator().manual_seed(0)
    p = {k: torch.randn(1, 16, 8, generator=g) for k in ("u", "delta", "z")}
    p |= {k: torch.randn(1, 2, 8, generator=g) for k in ("B", "C")} | {"A": torch.randn(16, 2, generator=g)}
    p[name].view(-1)[9] = extreme
    got, true = (selective_scan(**p, backend=backend) for backend in ("cpu", "reference"))
    assert torch.equal(got.isfinite(), true.isfinite())
    torch.testing.assert_close(got[got.isfinite()], true[true.isfinite()], rtol=1e-4, atol=1e-5)
