"""Published | ours | what can be concluded: a study's tables and figure from its finished runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lkm_kit.errors import KitError
from lkm_kit.evaluation.metrics import about, metrics_in
from lkm_kit.files import atomic_path, write_json, write_text
from lkm_kit.studies import published
from lkm_kit.studies.conclusions import caveats, conclude, unlearnt_organs
from lkm_kit.studies.costs import cost, training_memory
from lkm_kit.studies.plan import Plan, Results
from lkm_kit.studies.render import (
    bounds,
    interval,
    mean_sd,
    number,
    p_text,
    to_latex,
    tokens_text,
    with_unit,
    would_show,
)
from lkm_kit.studies.runner import collect
from lkm_kit.studies.statistics import by_label, compare_arms, mean_and_spread, paired_differences, student_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUMBERS = ["difference", "low", "high"]
_BOOTSTRAP = ["low bootstrap", "high bootstrap"]
_TESTED = ["p", "p_holm", "detectable"]


@dataclasses.dataclass(frozen=True)
class Report:
    """A study's result.

    Args:
        plan: what was asked for.
        results: the finished runs, row by row.
        table: one row an arm, numbers as reports print them: published, ours, difference to the control by the first
            metric, costs, ``conclusion``.
        comparisons: every pair and metric, as :func:`lkm_kit.studies.statistics.compare_arms` gives it; and difference,
            low, high, p_holm once more, ``... strict``, where an organ that one arm rightly leaves out and the other
            invents counts as perfect against worst.
        caveats: what the numbers cannot say, in sentences.
    """

    plan: Plan
    results: Results
    table: pd.DataFrame
    comparisons: pd.DataFrame
    caveats: list[str]

    @property
    def metrics(self) -> list[str]:
        """The metrics that all runs were scored by; verdicts go by the first one."""
        return metrics_in(self.results.rows)

    def display(self) -> pd.DataFrame:
        """The table as one reads it: text in every cell."""
        t, first = self.table, self.metrics[0]
        columns = {name: t[name].map(number) for name in t if name.startswith("published") and "gain" not in name}
        columns |= {with_unit(m): [mean_sd(*row) for row in t[[m, f"{m} sd"]].to_numpy()] for m in self.metrics}
        columns |= {
            f"{first} − control [95 %]": [interval(*row) for row in t[_NUMBERS].to_numpy()],
            "[95 %, bootstrap]": [bounds(*row) for row in t[_BOOTSTRAP].to_numpy()],
            "p (Holm)": t["p_holm"].map(p_text),
            "would have shown": [would_show(d, first) for d in t["detectable"]],
            "parameters": t["parameters"].map(lambda n: f"{n / 1e6:.2f} M"),
            "GFLOPs": t["gflops"].map(number),
            "tokens per sequence": t["tokens"],
            "memory, MB": t["memory"].map(lambda n: number(n / 1e6, 0)),
            "s/step": t["seconds_per_step"].map(lambda s: number(s, 3)),
            "what can be concluded": t["conclusion"],
        }
        columns = {name: list(values) for name, values in columns.items()}
        return pd.DataFrame(columns, index=pd.Index(t["title"], name="arm"))

    def labels(self) -> pd.DataFrame:
        """The first metric of every organ and training: a row an arm, a column an organ, the seeds in every cell."""
        first = self.metrics[0]
        found = about(first).scale * by_label(self.results.rows, first)
        cells = found.apply(lambda seeds: " / ".join(number(value, 1) for value in seeds), axis=1)
        organs, arms = self.results.rows["organ"].unique(), self.table["title"]
        table = cells.unstack("organ").reindex(index=arms.index, columns=organs).fillna("–")
        return table.set_axis(pd.Index(arms, name="arm"))

    def headline(self, scored: bool = True) -> str:
        """What a figure shows, in a line: study and profile, data, seeds of an arm, and the test cases if scored."""
        rows, runs = self.results.rows, self.results.runs
        seeds = sorted({*rows.groupby("arm")["seed"].nunique()})
        number = (" or " if len(seeds) == 2 else " to ").join(f"{seeds[k]}" for k in dict.fromkeys((0, len(seeds) - 1)))
        of = "1 seed" if seeds == [1] else f"{number} seeds"
        source = " ".join(runs["source"].dropna().iloc[0].split()).split(",")[0]
        data = "deformed copies of one patient" if self.plan.on_cohort else source
        data += f", n = {rows['case'].nunique()} test cases" if scored else ""
        dims = " in 3D" if "3d" in self.plan.size.network else ""
        return f"{self.plan.study.title}{dims}, profile {self.plan.size.name}: {data}; {of} an arm"

    def gains_over_the_baseline(self, score: str | None = None) -> pd.DataFrame:
        """The paper's gains over its baseline and ours over the same; see :func:`gains_over_the_baseline`."""
        return gains_over_the_baseline(self.plan, self.results.rows, score or self.metrics[0])

    def figure(self, score: str | None = None) -> Figure:
        """Dots and intervals, and gains over the paper's baseline; by the first metric unless told otherwise."""
        from lkm_kit.plots.studies import plot_study

        score, study, rows = score or self.metrics[0], self.plan.study, self.results.rows
        seeds = rows.groupby(["arm", "seed", "organ"])[score].mean().groupby(["arm", "seed"]).mean().unstack("seed")
        mine = self.comparisons[self.comparisons["score"] == score]
        mine = mine[mine["versus"] == study.control].set_index("arm")
        titles, gains = self.table["title"].to_dict(), self.gains_over_the_baseline(score)
        scores = about(score).scale * seeds
        return plot_study(
            scores, mine[_NUMBERS + _BOOTSTRAP], titles, study.control, gains, score, about_it=self.headline()
        )

    def figure_of_learning(self) -> Figure:
        """Validation DSC against steps, a panel an arm."""
        from lkm_kit.plots.sweep import plot_curves

        there = set(self.results.history["arm"])
        titles = {arm: title for arm, title in self.table["title"].items() if arm in there}
        return plot_curves(self.results.history, titles, about_it=self.headline(scored=False))

    def text(self) -> str:
        """The whole report in Markdown."""
        from lkm_kit.studies.report_text import report_text

        return report_text(self)

    def write(self, folder: str | Path | None = None) -> Path:
        """Write the tables as CSV files, report.md, report.tex and the figures with their captions.

        Also splits.json: what was scored; of a data set, which cases and persons trained, validated and were scored.

        What lies there is enough to make the report anew (:func:`lkm_kit.studies.reference.read_results`).

        Args:
            folder: default ``report`` in the study's folder.

        Returns:
            the folder.
        """
        from lkm_kit.plots.style import save_figure, use_style

        folder = self.plan.folder / "report" if folder is None else Path(folder)
        tables = {"report": self.table, "comparisons": self.comparisons}
        tables |= {"per_case": self.results.rows, "runs": self.results.runs}
        tables |= {"history": self.results.history} if len(self.results.history) else {}
        for name, table in tables.items():
            with atomic_path(folder / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=name == "report", float_format="%.6g")
        if self.results.data:
            write_json(folder / "splits.json", {"splits": self.results.data})
        write_text(folder / "report.md", self.text())
        write_text(folder / "report.tex", to_latex(self.display().drop(columns="what can be concluded")))
        use_style()
        study = self.plan.study
        versus = f"Every arm against {study.arm(study.control).title}, paired by case and seed."
        caption = {
            "text": " ".join([study.question, versus, *self.caveats]),
            "config": self.plan.protocol(),
            "arms": self.plan.differences(),
            "study": study.name,
            "profile": self.plan.size.name,
            "seed": list(self.plan.seeds),
            "missing": self.results.missing,
            **({"mixed": self.results.mixed} if self.results.mixed else {}),
        }
        save_figure(self.figure(), "differences", caption, folder=folder)
        if len(self.results.history):
            text = "Validation DSC against steps: a thin line a training, a thick one their mean; last quarter shaded."
            save_figure(self.figure_of_learning(), "learning", {**caption, "text": text}, folder=folder)
        return folder


