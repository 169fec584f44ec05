"""What can be known of a GPU's training step without one: every device, every gradient, by shapes and by a guard.

On torch's ``meta`` device a tensor has a shape and a device, and no numbers. A step at the paper's sizes costs nothing
there, and any tensor that lies on another device, any number that is read on the way, ends it.
"""

import dataclasses
from functools import cache

import pytest
import torch

from lkm_kit.erf import Probe
from lkm_kit.erf.gradient import gradients
from lkm_kit.evaluation.inference import predict_volume
from lkm_kit.networks import build_network
from lkm_kit.profiles import profile
from lkm_kit.studies import study
from lkm_kit.training import TrainConfig
from lkm_kit.training.loop import validate
from lkm_kit.training.loss import make_loss
from lkm_kit.training.optim import make_optimizer, make_schedule

PAPER = profile("paper")
ARMS = {
    " ".join([arm.network, *(f"{k}={v}" for k, v in arm.overrides.items() if k in ("partition", "pim"))]): arm
    for name in ("table1", "table2", "table3")
    for arm in study(name, PAPER).arms
}
"""One arm of each network of Tables 1 to 3."""


class Alone:
    """As much of Fabric as :func:`validate` asks for."""

    def __init__(self, device):
        self.device = torch.device(device)

    @staticmethod
    def all_reduce(x, reduce_op="mean"):
        return x


def step(config, network, image, label):
    """Forward, loss, backward, clipping, update; returns loss and norm of the gradients."""
    optimizer = make_optimizer(config, network)
    schedule = make_schedule(config, optimizer)
    loss = make_loss(config.batch_dice)(network(image), label)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
    optimizer.step()
    schedule.step()
    return loss.detach(), norm


def config_of(arm, size=PAPER, **changes):
    own = {"network": arm.network, "network_overrides": arm.overrides, **changes}
    return dataclasses.replace(TrainConfig.from_profile(size), **own)


def on_meta(config):
    with torch.device("meta"):
        network = build_network(
            config.network, input_channels=1, num_classes=config.table.num_classes, deep_supervision=True,
            **config.network_overrides,
        )  # fmt: skip
        image = torch.empty(2, 1, *config.image_size)
        return network.train(), image, torch.zeros(2, *config.image_size, dtype=torch.int64)


@pytest.mark.parametrize("arm", [pytest.param(arm, id=name) for name, arm in ARMS.items()])
def test_a_step_at_the_papers_size_stays_on_its_device(arm):
    config = config_of(arm)
    network, image, label = on_meta(config)
    loss, norm = step(config, network, image, label)
    assert loss.is_meta and norm.is_meta
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.is_meta]


def test_a_step_in_3d_at_the_papers_size_stays_on_its_device():
    config = config_of(ARMS["lkm-unet/paper-2d"], network="lkm-unet/paper-3d", image_size=(40, 224, 192))
    config = dataclasses.replace(config, network_overrides={})
    network, image, label = on_meta(config)
    step(config, network, image, label)
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.is_meta]


@cache
def small(network):
    config = TrainConfig.from_profile("smoke")
    torch.manual_seed(0)
    network = build_network(network, input_channels=1, num_classes=config.table.num_classes, deep_supervision=True)
    return config, network, torch.randn(1, 1, 96, 96), torch.randint(0, config.table.num_classes, (1, 96, 96))


@pytest.mark.parametrize("network", ["lkm-unet/tiny-2d", "shuffled-lkm-unet/tiny-2d", "umamba-enc/tiny-2d"])
def test_nothing_is_made_on_the_default_device(network):
    """With a default device that is not the tensors', what forgets to say where it belongs is found."""
    config, network, image, label = small(network)
    batch = {"image": image, "label": label}
    with torch.device("meta"):
        loss, norm = step(config, network.train(), image, label)
        scores = validate(Alone("cpu"), network, [batch], config)
        logits = predict_volume(network, image, window=(96, 96), mirror_axes=(0,))
        _, erf, _ = next(gradients(network, image, [Probe()], n_draws=[1], norm_stats="frozen"))
    assert torch.isfinite(loss) and torch.isfinite(norm) and 0 <= scores["DSC"] <= 1
    assert torch.isfinite(logits).all() and logits.device.type == "cpu"
    assert erf.device.type == "cpu"
