"""Intervals for a mean paired difference: by resampling, and by Student's t, which few seeds need.

Seeds and cases are both drawn from more than were seen, and crossed: every seed was scored on the same cases.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lkm_kit.errors import KitError

RESAMPLES = 5000


def bootstrap_interval(
    differences: pd.DataFrame | np.ndarray, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean paired difference, resampling cases within resampled seeds.

    Each resample draws seeds with replacement and cases with replacement, and averages the cells that they cross in.
    The drawn cases are the same for all drawn seeds, because every seed was scored on the same cases: drawing anew for
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
    rng = np.random.default_rng(seed)
    n_seeds, n_cases = values.shape
    known, filled = np.isfinite(values).astype(float), np.nan_to_num(values)
    # how often each seed and each case is drawn; the mean over the crossed cells is then a quotient of two products
    seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), resamples)
    cases = rng.multinomial(n_cases, np.full(n_cases, 1 / n_cases), resamples)
    total = np.einsum("rs,sc,rc->r", seeds, filled, cases, optimize=True)
    count = np.einsum("rs,sc,rc->r", seeds, known, cases, optimize=True)
    means = total[count > 0] / count[count > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def student_interval(differences: pd.DataFrame | np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean paired difference, for seeds and cases that are both a sample.

    The variance of the mean is taken as (variance of the seeds' means) / seeds + (variance of the cases' means) /
    cases, which counts the scatter of single cells twice and so errs on the long side. The degrees of freedom are
    Satterthwaite's: next to seeds - 1 where the seeds scatter more, next to cases - 1 where the cases do. With one
    seed only the cases count, and the interval says nothing about other seeds.

    Args:
        differences: (seeds, cases); nan where a case has no number.
        level: of the interval.

    Returns:
        lower and upper end.

    Source: Satterthwaite 1946, An approximate distribution of estimates of variance components.

    >>> low, high = student_interval(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))  # 2 ± 4.30 · 1 / sqrt(3)
    >>> round(low, 2), round(high, 2)
    (-0.48, 4.48)
    """
    from scipy.stats import t

    table = pd.DataFrame(np.asarray(differences, dtype=float)) if np.ndim(differences) == 2 else pd.DataFrame()
    if not table.notna().to_numpy().any():
        raise KitError("there are no paired differences for an interval", remedy="give a table (seeds, cases)")
    terms, freedoms = [], []
    for means in (table.mean(axis=1).dropna(), table.mean(axis=0).dropna()):
        if len(means) > 1:
            terms.append(means.var(ddof=1) / len(means))
            freedoms.append(len(means) - 1)
    middle, variance = float(np.nanmean(table)), sum(terms)
    if not terms or variance == 0:  # one number, or all the same
        return (-np.inf, np.inf) if not terms else (middle, middle)
    freedom = variance**2 / sum(v**2 / f for v, f in zip(terms, freedoms))
    half = float(t.ppf((1 + level) / 2, freedom) * variance**0.5)
    return middle - half, middle + half


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
    """How often the intervals hold the truth: studies are simulated whose true difference is 0.

    Args:
        seeds: trainings of each arm.
        seed_sd, case_sd: scatter of the difference between seeds, and between cases; single cells scatter as cases do.
        cases: cases of a study.
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
        luck, difficulty = rng.normal(0, seed_sd, (seeds, 1)), rng.normal(0, case_sd, (1, cases))
        differences = luck + difficulty + rng.normal(0, case_sd, (seeds, cases))
        found = {
            "bootstrap": bootstrap_interval(differences, resamples=resamples, seed=trial),
            "Student": student_interval(differences),
        }
        for name, (low, high) in found.items():
            held[name] += low <= 0 <= high
    return {name: count / trials for name, count in held.items()}
