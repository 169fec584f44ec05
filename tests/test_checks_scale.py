"""The exercise checks on scale: the solution passes, each known mistake gets its own hint, nothing ever raises."""

import math

import numpy as np
import pytest

from lkm_kit.course import checks_scale as checks


def gpu_hours(epochs, iterations, batch, rate, unit=3600):
    return epochs * iterations * batch / rate / unit


def trainings(studies, folds, seeds, shared=True):
    names = [name for one in studies for name in one]
    return len(set(names) if shared else names) * folds * seeds


def seeds_needed(difference, spread, arms=2, whole=math.ceil, least=2):
    return max(least, whole(arms * (2.8 * spread / difference) ** 2 - 1e-12))


def empty_organs(dsc, both_empty=1.0):
    seen = dsc[~np.isnan(dsc)]
    return np.where(np.isnan(dsc), both_empty, dsc).mean(), seen.mean()


SOLUTIONS = {
    "check_gpu_hours": gpu_hours,
    "check_trainings": trainings,
    "check_seeds_needed": seeds_needed,
    "check_empty_organs": empty_organs,
}
MISTAKES = [
    ("check_gpu_hours", lambda e, i, b, r: gpu_hours(e, i, 1, r), "a whole batch"),
    ("check_gpu_hours", lambda e, i, b, r: gpu_hours(1, i, b, r), "one epoch"),
    ("check_gpu_hours", lambda e, i, b, r: gpu_hours(e, i, b, r, 60), "minutes"),
    ("check_gpu_hours", lambda e, i, b, r: gpu_hours(e, i, b, r, 1), "those are seconds"),
    ("check_gpu_hours", lambda e, i, b, r: gpu_hours(e, i, b, 1 / r), "divide by it"),
    ("check_trainings", lambda s, f, n: trainings(s, f, n, shared=False), "trained once"),
    ("check_trainings", lambda s, f, n: trainings(s, 1, n), "every fold"),
    ("check_trainings", lambda s, f, n: trainings(s, f, 1), "every seed"),
    ("check_trainings", lambda s, f, n: trainings(s, 1, 1) * (f + n), "multiply"),
    ("check_seeds_needed", lambda d, s: seeds_needed(d, s, arms=1), "both arms"),
    ("check_seeds_needed", lambda d, s: seeds_needed(d, s, whole=int), "round up"),
    ("check_seeds_needed", lambda d, s: seeds_needed(d, s, least=1), "at least two"),
    ("check_seeds_needed", lambda d, s: max(2, math.ceil(2 * 2.8 * s / d)), "root of n"),
    ("check_empty_organs", lambda x: empty_organs(x)[::-1], "comes first"),
    ("check_empty_organs", lambda x: empty_organs(x, both_empty=0.0), "scores 1, not 0"),
    ("check_empty_organs", lambda x: (empty_organs(x)[0], np.nan_to_num(x).mean()), "left out of the mean"),
]


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_solution_passes_and_an_empty_cell_does_not(name):
    check = getattr(checks, name)
    assert check(SOLUTIONS[name]).ok, check(SOLUTIONS[name]).message
    for unsolved in (lambda *a: None, lambda *a: ..., lambda *a: 1 / 0, lambda *a: -1.0, ...):
        assert not check(unsolved).ok


@pytest.mark.parametrize(("name", "wrong", "words"), MISTAKES)
def test_a_typical_mistake_gets_its_hint(name, wrong, words):
    result = getattr(checks, name)(wrong)
    assert not result.ok and words in result.message, result.message
