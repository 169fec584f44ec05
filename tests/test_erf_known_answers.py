"""Effective receptive fields whose answer is known before anything is computed."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lkm_kit.blocks import BiM, LMBlock, PaM, PiM
from lkm_kit.erf import Probe, erf, influence_map, jacobian, luo_sigma, measures, stage_probes, support
from lkm_kit.monai_parts import monai_part
from lkm_kit.networks import build_network


def ones_conv(k, **options):
    conv = nn.Conv2d(1, 1, k, padding="same", bias=False, **options)
    nn.init.ones_(conv.weight)
    return conv


def stack(n, k):
    return nn.Sequential(*[ones_conv(k) for _ in range(n)]).double()


class Tokens(nn.Module):
    """A token block (b, l, c) behind an image of one row: (b, c, 1, l) → same."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block(x[:, :, 0].mT).mT[:, :, None]


class Change(nn.Module):
    """layer(x) - x: a residual block without its residual."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x) - x


@pytest.mark.parametrize(("n", "k"), [(1, 3), (1, 7), (3, 3), (4, 5)])
def test_a_stack_of_convolutions_sees_n_times_k_minus_1_plus_1(n, k):
    net, image = stack(n, k), torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    side, half = n * (k - 1) + 1, n * (k - 1) // 2
    expected = torch.zeros(31, 31, dtype=torch.bool)
    expected[15 - half : 16 + half, 15 - half : 16 + half] = True
    assert torch.equal(support(net, image), expected)
    assert torch.equal(erf(net, image).values > 0, expected) and expected.sum() == side**2


def test_box_kernels_spread_as_the_theory_says():
    for n, k in [(1, 3), (5, 3), (3, 5)]:
        table = measures(erf(stack(n, k), torch.zeros(1, 1, 41, 41)))
        assert abs(table.loc[0, "sigma_0"] - math.sqrt(n * (k**2 - 1) / 12)) < 1e-9
        assert abs(table.loc[0, "sigma_1"] - luo_sigma(k, n)) < 1e-9
        assert abs(table.loc[0, "centroid_0"]) < 1e-9


def test_identity_sees_one_pixel_and_global_pooling_all():
    image = torch.zeros(1, 1, 8, 8)
    own = support(nn.Identity(), image)
    assert own.sum() == 1 and own[4, 4]
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Upsample((8, 8)))
    values = erf(pooled, image).values
    torch.testing.assert_close(values, torch.full_like(values, 1 / 64), atol=1e-9, rtol=0)
    assert measures(erf(pooled, image)).loc[0, "n_eff"] == pytest.approx(64)


def test_dilation_and_anisotropic_kernels():
    seen = support(ones_conv(3, dilation=2), torch.zeros(1, 1, 9, 9))
    assert seen.sum() == 9 and seen[2:7:2, 2:7:2].all()
    box = support(nn.Conv3d(1, 1, (1, 3, 5), padding="same"), torch.zeros(1, 1, 7, 7, 7))
    assert box.sum() == 15 and box[3, 2:5, 1:6].all()


def test_frozen_statistics_keep_an_instance_norm_local_and_live_ones_do_not():
    torch.manual_seed(0)
    net, image = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4)), torch.randn(1, 1, 12, 12)
    assert support(net, image).sum() == 9
    assert support(net, image, norm_stats="live").all()
    assert (erf(net, image, Probe(cls=0), norm_stats="live").values > 0).sum() > 9
    x = torch.randn(2, 1, 12, 12)
    frozen = erf(net, x).values
    assert (frozen > 0).sum() == 9


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_forward_scan_hears_no_later_token(backend):
    torch.manual_seed(0)
    forward = Change(Tokens(BiM(8, bidirectional=False, backend=backend))).eval()
    image, probe = torch.randn(1, 8, 1, 40), Probe(position=(0, 20))
    seen = support(forward, image, probe)[0]
    assert seen[:21].all() and not seen[21:].any()
    erf_map = erf(forward, image, probe)
    assert (erf_map.values[0, 21:] == 0).all() and erf_map.values[0, 15:20].all()
    assert measures(erf_map).loc[0, "direction_scan"] == 1
    both = Change(Tokens(BiM(8, backend=backend))).eval()
    assert support(both, image, probe).all()
    assert abs(measures(erf(both, image, probe)).loc[0, "direction_scan"]) < 0.9


def test_pim_stays_in_its_window_and_the_dilated_one_on_its_lattice():
    torch.manual_seed(0)
    image, place = torch.randn(1, 8, 20, 20), (7, 13)
    window = support(PiM(8, 5), image, Probe(position=place))
    assert window.sum() == 25 and window[5:10, 10:15].all()
    dilated = support(PiM(8, 5, "dilated"), image, Probe(position=place))
    assert dilated.sum() == 16 and dilated[2::5, 3::5].all()
    table = measures({
        "contiguous": erf(PiM(8, 5), image, Probe(position=place, window=5, stride=5)),
        "dilated": erf(PiM(8, 5, "dilated"), image, Probe(position=place, window=5, stride=5)),
    })  # fmt: skip
    assert table.loc["contiguous", "locality"] == pytest.approx(1)
    assert table.loc["contiguous", "enrichment"] == pytest.approx(16)
    assert table.loc["dilated", "lattice"] == pytest.approx(1)
    assert table.loc["dilated", "locality"] == pytest.approx(0)


def test_pam_sees_everything():
    torch.manual_seed(0)
    assert support(PaM(8, 4), torch.randn(1, 8, 16, 16)).all()


@pytest.mark.parametrize(
    ("partition", "pam", "share"),
    [("dilated", False, 0.000), ("contiguous", False, 1.000), ("dilated", True, 0.600), ("contiguous", True, 0.758)],
)
def test_share_of_an_lm_block_in_its_own_window(partition, pam, share):
    """With PaM the random start decides, so that the mean of six stands for it; their standard deviation is 0.05.

    The first three are known from another implementation. The fourth is ours: that one's 0.869 is not reproduced.
    """
    found = []
    for seed in range(6 if pam else 1):
        torch.manual_seed(seed)
        block = LMBlock(8, 20, pool=4, pam=pam, partition=partition)
        probe = Probe(position=(90, 90), window=20)
        found.append(measures(erf(block, torch.randn(1, 8, 160, 160), probe)).loc[0, "locality"])
    assert np.mean(found) == pytest.approx(share, abs=0.06 if pam else 1e-6)


def test_measures_do_not_change_with_the_scale_of_the_output():
    class Scaled(nn.Module):
        def __init__(self, net, by):
            super().__init__()
            self.net, self.by = net, by

        def forward(self, x):
            return self.by * self.net(x)

    torch.manual_seed(0)
    net = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3).double().eval()
    image, probe = torch.randn(1, 1, 96, 96), Probe(cls=1, window=24, stride=48)
    one, thousand = (measures(erf(Scaled(net, by), image, probe)).drop(columns="layer") for by in (1, 1000))
    np.testing.assert_allclose(one.to_numpy(float), thousand.to_numpy(float), rtol=1e-9, equal_nan=True)


def test_support_is_immune_to_underflow_where_the_gradient_is_not():
    class Fading(nn.Module):
        def forward(self, x):
            weights = 1e-30 ** torch.arange(x.shape[-1], dtype=x.dtype).flip(0)
            return (x * weights).cumsum(-1)

    image, probe = torch.ones(1, 1, 1, 9), Probe(position=(0, 8))
    assert (erf(Fading(), image, probe).values > 0).sum() < 9
    assert support(Fading(), image, probe).all()


def test_influence_map_and_rademacher_estimate_the_exact_jacobian():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)).double()
    image = torch.randn(1, 2, 5, 6, dtype=torch.float64)
    J = jacobian(net, image)
    assert J.shape == (3, 5, 6, 2, 5, 6)
    auto = torch.autograd.functional.jacobian(net, image)[0, :, :, :, 0]
    torch.testing.assert_close(J, auto)
    exact = J.square().sum((0, 1, 2, 3))
    torch.testing.assert_close(influence_map(net, image, draws=4000, batch_size=200), exact, rtol=0.15, atol=0.02)
    one = J[:, 2, 3].square().sum((0, 1)).sqrt()
    found = erf(net, image, Probe(rule="rademacher"), draws=2000, batch_size=200).values
    torch.testing.assert_close(found, one, rtol=0.15, atol=0.02)
    summed = J[:, 2, 3].sum(0).abs().sum(0)
    torch.testing.assert_close(erf(net, image).values, summed)


def test_probes_in_one_batch_give_what_they_give_alone():
    torch.manual_seed(0)
    net = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3).eval()
    images = torch.randn(2, 1, 96, 96)
    probes = [Probe(cls=k, position=(10 * k, 50)) for k in range(3)] + [Probe(cls=2, rule="margin")]
    together = erf(net, images, probes, batch_size=5)
    for probe, found in zip(probes, together):
        alone = erf(net, images, probe, batch_size=1)
        torch.testing.assert_close(found.values, alone.values, rtol=1e-3, atol=1e-9)


def test_every_encoder_stage_and_a_volume_in_mm():
    torch.manual_seed(0)
    net = build_network("lkm-unet/tiny-3d", input_channels=1, num_classes=2).eval()
    size = (16, 64, 64)
    probes = stage_probes(net, "encoder.stages.*")
    maps = erf(net, torch.randn(1, 1, *size), probes)
    assert len(maps) >= 3 and all(tuple(m.values.shape) == size for m in maps)
    assert len({m.grid for m in maps}) == len(maps)
    table = measures(maps, spacing=(3.0, 1.0, 1.0))
    assert table["layer"].tolist() == [p.layer for p in probes]
    assert table.loc[0, "sigma_0"] == 0  # the first stage's kernels are 1×3×3
    assert (table[["sigma_1", "sigma_2"]] > 0).all(axis=None) and (table.loc[1:, "sigma_0"] > 0).all()
    in_pixels = measures(maps)
    np.testing.assert_allclose(table["sigma_0"], 3 * in_pixels["sigma_0"])


def test_trained_and_untrained_are_two_maps_of_one_probe_on_monai_too():
    torch.manual_seed(0)
    net = (
        monai_part("networks.nets")
        .UNet(spatial_dims=2, in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2))
        .eval()
    )
    image = torch.randn(1, 1, 64, 64)
    before = erf(net, image)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    after = erf(net, image)
    table = measures({"before": before, "after": after})
    assert table["n_eff"].between(1, 64 * 64).all() and table.loc["before", "n_eff"] != table.loc["after", "n_eff"]
    # transposed and strided convolutions have a finite theoretical field
    assert 1 < support(net, image).sum() < 64 * 64
