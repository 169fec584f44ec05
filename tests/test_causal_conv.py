"""The fused convolution against torch's conv1d + SiLU, values and gradients."""

import pytest
import torch

from lkm_kit.ssm.causal_conv import causal_conv_silu


@pytest.mark.parametrize(
    "shape", [(2, 32, 37, 4), (1, 16, 1, 4), (2, 20, 3, 4), (1, 48, 64, 2), (1, 64, 131, 4)], ids=str
)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_equals_torch(shape, reverse, dtype, tolerance):
    b, d, l, k = shape
    g = torch.Generator().manual_seed(0)
    xz = torch.randn(b, l, 2 * d, generator=g, dtype=torch.float64)  # x is a strided half, as in the mixer
    weight = torch.randn(d, k, generator=g, dtype=torch.float64)
    bias = torch.randn(d, generator=g, dtype=torch.float64)
    dy = torch.randn(b, d, l, generator=g, dtype=torch.float64)
    results = []
    for backend, kind in (("cpu", dtype), ("reference", torch.float64)):
        leaves = [t.to(kind).requires_grad_() for t in (xz, weight, bias)]
        y = causal_conv_silu(leaves[0][..., :d].transpose(1, 2), leaves[1], leaves[2], reverse, backend)
        results.append([y, *torch.autograd.grad(y, leaves, dy.to(kind))])
    for name, got, true in zip(("y", "x", "weight", "bias"), *results, strict=True):
        error = (got - true).abs().max() / true.abs().max()
        assert error < tolerance, f"{name}: {error:.1e}"


def test_opcheck():
    x, w, b = torch.randn(2, 9, 16).transpose(1, 2), torch.randn(16, 4), torch.randn(16)
    leaves = [t.requires_grad_() for t in (x, w, b)]
    torch.library.opcheck(torch.ops.lkm_kit.causal_conv_silu_cpu, (*leaves, True))