def make_report(plan: Plan, results: Results | None = None, *, mixed: bool = False) -> Report:
    """Compare the arms of a study.

    Args:
        plan: of :func:`lkm_kit.studies.runner.make_plan`.
        results: its runs; default those that are finished, collected.
        mixed: also compare runs that were made with different versions or devices; the report says so.

    Raises:
        KitError: nothing is finished, the control is not, or runs were made differently.
    """
    results, study = results or collect(plan, mixed=mixed), plan.study
    done = set(results.rows["arm"])
    if study.control not in done:
        raise KitError(
            f"the control {study.control!r} of {study.name} has no finished run, so that nothing can be compared",
            remedy=f"lkm study run {plan.called} --arms {study.control}",
        )
    scores = metrics_in(results.rows)
    first, parts = scores[0], []
    for score in scores:
        read = about(score)
        usual, strict = (compare_arms(results.rows, study.pairs(), score, left_out=out) for out in (None, read.best))
        both = usual.join(strict[[*_NUMBERS, "p_holm"]].add_suffix(" strict"))
        in_unit = [*_NUMBERS, *_BOOTSTRAP, "detectable", *(f"{name} strict" for name in _NUMBERS)]
        parts.append(both.assign(**(read.scale * both[in_unit])))
    comparisons = pd.concat(parts, ignore_index=True)
    with_control = comparisons[(comparisons["versus"] == study.control) & (comparisons["score"] == first)]
    by_arm = with_control.set_index("arm")
    spread, unlearnt = mean_and_spread(results.rows), unlearnt_organs(results.rows, first)
    seconds = results.runs.groupby("arm")["seconds_per_step"].median()
    config = plan.protocol()
    images = (config["image_size"], len(config["organs"]) + 1)
    over_baseline = gains_over_the_baseline(plan, results.rows, first)
    rows = {}
    for arm in study.arms:
        if plan.arms and arm.name not in plan.arms:
            continue
        row: dict[str, Any] = {"title": arm.title, **_published(plan, arm.published)}
        measured = spread.loc[arm.name] if arm.name in done else pd.Series(dtype=float)
        row |= {"seeds": int(measured.get("seeds", 0)), "cases": int(measured.get("cases", 0))}
        for score in scores:
            row |= {key: about(score).scale * measured.get(key, np.nan) for key in (score, f"{score} sd")}
        compared = by_arm.loc[arm.name] if arm.name in by_arm.index else pd.Series(dtype=float)
        row |= {key: compared.get(key, np.nan) for key in (*_NUMBERS, *_BOOTSTRAP, *_TESTED)}
        costs = cost(arm, *images, config["input_channels"])
        row |= {"parameters": costs["parameters"], "gflops": costs["gflops"], "tokens": tokens_text(costs["tokens"])}
        row["memory"] = training_memory(arm, *images, config["batch_size"], config["input_channels"])
        row["seconds_per_step"] = seconds.get(arm.name, np.nan)
        mine = results.runs[results.runs["arm"] == arm.name]
        row["diverged"] = int((mine["state"] == "diverged").sum())
        row["conclusion"] = "the control"
        if arm.name != study.control:
            gains = dict(over_baseline.loc[arm.name]) if plan.papers_data and arm.name in over_baseline.index else {}
            about_it = {**row, **gains, "unlearnt": unlearnt.get(arm.name, "")}
            row["conclusion"] = conclude(about_it, study.arm(study.control).title, first)
        rows[arm.name] = row
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("arm")
    return Report(plan, results, table, comparisons, caveats(plan, results))


