"""Code written for mamba_ssm and causal_conv1d: small networks in the style of published ones, and every refusal."""

import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lkm_kit import compat, ssm
from lkm_kit.errors import KitError, KitWarning


@pytest.fixture
def installed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KitWarning)
        compat.install()
    yield
    compat.uninstall()


class FourWays(nn.Module):
    """A map read in four directions by one call, as VM-UNet's layers do: K = 4 groups with weights stacked by group."""

    def __init__(self, channels, n=4):
        super().__init__()
        self.inner, self.n, self.rank = 2 * channels, n, 1
        self.in_proj = nn.Linear(channels, 2 * self.inner, bias=False)
        self.conv2d = nn.Conv2d(self.inner, self.inner, 3, padding=1, groups=self.inner)
        self.x_proj_weight = nn.Parameter(torch.randn(4, self.rank + 2 * n, self.inner) * 0.3)
        self.dt_projs_weight = nn.Parameter(torch.randn(4, self.inner, self.rank))
        self.dt_projs_bias = nn.Parameter(torch.randn(4, self.inner))
        self.A_logs = nn.Parameter(torch.arange(1.0, n + 1).log().repeat(4 * self.inner, 1))
        self.Ds = nn.Parameter(torch.ones(4 * self.inner))
        self.out_norm, self.out_proj = nn.LayerNorm(self.inner), nn.Linear(self.inner, channels, bias=False)

    def forward(self, x, scan):
        _, h, w, _ = x.shape
        x, z = self.in_proj(x).chunk(2, -1)
        x = F.silu(self.conv2d(x.permute(0, 3, 1, 2)))
        two = torch.stack([x.flatten(2), x.transpose(2, 3).flatten(2)], 1)
        rows = torch.cat([two, two.flip(-1)], 1)  # (b, 4, d, l)
        sizes = [self.rank, self.n, self.n]
        dt, B, C = torch.einsum("bkdl,kcd->bkcl", rows, self.x_proj_weight).split(sizes, 2)
        dt = torch.einsum("bkrl,kdr->bkdl", dt, self.dt_projs_weight)
        y = scan(rows.flatten(1, 2), dt.flatten(1, 2), -self.A_logs.exp(), B, C, self.Ds, z=None,
                 delta_bias=self.dt_projs_bias.flatten(), delta_softplus=True, return_last_state=False)  # fmt: skip
        y = y.unflatten(1, (4, -1))
        y = y[:, :2] + y[:, 2:].flip(-1)
        y = y[:, 0] + y[:, 1].unflatten(-1, (w, h)).transpose(2, 3).flatten(2)
        return self.out_proj(self.out_norm(y.transpose(1, 2)).unflatten(1, (h, w)) * F.silu(z))


def test_a_network_in_the_style_of_vm_unet(installed):
    """Four groups in one call are four calls with one group each; every parameter gets a gradient."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn, selective_scan_ref

    def one_by_one(u, delta, A, B, C, D, *, delta_bias, **options):
        u, delta = u.chunk(4, 1), delta.chunk(4, 1)
        A, D, bias = A.chunk(4), D.chunk(4), delta_bias.chunk(4)
        parts = zip(u, delta, A, B.unbind(1), C.unbind(1), D, bias, strict=True)
        return torch.cat([selective_scan_ref(*p[:6], delta_bias=p[6], **options) for p in parts], 1)

    torch.manual_seed(0)
    layer = FourWays(4)
    assert sum(p.numel() for p in layer.parameters()) == 64 + 80 + 288 + 32 + 32 + 128 + 32 + 16 + 32
    x = torch.randn(1, 5, 3, 4)
    torch.testing.assert_close(layer(x, selective_scan_fn), layer(x, one_by_one), atol=1e-5, rtol=1e-4)
    layer(x, selective_scan_fn).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


class TriOriented(nn.Module):
    """LayerNorm, a Mamba over the voxels, the input added: SegMamba's layer."""

    def __init__(self, channels, slices):
        super().__init__()
        from mamba_ssm import Mamba

        self.norm = nn.LayerNorm(channels)
        self.mamba = Mamba(d_model=channels, d_state=4, d_conv=4, expand=2, bimamba_type="v3", nslices=slices)

    def forward(self, x):
        return x + self.mamba(self.norm(x.flatten(2).transpose(1, 2))).transpose(1, 2).unflatten(2, x.shape[2:])


