"""What a study's numbers allow to say, and what they do not: verdicts and caveats in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from lkm_kit.evaluation.metrics import about, metrics_in
from lkm_kit.studies.intervals import coverage
from lkm_kit.studies.plan import Plan, Results
from lkm_kit.studies.render import would_show
from lkm_kit.studies.statistics import VERDICT_SEEDS, not_learnt

SIGNIFICANT = 0.05
FEW = 8
"""Seeds from which on the bootstrap's interval is about as long as it should be."""
_coverage = cache(coverage)  # its simulation takes a second, and a report says its caveats several times


def verdict(difference: float, p_holm: float) -> int | None:
    """What a comparison shows: 1 (more), -1 (less), 0 (no difference), None (too few seeds for any verdict).

    >>> verdict(1.2, 0.004), verdict(-1.2, 0.2), verdict(9.9, float("nan"))
    (1, 0, None)
    """
    if np.isnan(p_holm):
        return None
    return int(np.sign(difference)) if p_holm < SIGNIFICANT else 0


def unlearnt_organs(rows: pd.DataFrame, score: str) -> dict[str, str]:
    """Arm -> the organs that some of its seeds have learnt and others not at all, in words.

    >>> rows = pd.DataFrame({"arm": "a", "seed": [0, 1, 2], "case": "c", "organ": "aorta", "DSC": [0.76, 0.0, 0.61]})
    >>> unlearnt_organs(rows, "DSC")
    {'a': 'aorta not learnt in 1 of 3 seeds'}
    """
    if not about(score).higher_is_better:
        return {}
    said: dict[str, list[str]] = {}
    for found in not_learnt(rows, score).itertuples():
        said.setdefault(found.arm, []).append(f"{found.organ} not learnt in {found.failed} of {found.seeds} seeds")
    return {arm: ", ".join(organs) for arm, organs in said.items()}


def conclude(row: dict[str, Any], control: str, score: str = "DSC") -> str:
    """What one arm's comparison with the control allows to say, in one sentence.

    Args:
        row: seeds, diverged, unlearnt (of :func:`unlearnt_organs`), difference, low, high, p_holm, detectable; on the
            paper's data also published, low gain and high gain, the gain over the paper's baseline and the interval of
            ours over it.
        control: its title.
        score: that they are in.

    >>> row = {"seeds": 3, "diverged": 0, "unlearnt": "", "difference": 1.2, "low": 0.5, "high": 1.9, "p_holm": 0.004,
    ...        "detectable": 1.0}
    >>> conclude(row, "residual U-Net")
    'better than residual U-Net on these cases'
    >>> conclude({**row, "low": -0.5, "p_holm": 0.3}, "residual U-Net")
    'no difference to residual U-Net shown (-0.50 to +1.90); this study would have shown ±1.00'
    """
    diverged = f"diverged in {row['diverged']} run{'s' if row['diverged'] > 1 else ''}" if row["diverged"] else ""
    if not row["seeds"]:
        return diverged or "not run"
    low, high, difference = row["low"], row["high"], row["difference"]
    if np.isnan(difference):
        return "; ".join(filter(None, [diverged, "not compared"]))
    shown = verdict(difference if about(score).higher_is_better else -difference, row["p_holm"])
    against = ""
    if shown is None:
        few = f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"
        said = f"no verdict from {few}, where it is {difference:+.2f} from {control}; that takes {VERDICT_SEEDS}"
    elif shown:
        said = f"{'better' if shown > 0 else 'worse'} than {control} on these cases"
    else:
        said = f"no difference to {control} shown ({low:+.2f} to {high:+.2f}); "
        said += f"this study would have shown {would_show(row['detectable'], score)}"
    if shown is not None and not np.isnan(gain := row.get("published", np.nan)):
        place = "below" if gain < row["low gain"] else "above" if gain > row["high gain"] else "inside"
        ours = f"the interval of ours over it ({row['low gain']:+.2f} to {row['high gain']:+.2f})"
        against = f"the published gain of {gain:+.2f} over the paper's baseline is {place} {ours}"
    return "; ".join(filter(None, [diverged, row["unlearnt"], said, against]))


