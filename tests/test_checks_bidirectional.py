"""The checks of chapter 03: the solution passes; nothing, and a typical mistake, fail with the right words."""

import pytest
import torch

from lkm_kit.course import check_already_read, check_both_directions, check_heard, check_reversal_gap
from lkm_kit.plots import sequences as plots


def both(scan, x):
    return scan(x) + scan(x.flip(1)).flip(1)


def read(side, row, column, shift=0):
    seen = torch.zeros(side, side, dtype=torch.bool)
    seen.view(-1)[: row * side + column + 1 + shift] = True
    return seen


def heard(influence):
    return torch.stack([sum(influence[t, s] for t in range(len(influence)) if t != s) for s in range(len(influence))])


def gap(layer, x):
    with torch.no_grad():
        return float((layer(x.flip(1)).flip(1) - layer(x)).norm() / layer(x).norm())


CASES = [
    (check_both_directions, both, lambda scan, x: scan(x), "forward scan alone"),
    (check_both_directions, both, lambda scan, x: scan(x.flip(1)).flip(1), "backward scan alone"),
    (check_both_directions, both, lambda scan, x: scan(x) + scan(x.flip(1)), "flip it back"),
    (check_both_directions, both, lambda scan, x: scan(x) + scan(x.flip(-1)).flip(-1), "wrong axis"),
    (check_already_read, read, lambda *a: read(*a, shift=-1), "off by one"),
    (check_already_read, read, lambda s, r, c: read(s, c, r).T, "wrong axis"),
    (check_already_read, read, lambda *a: ~read(*a, shift=-1), "backward scan"),
    (check_already_read, read, lambda *a: ~read(*a), "still to come"),
    (check_heard, heard, lambda m: heard(m.T), "wrong axis"),
    (check_heard, heard, lambda m: m.sum(0), "diagonal"),
    (check_heard, heard, lambda m: m.sum(1), "wrong axis"),
    (check_reversal_gap, gap, lambda f, x: float((f(x.flip(1)) - f(x)).norm() / f(x).norm()), "reverse layer(tokens)"),
    (check_reversal_gap, gap, lambda f, x: gap(f, x) * float(f(x).norm()), "relative"),
    (
        check_reversal_gap,
        gap,
        lambda f, x: float((f(x.flip(-1)).flip(-1) - f(x)).norm() / f(x).norm()),
        "wrong axis",
    ),
]


@pytest.mark.parametrize(("check", "right", "wrong", "hint"), CASES)
def test_checks(check, right, wrong, hint):
    assert check(right).ok, check(right).message
    assert not check(lambda *a: None).ok
    result = check(wrong)
    assert not result.ok and hint in result.message, result.message


def test_no_influence_stays_white_and_small_influence_does_not():
    picture = (
        plots.influence_matrices({"forward": torch.ones(3, 3).tril().numpy() * [[1], [1e-4], [1e-8]]}).axes[0].images[0]
    )
    assert picture.get_array().mask.tolist() == torch.ones(3, 3).triu(1).bool().tolist()
    assert picture.norm(1e-8) == 0 and picture.norm(1.0) == 1


def test_window_maps_share_one_scale_that_starts_at_zero():
    maps = {"a": torch.rand(3, 3).numpy() + 1, "b": 5 * torch.ones(3, 3).numpy()}
    assert {ax.images[0].get_clim() for ax in plots.window_maps(maps, "influence", ".1f").axes[:2]} == {(0, 5)}
