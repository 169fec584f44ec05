"""What a study's numbers allow to say, and what they do not: verdicts and caveats in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lkm_kit.studies.intervals import coverage

if TYPE_CHECKING:
    from lkm_kit.studies.runner import Plan, Results

SIGNIFICANT = 0.05
FEW = 8
"""Seeds from which on the bootstrap's interval is about as long as it should be."""


def side(low: float, high: float) -> int:
    """Where an interval lies: above zero, below, or on it."""
    return 1 if low > 0 else -1 if high < 0 else 0


def conclude(row: dict[str, Any], control: str) -> str:
    """What one arm's comparison with the control allows to say, in one sentence.

    Args:
        row: seeds, diverged, difference, low, high, p_holm, "published DSC gain" (nan where there is none).
        control: its title.

    >>> row = {"seeds": 3, "diverged": 0, "difference": 1.2, "low": 0.5, "high": 1.9, "p_holm": 0.004,
    ...        "published DSC gain": 2.8}
    >>> conclude(row, "residual U-Net")
    'better than residual U-Net on these cases; the published gain of +2.80 is above the interval'
    """
    diverged = f"diverged in {row['diverged']} run{'s' if row['diverged'] > 1 else ''}" if row["diverged"] else ""
    if not row["seeds"]:
        return diverged or "not run"
    low, high, difference = row["low"], row["high"], row["difference"]
    if np.isnan(difference):
        return "; ".join(filter(None, [diverged, "not compared"]))
    if row["seeds"] < 2:
        said = f"nothing beyond this seed, where it is {difference:+.2f} from {control}"
    elif row["p_holm"] < SIGNIFICANT and low > 0:
        said = f"better than {control} on these cases"
    elif row["p_holm"] < SIGNIFICANT and high < 0:
        said = f"worse than {control} on these cases"
    else:
        said = f"no difference to {control} shown; {low:+.2f} to {high:+.2f} are compatible with the data"
    gain = row["published DSC gain"]
    if np.isnan(gain) or row["seeds"] < 2:
        against = ""
    else:
        place = "below" if gain < low else "above" if gain > high else "inside"
        against = f"the published gain of {gain:+.2f} is {place} the interval"
    return "; ".join(filter(None, [diverged, said, against]))


def caveats(plan: Plan, results: Results) -> list[str]:
    """What a study's numbers cannot say, in sentences."""
    said = []
    config = plan.protocol()
    if config["data"] == "cohort":
        said.append("The cases are warps of one patient: intervals and p-values hold for such warps, not for patients.")
    if len(plan.seeds) < 2:
        said.append("One seed: how much another seed would change is unknown.")
    elif len(plan.seeds) < FEW:
        held = {name: f"{100 * share:.0f} %" for name, share in coverage(len(plan.seeds)).items()}
        said.append(
            f"{len(plan.seeds)} seeds: the spread between seeds is itself known only roughly. In simulated studies "
            f"whose seeds scatter more than cases, Student's 95 % interval held the truth in {held['Student']}, "
            f"the bootstrap's in {held['bootstrap']}."
        )
    if len(plan.seeds) > 1:
        said.append(
            "p is over cases and takes these trainings as they are; the intervals count the seeds, too. A small p "
            "beside an interval that holds zero says: true of these networks, and perhaps not of the next seed's. The "
            "intervals are not corrected for their number: of twenty without any effect, one leaves zero out."
        )
    if plan.size.name == "smoke":
        said.append(f"{config['iterations']} steps: this profile tests the machinery, the scores mean nothing.")
    scored = results.rows.groupby(["arm", "seed"])["DSC"].count()
    if scored.nunique() > 1:
        said.append(
            "An organ neither in a case nor in its prediction has no score there, so that means of arms are over "
            f"different numbers of organs and cases ({scored.min()} to {scored.max()} a run); differences are paired."
        )
    if plan.study.published:
        said.append(
            "Published numbers come from other patients, 1000 epochs and one run each; the published gain is over "
            f"nnU-Net's plain U-Net, ours over {plan.study.arm(plan.study.control).title}."
        )
    if results.mixed:
        said.append(f"The runs were not all made with the same: {results.mixed}.")
    if results.missing:
        said.append(f"Not finished: {', '.join(results.missing)}.")
    hardware = results.runs["hardware"].dropna().unique()
    if len(hardware) > 1:
        said.append("The runs were made on different hardware: compare their times with care.")
    return said
