"""A report in Markdown: what was scored, the table of arms, label by label, verdicts, and what they cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lkm_kit.evaluation.metrics import about
from lkm_kit.studies.conclusions import conclude, data_lines, tolerances, unlearnt_organs, verdict
from lkm_kit.studies.intervals import precision, student_interval, student_p
from lkm_kit.studies.learning import ENOUGH, gain_text, last_quarter
from lkm_kit.studies.render import interval, mean_sd, p_text, to_markdown, would_show
from lkm_kit.studies.statistics import VERDICT_SEEDS, by_person, holm, paired_differences

if TYPE_CHECKING:
    from lkm_kit.studies.report import Report

NUMBERS = ["difference", "low", "high"]
EXACT = {"patients": 0.5, "cohort": 1.5}
"""Points of DSC: the half-width that a study should reach."""


def report_text(report: Report) -> str:
    """The whole report in Markdown."""
    study, first = report.plan.study, report.metrics[0]
    source = report.results.runs["source"].dropna().iloc[0]
    hardware = sorted(set(report.results.runs["hardware"].dropna()))
    titles, lines = report.table["title"], [f"# {study.name}: {study.question}", ""]
    lines += [f"Profile {report.plan.size.name}; control: {study.arm(study.control).title}.", ""]
    lines += [f"Data: {' '.join(source.split())}", ""]
    lines += [*data_lines(report.results.data), "", f"Hardware: {', '.join(hardware)}.", ""]
    if len(asked := tolerances(report.results.data)):
        lines += [to_markdown(asked), ""]
    for arm, said in unlearnt_organs(report.results.rows, first).items():
        lines += [f"**{titles[arm]}: {said}.** Its means are over seeds that ended at different places.", ""]
    lines += [to_markdown(report.display()), ""]
    lines += [
        f"± is the standard deviation between seeds. Differences are by {first}, taken case by case and seed by "
        "seed before averaging, so that they need not equal the difference of two rows. The interval beside them "
        "is Student's, with seeds and cases both a sample, for that one comparison. p belongs to it, corrected by "
        f"Holm for all {int((report.comparisons['score'] == first).sum())} comparisons of the study; what is "
        "concluded goes by this p, and by nothing below three seeds. Beside it stands the smallest true difference "
        "that such a study would have shown, in four of five. The bootstrap draws seeds and cases anew, and is too "
        "short for few seeds. Memory is what a training step must keep for its backward pass, with weights, "
        "gradients and AdamW's moments, counted, in float32.",
        "",
        f"{first} of every organ, seed / seed / ...:",
        "",
        to_markdown(report.labels()),
        "",
    ]
    if len(further := further_table(report)):
        lines += ["Further comparisons:", "", to_markdown(further), ""]
    if len(exact := precision_table(report)):
        lines += [
            "How exact these differences are, in points of DSC. The last column says how many seeds its half-width "
            "would take, if they go on to scatter as these do. What the cases alone leave, no seed makes smaller.",
            "",
            to_markdown(exact),
            "",
        ]
    if len(report.results.history):
        lines += [
            "How far the trainings came, by the pixels of all validation items together (learning.png):",
            "",
            to_markdown(learning_table(report)),
            "",
        ]
    lines += _person_lines(report)
    lines += _strict_lines(report)
    lines += ["What these numbers cannot say:", "", *(f"- {caveat}" for caveat in report.caveats), ""]
    notes = [f"- {arm.title}: {arm.note}" for arm in study.arms if arm.note and arm.name in titles]
    lines += ["Arms:", "", *notes, ""] if notes else []
    named = ", but for the arms that are named" if report.plan.differences() else ""
    lines += [f"The same for every arm{named}:", ""]
    lines += [f"- {line}" for line in report.plan.protocol_lines()]
    return "\n".join(lines) + "\n"


def further_table(report: Report) -> pd.DataFrame:
    """The comparisons beside those with the control, as text: a verdict by the first metric."""
    titles, first, rows = report.table["title"], report.metrics[0], {}
    unlearnt = unlearnt_organs(report.results.rows, first)
    for r in report.comparisons[report.comparisons["versus"] != report.plan.study.control].itertuples():
        said = "; ".join(f"{titles[arm]}: {unlearnt[arm]}" for arm in (r.arm, r.versus) if arm in unlearnt)
        about_it = {**r._asdict(), "diverged": 0, "unlearnt": said}
        rows[f"{titles[r.arm]} − {titles[r.versus]}, {r.score}"] = {
            "difference [95 %]": f"{interval(r.difference, r.low, r.high)} {about(r.score).difference}",
            "p (Holm)": p_text(r.p_holm),
            "would have shown": would_show(r.detectable, r.score),
            "what can be concluded": conclude(about_it, titles[r.versus], first) if r.score == first else "–",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("comparison")


def precision_table(report: Report) -> pd.DataFrame:
    """A row a comparison with the control: half-width of the interval, by the cases alone, seeds for the asked one."""
    first, control = report.metrics[0], report.plan.study.control
    if first != "DSC" or len(report.plan.seeds) < 2:
        return pd.DataFrame()
    asked, rows, titles = EXACT["cohort" if report.plan.on_cohort else "patients"], {}, report.table["title"]
    with_control = report.comparisons.query("score == @first and versus == @control and seeds > 1 and cases > 1")
    for arm in with_control["arm"]:
        found = precision(100 * paired_differences(report.results.rows, arm, control, first), asked)
        rows[titles[arm]] = {
            "half-width": f"{round(found.half_width, 4):.2f}",  # files keep six digits of a score
            "by the cases alone": f"{round(found.cases, 4):.2f}",
            f"seeds for ±{asked}": "no number" if found.seeds is None else str(found.seeds),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("arm")


def learning_table(report: Report) -> pd.DataFrame:
    """A row an arm: its steps, where its trainings ended on validation items, and what the last quarter brought."""
    rows, titles = {}, report.table["title"]
    for arm in [arm for arm in titles.index if arm in set(report.results.history["arm"])]:
        mine = report.results.history[report.results.history["arm"] == arm]
        ends = 100 * mine.loc[mine["step"] == mine["step"].max(), "DSC"]
        rows[titles[arm]] = {
            "steps": str(mine["step"].max()),
            "validation DSC at the end": mean_sd(ends.mean(), ends.std()),
            f"last quarter's gain; below {ENOUGH:g} point?": gain_text(last_quarter(mine)),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("arm")


def person_table(report: Report) -> pd.DataFrame:
    """The comparisons by persons in the place of cases, as text; without rows where every case is a person."""
    persons = {case: who for each in report.results.data for case, who in each.get("persons", {}).items()}
    scored = report.results.rows["case"].unique()
    if len({persons.get(case, case) for case in scored}) == len(scored):
        return pd.DataFrame()
    titles, first = report.table["title"], report.metrics[0]
    pairs = report.comparisons.query("score == @first").reset_index(drop=True)
    scale = about(first).scale
    tables = [
        by_person(paired_differences(report.results.rows, r.arm, r.versus, first), persons) for r in pairs.itertuples()
    ]
    p = pd.Series([student_p(t) if len(t) >= VERDICT_SEEDS else np.nan for t in tables], dtype=float)
    p[p.notna()] = holm(p.dropna())
    rows = {}
    for r, differences, corrected in zip(pairs.itertuples(), tables, p):
        middle = float(np.nanmean(differences))
        same = verdict(r.difference, r.p_holm) == verdict(middle, corrected)
        rows[f"{titles[r.arm]} − {titles[r.versus]}"] = {
            "persons": str(differences.shape[1]),
            "difference [95 %]": interval(*(scale * x for x in (middle, *student_interval(differences)))),
            "p (Holm)": p_text(corrected),
            "verdict": "the same" if same else "**another**",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("comparison")


def _person_lines(report: Report) -> list[str]:
    """The same comparisons with one number a person, and where they lead to another verdict."""
    if not len(found := person_table(report)):
        return []
    said = (
        "Several cases show one person, so that cases are fewer samples than the intervals above take them for. With "
        f"one {report.metrics[0]} difference a person and seed, the mean over the person's cases, the comparisons are:"
    )
    return [said, "", to_markdown(found), ""]


def _strict_lines(report: Report) -> list[str]:
    """The differences under the other rule for invented organs, and where it changes what can be said."""
    titles, first = report.table["title"], report.metrics[0]
    lines = [
        "An organ that is not in a case has a score only in arms that invent it, so that the differences above do "
        f"not count it. Where leaving it out counts as perfect and inventing it as worst, they are, in {first}:",
        "",
    ]
    for _, row in report.comparisons[report.comparisons["score"] == first].iterrows():
        usual, strict = (verdict(row[f"difference{rule}"], row[f"p_holm{rule}"]) for rule in ("", " strict"))
        changed = "" if usual == strict else ", **another verdict**"
        text = interval(*(row[f"{name} strict"] for name in NUMBERS))
        lines.append(f"- {titles[row['arm']]} − {titles[row['versus']]}: {text}{changed}")
    return [*lines, ""]
