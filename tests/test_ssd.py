"""Mamba-2: the chunked form against its recurrence, and the layer against transformers' with the same weights."""

import pytest
import torch

from lkm_kit.errors import KitError
from lkm_kit.ssm import Mamba2, selective_scan, ssd, ssd_recurrence


def operands(batch=2, length=11, heads=4, p=3, groups=2, n=5):
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return {
        "x": normal(batch, length, heads, p), "delta": normal(batch, length, heads).abs(), "A": -normal(heads).abs(),
        "B": normal(batch, length, groups, n), "C": normal(batch, length, groups, n), "D": normal(heads),
        "h0": normal(batch, heads, p, n),
    }  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 4, 11, 16])
def test_chunks_equal_the_recurrence_in_values_and_gradients(chunk):
    leaves = {k: v.requires_grad_() for k, v in operands().items()}
    weight = torch.randn(2, 11, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = []
    for y, last in (ssd(**leaves, chunk=chunk), ssd_recurrence(**leaves)):
        gradients = torch.autograd.grad((y * weight).sum() + last.square().sum(), list(leaves.values()))
        results.append((y, last, *gradients))
    for name, a, b in zip(("y", "last", *leaves), *results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-10, msg=name)


def test_it_is_the_selective_scan_with_one_decay_for_a_head():
    p = operands()
    rows = {k: p[k].flatten(2).transpose(1, 2) for k in ("x",)}
    delta = p["delta"].repeat_interleave(3, 2).transpose(1, 2)
    A = p["A"].repeat_interleave(3)[:, None].expand(12, 5)
    B, C = (p[k].permute(0, 2, 3, 1) for k in ("B", "C"))
    y = selective_scan(rows["x"], delta, A, B, C, p["D"].repeat_interleave(3), backend="reference")
    chunked, _ = ssd(*(p[k] for k in ("x", "delta", "A", "B", "C", "D")), chunk=4)
    torch.testing.assert_close(chunked.flatten(2).transpose(1, 2), y)


def test_equals_transformers_mixer():
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    torch.manual_seed(0)
    ours = Mamba2(16, d_state=8, headdim=8, chunk_size=8)
    config = Mamba2Config(
        hidden_size=16, state_size=8, num_heads=4, head_dim=8, expand=2, n_groups=1, conv_kernel=4, chunk_size=8,
        layer_norm_epsilon=1e-5,
    )  # fmt: skip
    theirs = Mamba2Mixer(config, layer_idx=0)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # no default value may hide a mistake
    theirs.load_state_dict(ours.state_dict())
    tokens = torch.randn(2, 21, 16)
    torch.testing.assert_close(ours(tokens), theirs(tokens), atol=5e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"D_has_hdim": True, "rmsnorm": False, "bias": True, "conv_bias": False},
        {"ngroups": 2, "norm_before_gate": True, "d_ssm": 16, "dt_limit": (0.01, 0.05), "conv_init": 0.1},
    ],
)
def test_every_switch_runs_and_counts(options):
    torch.manual_seed(0)
    layer = Mamba2(16, d_state=4, headdim=8, **options)
    tokens = torch.randn(1, 9, 16)
    layer(tokens).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())
    moved = layer(torch.cat([tokens[:, :5], tokens[:, 5:] + 1], 1))
    assert torch.allclose(layer(tokens)[:, :5], moved[:, :5], atol=1e-6)  # the past does not see the future
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(layer(tokens)).all()


def test_bad_input():
    p = operands()
    with pytest.raises(KitError, match="do not belong to x"):
        ssd(**{**p, "B": p["B"][:, :, :1]})
    with pytest.raises(KitError, match="at least one token"):
        ssd(**{**p, "x": p["x"][:, :0]})
    with pytest.raises(KitError, match="needs \\(batch, length, 16\\)"):
        Mamba2(16, headdim=8)(torch.zeros(1, 2, 8))
