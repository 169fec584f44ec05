"""Scores of nnU-Net's predictions, by the paper's own rule, beside the paper's numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lkm_kit.data import DataSet, LabelTable
from lkm_kit.data.manifest import Manifest
from lkm_kit.errors import KitError
from lkm_kit.evaluation.metrics import METRICS, about, metrics_in
from lkm_kit.files import atomic_path, write_text
from lkm_kit.nnunet.places import dataset_name, nnunet_folder, predictions_folder
from lkm_kit.nnunet.plans import DOUBTS, nnunet_study, plans_name
from lkm_kit.profiles import Profile, profile
from lkm_kit.studies import published
from lkm_kit.studies.arms import Arm

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED_NUMBERS = {"table1": "MR", "table1-ct": "CT"}
"""Which half of the published Table 1 a study stands beside."""


@dataclasses.dataclass
class Collected:
    """Scores of a study under nnU-Net.

    Args:
        rows: arm, fold, case, organ and a column a metric.
        table: one row an arm: fold, cases, the published scores and our own, as reports print them.
        missing: arm and fold -> why it is not in the table.
        notes: what a reader must know.
    """

    rows: pd.DataFrame
    table: pd.DataFrame
    missing: dict[tuple[str, str], str]
    notes: list[str]

    def text(self) -> str:
        """The table in Markdown, what is missing, and the notes."""
        from lkm_kit.studies.render import to_markdown, with_unit

        shown = self.table.copy()
        for column in shown.columns.difference(["fold", "cases"]):
            shown[column] = [f"{value:.2f}" if value == value else "–" for value in shown[column]]
        lines = [to_markdown(shown.rename(columns={name: with_unit(name) for name in METRICS})), ""]
        lines += [f"not scored: {arm}, fold {fold}: {why}" for (arm, fold), why in self.missing.items()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def write(self, folder: str | Path, table: str = "table") -> Path:
        """Write ``ARM/fold-F/per_case.csv`` (the studies' columns), ``<table>.csv`` and ``<table>.md``."""
        folder = Path(folder)
        for (arm, fold), rows in self.rows.groupby(["arm", "fold"]):
            with atomic_path(folder / arm / f"fold-{fold}" / "per_case.csv") as temporary:
                rows.drop(columns=["arm", "fold"]).to_csv(temporary, index=False)
        with atomic_path(folder / f"{table}.csv") as temporary:
            self.table.to_csv(temporary)
        write_text(folder / f"{table}.md", self.text() + "\n")
        return folder


def collect(
    number: int,
    study_name: str,
    size: Profile | str | None = None,
    *,
    arms: Sequence[str] = (),
    folds: Sequence[str] = ("all",),
    rule: str = "official",
    tta: bool = False,
) -> Collected:
    """Score what was predicted for the test cases of a raw data set.

    Args:
        number: nnU-Net's data set id.
        study_name, size: as they were planned.
        arms: names; empty for all. An arm whose predictions are not complete is named, not scored.
        folds: of :func:`lkm_kit.nnunet.pipeline.steps`.
        rule: of :data:`lkm_kit.evaluation.RULES`; ``"official"`` is the paper's.
        tta: of :func:`lkm_kit.nnunet.pipeline.steps`.

    Raises:
        KitError: no test labels, a prediction that does not lie on its label's grid, or nothing to score at all.

    Source: the mean of the released scripts: over cases, then over organs, in percent.
    """
    import pandas as pd

    from lkm_kit.evaluation import organ_table

    size = size if isinstance(size, Profile) else profile(size)
    raw = nnunet_folder("nnUNet_raw")
    dataset = dataset_name(number, raw)
    data = DataSet(raw / dataset)
    truths = _truths(data)
    ours, _ = nnunet_study(study_name, size)
    plans = plans_name(study_name, size)
    frames, lines, missing = [], [], {}
    for arm in ours.arms:
        if arms and arm.name not in arms:
            continue
        for fold in map(str, folds):
            folder = predictions_folder(dataset, plans, arm.name, fold, tta)
            absent = [case for case in truths if not (folder / f"{case}.nii.gz").is_file()]
            if absent:
                missing[arm.name, fold] = f"{len(absent)} of {len(truths)} predictions are not in {folder}"
                continue
            scored = (_score(folder / f"{n}.nii.gz", path, n, data.table, rule) for n, path in truths.items())
            rows = pd.concat(scored)
            frames.append(rows.assign(arm=arm.name, fold=fold))
            mean = organ_table(rows).loc["mean"]
            line = {"arm": arm.title, "fold": fold, "cases": len(truths), **_published(study_name, arm)}
            lines.append({**line, **{name: about(name).scale * mean[name] for name in metrics_in(rows)}})
    if not frames:
        raise KitError(
            f"there are no complete predictions of {study_name} for {dataset}: "
            + "; ".join(f"{arm}, fold {fold}: {why}" for (arm, fold), why in missing.items()),
            remedy=f"see `lkm nnunet commands {number} --study {study_name}` for the commands that make them",
        )
    return Collected(
        pd.concat(frames, ignore_index=True),
        pd.DataFrame(lines).set_index("arm"),
        missing,
        _notes(raw / dataset, rule),
    )


def _truths(data: DataSet) -> dict[str, Path]:
    found = {case.name: case.label for case in data.test if case.label is not None}
    if not found:
        raise KitError(
            f"{data.name} has no labels of test cases (labelsTs)",
            remedy="without them nothing can be scored; only the validation folds of nnU-Net say something",
        )
    return found


def _score(prediction: Path, truth: Path, name: str, table: LabelTable, rule: str) -> pd.DataFrame:
    from lkm_kit.evaluation import evaluate_case
    from lkm_kit.evaluation.folders import read_pair

    pair = read_pair(name, prediction, truth, table=table)
    return evaluate_case(pair.image, pair.label, pair.spacing, table, rule, case=name)


def _published(study_name: str, arm: Arm) -> dict[str, float]:
    half = PUBLISHED_NUMBERS.get(study_name)
    table = published.table1[half] if half else getattr(published, study_name)
    row = table.loc[arm.published] if arm.published else table.iloc[0] * float("nan")
    return row.astype(float).add_prefix("published ").to_dict()


def _notes(folder: Path, rule: str) -> list[str]:
    from lkm_kit.evaluation import RULES

    manifest = Manifest.read(folder)
    notes = [f"scored by the {rule} rule: {RULES[rule]}"]
    if manifest is None:
        notes.append("the data set has no manifest: where it comes from is not known")
    elif not manifest.about.get("paper_split"):
        notes.append(f"NOT comparable with the published numbers: {manifest.about.get('split', 'another split')}")
    return [*notes, *DOUBTS]
