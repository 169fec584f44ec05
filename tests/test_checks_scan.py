"""The checks of chapter 02: the solution passes; nothing, and a typical mistake, fail with the right words."""

import pytest
import torch

from lkm_kit.course import check_combine, check_memory_length, check_selective_scan, check_time_step
from lkm_kit.widgets.ssm import MemoryExplorer


def scan(u, delta, A, B, C, late=False):
    h, ys = torch.zeros_like(A), []
    for t in range(len(u)):
        before = h
        h = torch.exp(delta[t] * A) * h + delta[t] * u[t] * B[:, t]
        ys.append((C[:, t] * (before if late else h)).sum())
    return torch.stack(ys)


def memory(delta, A):
    total = 0.0
    for k, step in enumerate(delta, start=1):
        total -= A * step
        if total >= 1:
            return k
    return len(delta)


def backward(u, delta, A, B, C):
    return scan(u.flip(0), delta.flip(0), A, B.flip(1), C.flip(1)).flip(0)


def combined(first, second):
    return second[0] * first[0], second[0] * first[1] + second[1]


CASES = [
    (check_selective_scan, scan, lambda *a: scan(*a, late=True), "before token t"),
    (check_selective_scan, scan, backward, "last token"),
    (check_selective_scan, scan, lambda u, d, A, B, C: scan(u / d, d, A, B, C), "its step"),
    (check_combine, combined, lambda p, q: combined(q, p), "second-then-first"),
    (check_combine, combined, lambda p, q: (q[0] * p[0], p[1] + q[1]), "decays as well"),
    (check_memory_length, memory, lambda d, A: memory(d, A) - 1, "off by one"),
    (check_memory_length, memory, lambda d, A: int((-A * d.cumsum(0) < 1).sum()) + 1, "too short"),
    (check_time_step, lambda d: d + torch.log(-torch.expm1(-d)), lambda d: torch.log(torch.exp(d) - 1), "its digits"),
    (check_time_step, lambda d: torch.log(torch.expm1(d)), torch.log, "exactly"),
]


@pytest.mark.parametrize(("check", "right", "wrong", "hint"), CASES)
def test_checks(check, right, wrong, hint):
    assert check(right).ok, check(right).message
    assert not check(lambda *a: None).ok
    result = check(wrong)
    assert not result.ok and hint in result.message, result.message


def test_sliders_redraw():
    explorer = MemoryExplorer()
    before = explorer.figure
    explorer.side.value = 10
    assert explorer.figure is not before
    assert explorer.left == pytest.approx(torch.exp(torch.tensor(-1.0)).item(), rel=1e-3)  # 100 tokens of 0.01
    explorer.delta.value = 0.1
    assert explorer.left == pytest.approx(4.5e-5, rel=1e-2)
