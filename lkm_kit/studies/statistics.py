"""From scores to statements: spread over seeds, paired differences, Student's p, Holm's correction.

The unit is a *case*: its score is the mean over its organs. All arms are scored on the same cases and share their seeds
(first weights of the common convolutions, order of the batches). So differences are taken case by case and seed by seed
before anything is averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lkm_kit.errors import KitError
from lkm_kit.evaluation.metrics import metrics_in
from lkm_kit.studies.intervals import (
    RESAMPLES,
    bootstrap_interval,
    detectable_difference,
    student_interval,
    student_p,
)

VERDICT_SEEDS = 3
"""Trainings of both arms that any verdict needs: two have one degree of freedom, and one has no spread at all."""

NUMBERS = ("difference", "low", "high", "low bootstrap", "high bootstrap", "p", "detectable")
"""What :func:`compare` finds, beside the number of seeds and of cases."""

NOT_LEARNT, LEARNT = 0.01, 0.1
"""Scores of an organ below which a training has not learnt it, and above which one has."""


def mean_and_spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and standard deviation between them, arm by arm.

    A seed's score is the mean over cases of each organ, then over organs (the released scripts' order).

    Args:
        rows: arm, seed, case, organ and a column a metric.

    Returns:
        index: arm. Columns: seeds, cases, the metrics (means), and ``DSC sd`` and so on (sample standard deviation
        over seeds; nan with one seed).

    >>> rows = pd.DataFrame({"arm": "a", "seed": [0, 1], "case": "c", "organ": "liver", "DSC": [0.4, 0.6], "NSD": 0.5})
    >>> mean_and_spread(rows).round(3).loc["a"].tolist()
    [2.0, 1.0, 0.5, 0.5, 0.141, 0.0]
    """
    organs = rows.groupby(["arm", "seed", "organ"], sort=False)[metrics_in(rows)].mean()
    seeds = organs.groupby(["arm", "seed"], sort=False).mean()
    by_arm = seeds.groupby("arm", sort=False)
    table = pd.DataFrame({"seeds": by_arm.size(), "cases": rows.groupby("arm", sort=False)["case"].nunique()})
    return table.join(by_arm.mean()).join(by_arm.std(ddof=1).add_suffix(" sd"))


def paired_differences(
    rows: pd.DataFrame, arm: str, control: str, score: str = "DSC", *, left_out: float | None = None
) -> pd.DataFrame:
    """Score of ``arm`` minus score of ``control``, seed by seed and case by case.

    Args:
        rows: arm, seed, case, organ and the score; nan for an organ in neither truth nor prediction.
        left_out: score of an organ that one of the two rightly leaves out while the other one invents it. None: such
            an organ is left out of both, in that seed and case. An organ without a number in both never counts.

    Returns:
        index: seed; columns: case.

    Raises:
        KitError: the two share no seed, or were scored on different cases.

    >>> rows = pd.DataFrame({"arm": ["a", "b"], "seed": 0, "case": "c", "organ": "liver", "DSC": [0.75, 0.5]})
    >>> float(paired_differences(rows, "a", "b").loc[0, "c"])
    0.25
    """
    values = {}
    for name in (arm, control):
        mine = rows[rows["arm"] == name]
        values[name] = mine.set_index(["seed", "case", "organ"])[score]
        if values[name].index.has_duplicates:
            raise KitError(f"arm {name} has two scores for one seed, case and organ", remedy="collect it again")
    seeds = [set(v.index.get_level_values("seed")) for v in values.values()]
    shared = sorted(seeds[0] & seeds[1])
    if not shared:
        raise KitError(f"{arm} and {control} share no seed", remedy="run both with the same seeds")
    left, right = (v[v.index.get_level_values("seed").isin(shared)] for v in values.values())
    if set(left.index) != set(right.index):
        raise KitError(f"{arm} and {control} were scored on different cases", remedy="score both on the same ones")
    right = right.reindex(left.index)
    if left_out is not None:
        left, right = (
            left.where(left.notna() | right.isna(), left_out),
            right.where(right.notna() | left.isna(), left_out),
        )
    difference = (left - right).dropna()
    return difference.groupby(["seed", "case"]).mean().unstack("case")


