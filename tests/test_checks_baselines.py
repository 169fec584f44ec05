"""The checks of chapter 12: the solution passes; nothing, and a typical mistake, fail with the right words."""

import numpy as np
import pytest
from torch import nn

from lkm_kit.course import check_conv_parameters, check_in_spreads, check_patch_tokens


def patches(size, patch):
    return len(list(np.ndindex(*(n // patch for n in size))))


def parameters(channels_in, channels_out, kernel):
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[len(kernel)](channels_in, channels_out, kernel)
    return sum(p.numel() for p in conv.parameters())


def spreads(a, b, spread, seeds):
    return abs(a - b) / np.hypot(spread / np.sqrt(seeds), spread / np.sqrt(seeds))


CASES = [
    (check_patch_tokens, patches, lambda size, patch: np.prod(size) // patch, "along *every* axis"),
    (check_patch_tokens, patches, lambda size, patch: patches(size, patch) ** 2, "*pairs* attend"),
    (check_conv_parameters, parameters, lambda i, o, k: o * i * int(np.prod(k)), "biases are missing"),
    (check_conv_parameters, parameters, lambda i, o, k: o * (i * k[0] ** 2 + 1), "all axes"),
    (check_in_spreads, spreads, lambda a, b, s, n: abs(a - b) / s, "both means scatter"),
    (check_in_spreads, spreads, lambda a, b, s, n: spreads(a, b, s, 1), "several seeds"),
]


@pytest.mark.parametrize(("check", "solution", "mistake", "words"), CASES)
def test_solution_passes_and_mistake_is_named(check, solution, mistake, words):
    assert check(solution), check(solution).message
    assert not check(lambda *arguments: None)
    result = check(mistake)
    assert not result and words in result.message, result.message
