"""The checks of chapter 13: the solution passes; nothing, and a typical mistake, fail with the right words."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from lkm_kit.blocks import to_tokens
from lkm_kit.course import check_chance, check_fallback, check_residues, check_three_readings, check_translated
from lkm_kit.data.organs import to_kit_ids


def residues(x, p):
    """Not by %: by asking the library's dilated cut where each pixel went."""
    height, width = x.shape[2:]
    index = to_tokens(torch.arange(height * width).reshape(1, 1, height, width), p, "dilated")[..., 0]
    sequence = torch.empty(height * width, dtype=torch.long)
    sequence[index] = torch.arange(len(index))[:, None].expand_as(index)
    return sequence.reshape(height, width)


def readings(side, k):
    x = torch.empty(1, 1, side, side)
    return [to_tokens(x, k, partition).shape[1] for partition in ("contiguous", "dilated", "count")]


def falling_back(size, strides, sides):
    totals = np.cumprod(strides)
    return [i for i, (t, p) in enumerate(zip(totals, sides)) if (np.array(size) // t % p).any()]


def by_rows(size, strides, sides):
    return falling_back(size[:1], strides, sides)


def translate(label, source, target):
    table = np.zeros(max(source.values()) + 1, dtype=int)
    for name, number in target.items():
        table[source[name]] = number
    return table[label]


def in_place(label, source, target):
    for name, number in target.items():
        label[label == source[name]] = number
    return label


def chance(difference, sd):
    return 2 * norm.sf(difference, scale=sd * 2**0.5)


CASES = [
    (check_residues, residues, lambda x, p: residues(x.mT, p).T, "wrong axis"),
    (check_residues, residues, lambda x, p: residues(x, p) + 1, "off by one"),
    (
        check_residues,
        residues,
        lambda x, p: torch.arange(x.shape[2])[:, None] // p * (x.shape[3] // p) + torch.arange(x.shape[3]) // p,
        "window of the paper",
    ),
    (check_three_readings, readings, lambda s, k: ((s // k) ** 2, k * k, k * k), "how many sequences"),
    (check_three_readings, readings, lambda s, k: (k * k, (s // k) ** 2, k * k), "the smaller they are"),
    (check_fallback, falling_back, lambda size, strides, p: falling_back(size, [1] * len(p), p), "not the image"),
    (check_fallback, falling_back, by_rows, "columns too"),
    (check_fallback, falling_back, lambda *a: [stage + 1 for stage in falling_back(*a)], "off by one"),
    (check_translated, translate, in_place, "twice"),
    (check_translated, translate, lambda label, source, target: label, "still the source's"),
    (check_chance, chance, lambda d, sd: 2 * norm.sf(d, scale=sd), "two runs vary"),
    (check_chance, chance, lambda d, sd: norm.sf(d, scale=sd * 2**0.5), "both tails"),
]


@pytest.mark.parametrize(("check", "solution", "mistake", "words"), CASES)
def test_solution_passes_and_mistake_is_named(check, solution, mistake, words):
    assert check(solution), check(solution).message
    assert not check(lambda *arguments: None)
    result = check(mistake)
    assert not result and words in result.message, result.message


def test_the_exercise_on_labels_agrees_with_the_library():
    from lkm_kit.data.organs import ORGANS

    amos = {organ.name: organ.amos for organ in ORGANS} | {"bladder": 14, "prostate/uterus": 15}
    kit = {organ.name: organ.label for organ in ORGANS}
    ids = np.arange(16)
    np.testing.assert_array_equal(translate(ids, amos, kit), to_kit_ids(ids, "amos"))
