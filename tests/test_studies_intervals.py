"""Intervals against enumeration, textbook numbers and simulated studies."""

import itertools

import numpy as np
import pytest
from combinations import first

from lkm_kit.errors import KitError
from lkm_kit.studies.intervals import (
    bootstrap_interval,
    coverage,
    detectable_difference,
    student_interval,
    student_p,
)
from lkm_kit.studies.statistics import holm


def crossed(rng, seeds, cases, effect=0.0, seed_sd=0.0, case_sd=1.0, noise=0.3):
    return (
        effect
        + rng.normal(0, seed_sd, (seeds, 1))
        + rng.normal(0, case_sd, cases)
        + rng.normal(0, noise, (seeds, cases))
    )


def test_interval_covers_the_truth_as_often_as_it_says():
    """Cases differ in how much the arm helps them; three seeds see the same cases."""
    rng = np.random.default_rng(0)
    inside, naive_inside = [], []
    for trial in range(300):
        values = crossed(rng, 3, 40, effect=0.5)
        low, high = bootstrap_interval(values, resamples=400, seed=trial)
        inside.append(low <= 0.5 <= high)
        low, high = bootstrap_interval(values.reshape(1, -1), resamples=400, seed=trial)  # 120 "cases"
        naive_inside.append(low <= 0.5 <= high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.04)
    assert np.mean(naive_inside) < 0.85  # what drawing cases anew for every seed would do


def test_interval_by_enumeration():
    """One seed and three cases have 27 equally likely resamples; their quantiles are the interval."""
    values = np.array([0.0, 0.3, 0.9])
    means = sorted(np.mean(draw) for draw in itertools.product(values, repeat=3))
    low, high = bootstrap_interval(values[None], level=0.8, resamples=100_000)
    assert low == pytest.approx(np.quantile(means, 0.1), abs=0.021)
    assert high == pytest.approx(np.quantile(means, 0.9), abs=0.021)


def test_interval_knows_seeds_that_disagree():
    rng = np.random.default_rng(1)
    calm, wild = crossed(rng, 4, 30, case_sd=0.1), crossed(rng, 4, 30, seed_sd=1.0, case_sd=0.1)
    width = [np.ptp(bootstrap_interval(values)) for values in (calm, wild)]
    assert width[1] > 3 * width[0]


def test_interval_with_gaps_and_without_anything():
    values = np.array([[0.1, np.nan, 0.1], [0.1, 0.1, np.nan]])
    assert bootstrap_interval(values) == pytest.approx((0.1, 0.1))
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    with pytest.raises(KitError, match="no paired differences"):
        bootstrap_interval(np.full((2, 2), np.nan))


def test_student_by_hand():
    """One seed: the t interval of the cases. One case: that of the seeds. Both: the root of their squares' sum."""
    from scipy import stats

    rng = np.random.default_rng(0)
    values = rng.normal(1.0, 2.0, 12)
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    np.testing.assert_allclose(student_interval(values[None]), expected)
    np.testing.assert_allclose(student_interval(values[:, None]), expected)
    seeds, cases = rng.normal(0, 1, (3, 1)), rng.normal(0, 1, 20)
    low, high = student_interval(seeds + cases)
    halves = stats.t.ppf(0.975, [2, 19]) * [stats.sem(seeds[:, 0]), stats.sem(cases)]
    assert (high - low) / 2 == pytest.approx(np.hypot(*halves))
    assert (low + high) / 2 == pytest.approx(seeds.mean() + cases.mean())


@pytest.mark.parametrize("effect", [0.1, 0.7, 3.0, 40.0])
def test_p_is_where_the_interval_touches_zero(effect):
    values = crossed(np.random.default_rng(3), 3, 20, effect=effect, seed_sd=0.3)
    p = student_p(values)
    low, high = student_interval(values, level=1 - p)
    assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-6) and 0 < p <= 1
    assert student_p(-values) == pytest.approx(p)
    assert student_p(np.zeros((3, 4))) == 1.0 and student_p(np.ones((3, 4))) < 1e-20