def twin(layer, suffix):
    """The kit's Mamba with one direction's weights of a layer."""
    own = ssm.Mamba(layer.d_model, layer.d_state, out_proj=False)
    names = {"in_proj": "in_proj", **{k: f"{k}{suffix}" for k in ("conv1d", "x_proj", "dt_proj")}}
    for mine, theirs in names.items():
        getattr(own, mine).load_state_dict(getattr(layer, theirs).state_dict())
    own.A_log.data, own.D.data = getattr(layer, f"A{suffix}_log").data, getattr(layer, f"D{suffix}").data
    return own


def test_a_network_in_the_style_of_segmamba(installed):
    """Forward, backward and over slices in turns: the sum of three of the kit's Mambas with the same weights."""
    torch.manual_seed(0)
    block = TriOriented(8, slices=3)
    layer, d, n = block.mamba, 16, 4
    direction = [("A{}_log", (d, n)), ("D{}", (d,)), ("conv1d{}.weight", (d, 1, 4)), ("conv1d{}.bias", (d,)),
                 ("x_proj{}.weight", (1 + 2 * n, d)), ("dt_proj{}.weight", (d, 1)),
                 ("dt_proj{}.bias", (d,))]  # fmt: skip
    wanted = {name.format(s): shape for s in ("", "_b", "_s") for name, shape in direction}
    wanted |= {"in_proj.weight": (2 * d, 8), "out_proj.weight": (8, d)}
    assert {k: tuple(v.shape) for k, v in layer.state_dict().items()} == wanted
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # no start value may hide a mistake
    x = torch.randn(2, 8, 3, 2, 2, requires_grad=True)
    tokens = block.norm(x.flatten(2).transpose(1, 2))
    turns = torch.arange(12).reshape(3, 4).T.flatten()  # token 0 of each slice, token 1 of each, ...
    sliced = torch.empty(2, 12, d)
    sliced[:, turns] = twin(layer, "_s")(tokens[:, turns])
    mixed = twin(layer, "")(tokens) + twin(layer, "_b")(tokens, reverse=True) + sliced
    wanted = x + layer.out_proj(mixed).transpose(1, 2).unflatten(2, (3, 2, 2))
    torch.testing.assert_close(block(x), wanted, atol=1e-5, rtol=1e-4)
    block(x).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in block.parameters())
    with pytest.raises(KitError, match="cut into nslices=3"):
        block(torch.zeros(1, 8, 2, 2, 2))


@pytest.mark.parametrize("halved", ["", "if_divide_out", "if_devide_out"])
def test_both_directions_of_vim(halved):
    torch.manual_seed(0)
    layer = compat.Mamba(8, d_state=4, bimamba_type="v2", init_layer_scale=0.5, **({halved: True} if halved else {}))
    tokens = torch.randn(2, 7, 8)
    mixed = twin(layer, "")(tokens) + twin(layer, "_b")(tokens, reverse=True)
    wanted = 0.5 * layer.out_proj(mixed / 2 if halved else mixed)
    torch.testing.assert_close(layer(tokens), wanted, atol=1e-5, rtol=1e-4)


