"""The exercise checks on blocks: the solution passes, each known mistake gets its own hint, nothing ever raises."""

import math

import pytest
import torch
import torch.nn.functional as F

from lkm_kit import course


def dilated_tokens(x, p):
    return torch.stack([x[0, 0, i::p, j::p].flatten() for i in range(p) for j in range(p)])


def patch_level(x, bim, pool):
    coarse = F.avg_pool2d(x, pool)
    mixed = bim(coarse.flatten(2).mT).mT.reshape(coarse.shape)
    return x + F.interpolate(mixed, scale_factor=pool)


def max_pooled(x, bim, pool):
    coarse = F.max_pool2d(x, pool)
    mixed = bim(coarse.flatten(2).mT).mT.reshape(coarse.shape)
    return x + F.interpolate(mixed, scale_factor=pool)


def bim_parameters(d, mambas=2, projections=1):
    e, r = 2 * d, math.ceil(d / 16)
    return mambas * (2 * e * d + 5 * e + e * (r + 32) + e * (r + 1) + 16 * e + e) + projections * e * d + 2 * d


def supervision_weights(n, last=0.0, scale=True):
    weights = [0.5**i for i in range(n - 1)] + [last]
    return [w / sum(weights) for w in weights] if scale else weights


def image_multiple(strides, windows):
    total, multiple = 1, 1
    for stride, window in zip(strides, windows):
        total *= stride
        multiple = math.lcm(multiple, total * window)
    return multiple


SOLUTIONS = {
    "check_dilated_tokens": dilated_tokens,
    "check_patch_level": patch_level,
    "check_bim_parameters": bim_parameters,
    "check_supervision_weights": supervision_weights,
    "check_image_multiple": image_multiple,
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_solution_passes_and_nothing_else_does(name):
    check = getattr(course, name)
    assert check(SOLUTIONS[name]).ok, check(SOLUTIONS[name]).message
    for unsolved in (lambda *a: None, lambda *a: ..., lambda *a: 1 / 0, lambda *a: torch.zeros(2, 3), ...):
        result = check(unsolved)
        assert not result.ok
        assert result.message


@pytest.mark.parametrize(
    ("name", "wrong", "hint"),
    [
        ("check_dilated_tokens", lambda x, p: x[0, 0].unfold(0, p, p).unfold(1, p, p).reshape(-1, p * p), "contiguous"),
        ("check_dilated_tokens", lambda x, p: dilated_tokens(x.mT, p), "exchanged"),
        ("check_patch_level", lambda x, bim, pool: patch_level(x, bim, pool) - x, "residual"),
        ("check_patch_level", max_pooled, "maximum"),
        ("check_bim_parameters", lambda d: bim_parameters(d, mambas=1), "two Mambas"),
        ("check_bim_parameters", lambda d: bim_parameters(d, projections=2), "count it once"),
        ("check_supervision_weights", lambda n: supervision_weights(n, last=0.5 ** (n - 1)), "set the last one to 0"),
        ("check_supervision_weights", lambda n: supervision_weights(n, scale=False), "divide by the sum"),
        ("check_image_multiple", lambda strides, windows: math.lcm(*windows), "times the stride"),
    ],
)
def test_known_mistakes_get_their_hint(name, wrong, hint):
    result = getattr(course, name)(wrong)
    assert not result.ok
    assert hint in result.message