@pytest.mark.parametrize("seeds", first([3, 5]))
def test_studies_without_any_effect_find_one_in_a_twentieth_at_most(seeds):
    """Ten arms beside one control, Holm's correction: a false "better" or "worse" anywhere counts once a study."""
    rng, studies, arms, cases = np.random.default_rng(seeds), 250, 10, 64
    shares = []
    for seed_sd in (0.0, 0.5, 1.0, 2.0, 5.0):  # the cases' is 1
        scores = np.stack([crossed(rng, seeds, cases, seed_sd=seed_sd, noise=1) for _ in range(studies * (arms + 1))])
        scores = scores.reshape(studies, arms + 1, seeds, cases)
        differences = scores[:, 1:] - scores[:, :1]
        # Holm's first step: without it nothing is found
        outside = [
            [low * high > 0 for low, high in (student_interval(d, 1 - 0.05 / arms) for d in s)] for s in differences
        ]
        found = np.any(outside, axis=1)
        for one in (*np.flatnonzero(found)[:2], *np.flatnonzero(~found)[:2]):
            assert (min(holm([student_p(d) for d in differences[one]])) < 0.05) == found[one]
        shares.append(found.mean())
    error = (0.05 * 0.95 / studies) ** 0.5
    assert max(shares) < 0.05 + 2.6 * error and np.mean(shares) < 0.05


def test_a_difference_that_a_study_would_have_shown_is_shown_by_four_of_five():
    rng = np.random.default_rng(0)
    for tests, scatter in ((1, {"seed_sd": 1.0, "case_sd": 0.3}), (10, {"seed_sd": 0.1, "case_sd": 2.0})):
        found = [detectable_difference(crossed(rng, 5, 30, **scatter), tests) for _ in range(1000)]
        smallest = np.mean(np.square(found)) ** 0.5  # of the true scatter: variances are right on average
        shown = [student_p(crossed(rng, 5, 30, effect=smallest, **scatter)) < 0.05 / tests for _ in range(1000)]
        assert np.mean(shown) == pytest.approx(0.8, abs=0.07)
    with pytest.raises(KitError, match="no scatter"):
        detectable_difference([[1.0]])


def test_few_seeds_need_student():
    """The seeds scatter most: a bootstrap of three seeds promises 95 % and holds three studies of four."""
    few = coverage(3)
    assert few["bootstrap"] < 0.82
    assert few["Student"] == pytest.approx(0.95, abs=0.04)


@pytest.mark.thorough
def test_with_many_seeds_both_intervals_hold():
    many = coverage(12)
    assert many["bootstrap"] == pytest.approx(0.95, abs=0.05)
    assert many["Student"] == pytest.approx(0.95, abs=0.04)


def test_one_number_says_nothing_and_gaps_are_left_out():
    assert student_interval([[0.3]]) == (-np.inf, np.inf)
    assert student_interval([[0.1, np.nan], [np.nan, 0.1]]) == pytest.approx((0.1, 0.1))
    full = student_interval([[1.0, 2.0, 4.0]])
    assert student_interval([[1.0, np.nan, 2.0, 4.0]]) == pytest.approx(full)
    for nothing in (np.full((2, 2), np.nan), np.zeros((0, 3)), np.zeros(3)):
        with pytest.raises(KitError, match="no paired differences"):
            student_interval(nothing)


def test_draws_are_kept_for_their_seed_and_size_alone():
    values = np.random.default_rng(0).normal(size=(3, 10))
    first, other = (bootstrap_interval(values, seed=seed) for seed in (0, 1))
    assert first != other
    assert bootstrap_interval(values[:, :5]) == bootstrap_interval(values[:, :5].copy()) != first
    assert bootstrap_interval(values) == first
