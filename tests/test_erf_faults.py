"""What a user can get wrong with a probe: one message that names the thing and the remedy."""

import numpy as np
import pytest
import torch
from torch import nn

from lkm_kit.erf import ErfMap, Probe, erf, influence_map, jacobian, measures, stage_probes, support
from lkm_kit.errors import KitError
from lkm_kit.networks import build_network

IMAGE = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def conv():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU())


def with_nan():
    net = conv()
    net[0].weight.data[0, 0, 0, 0] = torch.nan
    return net


class Argmax(nn.Module):
    def forward(self, x):
        return torch.cat([x, 1 - x], 1).argmax(1, keepdim=True)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3)

    def forward(self, x):
        return self.used(x)


class Exploding(nn.Module):
    def forward(self, x):
        return (x * 1e30) * 1e30


BATCH_NORM = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.mark.parametrize(
    ("network", "image", "probe", "message"),
    [
        (conv(), IMAGE, Probe(layer="00"), "no layer '00'.*did you mean '0'"),
        (conv(), IMAGE, Probe(position=(3, 12)), "outside the map of layer 'logit', 12×12"),
        (conv(), IMAGE, Probe(position=(3, 4, 5)), "outside the map"),
        (conv(), IMAGE, Probe(cls=3), "class 3 is outside layer 'logit', which has 3 channels"),
        (Argmax(), IMAGE, Probe(), "not differentiable.*argmax"),
        (BATCH_NORM.train(), IMAGE, Probe(), r"BatchNorm2d '1' takes its statistics from the batch.*network.eval\(\)"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout2d(0.5)).train(), IMAGE, Probe(), "cuts random paths"),
        (with_nan(), IMAGE, Probe(), "weights '0.weight' hold NaN"),
        (conv(), IMAGE[0, 0], Probe(), "needed is a floating-point tensor"),
        (conv(), (IMAGE > 0).long(), Probe(), "images are torch.int64"),
        (conv(), IMAGE / 0, Probe(), "images hold NaN or infinite"),
        (conv(), torch.zeros(1, 2, 12, 12), Probe(), r"cannot take images of shape \(1, 2, 12, 12\)"),
        (Unused(), IMAGE, Probe(layer="idle"), "did not call it"),
    ],
)
@pytest.mark.parametrize("ask", [erf, support])
def test_a_probe_that_cannot_be_answered(ask, network, image, probe, message):
    with pytest.raises(KitError, match=f"(?s){message}"):
        ask(network, image, probe)


def test_an_image_that_does_not_fit_keeps_the_networks_own_words():
    net = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3).eval()
    with pytest.raises(KitError, match="nearest image sizes that fit all stages"):
        erf(net, torch.zeros(1, 1, 100, 100))


def test_batch_norm_in_evaluation_mode_is_welcome():
    assert support(BATCH_NORM.eval(), IMAGE).sum() == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "mean"}, "no channel rule 'mean'"),
        ({"position": "middle"}, "no probe position 'middle'"),
        ({"rule": "margin"}, "cls is None"),
        ({"rule": "rademacher", "cls": 1}, "for all channels"),
        ({"position": "window:border"}, "needs the window's size"),
    ],
)
def test_a_probe_that_means_nothing(arguments, message):
    with pytest.raises(KitError, match=message):
        Probe(**arguments)


def test_a_window_larger_than_the_map():
    with pytest.raises(KitError, match="a window of 1000×1000 does not fit the map of layer 'logit', 96×96") as error:
        Probe(position="window:center", window=1000).locate((96, 96))
    assert "at most 96 pixels" in error.value.remedy
    assert Probe(window=96).window_sides((96, 96)) == (96, 96)


def test_options():
    with pytest.raises(KitError, match="no norm_stats 'cold'"):
        erf(conv(), IMAGE, norm_stats="cold")
    with pytest.raises(KitError, match="no reduce 'L1'"):
        erf(conv(), IMAGE, reduce="L1")
    with pytest.raises(KitError, match="needs reduce='l2'"):
        erf(conv(), IMAGE, Probe(rule="rademacher"), reduce="l1")
    with pytest.raises(KitError, match="support is that of one image"):
        support(conv(), IMAGE.expand(2, -1, -1, -1))
    with pytest.raises(KitError, match="a Jacobian is that of one image"):
        jacobian(conv(), IMAGE.expand(2, -1, -1, -1))
    with pytest.raises(KitError, match="has more than"):
        jacobian(conv(), torch.zeros(1, 1, 96, 96))
    with pytest.raises(KitError, match="draws is 0"):
        influence_map(conv(), IMAGE, draws=0)
    with pytest.raises(KitError, match="no layer's name matches 'stages"):
        stage_probes(conv(), "stages.*")
    with pytest.raises(KitError, match="is not finite"):
        erf(Exploding(), IMAGE)


def test_maps_that_cannot_be_measured():
    with pytest.raises(KitError, match="negative or non-finite"):
        measures(ErfMap.at(np.array([[1.0, -1.0]])))
    with pytest.raises(KitError, match="zero everywhere"):
        measures(ErfMap.at(np.zeros((3, 3))))
    with pytest.raises(KitError, match="no map to measure"):
        measures([])
    with pytest.raises(KitError, match="does not suit 2 axes"):
        measures(ErfMap.at(np.ones((3, 3))), spacing=(1.0, 1.0, 1.0))
    with pytest.raises(KitError, match="shares of mass"):
        measures(ErfMap.at(np.ones((3, 3))), shares=[50])


def test_the_network_is_left_as_it_was():
    net = conv().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    erf(net, IMAGE)
    support(net, IMAGE)
    assert net.training and not any(net[k]._forward_hooks for k in range(2))
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