def test_a_layer_in_the_style_of_u_mamba(installed):
    """The plain layer: names, shapes and results of the kit's, also by the function that takes its weights."""
    from mamba_ssm import mamba_inner_fn
    from mamba_ssm.modules.mamba_simple import Mamba

    torch.manual_seed(0)
    layer, own = Mamba(d_model=8, d_state=16, d_conv=4, expand=2), ssm.Mamba(8)
    own.load_state_dict(layer.state_dict())
    tokens = torch.randn(2, 9, 8)
    torch.testing.assert_close(layer(tokens), own(tokens))
    weights = layer.conv1d.weight, layer.conv1d.bias, layer.x_proj.weight, layer.dt_proj.weight
    xz = layer.in_proj(tokens).transpose(1, 2)
    A, more = -layer.A_log.exp(), {"D": layer.D, "delta_bias": layer.dt_proj.bias}
    y = mamba_inner_fn(xz, *weights, layer.out_proj.weight, None, A, **more)
    torch.testing.assert_close(y, own(tokens), atol=1e-6, rtol=1e-5)


def test_every_argument_of_the_layer_counts():
    torch.manual_seed(0)
    layer = compat.Mamba(8, expand=1.5, dt_rank=3, dt_min=0.2, dt_max=0.3, dt_init="constant", dt_scale=2.0,
                         conv_bias=False, bias=True, layer_idx=4, dtype=torch.bfloat16)  # fmt: skip
    assert layer.in_proj.weight.shape == (24, 8) and layer.in_proj.bias is not None and layer.out_proj.bias is not None
    assert layer.conv1d.bias is None and layer.layer_idx == 4
    torch.testing.assert_close(layer.dt_proj.weight.float(), torch.full((12, 3), 2 * 3**-0.5), atol=0, rtol=1e-2)
    dt = F.softplus(layer.dt_proj.bias.float())
    assert dt.min() > 0.19 and dt.max() < 0.31
    assert (layer.A_log.dtype, layer.D.dtype, layer.x_proj.weight.dtype) == (torch.float32,) * 2 + (torch.bfloat16,)
    assert torch.isfinite(layer(torch.randn(1, 5, 8, dtype=torch.bfloat16))).all()
    floor = compat.Mamba(8, dt_min=1e-6, dt_max=1e-5, dt_init_floor=1e-3)
    torch.testing.assert_close(F.softplus(floor.dt_proj.bias), torch.full((16,), 1e-3), atol=0, rtol=1e-2)


def test_projections_of_the_inner_function():
    """Biases and RMS norms of B, C and Δ, and given B and C, against the scan called by hand."""
    torch.manual_seed(0)
    xz, conv, x_proj, dt_proj = torch.randn(1, 8, 6), torch.randn(4, 1, 2), torch.randn(7, 4), torch.randn(4, 1)
    A, extra = -torch.rand(4, 3), torch.randn(3)
    x = F.silu(F.conv1d(F.pad(xz[:, :4], (1, 0)), conv, groups=4))
    rows = x_proj @ x
    delta, B, C, z = dt_proj @ rows[:, :1], rows[:, 1:4], rows[:, 4:], xz[:, 4:]

    def norm(t, weight):
        return t / (t.square().mean(1, keepdim=True) + 1e-3).sqrt() * weight[:, None]

    def by_hand(delta, B, C):
        return ssm.selective_scan(x, delta, A, B, C, z=z, delta_softplus=True)

    def inner(**options):
        return compat.mamba_inner_fn_no_out_proj(xz, conv, None, x_proj, dt_proj, A, **options)

    torch.testing.assert_close(inner(), by_hand(delta, B, C))
    added = inner(B_proj_bias=extra, C_proj_bias=2 * extra)
    torch.testing.assert_close(added, by_hand(delta, B + extra[:, None], C + 2 * extra[:, None]))
    normed = inner(b_rms_weight=extra, c_rms_weight=extra, dt_rms_weight=torch.ones(4), b_c_dt_rms_eps=1e-3)
    torch.testing.assert_close(normed, by_hand(norm(delta, torch.ones(4)), norm(B, extra), norm(C, extra)))
    constant = torch.randn(4, 3)
    torch.testing.assert_close(inner(B=constant, C=constant), by_hand(delta, constant, constant))
    for rows, given in ((x_proj[[0, 4, 5, 6]], {"B": constant}), (x_proj[:4], {"C": constant})):
        fewer = compat.mamba_inner_fn_no_out_proj(xz, conv, None, rows, dt_proj, A, **given)
        torch.testing.assert_close(fewer, by_hand(delta, given.get("B", B), given.get("C", C)))
    steps = inner(delta_softplus=False)
    torch.testing.assert_close(steps, ssm.selective_scan(x, delta, A, B, C, z=z))


