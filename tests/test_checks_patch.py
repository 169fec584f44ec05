"""The checks of chapter 05: the solution passes; nothing, and a typical mistake, fail with the right words."""

import math

import pytest
import torch

from lkm_kit.course import check_attention_cost, check_representatives, check_unpool, check_way


def means(x, k):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // k, k, w // k, k).mean((3, 5)).flatten(2).transpose(1, 2)


def copied(tokens, size, k):
    out = torch.empty(tokens.shape[0], tokens.shape[2], *size)
    for i in range(size[0]):
        for j in range(size[1]):
            out[:, :, i, j] = tokens[:, (i // k) * (size[1] // k) + j // k]
    return out


def way(size, window, a, b, pam):
    return 1 if pam or all(p // window == q // window for p, q in zip(a, b)) else math.inf


CASES = [
    (check_representatives, means, lambda x, k: means(x.mT, k), "wrong axis"),
    (check_representatives, means, lambda x, k: x[:, :, ::k, ::k].flatten(2).mT, "first pixel"),
    (check_unpool, copied, lambda t, s, k: t.mT.reshape(len(t), -1, s[0] // k, s[1] // k).repeat(1, 1, k, k), "tiles"),
    (check_way, way, lambda s, w, a, b, pam: 1, "never meet"),
    (
        check_way,
        way,
        lambda *a: 1 if a[4] else 1 + max(abs(p // a[1] - q // a[1]) for p, q in zip(a[2], a[3])),
        "still",
    ),
    (check_attention_cost, lambda side, pool: side**4 // (side // pool) ** 4, lambda s, p: p * p, "fewer *tokens*"),
]


@pytest.mark.parametrize(("check", "solution", "mistake", "words"), CASES)
def test_solution_passes_and_mistake_is_named(check, solution, mistake, words):
    assert check(solution), check(solution).message
    assert not check(lambda *arguments: None)
    result = check(mistake)
    assert not result and words in result.message, result.message