def gains_over_the_baseline(plan: Plan, rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """What the paper's gains are over is its baseline, not the control; the same for the arms that have such a gain.

    Args:
        plan: of the study; one of its arms stands for the baseline, or there is nothing to say.
        rows: arm, seed, case, organ and the score.
        score: name of the metric.

    Returns:
        index arm; columns published, ours, low gain and high gain (Student's 95 % interval of ours, for this one
        comparison), in the unit of the metric's differences.

    >>> from lkm_kit.studies.reference import FOLDER, read_results
    >>> plan, results = read_results("table3", FOLDER / "table3-laptop-hippocampus")
    >>> gains_over_the_baseline(plan, results.rows, "DSC").loc["pim-pam-bim"].round(2).tolist()
    [2.85, 1.11, 0.6, 1.62]
    """
    base, done, found = plan.study.baseline, set(rows["arm"]), {}
    for arm in plan.study.arms if base in done else ():
        gain = _published(plan, arm.published).get(f"published {score} gain", np.nan)
        if arm.name in done and not np.isnan(gain):
            own = paired_differences(rows, arm.name, base, score).to_numpy()
            numbers = [float(np.nanmean(own)), *student_interval(own)]
            found[arm.name] = [gain, *(about(score).scale * number for number in numbers)]
    return pd.DataFrame.from_dict(found, orient="index", columns=["published", "ours", "low gain", "high gain"])


def _published(plan: Plan, row: str | None) -> dict[str, float]:
    study = plan.study
    if study.published is None:
        return {}
    table = _published_rows(plan, study.published)
    base = _published_rows(plan, study.published_control[0]).loc[study.published_control[1]]
    own = table.loc[row].astype(float) if row else base * np.nan
    gain = own - base if row and not own.equals(base) else base * np.nan
    return {**own.add_prefix("published "), **gain.add_prefix("published ").add_suffix(" gain")}


def _published_rows(plan: Plan, name: str) -> pd.DataFrame:
    table = getattr(published, name)
    if table.columns.nlevels == 2:  # Table 1: 2D networks on MR, 3D networks on CT
        table = table["MR" if len(plan.protocol()["image_size"]) == 2 else "CT"]
    return table
