"""Published protocols: luo's theory, replknet's and vmamba's procedures written out again, openerf's own package."""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from lkm_kit.erf import PROTOCOLS, published_erf
from lkm_kit.errors import KitError


@pytest.fixture
def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 5, padding=2), nn.InstanceNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 5, padding=2)]
    return nn.Sequential(*layers).eval()


@pytest.fixture
def images():
    return torch.randn(4, 1, 33, 33, generator=torch.Generator().manual_seed(1))


def centre_gradients(net, images):
    """One image after the other: gradient of the summed, rectified centre features; its positive part over channels."""
    found = []
    for image in images:
        x = image[None].clone().requires_grad_()
        features = net(x).relu()
        features[:, :, 16, 16].sum().backward()
        found.append(x.grad.relu().sum((0, 1)).numpy())
    return np.mean(found, 0)


def square_shares(scaled, wanted):
    """Side of the first centred square that holds more than each share."""
    found = {}
    for share in wanted:
        for half in range(1, 16):
            square = scaled[16 - half : 17 + half, 16 - half : 17 + half]
            if square.sum() / scaled.sum() > share:
                found[share] = 2 * half + 1
                break
    return found


@pytest.mark.parametrize(
    ("name", "scale"), [("replknet", lambda v: np.log10(v + 1)), ("vmamba", lambda v: np.power(v, 0.2))]
)
def test_replknet_and_vmamba_against_their_procedure_written_out(name, scale, net, images):
    scaled = scale(centre_gradients(net, images))
    scaled = scaled / scaled.max()
    result = published_erf(name, net, images, layer="3")
    np.testing.assert_allclose(result.map, scaled, rtol=1e-3, atol=1e-5)
    sides = square_shares(scaled, (0.2, 0.3, 0.5, 0.99))
    assert sides  # the smallest squares are found inside the map
    for share, side in sides.items():
        assert result.numbers[f"side_{100 * share:g}"] == side
        assert result.numbers[f"area_{100 * share:g}"] == pytest.approx((side / 33) ** 2)


def test_replknet_changes_with_the_scale_of_the_output_and_says_so(net, images):
    loud = nn.Sequential(*net)
    before = published_erf("replknet", net, images, layer="3").numbers
    with torch.no_grad():
        loud[3].weight *= 1e4
        loud[3].bias *= 1e4
    after = published_erf("replknet", loud, images, layer="3").numbers
    assert after["area_50"] > before["area_50"]


def test_luo_finds_the_width_of_box_kernels():
    net = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(6)]).double()
    for conv in net:
        nn.init.ones_(conv.weight)
    result = published_erf("luo", net, torch.randn(3, 1, 41, 41))
    assert result.numbers["sigma_rows"] == pytest.approx(2.0, abs=1e-9)  # √(6 · 8 / 12)
    assert result.numbers["erf_size"] < 13  # of a theoretical field of 13 pixels


@pytest.fixture
def openerf(monkeypatch):
    """The package, without torchvision and timm, which it needs for files of images only."""
    names = ("torchvision", "torchvision.transforms", "timm", "timm.data")
    for name in names:
        if name not in sys.modules:
            stand_in = types.ModuleType(name)
            stand_in.__getattr__ = lambda attribute: (
                (_ for _ in ()).throw(AttributeError(attribute)) if attribute.startswith("__") else object
            )
            monkeypatch.setitem(sys.modules, name, stand_in)
    pytest.importorskip("openerf")
    from openerf import erf as compute
    from openerf import metrics

    yield compute, metrics
    for name in [name for name in sys.modules if name.split(".")[0] == "openerf"]:
        monkeypatch.delitem(sys.modules, name)


def test_openerf_gives_the_numbers_of_its_package(openerf, net, images):
    compute, metrics = openerf
    total = 0
    for image in images:
        x = image[None].clone().requires_grad_()
        total = total + compute._compute_positive_input_gradients_from_layer(net, x, net[3], "3")
    theirs = metrics.compute_erf_metrics(total.numpy())
    ours = published_erf("openerf", net, images, layer="3")
    np.testing.assert_allclose(ours.map, total.numpy() / total.sum().item(), rtol=1e-3, atol=1e-7)
    assert ours.numbers["center_value"] == pytest.approx(theirs["center_value"], rel=1e-3)
    for name in ("com_x", "com_y"):
        assert ours.numbers[name] == pytest.approx(theirs[name], rel=1e-3)
    for radius, share in theirs["radial_cumulative_mass"].items():
        assert ours.numbers[f"within_{radius}"] == pytest.approx(share, rel=1e-3)


def test_bad_input(net, images):
    with pytest.raises(KitError, match=f"choose one of {', '.join(PROTOCOLS)}"):
        published_erf("vnamba", net, images)
    with pytest.raises(KitError, match="is for 2D maps"):
        published_erf("luo", nn.Conv3d(1, 1, 3, padding=1), torch.randn(1, 1, 5, 5, 5))
