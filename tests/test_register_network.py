"""Networks of one's own, by public names only: registered, built, described, trained a step, a study's arm."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_study import SIZE, squares

from lkm_kit.blocks import ORDERS
from lkm_kit.errors import KitError
from lkm_kit.networks import SegmentationNetwork, build_network, describe, network_names, register_network
from lkm_kit.studies import Arm, Study
from lkm_kit.studies.costs import cost, training_memory
from lkm_kit.training import TrainConfig, train
from lkm_kit.training.provenance import code_digest, own_digest, own_sources

OWN = """
from torch import nn
from lkm_kit.networks import SegmentationNetwork, register_network

@register_network("two-layers", width=4)
class TwoLayers(SegmentationNetwork):
    def __init__(self, input_channels, num_classes, deep_supervision=False, *, width, pad=False):
        super().__init__(input_channels, num_classes, deep_supervision, strides=[(1, 1), (2, 2)], pad=pad)
        self.down = nn.Conv2d(input_channels, width, 2, 2)
        self.up = nn.ConvTranspose2d(width, num_classes, 2, 2)
        self.low = nn.Conv2d(width, num_classes, 1)

    def heads(self, x):
        x = self.down(x)
        return [self.up(x), self.low(x)] if self.decoder.deep_supervision else [self.up(x)]
"""


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield "own_networks:two-layers"
    sys.modules.pop("own_networks", None)


def toy(network, **changes):
    return TrainConfig(
        network=network, organs=("liver", "spleen"), image_size=(16, 16), batch_size=2, iterations=1, validate_every=1,
        optimizer="adamw", learning_rate=1e-2, train_slices=4, validation_slices=2, **changes,
    )  # fmt: skip


class Job:
    """What ``squares`` reads of a job."""

    def __init__(self, config):
        self.config, self.test_cases = config, 2


def test_a_network_in_a_file_trains_a_step_and_is_read_again(own_file, tmp_path):
    config = toy(own_file, network_overrides={"width": 6})
    result = train(config, tmp_path / "run", data=squares(Job(config)), device="cpu")
    assert result.history["step"].max() == 1
    assert result.network.down.out_channels == 6
    source = tmp_path / "own_networks.py"
    assert own_sources(result.network, config) == [source]
    of_the_file = result.record["training"]["own_code"]
    assert of_the_file == own_digest([source]) and result.record["training"]["code"] == code_digest()
    source.write_text(OWN.replace("self.low = nn.Conv2d(width, num_classes, 1)", "self.low = None"))
    assert own_digest([source]) != of_the_file
    source.write_text(OWN)
    x = torch.randn(1, 1, 16, 16)
    start = build_network(own_file, input_channels=1, num_classes=3, width=6)
    assert not torch.equal(start(x), result.network(x))


def test_an_order_or_a_mixer_of_ones_own_is_a_source_too(own_file, monkeypatch):
    build_network(own_file, input_channels=1, num_classes=3)  # imports the file
    monkeypatch.setitem(ORDERS, "mine", sys.modules["own_networks"].TwoLayers)  # whatever stands there
    plain = nn.Linear(2, 2)
    config = TrainConfig(network_overrides={"partition": "mine"})
    assert own_sources(plain, config) == [Path("own_networks.py").resolve()]
    assert own_sources(plain, TrainConfig()) == []


def test_checks_padding_and_supervision_come_with_the_base_class(own_file):
    network = build_network(own_file, input_channels=1, num_classes=3, pad=True, deep_supervision=True)
    assert [tuple(head.shape[2:]) for head in network(torch.zeros(1, 1, 15, 9))] == [(15, 9), (8, 5)]
    network.decoder.deep_supervision = False
    assert network(torch.zeros(1, 1, 15, 9)).shape == (1, 3, 15, 9)
    strict = build_network(own_file, input_channels=1, num_classes=3)
    with pytest.raises(KitError, match="strides multiply to 2×2"):
        strict(torch.zeros(1, 1, 15, 9))


def test_a_factory_of_a_plain_module_is_described_and_is_an_arm(own_file):
    @register_network("one-layer")
    def one_layer(input_channels, num_classes, deep_supervision=False):
        return nn.Conv2d(input_channels, num_classes, 3, padding=1)

    assert "one-layer" in network_names()
    arms = (Arm("plain", "a convolution", "one-layer"), Arm("own", "two layers", own_file))
    plan = Study("own", "Is one layer enough?", arms, control="plain")
    costs = cost(plan.arm("plain"), SIZE.image_size, 3)
    assert costs == {"parameters": 3 * 9 + 3, "gflops": 2 * 16 * 16 * 27 / 1e9, "tokens": {}}
    assert cost(plan.arm("own"), SIZE.image_size, 3)["parameters"] == (4 * 4 + 4) + (4 * 3 * 4 + 3) + (4 * 3 + 3)
    assert training_memory(plan.arm("own"), SIZE.image_size, 3, 2) > 0
    table = describe(build_network("one-layer", input_channels=2, num_classes=3), (8, 8), input_channels=2)
    assert table["map"].tolist() == [(8, 8)]
    assert table["flops"].tolist() == [2 * 64 * 2 * 27]


def test_the_last_of_one_name_counts_and_the_kits_names_are_kept():
    for width in (3, 5):
        register_network("wide", width=width)(lambda i, o, width: nn.Conv2d(i, o, width))
    assert build_network("wide", input_channels=1, num_classes=2).kernel_size == (5, 5)
    with pytest.raises(KitError, match="one of the kit's own"):
        register_network("lkm-unet/tiny-2d")
    with pytest.raises(KitError, match="colon"):
        register_network("file:name")


def test_wrong_names_and_arguments_offer_the_right_ones(own_file):
    build = {"input_channels": 1, "num_classes": 3}
    with pytest.raises(KitError, match="did you mean 'two-layers'"):
        build_network("own_networks:two-layer", **build)
    with pytest.raises(KitError, match=r"no file elsewhere.py .* no installed package"):
        build_network("elsewhere:two-layers", **build)
    with pytest.raises(KitError, match=r"(?s)no file own_networks\.py\.py .* -> leave \.py out"):
        build_network("own_networks.py:two-layers", **build)
    with pytest.raises(KitError, match="takes no argument 'widht'") as error:
        build_network(own_file, **build, widht=3)
    assert "did you mean 'width'" in error.value.remedy


def test_what_cannot_run_on_shapes_says_so():
    class Counts(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(KitError, match="Counts does not run on shapes alone"):
        describe(Counts(), (8, 8), input_channels=1)


def test_a_base_class_without_a_network_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="heads"):
        SegmentationNetwork(1, 2, strides=[(1, 1)])(torch.zeros(1, 1, 4, 4))