def test_the_convolution_in_both_generations_of_its_signature():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, 5), torch.randn(3, 4), torch.randn(3)
    plain = F.conv1d(F.pad(x, (3, 0)), weight[:, None], bias, groups=3)
    torch.testing.assert_close(compat.causal_conv1d_fn(x, weight, bias), plain)
    torch.testing.assert_close(compat.causal_conv1d_fn(x, weight, bias, "silu"), F.silu(plain))
    torch.testing.assert_close(compat.causal_conv1d_fn(x, weight, bias, activation="swish"), F.silu(plain))
    first, state = compat.causal_conv1d_fn(x[..., :2], weight, bias, return_final_states=True, activation="silu")
    room = torch.empty(2, 3, 3)
    rest = compat.causal_conv1d_fn(
        x[..., 2:], weight, bias, initial_states=state, final_states_out=room, activation="silu"
    )
    torch.testing.assert_close(torch.cat([first, rest], -1), F.silu(plain))
    torch.testing.assert_close(room, x[..., 2:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compat.Mamba(8, bimamba_type="v1"), "no bimamba_type 'v1'"),
        (lambda: compat.Mamba(8, nslices=4), "nslices with bimamba_type='none'"),
        (lambda: compat.Mamba(8, bimamba_type="v3", if_divide_out=True), "if_divide_out with"),
        (lambda: compat.Mamba(8, dt_init="uniform"), "no dt_init 'uniform'"),
        (lambda: compat.Mamba(8)(torch.zeros(1, 2, 8), inference_params={}), "take inference_params"),
        (lambda: compat.Mamba2(64, process_group=1), "take process_group"),
        (lambda: compat.Mamba2(64, headdim=48), "128 of 128 inner channels"),
        (lambda: compat.Mamba2(64)(torch.zeros(1, 2, 64), seq_idx=torch.zeros(1, 2)), "take seq_idx"),
        (lambda: compat.causal_conv1d_fn(torch.zeros(1, 1, 3), torch.ones(1, 2), None, torch.zeros(1, 3)), "seq_idx"),
        (lambda: compat.causal_conv1d_fn(torch.zeros(1, 1, 3), torch.ones(1, 2), activation="gelu"), "no activation"),
        (lambda: compat.mamba_inner_fn(*[None] * 8, checkpoint_lvl=2), "checkpoint_lvl is 2"),
    ],
)
def test_what_is_not_there_is_refused_by_name(call, message):
    with pytest.raises(KitError, match=message):
        call()


def test_install_stands_in_only_for_what_is_absent(monkeypatch):
    real = type(sys)("mamba_ssm")
    monkeypatch.setitem(sys.modules, "mamba_ssm", real)
    try:
        with pytest.warns(KitWarning, match="mamba_ssm is installed and stays; causal_conv1d is lkm_kit.compat's"):
            assert compat.install() == ("causal_conv1d",)
        assert sys.modules["mamba_ssm"] is real and "mamba_ssm.ops" not in sys.modules
        from causal_conv1d import causal_conv1d_fn

        assert causal_conv1d_fn is compat.causal_conv1d_fn
        with pytest.warns(KitWarning):
            assert compat.install() == ("causal_conv1d",)
        from lkm_kit.ssm.backends import cuda

        assert not cuda.has_convolution()  # the kit does not take its own stand-in for CUDA kernels
    finally:
        compat.uninstall()
    assert "causal_conv1d" not in sys.modules
