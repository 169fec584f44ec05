"""The checks of chapter 04: the solution passes; nothing, and a typical mistake, fail with the right words."""

import pytest
import torch

from lkm_kit.course import check_cut_windows, check_mates, check_place_in_window, check_tokens_apart


def place(row, column, k, width):
    return (row // k) * (width // k) + column // k, (row % k) * k + column % k


def windows(x, k):
    sides = range(0, x.shape[2], k), range(0, x.shape[3], k)
    return torch.stack([m[:, i : i + k, j : j + k].flatten(1).T for m in x for i in sides[0] for j in sides[1]])


def grids(x, k):
    return torch.stack([m[:, i::k, j::k].flatten(1).T for m in x for i in range(k) for j in range(k)])


def apart(window, axis):
    steps = 1
    for side in window[axis + 1 :]:
        steps *= side
    return steps


def mates(size, row, column, k, partition):
    same = (lambda a, b: a % k == b % k) if partition == "dilated" else (lambda a, b: a // k == b // k)
    return torch.tensor([[same(i, row) and same(j, column) for j in range(size)] for i in range(size)])


def flipped(partition):
    return "dilated" if partition == "contiguous" else "contiguous"


CASES = [
    (check_place_in_window, place, lambda *a: tuple(n + 1 for n in place(*a)), "off by one"),
    (check_place_in_window, place, lambda r, c, k, w: place(c, r, k, w), "wrong axis"),
    (check_place_in_window, place, lambda *a: place(*a)[::-1], "exchanged"),
    (check_cut_windows, windows, grids, "dilated"),
    (check_cut_windows, windows, lambda x, k: windows(x.mT, k), "wrong axis"),
    (check_cut_windows, windows, lambda x, k: x.reshape(-1, k * k, x.shape[1]), "permute first"),
    (check_tokens_apart, apart, lambda w, axis: apart(w, axis - 1) if axis else w[0] * apart(w, 0), "off by one axis"),
    (check_tokens_apart, apart, lambda w, axis: apart(w[::-1], len(w) - 1 - axis), "wrong axis"),
    (check_tokens_apart, apart, lambda w, axis: apart(w, axis) - 1, "off by one"),
    (check_mates, mates, lambda s, r, c, k, p: mates(s, r, c, k, flipped(p)), "exchanged"),
    (check_mates, mates, lambda s, r, c, k, p: mates(s, c, r, k, p), "wrong axis"),
    (check_mates, mates, lambda s, r, c, k, p: mates(s, r, c, k, "contiguous"), "look at the partition"),
]


@pytest.mark.parametrize(("check", "right", "wrong", "hint"), CASES)
def test_checks(check, right, wrong, hint):
    assert check(right).ok, check(right).message
    assert not check(lambda *a: None).ok
    result = check(wrong)
    assert not result.ok and hint in result.message, result.message


def test_an_answer_as_a_list_is_right_too():
    assert check_place_in_window(lambda *a: list(place(*a))).ok
    assert check_mates(lambda *a: mates(*a).tolist()).ok
