"""Published | ours | what can be concluded: a study's tables and figure from its finished runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, write_text
from lkm_kit.studies import published
from lkm_kit.studies.conclusions import caveats, conclude, side
from lkm_kit.studies.costs import cost, training_memory
from lkm_kit.studies.render import bounds, interval, mean_sd, number, p_text, to_latex, to_markdown, tokens_text
from lkm_kit.studies.runner import Plan, Results, collect
from lkm_kit.studies.statistics import SCORES, compare_arms, mean_and_spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUMBERS = ["difference", "low", "high"]
_BOOTSTRAP = ["low bootstrap", "high bootstrap"]


@dataclasses.dataclass(frozen=True)
class Report:
    """A study's result.

    Args:
        plan: what was asked for.
        results: the finished runs, row by row.
        table: one row an arm, numbers: published, ours (percent), difference to the control (points), costs,
            ``conclusion``.
        comparisons: every pair and score, in points, as :func:`lkm_kit.studies.statistics.compare_arms` gives it; and
            difference, low, high once more, ``... strict``, where an organ that one arm rightly leaves out and the
            other invents counts as 1 against 0.
        caveats: what the numbers cannot say, in sentences.
    """

    plan: Plan
    results: Results
    table: pd.DataFrame
    comparisons: pd.DataFrame
    caveats: list[str]

    def display(self) -> pd.DataFrame:
        """The table as one reads it: text in every cell."""
        t = self.table
        columns = {
            "published DSC": t["published DSC"].map(number),
            "published NSD": t["published NSD"].map(number),
            "DSC": [mean_sd(m, s) for m, s in zip(t["DSC"], t["DSC sd"])],
            "NSD": [mean_sd(m, s) for m, s in zip(t["NSD"], t["NSD sd"])],
            "DSC − control [95 %]": [interval(*row) for row in t[_NUMBERS].to_numpy()],
            "[95 %, bootstrap]": [bounds(*row) for row in t[_BOOTSTRAP].to_numpy()],
            "p (Holm)": t["p_holm"].map(p_text),
            "parameters": t["parameters"].map(lambda n: f"{n / 1e6:.2f} M"),
            "GFLOPs": t["gflops"].map(number),
            "tokens per sequence": t["tokens"],
            "memory, MB": t["memory"].map(lambda n: number(n / 1e6, 0)),
            "s/step": t["seconds_per_step"].map(lambda s: number(s, 3)),
            "what can be concluded": t["conclusion"],
        }
        columns = {name: list(values) for name, values in columns.items()}
        return pd.DataFrame(columns, index=pd.Index(t["title"], name="arm"))

    def figure(self, score: str = "DSC") -> Figure:
        """Dots and intervals, published gains beside them."""
        from lkm_kit.plots.studies import plot_study

        study, rows = self.plan.study, self.results.rows
        seeds = rows.groupby(["arm", "seed", "organ"])[score].mean().groupby(["arm", "seed"]).mean().unstack("seed")
        mine = self.comparisons[self.comparisons["score"] == score]
        mine = mine[mine["versus"] == study.control].set_index("arm")
        gains = self.table[f"published {score} gain"].dropna()
        titles = self.table["title"].to_dict()
        return plot_study(100 * seeds, mine[_NUMBERS + _BOOTSTRAP], titles, study.control, dict(gains), score)

    def text(self) -> str:
        """The whole report in Markdown."""
        study, lines = self.plan.study, []
        lines += [f"# {study.name}: {study.question}", ""]
        lines += [f"Profile {self.plan.size.name}; control: {study.arm(study.control).title}.", ""]
        hardware = sorted(set(self.results.runs["hardware"].dropna()))
        source = self.results.runs["source"].dropna().iloc[0]
        lines += [
            f"Data: {' '.join(source.split())}",
            "",
            f"Hardware: {', '.join(hardware)}.",
            "",
            to_markdown(self.display()),
            "",
        ]
        lines += [
            "± is the standard deviation between seeds. Differences are points of DSC, taken case by case and seed by "
            "seed before averaging, so that they need not equal the difference of two rows. The interval beside them "
            "is Student's, with seeds and cases both a sample; what is concluded goes by it. The bootstrap draws both "
            "anew, and is too short for few seeds. Memory is what a training step must keep for its backward pass, "
            "with weights, gradients and AdamW's moments, counted, in float32.",
            "",
        ]
        further = self.comparisons[self.comparisons["versus"] != study.control]
        if len(further):
            titles = self.table["title"]
            lines += ["Further comparisons:", ""]
            lines += [
                f"- {titles[r.arm]} − {titles[r.versus]}, {r.score}: {interval(r.difference, r.low, r.high)}, "
                f"p (Holm) {r.p_holm:.3g}"
                for r in further.itertuples()
            ]
            lines += [""]
        lines += self._strict_lines()
        lines += ["What these numbers cannot say:", "", *(f"- {caveat}" for caveat in self.caveats), ""]
        notes = [f"- {arm.title}: {arm.note}" for arm in study.arms if arm.note]
        lines += ["Arms:", "", *notes, ""] if notes else []
        lines += ["The same for every arm:", ""]
        lines += [f"- {key}: {value}" for key, value in self.plan.protocol().items()]
        return "\n".join(lines) + "\n"

    def _strict_lines(self) -> list[str]:
        """The differences under the other rule for invented organs, and where it changes what can be said."""
        titles = self.table["title"]
        lines = [
            "An organ that is not in a case has a score only in arms that invent it, so that the differences above do "
            "not count it. Where leaving it out counts as 1 and inventing it as 0, they are, in DSC:",
            "",
        ]
        for _, row in self.comparisons[self.comparisons["score"] == "DSC"].iterrows():
            usual, strict = (tuple(row[f"{name}{rule}"] for name in _NUMBERS) for rule in ("", " strict"))
            changed = "" if side(*usual[1:]) == side(*strict[1:]) else ", **another verdict**"
            lines.append(f"- {titles[row['arm']]} − {titles[row['versus']]}: {interval(*strict)}{changed}")
        return [*lines, ""]

    def write(self, folder: str | Path | None = None) -> Path:
        """Write report.csv, comparisons.csv, per_case.csv, report.md, report.tex and the figure with its caption.

        Args:
            folder: default ``report`` in the study's folder.

        Returns:
            the folder.
        """
        from lkm_kit.plots.style import save_figure, use_style

        folder = self.plan.folder / "report" if folder is None else Path(folder)
        tables = {"report": self.table, "comparisons": self.comparisons, "per_case": self.results.rows}
        for name, table in tables.items():
            with atomic_path(folder / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=name == "report", float_format="%.6g")
        write_text(folder / "report.md", self.text())
        write_text(folder / "report.tex", to_latex(self.display().drop(columns="what can be concluded")))
        use_style()
        study = self.plan.study
        versus = f"Every arm against {study.arm(study.control).title}, paired by case and seed."
        caption = {
            "text": " ".join([study.question, versus, *self.caveats]),
            "config": self.plan.protocol(),
            "profile": self.plan.size.name,
            "seed": list(self.plan.seeds),
        }
        save_figure(self.figure(), "differences", caption, folder=folder)
        return folder


def make_report(plan: Plan, *, mixed: bool = False) -> Report:
    """Collect a study's finished runs and compare its arms.

    Args:
        plan: of :func:`lkm_kit.studies.runner.make_plan`.
        mixed: also compare runs that were made with different versions or devices; the report says so.

    Raises:
        KitError: nothing is finished, the control is not, or runs were made differently.
    """
    results, study = collect(plan, mixed=mixed), plan.study
    done = set(results.rows["arm"])
    if study.control not in done:
        raise KitError(
            f"the control {study.control!r} of {study.name} has no finished run, so that nothing can be compared",
            remedy=f"lkm study {study.name} --profile {plan.size.name} --arms {study.control}",
        )
    usual, strict = (
        pd.concat([compare_arms(results.rows, study.pairs(), s, left_out=left_out) for s in SCORES], ignore_index=True)
        for left_out in (None, 1.0)
    )
    comparisons = usual.join(strict[_NUMBERS].add_suffix(" strict"))
    comparisons[[*_NUMBERS, *_BOOTSTRAP, *(f"{name} strict" for name in _NUMBERS)]] *= 100  # points
    with_control = comparisons[(comparisons["versus"] == study.control) & (comparisons["score"] == "DSC")]
    by_arm = with_control.set_index("arm")
    spread = mean_and_spread(results.rows)
    seconds = results.runs.groupby("arm")["seconds_per_step"].median()
    rows = {}
    for arm in study.arms:
        if plan.arms and arm.name not in plan.arms:
            continue
        row: dict[str, Any] = {"title": arm.title, **_published(plan, arm.published)}
        measured = spread.loc[arm.name] if arm.name in done else pd.Series(dtype=float)
        row |= {"seeds": int(measured.get("seeds", 0)), "cases": int(measured.get("cases", 0))}
        row |= {key: 100 * measured.get(key, np.nan) for key in ("DSC", "DSC sd", "NSD", "NSD sd")}
        compared = by_arm.loc[arm.name] if arm.name in by_arm.index else pd.Series(dtype=float)
        row |= {key: compared.get(key, np.nan) for key in (*_NUMBERS, *_BOOTSTRAP, "p", "p_holm")}
        costs = cost(arm, plan.size.image_size, len(plan.size.organs) + 1)
        row |= {"parameters": costs["parameters"], "gflops": costs["gflops"], "tokens": tokens_text(costs["tokens"])}
        batch = plan.protocol()["batch_size"]
        row["memory"] = training_memory(arm, plan.size.image_size, len(plan.size.organs) + 1, batch)
        row["seconds_per_step"] = seconds.get(arm.name, np.nan)
        mine = results.runs[results.runs["arm"] == arm.name]
        row["diverged"] = int((mine["state"] == "diverged").sum())
        row["conclusion"] = (
            "the control" if arm.name == study.control else conclude(row, study.arm(study.control).title)
        )
        rows[arm.name] = row
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("arm")
    return Report(plan, results, table, comparisons, caveats(plan, results))


def _published(plan: Plan, row: str | None) -> dict[str, float]:
    study, names = plan.study, [f"published {score}" for score in SCORES]
    gains = [f"{name} gain" for name in names]
    if row is None or study.published is None:
        return dict.fromkeys([*names, *gains], np.nan)
    table = _published_rows(plan, study.published)
    base = _published_rows(plan, study.published_control[0]).loc[study.published_control[1]]
    same = table.loc[row].equals(base)
    gain = {name: np.nan if same else float(table.loc[row, s] - base[s]) for name, s in zip(gains, SCORES)}
    return {**{name: float(table.loc[row, s]) for name, s in zip(names, SCORES)}, **gain}


def _published_rows(plan: Plan, name: str) -> pd.DataFrame:
    table = getattr(published, name)
    if table.columns.nlevels == 2:  # Table 1: 2D networks on MR, 3D networks on CT
        table = table["MR" if len(plan.size.image_size) == 2 else "CT"]
    return table
