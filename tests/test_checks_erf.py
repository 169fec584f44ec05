"""The checks of chapter 11: the solution passes; nothing, and a typical mistake, fail with the right words."""

import pytest
import torch

from lkm_kit.course import check_area_holding, check_erf_by_hand, check_field_side, check_window_share


def side(kernels, strides):
    found = 1
    for i, k in enumerate(kernels):
        step = 1
        for s in strides[:i]:
            step *= s
        found = found + (k - 1) * step
    return found


def by_hand(layer, x, row, column):
    x = x.clone().requires_grad_()
    layer(x).sum(1)[0, row, column].backward()
    return x.grad[0].abs().sum(0)


def signed(layer, x, row, column):
    x = x.clone().requires_grad_()
    layer(x).sum(1)[0, row, column].backward()
    return x.grad[0].sum(0)


def area(values, share):
    need, count = share * values.sum(), 0
    for value in sorted(values.flatten().tolist(), reverse=True):
        need, count = need - value, count + 1
        if need <= 1e-6:
            break
    return count / values.numel()


def share(values, row, column, k):
    rows, columns = torch.arange(values.shape[0]), torch.arange(values.shape[1])
    inside = (rows // k == row // k)[:, None] & (columns // k == column // k)
    rest = values.sum() - values[row, column]
    return (values[inside].sum() - values[row, column]) / rest


CASES = [
    (check_field_side, side, lambda k, s: side(k, [1] * len(s)), "a step is 2 pixels"),
    (check_field_side, side, lambda k, s: side(k, s) - 1, "off by one"),
    (check_erf_by_hand, by_hand, signed, "signs cancel"),
    (check_erf_by_hand, by_hand, lambda f, x, r, c: by_hand(f, x, c, r), "wrong axis"),
    (check_area_holding, area, lambda v, t: float((v >= t * v.max()).float().mean()), "a threshold on the height"),
    (check_area_holding, area, lambda v, t: area(v, t) * v.numel(), "divide by all"),
    (check_area_holding, area, lambda v, t: area(v, t) - 1 / v.numel(), "off by one"),
    (
        check_window_share,
        share,
        lambda v, r, c, k: v[r // k * k :][:k, c // k * k :][:, :k].sum() / v.sum(),
        "own pixel",
    ),
]


@pytest.mark.parametrize("check", {case[0]: None for case in CASES})
def test_an_empty_cell_fails_kindly(check):
    result = check(lambda *arguments: None)
    assert not result and "not solved yet" in result.message


@pytest.mark.parametrize(("check", "solution", "mistake", "words"), CASES)
def test_solution_passes_and_mistake_is_named(check, solution, mistake, words):
    assert check(solution), check(solution).message
    result = check(mistake)
    assert not result and words in result.message, result.message
