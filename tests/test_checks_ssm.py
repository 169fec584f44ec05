"""The checks of chapter 01: the solution passes; nothing, and a typical mistake, fail with the right words."""

import pytest
import torch

from lkm_kit.course import check_causal, check_discretize_diagonal, check_half_life, check_kernel, check_scan
from lkm_kit.ssm import causal_convolution, convolution_kernel, discretize, recurrence
from lkm_kit.widgets.ssm import KernelExplorer

CASES = [
    (check_discretize_diagonal, discretize, lambda A, B, d: discretize(A, B, d, "euler"), "Euler"),
    (check_discretize_diagonal, discretize, lambda A, B, d: (torch.exp(d * A), d * B), "short cut"),
    (check_scan, recurrence, lambda A, B, C, x: recurrence(A, B, C, x.flip(0)).flip(0), "last token"),
    (check_kernel, convolution_kernel, lambda A, B, C, n: convolution_kernel(A, A * B, C, n), "off by one"),
    (
        check_half_life,
        lambda A, d: 0.6931471805599453 / (-A * d),
        lambda A, d: 0.6931471805599453 / (A * d),
        "negative",
    ),
    (check_causal, lambda x, k: causal_convolution(x, k), lambda x, k: causal_convolution(x, k.flip(0)), "reversed"),
]


@pytest.mark.parametrize(("check", "right", "wrong", "hint"), CASES)
def test_checks(check, right, wrong, hint):
    assert check(right).ok, check(right).message
    assert not check(lambda *a: None).ok
    result = check(wrong)
    assert not result.ok and hint in result.message


def test_sliders_redraw():
    explorer = KernelExplorer()
    before = explorer.figure
    explorer.delta.value = 0.01
    assert explorer.figure is not before
    assert explorer.half_life == pytest.approx(69.3, rel=1e-2)
    explorer.rate.value = -2.0
    assert explorer.half_life == pytest.approx(34.7, rel=1e-2)
