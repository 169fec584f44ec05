"""Memory of a training step: counted on shapes alone, it is what a real step keeps."""

import pytest
import torch
from torch import nn

from lkm_kit.networks import build_network
from lkm_kit.studies import study
from lkm_kit.studies.costs import kept_for_backward, training_memory

BATCH, SIZE, CLASSES = 2, (96, 96), 7
ARMS = [("table3", "residual-unet"), ("table3", "pim-pam-bim"), ("table3", "pim-bim-shuffled")]
ARMS += [("table1", name) for name in ("segresnet", "swin-unetr", "nnformer", "umamba-enc", "lkm-unet-dilated")]


@pytest.mark.parametrize(("name", "arm"), ARMS)
def test_shapes_alone_tell_what_a_real_step_keeps(name, arm):
    chosen = study(name, "smoke").arm(arm)
    counted = training_memory(chosen, SIZE, CLASSES, BATCH)
    network = build_network(chosen.network, input_channels=1, num_classes=CLASSES, **chosen.overrides).train()
    real = kept_for_backward(network, torch.zeros(BATCH, 1, *SIZE), [*network.parameters(), *network.buffers()])
    real += 16 * sum(p.numel() for p in network.parameters())
    assert counted == real


def test_a_known_answer():
    """A linear layer keeps its input, a ReLU its output, and both layers share the tensor between them."""
    network = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
    image = torch.zeros(3, 10, requires_grad=True)
    assert kept_for_backward(network, image, network.parameters()) == 4 * 3 * (10 + 20)


def test_the_paper_s_size_is_counted_without_its_memory():
    plan = study("table3", "paper")
    gigabytes = training_memory(plan.arm("pim-pam-bim"), (320, 320), 14, 24) / 1e9
    assert gigabytes > 24  # more than the paper's RTX 3090 holds, in float32
