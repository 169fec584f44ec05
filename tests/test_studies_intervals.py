"""Intervals against enumeration, textbook numbers and simulated studies."""

import itertools

import numpy as np
import pytest

from lkm_kit.errors import KitError
from lkm_kit.studies.intervals import bootstrap_interval, coverage, student_interval


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
    """One seed: the t interval of the cases. One case: that of the seeds. Both: Satterthwaite lies between."""
    from scipy import stats

    rng = np.random.default_rng(0)
    values = rng.normal(1.0, 2.0, 12)
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    np.testing.assert_allclose(student_interval(values[None]), expected)
    np.testing.assert_allclose(student_interval(values[:, None]), expected)
    seeds, cases = rng.normal(0, 1, (3, 1)), rng.normal(0, 1, 20)
    low, high = student_interval(seeds + cases)
    terms = np.array([seeds.var(ddof=1) / 3, cases.var(ddof=1) / 20])
    freedom = terms.sum() ** 2 / (terms**2 / [2, 19]).sum()
    assert 2 < freedom < 19
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, freedom) * terms.sum() ** 0.5)
    assert (low + high) / 2 == pytest.approx(seeds.mean() + cases.mean())


def test_few_seeds_need_student():
    """The seeds scatter most: a bootstrap of three seeds promises 95 % and holds three studies of four."""
    few, many = coverage(3), coverage(12)
    assert few["bootstrap"] < 0.82
    assert few["Student"] == pytest.approx(0.95, abs=0.04)
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
