"""From rows (case, organ, a column a metric) to the tables one reads: per organ, and several networks side by side."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lkm_kit.errors import KitError
from lkm_kit.evaluation.metrics import metrics_in

MEAN = "mean"


def organ_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Average over cases, organ by organ, then over organs.

    Args:
        rows: of :func:`lkm_kit.evaluation.evaluate_case`, of any number of cases.

    Returns:
        index: the organs and, last, "mean"; columns: the metrics, and cases (how many went in). Organs that are nan in
        every case (in neither truth nor prediction) are left out, also of the mean; one that is only predicted has the
        worst score and lowers it.

    Source: the released scripts' order (over cases first, then over organs).

    >>> rows = pd.DataFrame({"case": ["a", "b"], "organ": "liver", "DSC": [0.5, 1.0], "NSD": [0.25, 0.75]})
    >>> organ_table(rows).loc["mean"].tolist()
    [0.75, 0.5, 2.0]
    """
    if missing := {"case", "organ"} - set(rows.columns):
        raise KitError(f"the score table lacks {', '.join(sorted(missing))}", remedy="give rows of evaluate_case")
    scores = metrics_in(rows)
    scored = rows.dropna(subset=scores, how="all")
    table = scored.groupby("organ", sort=False)[scores].mean()
    table = table.reindex([name for name in dict.fromkeys(rows["organ"]) if name in table.index])
    table["cases"] = scored.groupby("organ")["case"].nunique()
    mean = table[scores].mean()
    return pd.concat([table, pd.DataFrame([{**mean, "cases": scored["case"].nunique()}], index=[MEAN])]).rename_axis(
        "organ"
    )


def compare(arms: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Per-organ tables of several networks side by side, as they came out.

    Args:
        arms: name -> rows of evaluate_case on the same cases.

    Returns:
        index as in :func:`organ_table`; columns (metric, arm). A metric's mean is over the organs that every arm has a
        number for, so that no arm wins by leaving one out.

    Raises:
        KitError: no arms, or arms that were scored on different cases.

    >>> rows = pd.DataFrame({"case": "a", "organ": ["liver", "aorta"], "DSC": [0.9, 0.5], "NSD": [0.8, 0.4]})
    >>> float(compare({"LKM-UNet": rows, "no Mamba": rows}).loc["mean", ("DSC", "no Mamba")])
    0.7
    """
    if not arms:
        raise KitError("there is nothing to compare", remedy="give a dict: name -> rows of evaluate_case")
    cases = {name: set(rows["case"]) for name, rows in arms.items()}
    first = next(iter(cases.values()))
    for name, these in cases.items():
        if these != first:
            raise KitError(
                f"{name!r} was scored on other cases than {next(iter(cases))!r} ({sorted(these ^ first)[:5]})",
                remedy="score all networks on the same cases",
            )
    tables = {name: organ_table(rows).drop(index=MEAN) for name, rows in arms.items()}
    joined = pd.concat(tables, axis=1).swaplevel(axis=1)
    scores = [score for score in metrics_in(next(iter(arms.values()))) if all(score in rows for rows in arms.values())]
    joined = joined[[(score, name) for score in scores for name in arms]]
    means = pd.concat({score: joined[score].dropna().mean() for score in scores})
    return pd.concat([joined, means.to_frame(MEAN).T]).rename_axis("organ")