def data_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was scored, and of a data set what it is, in sentences.

    Args:
        records: ``data`` of :class:`lkm_kit.studies.plan.Results`; empty for items that the caller gave.
    """
    if not records:
        return ["Each item that was scored counts as a case."]
    first = records[0]
    if "shape" in first:
        shape, warps = first["shape"], len(first["cases"])
        copies = "deformed copies" if warps > 1 else "deformed copy"
        each = f"{warps} {copies} of the patient's {shape[0]} slices, each copy a case"
        return [f"Scores are by case, in 3D: {each}."]
    if "split" not in first:
        return [f"Scores are by case, in 3D, on each case's own grid: {len(first['cases'])} cases of {first['name']}."]
    terms = {"Licence": first["licence"], "Cite": first["citation"]}
    said = [
        f"Scores are by case, in 3D, on each case's own grid. Labels: {', '.join(first['labels'])}. "
        f"Data set {first['name']}, sha256 of its content {first['digest'][:12]}."
        + "".join(f" {word}: {text}." for word, text in terms.items() if text)
    ]
    for each in records:
        trained, scored = (each["split"][side] for side in ("train", each["scored"]))
        counts = [f"{len(s)} cases of {len({each['persons'][name] for name in s})} persons" for s in (trained, scored)]
        said.append(f"Trained on {counts[0]}, scored on {counts[1]}; nobody is in both ({each['how']}).")
    return said


def tolerances(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """NSD's tolerance beside the voxel: one below a voxel's side asks for the exact voxel there.

    Args:
        records: ``data`` of :class:`lkm_kit.studies.plan.Results`; without the two numbers, no rows.

    >>> seen = {"tolerance_mm": {"aorta": 2.0}, "voxel_mm": [[3.0, 3.0, 5.0], [3.0, 3.0, 5.0]]}
    >>> tolerances([seen]).loc["aorta"].tolist()
    ['2', '3 x 3 x 5', '0.40, the exact voxel']
    """
    rows = {}
    for record in records:
        small, large = record.get("voxel_mm", ((), ()))
        sides = [" x ".join(f"{side:g}" for side in voxel) for voxel in (small, large)]
        for label, own in record.get("tolerance_mm", {}).items() if large else ():
            tolerance = np.linalg.norm(small) if own is None else own
            share = tolerance / max(large)
            rows[label] = {
                "NSD tolerance, mm": "a voxel's diagonal" if own is None else f"{own:g}",
                "voxel, mm": " to ".join(dict.fromkeys(sides)),
                "tolerance / longest side": f"{share:.2f}{', the exact voxel' if share < 1 else ''}",
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("label")


def _both_gains(plan: Plan, results: Results) -> str:
    there = plan.study.baseline in set(results.rows["arm"])
    return "; the figure has both over the plain U-Net (diamonds)" if there else ""


def _fewer_seeds(plan: Plan, results: Results) -> list[str]:
    """Arms that have fewer seeds than were asked for; and runs that began and did not end, one by one."""
    begun = [line for line in results.missing if "fold" in line or not line.endswith("(waiting)")]
    said = [f"Not finished: {', '.join(begun)}."] if begun else []
    waiting = {line.split(" seed ")[0] for line in results.missing} - {line.split(" seed ")[0] for line in begun}
    if waiting:
        seeds = results.runs.groupby("arm")["seed"].nunique()
        listed = [f"{arm.title} ({seeds.get(arm.name, 0)})" for arm in plan.study.arms if arm.name in waiting]
        said.append(f"Arms with fewer than {len(plan.seeds)} seeds: {'; '.join(listed)}.")
    return said


def caveats(plan: Plan, results: Results) -> list[str]:
    """What a study's numbers cannot say, in sentences."""
    said = plan.notes
    config = plan.protocol()
    if config["data"] == "cohort":
        said.append("The cases are deformed copies of one patient: intervals and p-values say nothing about patients.")
    if len(plan.seeds) < 2:
        said.append("One seed: how much another seed would change is unknown.")
    elif len(plan.seeds) < FEW:
        held = {name: f"{100 * share:.0f} %" for name, share in _coverage(len(plan.seeds)).items()}
        said.append(
            f"{len(plan.seeds)} seeds: the spread between seeds is itself known only roughly. In simulated studies "
            f"whose seeds scatter more than cases, Student's 95 % interval covered the true value in "
            f"{held['Student']}, the bootstrap's in {held['bootstrap']}."
        )
    if len(results.rows["arm"].unique()) > 2:
        said.append(
            "The intervals are not corrected for their number: of twenty without any effect, one leaves zero out. "
            "Holm's p is corrected, over all comparisons by one metric; the other metrics are there to be looked at."
        )
    if differ := plan.differences():
        named = "; ".join(
            f"{plan.study.arm(arm).title}: {', '.join(f'{name} {value}' for name, value in fields.items())}"
            for arm, fields in differ.items()
        )
        said.append(f"Arms differ in more than their networks ({named}): what they gain, they gain with that.")
    if plan.size.name == "smoke":
        said.append(f"{config['iterations']} steps: this profile tests the machinery, the scores mean nothing.")
    scored = results.rows.groupby(["arm", "seed"])[metrics_in(results.rows)[0]].count()
    if scored.nunique() > 1:
        said.append(
            "An organ neither in a case nor in its prediction has no score there, so that means of arms are over "
            f"different numbers of organs and cases ({scored.min()} to {scored.max()} a run); differences are paired."
        )
    if plan.study.published:
        said.append(
            f"Published numbers come from {'' if plan.papers_data else 'other patients and '}1000 epochs; of how many "
            "runs is not said. The published gain is over nnU-Net's plain U-Net, our difference is to "
            f"{plan.study.arm(plan.study.control).title}{_both_gains(plan, results)}."
        )
    if results.mixed:
        said.append(f"The runs were not all made with the same: {results.mixed}.")
    said += _fewer_seeds(plan, results)
    hardware = results.runs["hardware"].dropna().unique()
    if len(hardware) > 1:
        said.append("The runs were made on different hardware: compare their times with care.")
    return said
