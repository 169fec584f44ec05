"""Draw studies of a known truth, or a few seeds of a committed one, and see what such a study can and cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from lkm_kit.evaluation.metrics import about
from lkm_kit.plots.studies import plot_draws
from lkm_kit.studies.conclusions import conclude, unlearnt_organs, verdict
from lkm_kit.studies.intervals import simulated_differences
from lkm_kit.studies.reference import Reference
from lkm_kit.studies.render import interval, would_show
from lkm_kit.studies.statistics import VERDICT_SEEDS, compare, paired_differences

SIMULATED = "simulated"
SHOWN = 20
"""Studies in the picture, the newest ones."""
RESAMPLES = 400
"""Of a bootstrap: enough for a picture, and a tenth of the time."""
SCORE = "DSC"
ENDS = {"": "Student", " bootstrap": "bootstrap"}
MOST = 10, 100
"""Seeds and cases of a simulated study, at most."""


def drawn_differences(rng: np.random.Generator, table: pd.DataFrame, seeds: int, cases: int) -> pd.DataFrame:
    """The smaller study that some seeds and cases of a real one would have been, each taken at most once.

    Args:
        rng: what draws.
        table: (seeds, cases), of :func:`lkm_kit.studies.statistics.paired_differences`.
        seeds, cases: how many to take; the cases are the same for all seeds.

    >>> table = pd.DataFrame([[1, 2], [3, 4], [5, 6]], index=[10, 11, 12])
    >>> drawn_differences(np.random.default_rng(0), table, 2, 2).values.tolist()
    [[3, 4], [5, 6]]
    """
    rows, columns = (np.sort(rng.choice(size, n, replace=False)) for size, n in zip(table.shape, (seeds, cases)))
    return table.iloc[rows, columns]


class SeedExplorer(widgets.VBox):
    """Choose a truth and the size of a study, draw studies, and count what they say.

    The truth is simulated (:func:`lkm_kit.studies.intervals.simulated_differences`), or it is a committed study of
    which each drawn one has some of the seeds and cases. Intervals and verdicts are those of a report with a single
    comparison. The same controls give the same studies; a moved control draws those in the picture anew.

    Args:
        references: name → committed study, to choose from.
        seed: of all draws.

    ``found`` has a row a drawn study: the columns of :func:`lkm_kit.studies.statistics.compare` in points of DSC, and
    its verdict. ``counts`` sums them up, and ``truth`` is what they look for.

    >>> explorer = SeedExplorer()
    >>> explorer.draw(19)
    >>> {name: explorer.counts[name] for name in ("studies", "Student covers", "better", "worse")}
    {'studies': 20, 'Student covers': 20, 'better': 0, 'worse': 0}
    """

    def __init__(self, references: Mapping[str, Reference] | None = None, seed: int = 0):
        self.references, self.seed = dict(references or {}), seed
        self.source = widgets.Dropdown(options=[SIMULATED, *self.references], **_look("studies are"))
        self.pair = widgets.Dropdown(**_look("arms", 560))
        self.difference = _slider("true difference, points", 0.0, -3.0, 3.0)
        self.seed_sd = _slider("sd of seeds, points", 0.5, 0.0, 5.0)
        self.case_sd = _slider("sd of cases, points", 1.0, 0.0, 5.0)
        self.seeds = widgets.IntSlider(3, 1, MOST[0], continuous_update=False, **_look("seeds"))
        self.cases = widgets.IntSlider(80, 2, MOST[1], continuous_update=False, **_look("cases"))
        self.one, self.many = (widgets.Button(description=f"draw {what}") for what in ("a study", f"{SHOWN} studies"))
        self.message, self.output = widgets.HTML(), widgets.Output()
        self.figure: Figure | None = None
        self.found, self.counts, self.truth = pd.DataFrame(), {}, 0.0
        self._rows, self._seeds, self._table = [], [], None
        self._simulated = widgets.HBox([self.seed_sd, self.case_sd])
        self._held = False
        self.source.observe(self._choose, names="value")
        for control in (self.pair, self.difference, self.seed_sd, self.case_sd, self.seeds, self.cases):
            control.observe(self._anew, names="value")
        self.one.on_click(lambda _: self.draw())
        self.many.on_click(lambda _: self.draw(SHOWN))
        rows = [[self.source, self.pair, self.difference], [self._simulated], [self.seeds, self.cases]]
        super().__init__([*map(widgets.HBox, [*rows, [self.one, self.many]]), self.message, self.output])
        self._choose()

    @property
    def reference(self) -> Reference | None:
        """The committed study that is drawn from, if one is."""
        return self.references.get(self.source.value)

    def _choose(self, _change=None) -> None:
        self._held = True
        if self.reference is not None:
            pairs = self.reference.comparisons.query(f"score == '{SCORE}'")[["arm", "versus"]].to_numpy().tolist()
            titles = self.reference.table["title"]
            self.pair.options = [(f"{titles[arm]} − {titles[versus]}", (arm, versus)) for arm, versus in pairs]
            self.pair.index = 0
        for widget, of_reference in ((self.pair, True), (self.difference, False), (self._simulated, False)):
            widget.layout.display = None if of_reference == (self.reference is not None) else "none"
        self._held = False
        self._anew()

    def _anew(self, _change=None) -> None:
        """As many studies as are in the picture, by the controls as they stand."""
        if self._held:
            return
        self._held, self._table, self.truth = True, None, self.difference.value
        if self.reference is not None:
            self._table = about(SCORE).scale * paired_differences(self.reference.per_case, *self.pair.value, SCORE)
            self.truth = float(np.nanmean(self._table))
        self.seeds.max, self.cases.max = MOST if self._table is None else self._table.shape
        self._held = False
        studies = min(max(len(self._rows), 1), SHOWN)
        self._rows, self._seeds = [], []
        self.draw(studies)

    def draw(self, studies: int = 1) -> None:
        """Draw further studies, as the two buttons do."""
        size = self.seeds.value, self.cases.value
        scatter = {"seed_sd": self.seed_sd.value, "case_sd": self.case_sd.value, "difference": self.truth}
        for number in range(len(self._rows) + 1, len(self._rows) + 1 + studies):
            rng = np.random.default_rng([self.seed, number])
            if self._table is None:
                table = pd.DataFrame(simulated_differences(rng, *size, **scatter))
            else:
                table = drawn_differences(rng, self._table, *size)
            row = compare(table, resamples=RESAMPLES)
            self._rows.append({**row, "verdict": verdict(row["difference"], row["p"])})
            self._seeds.append(table.mean(axis=1).to_numpy())
        self.found = pd.DataFrame(self._rows, index=range(1, len(self._rows) + 1))
        self._count()
        self._show(list(table.index))

    def _count(self) -> None:
        found = self.found
        held = {name: found[f"low{name}"].le(self.truth) & found[f"high{name}"].ge(self.truth) for name in ENDS}
        self.counts = {
            "studies": len(found),
            **{f"{way} covers": int(held[name].sum()) for name, way in ENDS.items()},
            "Student excludes 0": int((found["low"] * found["high"] > 0).sum()),
            "better": int((found["verdict"] == 1).sum()),
            "worse": int((found["verdict"] == -1).sum()),
            "detectable": float(found["detectable"].median()),
        }

    def _show(self, drawn: list[int]) -> None:
        """The last study in words (``drawn``: numbers of its seeds), all of them in counts, the newest in a picture."""
        last, counts, reference = self._rows[-1], self.counts, self.reference
        arm, versus, truth, which, unlearnt = "the arm", "the control", "true difference", "", ""
        scatter = self.seed_sd.value, self.case_sd.value
        if reference is not None:
            arm, versus = reference.table["title"][list(self.pair.value)]
            truth, which = f"difference of all {len(self._table)} seeds", f" ({', '.join(map(str, drawn))})"
            scatter = self._table.mean(axis=1).std(), self._table.mean().std()
            mine = reference.per_case["arm"].isin(self.pair.value) & reference.per_case["seed"].isin(drawn)
            organs, titles = unlearnt_organs(reference.per_case[mine], SCORE), reference.table["title"]
            unlearnt = "; ".join(f"{titles[name]}: {said}" for name, said in organs.items())
        row = {**last, "p_holm": last["p"], "diverged": 0, "unlearnt": unlearnt, "gain": np.nan}
        least = would_show(counts["detectable"], SCORE)
        said = {
            f"Study {counts['studies']}": f"{interval(last['difference'], last['low'], last['high'])} points from "
            f"{last['seeds']} seeds{which} and {last['cases']} cases. It says: {conclude(row, versus, SCORE)}.",
            f"Of {counts['studies']} studies": f"the {truth}, {self.truth:+.2f}, is covered by Student's interval in "
            f"{counts['Student covers']}, by the bootstrap's in {counts['bootstrap covers']}. "
            f"Student's excludes 0 in {counts['Student excludes 0']}. "
            f"Verdicts: {counts['better']} better, {counts['worse']} worse.",
            "Power": f"four of five such studies would show a difference of {least} points (at the median scatter)."
            if last["seeds"] >= VERDICT_SEEDS
            else f"none; a verdict takes {VERDICT_SEEDS} seeds.",
        }
        self.message.value = "<br>".join(f"<b>{what}:</b> {text}" for what, text in said.items())
        self.figure = plot_draws(
            self.found.iloc[-SHOWN:],
            self._seeds[-SHOWN:],
            self.truth,
            abs(self.truth) + max(5 * scatter[0], scatter[1], 0.1),
            rows=SHOWN,
            xlabel=f"{arm} minus {versus} (points of {SCORE})",
            truth_name=truth,
        )
        self.output.clear_output(wait=True)
        with self.output:
            display(self.figure)


def _look(name: str, width: int = 400) -> dict[str, Any]:
    """Wide enough (pixels) that no name is cut."""
    return {
        "description": name,
        "style": {"description_width": "150px"},
        "layout": widgets.Layout(width=f"{width}px"),
    }


def _slider(name: str, value: float, low: float, high: float) -> widgets.FloatSlider:
    return widgets.FloatSlider(
        value, min=low, max=high, step=0.1, readout_format=".1f", continuous_update=False, **_look(name)
    )
