"""Intervals for a mean paired difference: by resampling, and by Student's t, which few seeds need.

Seeds and cases are both drawn from more than were seen, and crossed: every seed was scored on the same cases.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from lkm_kit.errors import KitError

RESAMPLES = 5000
MOST_SEEDS = 1000
"""More are not counted: the cases alone are too few then, or nearly."""

SMALLEST = 1e-30
"""The smallest p: differences that are all the same get this one."""


def bootstrap_interval(
    differences: pd.DataFrame | np.ndarray, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean paired difference, resampling cases within resampled seeds.

    Each resample draws seeds with replacement and cases with replacement, and averages the cells that they cross in.
    The drawn cases are the same for all drawn seeds, because every seed was scored on the same cases. Drawing anew for
    each seed would take one case scored three times for three cases, and give intervals that are too short. With one
    seed only cases are drawn, and the interval says nothing about other seeds. With fewer than some eight seeds it is
    too short (:func:`coverage`): among three seeds the same one is drawn three times in one resample of nine.

    Args:
        differences: (seeds, cases); nan where a case has no number.
        level: of the interval.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        lower and upper end.

    >>> bootstrap_interval(np.full((2, 5), 0.25))
    (0.25, 0.25)
    """
    values = np.asarray(differences, dtype=float)
    if values.ndim != 2 or not np.isfinite(values).any():
        raise KitError("there are no paired differences to resample", remedy="give a table (seeds, cases)")
    known, filled = np.isfinite(values).astype(float), np.nan_to_num(values)
    seeds, cases = _draws(*values.shape, resamples, seed)
    # the mean over the crossed cells is a quotient of two products
    total = np.einsum("rs,sc,rc->r", seeds, filled, cases, optimize=True)
    count = np.einsum("rs,sc,rc->r", seeds, known, cases, optimize=True)
    means = total[count > 0] / count[count > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@lru_cache(maxsize=2)
def _draws(n_seeds: int, n_cases: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed and each case is drawn, (resamples, seeds) and (resamples, cases).

    Kept, because to draw takes most of the time and all comparisons of a report have the same draws.
    """
    rng = np.random.default_rng(seed)
    seeds, cases = (rng.multinomial(n, np.full(n, 1 / n), resamples) for n in (n_seeds, n_cases))
    return seeds, cases


class _Parts(NamedTuple):
    """Mean of a table of differences, and for seeds and for cases: variance of that mean, degrees of freedom."""

    middle: float
    variances: np.ndarray
    freedoms: np.ndarray


def _parts(differences: pd.DataFrame | np.ndarray) -> _Parts:
    values = np.asarray(differences, dtype=float)
    known = np.isfinite(values)
    if values.ndim != 2 or not known.any():
        raise KitError("there are no paired differences for an interval", remedy="give a table (seeds, cases)")
    variances, freedoms = [], []
    for axis in (1, 0):
        counts, sums = known.sum(axis), np.where(known, values, 0.0).sum(axis)
        means = sums[counts > 0] / counts[counts > 0]
        if len(means) > 1:
            variances.append(means.var(ddof=1) / len(means))
            freedoms.append(len(means) - 1)
    return _Parts(float(values[known].mean()), np.array(variances), np.array(freedoms))


def _half(parts: _Parts, outside: float) -> float:
    """Half the length of an interval of level 1 - outside: both parts' own half-widths, added as squares."""
    from scipy.special import stdtrit

    return float(np.hypot.reduce(stdtrit(parts.freedoms, outside / 2) * parts.variances**0.5))


def student_interval(differences: pd.DataFrame | np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean paired difference, for seeds and cases that are both a sample.

    Seeds alone would give a half-width t(S - 1) · sd of the seeds' means / √S, cases alone t(C - 1) · sd of the cases'
    means / √C. The half-width is the root of the sum of their squares. So each part has the t of its own degrees of
    freedom, and few seeds count as few even where their spread comes out small by luck. (One t with Satterthwaite's
    degrees of freedom trusts that luck: with Holm's correction over ten arms it finds a difference in up to 21 % of
    studies without any.) Single cells' scatter is in both parts, which errs on the long side. With one seed only the
    cases count, and the interval says nothing about other seeds.

    Args:
        differences: (seeds, cases); nan where a case has no number.
        level: of the interval.

    Returns:
        lower and upper end; without end for a single number.

    Source: Zou and Donner 2008, Construction of confidence limits about effect measures (variance recovered from two
    intervals).

    >>> low, high = student_interval(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))  # 2 ± 4.30 · 1 / sqrt(3)
    >>> round(low, 2), round(high, 2)
    (-0.48, 4.48)
    """
    parts = _parts(differences)
    half = _half(parts, 1 - level) if len(parts.variances) else np.inf
    return parts.middle - half, parts.middle + half


def student_p(differences: pd.DataFrame | np.ndarray) -> float:
    """The p that belongs to :func:`student_interval`: 1 - level of the interval that just touches 0.

    Args:
        differences: (seeds, cases); nan where a case has no number.

    >>> from scipy.stats import ttest_1samp
    >>> values = [2.0, 3.0, 1.0, 4.0]
    >>> float(round(student_p([values]) / ttest_1samp(values, 0).pvalue, 6))  # one seed: the t-test of the cases
    1.0
    """
    from scipy.optimize import brentq

    parts = _parts(differences)
    if not len(parts.variances) or parts.middle == 0:
        return 1.0

    def excess(log_p: float) -> float:
        return _half(parts, np.exp(log_p)) - abs(parts.middle)

    smallest = np.log(SMALLEST)
    return float(np.exp(brentq(excess, smallest, 0.0))) if excess(smallest) > 0 else SMALLEST


def detectable_difference(
    differences: pd.DataFrame | np.ndarray, tests: int = 1, level: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true difference that a study of this scatter would show: what a "no difference" rules out.

    Args:
        differences: (seeds, cases), of the study.
        tests: comparisons that share ``level``; the level of each is level / tests (Holm's first step).
        level, power: "show" means: p below the level, in ``power`` of the studies whose scatter is as it was found
            in this one.

    Raises:
        KitError: a single number, which has no scatter.

    >>> calm = np.array([[1.0, 1.2], [0.9, 1.1], [1.1, 1.3]])
    >>> round(detectable_difference(10 * calm) / detectable_difference(calm), 6)
    10.0
    """
    from scipy.special import nctdtrinc, stdtrit

    parts = _parts(differences)
    if not len(parts.variances):
        raise KitError("one number has no scatter", remedy="give at least two seeds or cases")
    critical = -stdtrit(parts.freedoms, level / tests / 2)
    shifts = nctdtrinc(parts.freedoms, 1 - power, critical)  # of the non-central t, for seeds and for cases
    return float(np.hypot.reduce(shifts * parts.variances**0.5))


class Precision(NamedTuple):
    """How exact a difference is, and what more seeds would make of it.

    Args:
        half_width: of the 95 % interval of :func:`student_interval`.
        cases: the half-width that the cases alone would give, which no seed makes smaller.
        seeds: number of seeds for the half-width that was asked for, if seeds go on to scatter as they did; None where
            the cases alone are wider.
    """

    half_width: float
    cases: float
    seeds: int | None


def precision(differences: pd.DataFrame | np.ndarray, asked: float, level: float = 0.95) -> Precision:
    """Half-width of the interval, its share by cases, and the seeds that the asked half-width would take.

    Args:
        differences: (seeds, cases), at least two of each.
        asked: half-width, in the unit of the differences.
        level: of the interval.

    Raises:
        KitError: one seed or one case alone.

    >>> table = np.array([[-1.0], [0.0], [1.0]]) + np.array([[-0.1, 0.0, 0.1, 0.0]])  # seeds scatter, cases hardly do
    >>> found = precision(table, 0.5)
    >>> round(found.half_width, 2), round(found.cases, 2), found.seeds
    (2.49, 0.13, 19)
    """
    from scipy.special import stdtrit

    parts, outside = _parts(differences), (1 - level) / 2
    if len(parts.variances) < 2:
        raise KitError("one seed or one case says nothing about more", remedy="give at least two seeds and two cases")
    halves = -stdtrit(parts.freedoms, outside) * parts.variances**0.5
    seeds = np.asarray(differences).shape[0]
    more = np.arange(2, MOST_SEEDS + 1)
    by_seeds = -stdtrit(more - 1, outside) * (parts.variances[0] * seeds / more) ** 0.5
    enough = more[np.hypot(by_seeds, halves[1]) <= asked]
    return Precision(float(np.hypot(*halves)), float(halves[1]), int(enough[0]) if len(enough) else None)


def simulated_differences(
    rng: np.random.Generator, seeds: int, cases: int, *, seed_sd: float, case_sd: float, difference: float = 0.0
) -> np.ndarray:
    """The paired differences that a study would find, drawn from a known truth.

    Every seed has luck of its own and every case a difficulty of its own; single cells scatter as cases do.

    Args:
        rng: what draws.
        seeds, cases: of the study.
        seed_sd, case_sd: standard deviation of the difference between seeds, and between cases.
        difference: the true one.

    Returns:
        (seeds, cases), in the unit of the three.

    >>> found = simulated_differences(np.random.default_rng(0), 400, 400, seed_sd=2.0, case_sd=1.0, difference=3.0)
    >>> [round(number) for number in (found.mean(), found.mean(1).std(), found.mean(0).std())]
    [3, 2, 1]
    """
    luck, difficulty = rng.normal(0, seed_sd, (seeds, 1)), rng.normal(0, case_sd, (1, cases))
    return difference + luck + difficulty + rng.normal(0, case_sd, (seeds, cases))


def coverage(
    seeds: int,
    *,
    seed_sd: float = 5.0,
    case_sd: float = 3.0,
    cases: int = 64,
    trials: int = 300,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """How often the intervals cover the true value: studies are simulated whose true difference is 0.

    Args:
        seeds: trainings of each arm.
        seed_sd, case_sd, cases: of :func:`simulated_differences`.
        trials: simulated studies.
        resamples: of the bootstrap.
        seed: of the simulation.

    Returns:
        {"bootstrap": share, "Student": share}; 0.95 is what a 95 % interval promises.

    >>> found = coverage(3)
    >>> found["bootstrap"] < 0.85 < 0.9 < found["Student"]
    True
    """
    rng = np.random.default_rng(seed)
    held = {"bootstrap": 0, "Student": 0}
    for trial in range(trials):
        differences = simulated_differences(rng, seeds, cases, seed_sd=seed_sd, case_sd=case_sd)
        found = {
            "bootstrap": bootstrap_interval(differences, resamples=resamples, seed=trial),
            "Student": student_interval(differences),
        }
        for name, (low, high) in found.items():
            held[name] += low <= 0 <= high
    return {name: count / trials for name, count in held.items()}
