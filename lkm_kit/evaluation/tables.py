"""From rows (case, organ, DSC, NSD) to the tables one reads: per organ, and several networks side by side."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lkm_kit.errors import KitError

SCORES = ["DSC", "NSD"]
MEAN = "mean"


def organ_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Average over cases, organ by organ, then over organs.

    Args:
        rows: of :func:`lkm_kit.evaluation.evaluate_case`, of any number of cases.

    Returns:
        index: the organs and, last, "mean"; columns: DSC, NSD, and cases (how many went in). Organs that are nan in
        every case (in neither truth nor prediction) are left out, also of the mean; one that is only predicted
        scores 0 and lowers it.

    Source: the released scripts' order (over cases first, then over organs).

    >>> rows = pd.DataFrame({"case": ["a", "b"], "organ": "liver", "DSC": [0.5, 1.0], "NSD": [0.25, 0.75]})
    >>> organ_table(rows).loc["mean"].tolist()
    [0.75, 0.5, 2.0]
    """
    missing = {"case", "organ", *SCORES} - set(rows.columns)
    if missing:
        raise KitError(f"the score table lacks {', '.join(sorted(missing))}", remedy="give rows of evaluate_case")
    scored = rows.dropna(subset=["DSC"])
    table = scored.groupby("organ", sort=False)[SCORES].mean()
    table = table.reindex([name for name in dict.fromkeys(rows["organ"]) if name in table.index])
    table["cases"] = scored.groupby("organ")["case"].nunique()
    mean = table[SCORES].mean()
    return pd.concat([table, pd.DataFrame([{**mean, "cases": scored["case"].nunique()}], index=[MEAN])]).rename_axis(
        "organ"
    )


def compare(arms: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Per-organ tables of several networks side by side, as they came out.

    Args:
        arms: name -> rows of evaluate_case on the same cases.

    Returns:
        index as in :func:`organ_table`; columns (score, arm). The mean is over the organs that every arm has a number
        for, so that no arm wins by leaving one out.

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
    joined = pd.concat({name: table[SCORES] for name, table in tables.items()}, axis=1)
    joined = joined.swaplevel(axis=1)[[(score, name) for score in SCORES for name in arms]]
    everywhere = joined.dropna()
    return pd.concat([joined, pd.DataFrame([everywhere.mean()], index=[MEAN])]).rename_axis("organ")