def by_person(differences: pd.DataFrame, persons: Mapping[str, str]) -> pd.DataFrame:
    """One difference a person and seed, the mean over that person's cases: persons are independent, their cases not.

    Args:
        differences: (seeds, cases), of :func:`paired_differences`.
        persons: case -> person; a case without one stands for itself.

    Returns:
        index: seed; columns: person.

    >>> by_person(pd.DataFrame([[1.0, 3.0, 5.0]], columns=["left", "right", "c"]), {"left": "p", "right": "p"})
         c    p
    0  5.0  2.0
    """
    return differences.T.groupby([persons.get(case, case) for case in differences.columns]).mean().T


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values of a family of tests, in their order.

    Source: Holm 1979.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def compare(differences: pd.DataFrame | np.ndarray, tests: int = 1, resamples: int = RESAMPLES) -> dict[str, float]:
    """What one table of paired differences shows: its mean, 95 % intervals, p, and what it would have shown.

    Args:
        differences: (seeds, cases).
        tests: comparisons that share the level of 5 %.
        resamples: of the bootstrap.

    Returns:
        seeds, cases, difference, low, high (:func:`student_interval`), low bootstrap, high bootstrap
        (:func:`bootstrap_interval`), p (:func:`student_p`; nan below :data:`VERDICT_SEEDS` seeds) and detectable
        (:func:`detectable_difference`; nan below as many).

    >>> found = compare(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
    >>> [round(found[name], 2) for name in ("difference", "low", "high", "p")]
    [2.0, -0.48, 4.48, 0.07]
    """
    values = np.asarray(differences, dtype=float)
    numbers = [float(np.nanmean(values)), *student_interval(values), *bootstrap_interval(values, resamples=resamples)]
    enough = len(values) >= VERDICT_SEEDS
    numbers += [student_p(values), detectable_difference(values, tests=tests)] if enough else [np.nan, np.nan]
    return dict(zip(["seeds", "cases", *NUMBERS], [*values.shape, *numbers]))


def compare_arms(
    rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], score: str = "DSC", *, left_out: float | None = None
) -> pd.DataFrame:
    """Every pair (arm, compared with): mean difference, 95 % intervals, p, and Holm's p over all these pairs.

    Args:
        rows: arm, seed, case, organ and the score; pairs of which one has no rows are left out.
        left_out: of :func:`paired_differences`.

    Returns:
        columns arm, versus, score, those of :func:`compare` (detectable at the level that Holm's first step asks for,
        so that the other comparisons cannot help) and p_holm; in the scores' unit.

    >>> rows = pd.DataFrame([("a", s, c, "liver", 0.6 + c / 100 + s / 1000) for c in range(6) for s in range(3)]
    ...     + [("b", s, c, "liver", 0.5) for c in range(6) for s in range(3)],
    ...     columns=["arm", "seed", "case", "organ", "DSC"])
    >>> compare_arms(rows, [("a", "b")])[["difference", "p", "p_holm"]].round(4).values.tolist()
    [[0.126, 0.0001, 0.0001]]
    """
    present = set(rows["arm"])
    tables = {pair: paired_differences(rows, *pair, score, left_out=left_out) for pair in pairs if set(pair) <= present}
    tested = sum(len(table) >= VERDICT_SEEDS for table in tables.values())
    found = [[*pair, score, *compare(table, tested).values()] for pair, table in tables.items()]
    frame = pd.DataFrame(found, columns=["arm", "versus", "score", "seeds", "cases", *NUMBERS])
    frame = frame.astype(dict.fromkeys(NUMBERS, float))  # of no pair, too
    known = frame["p"].notna()
    frame.loc[known, "p_holm"] = holm(frame.loc[known, "p"])
    return frame


def by_label(rows: pd.DataFrame, score: str = "DSC") -> pd.DataFrame:
    """The mean over cases of every organ, training by training.

    Returns:
        index: arm, organ; columns: seed.

    >>> rows = pd.DataFrame({"arm": "a", "seed": [0, 0, 1], "case": list("cdc"), "organ": "aorta", "DSC": [0, 1, 0.2]})
    >>> by_label(rows).loc[("a", "aorta")].tolist()
    [0.5, 0.2]
    """
    return rows.groupby(["arm", "organ", "seed"], sort=False)[score].mean().unstack("seed")


def not_learnt(rows: pd.DataFrame, score: str = "DSC") -> pd.DataFrame:
    """Organs that some seeds of an arm have learnt and others not at all: a mean over such seeds mixes two outcomes.

    Args:
        rows: arm, seed, case, organ and the score.

    Returns:
        one row an arm and organ that this happened to: arm, organ, failed (seeds whose mean is below
        :data:`NOT_LEARNT`, while another one's is above :data:`LEARNT`), seeds.

    >>> rows = pd.DataFrame({"arm": "a", "seed": [0, 1, 2], "case": "c", "organ": "aorta", "DSC": [0.76, 0.0, 0.61]})
    >>> not_learnt(rows).values.tolist()
    [['a', 'aorta', 1, 3]]
    """
    found = by_label(rows, score)
    table = pd.DataFrame({"failed": (found < NOT_LEARNT).sum(axis=1), "seeds": found.notna().sum(axis=1)})
    return table[(table["failed"] > 0) & (found > LEARNT).any(axis=1)].reset_index()
