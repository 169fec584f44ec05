"""From scores to statements: spread over seeds, paired differences, signed-rank tests, Holm's correction.

The unit is a *case*: its score is the mean over its organs. All arms are scored on the same cases and share their
seeds (first weights of the common convolutions, order of the batches), so differences are taken case by case and seed
by seed before anything is averaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lkm_kit.errors import KitError
from lkm_kit.studies.intervals import bootstrap_interval, student_interval

SCORES = ("DSC", "NSD")


def mean_and_spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and standard deviation between them, arm by arm.

    A seed's score is the mean over cases of each organ, then over organs (the released scripts' order).

    Args:
        rows: arm, seed, case, organ, DSC, NSD.

    Returns:
        index: arm. Columns: seeds, cases, DSC, NSD (means), ``DSC sd``, ``NSD sd`` (sample standard deviation over
        seeds; nan with one seed).

    >>> rows = pd.DataFrame({"arm": "a", "seed": [0, 1], "case": "c", "organ": "liver", "DSC": [0.4, 0.6], "NSD": 0.5})
    >>> mean_and_spread(rows).round(3).loc["a"].tolist()
    [2.0, 1.0, 0.5, 0.5, 0.141, 0.0]
    """
    organs = rows.groupby(["arm", "seed", "organ"], sort=False)[list(SCORES)].mean()
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


def signed_rank(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that the differences lie around 0.

    Args:
        differences: one per case (its mean over seeds); nan and exact zeros are left out.

    Returns:
        p; exact for up to 50 cases without ties, normal approximation otherwise; 1.0 when no difference is left.

    >>> signed_rank([1, 2, 3, 4, 5])
    0.0625
    """
    from scipy.stats import wilcoxon

    values = np.asarray(differences, dtype=float)
    values = values[np.isfinite(values) & (values != 0)]
    return float(wilcoxon(values).pvalue) if len(values) else 1.0


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


def compare_arms(
    rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], score: str = "DSC", *, left_out: float | None = None
) -> pd.DataFrame:
    """Every pair (arm, compared with): mean difference, 95 % intervals, p, and Holm's p over all these pairs.

    Args:
        rows: arm, seed, case, organ and the score; pairs of which one has no rows are left out.
        left_out: of :func:`paired_differences`.

    Returns:
        columns arm, versus, score, seeds, cases, difference, low, high (:func:`student_interval`), low bootstrap,
        high bootstrap (:func:`bootstrap_interval`), p, p_holm; in the scores' unit.

    >>> rows = pd.DataFrame([("a", 0, c, "liver", 0.6 + c / 100) for c in range(6)]
    ...     + [("b", 0, c, "liver", 0.5) for c in range(6)], columns=["arm", "seed", "case", "organ", "DSC"])
    >>> compare_arms(rows, [("a", "b")])[["difference", "p", "p_holm"]].round(5).values.tolist()
    [[0.125, 0.03125, 0.03125]]
    """
    present = set(rows["arm"])
    table = []
    for arm, versus in pairs:
        if not {arm, versus} <= present:
            continue
        differences = paired_differences(rows, arm, versus, score, left_out=left_out)
        low, high = student_interval(differences)
        low_bootstrap, high_bootstrap = bootstrap_interval(differences)
        table.append(
            {
                "arm": arm,
                "versus": versus,
                "score": score,
                "seeds": differences.shape[0],
                "cases": differences.shape[1],
                "difference": float(np.nanmean(differences.to_numpy())),
                "low": low,
                "high": high,
                "low bootstrap": low_bootstrap,
                "high bootstrap": high_bootstrap,
                "p": signed_rank(differences.mean(axis=0)),
            }
        )
    numbers = ["difference", "low", "high", "low bootstrap", "high bootstrap", "p"]
    frame = pd.DataFrame(table, columns=["arm", "versus", "score", "seeds", "cases", *numbers])
    return frame.assign(p_holm=holm(frame["p"]))
