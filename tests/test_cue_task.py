"""The cue task: nothing but the cue tells its sign, and what sees no cue is at chance exactly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lkm_kit.data.cue_task import CueTask
from lkm_kit.errors import KitError

TASK = CueTask((24, 20))
RADIUS = 3


def test_twins_differ_nowhere_but_on_the_cue_and_there_only_in_sign():
    batch = TASK.batch(16, 5)
    positive, negative = batch.image.chunk(2)
    on_cue = (batch.distance == 0)[:16, None]
    assert torch.equal(positive[~on_cue], negative[~on_cue])
    assert torch.equal(positive.abs(), negative.abs())
    assert torch.equal(positive[on_cue], torch.full((16 * TASK.cue**2,), TASK.amplitude))
    assert torch.equal(batch.label[:16], torch.ones(16, 24, 20, dtype=torch.int64))
    assert torch.equal(batch.label[16:], torch.zeros(16, 24, 20, dtype=torch.int64))


def test_offsets_are_the_steps_to_the_nearest_pixel_of_the_cue():
    batch = TASK.batch(3, 1)
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(20), indexing="ij")
    for image, offset, distance in zip(batch.image, batch.offset, batch.distance):
        cue = (image[0].abs() == TASK.amplitude).nonzero()
        assert len(cue) == TASK.cue**2
        steps = (cue[:, :, None, None] - torch.stack([rows, columns])).abs()
        assert torch.equal(steps.amax(1).amin(0), distance)
        landed = torch.stack([rows, columns]) + offset  # every pixel's steps end on the cue
        assert (image[0][landed[0], landed[1]].abs() == TASK.amplitude).all()


def test_noise_is_white_and_the_cue_comes_everywhere():
    pairs = 3000
    batch = TASK.batch(pairs, 2)
    noise = torch.where(batch.distance[:, None] == 0, torch.zeros(()), batch.image)[:pairs, 0]
    assert noise.std() == pytest.approx(1, abs=0.02)
    for product in (noise[:, :, 1:] * noise[:, :, :-1], noise[:, 1:] * noise[:, :-1]):
        assert abs(float(product.mean())) < 5 / product.numel() ** 0.5
    visits = (batch.distance[:pairs] == 0).sum(0)
    assert visits.min() > 0
    # a cue covers the inner pixels nine times as often as a corner, and all inner ones alike
    inner = visits[2:-2, 2:-2].float()
    assert inner.std() < 1.5 * inner.mean() ** 0.5


def test_seeds_decide_everything():
    assert torch.equal(TASK.batch(2, 7, 1).image, TASK.batch(2, 7, 1).image)
    for other in ((7, 2), (8, 1), (7,), (1, 7)):
        assert not torch.equal(TASK.batch(2, 7, 1).image, TASK.batch(2, *other).image)


@pytest.mark.parametrize(
    ("call", "named", "remedy"),
    [
        (lambda: CueTask((24, 20), cue=20), "cue of 20 pixels in an image of 24x20", "1 to 19"),
        (lambda: CueTask((24, 20), amplitude=0), "amplitude is 0", "positive"),
        (lambda: TASK.batch(0, 1), "0 pairs", "1 or more"),
        (lambda: TASK.batch(1), "seed ()", "not below 0"),
        (lambda: TASK.batch(1, -3), "seed (-3,)", "not below 0"),
    ],
)
def test_bad_arguments_are_named(call, named, remedy):
    with pytest.raises(KitError) as error:
        call()
    assert named in error.value.message
    assert remedy in error.value.remedy


def trained(norm: type[nn.Module], steps: int = 100) -> nn.Module:
    """``RADIUS`` 3x3 convolutions, so that a pixel sees RADIUS pixels far."""
    torch.manual_seed(0)
    layers = [
        layer for i in range(RADIUS) for layer in (nn.Conv2d(8 if i else 1, 8, 3, padding=1), norm(8), nn.LeakyReLU())
    ]
    network = nn.Sequential(*layers, nn.Conv2d(8, 2, 1))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(steps):
        batch = TASK.batch(4, 0, step)
        loss = nn.functional.cross_entropy(network(batch.image), batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def accuracy(network: nn.Module) -> dict[int, float]:
    batch = TASK.batch(64, 1)
    with torch.no_grad():
        right = network(batch.image).argmax(1) == batch.label
    return {r: float(right[batch.distance == r].double().mean()) for r in range(TASK.farthest + 1)}


def test_a_network_is_right_as_far_as_it_sees_and_at_chance_beyond():
    right = accuracy(trained(nn.BatchNorm2d))
    assert all(right[r] > 0.9 for r in range(RADIUS + 1)), right
    assert all(right[r] == 0.5 for r in range(RADIUS + 1, TASK.farthest + 1)), right


def test_instance_norm_tells_the_sign_to_the_whole_map():
    right = accuracy(trained(nn.InstanceNorm2d))
    assert all(right[r] > 0.85 for r in range(RADIUS + 1, TASK.farthest + 1)), right
