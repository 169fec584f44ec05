"""Scores of nnU-Net's predictions, by the paper's own rule, beside the paper's numbers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lkm_kit.data import DataSet, LabelTable
from lkm_kit.data.manifest import Manifest
from lkm_kit.errors import KitError
from lkm_kit.evaluation.metrics import METRICS, about, metrics_in
from lkm_kit.files import atomic_path, write_text
from lkm_kit.nnunet.pipeline import trained_with
from lkm_kit.nnunet.places import TRAINER, dataset_name, nnunet_folder, predictions_folder, results_folder
from lkm_kit.nnunet.plans import DOUBTS, configurations, nnunet_study, planned, plans_name
from lkm_kit.profiles import Profile, profile
from lkm_kit.studies import published
from lkm_kit.studies.arms import Arm
from lkm_kit.studies.plan import Foreign, Results

if TYPE_CHECKING:
    import pandas as pd

    from lkm_kit.studies.report import Report

PUBLISHED_NUMBERS = {"table1": "MR", "table1-ct": "CT"}
"""Which half of the published Table 1 a study stands beside."""


@dataclasses.dataclass
class Collected:
    """Scores of a study under nnU-Net.

    Args:
        rows: arm, seed, training, case, organ and a column a metric. A training is a fold, or one of its repetitions;
            ``seed`` counts them, the same ones for all arms.
        table: one row an arm and training: cases, the published scores and our own, as reports print them.
        missing: arm and training -> why it is not in the table.
        notes: what a reader must know.
        plan: of the study's report.
        data: what was scored, see :class:`lkm_kit.studies.plan.Results`.
        runs: one row a training, see there.
    """

    rows: pd.DataFrame
    table: pd.DataFrame
    missing: dict[tuple[str, str], str]
    notes: list[str]
    plan: Foreign
    data: dict[str, Any]
    runs: pd.DataFrame

    @property
    def comparable(self) -> bool:
        """Whether the study's control is among what was scored."""
        return self.plan.study.control in set(self.rows["arm"])

    def report(self) -> Report:
        """The study's report, by the same statistics as the kit's own runs: trainings count as seeds.

        Raises:
            KitError: the control was not scored.
        """
        from lkm_kit.studies.report import make_report

        missing = [f"{arm}, fold {training}" for arm, training in self.missing]
        rows = self.rows.drop(columns="training")
        return make_report(self.plan, Results(rows, self.runs, missing, data=[self.data]))

    def text(self) -> str:
        """The table in Markdown, what is missing, and the notes."""
        from lkm_kit.studies.render import to_markdown, with_unit

        shown = self.table.copy()
        for column in shown.columns.difference(["fold", "cases"]):
            shown[column] = [f"{value:.2f}" if value == value else "–" for value in shown[column]]
        lines = [to_markdown(shown.rename(columns={name: with_unit(name) for name in METRICS})), ""]
        lines += [f"not scored: {arm}, fold {training}: {why}" for (arm, training), why in self.missing.items()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def write(self, folder: str | Path, table: str = "table") -> Path:
        """Write ``ARM/fold-F/per_case.csv`` (the studies' columns), ``<table>.csv`` and ``<table>.md``."""
        folder = Path(folder)
        for (arm, training), rows in self.rows.groupby(["arm", "training"]):
            with atomic_path(folder / arm / f"fold-{training.replace(' ', '-')}" / "per_case.csv") as temporary:
                rows.drop(columns=["arm", "seed", "training"]).to_csv(temporary, index=False)
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
    repetitions: Sequence[int] = (0,),
    rule: str = "official",
    tta: bool = False,
) -> Collected:
    """Score what was predicted for the test cases of a raw data set.

    Args:
        number: nnU-Net's data set id.
        study_name, size: as they were planned.
        arms: names; empty for all. An arm whose predictions are not complete is named, not scored.
        folds, repetitions: of :func:`lkm_kit.nnunet.pipeline.steps`.
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
    _, mine = configurations(study_name, size)
    trainings = list(itertools.product(repetitions, map(str, folds)))
    frames, lines, missing, made = [], [], {}, []
    for arm in ours.arms:
        if arms and arm.name not in arms:
            continue
        for seed, (repetition, fold) in enumerate(trainings):
            where = (dataset, plans_name(study_name, size, repetition), mine[arm.name], fold)
            folder, training = predictions_folder(*where, tta), f"{fold} again {repetition}" if repetition else fold
            absent = [case for case in truths if not (folder / f"{case}.nii.gz").is_file()]
            if absent:
                missing[arm.name, training] = f"{len(absent)} of {len(truths)} predictions are not in {folder}"
                continue
            made.append(
                {"arm": arm.name, "seed": seed, "detail": f"fold {training}", **trained_with(results_folder(*where))}
            )
            scored = (_score(folder / f"{n}.nii.gz", path, n, data.table, rule) for n, path in truths.items())
            rows = pd.concat(scored)
            frames.append(rows.assign(arm=arm.name, seed=seed, training=training))
            mean = organ_table(rows).loc["mean"]
            line = {"arm": arm.title, "fold": training, "cases": len(truths), **_published(study_name, arm)}
            lines.append({**line, **{name: about(name).scale * mean[name] for name in metrics_in(rows)}})
    if not frames:
        raise KitError(
            f"there are no complete predictions of {study_name} for {dataset}: "
            + "; ".join(f"{arm}, fold {training}: {why}" for (arm, training), why in missing.items()),
            remedy=f"see `lkm nnunet commands {number} --study {study_name}` for the commands that make them",
        )
    notes, runs = _notes(raw / dataset, rule), pd.DataFrame(made)
    first = ["arm", "seed", "training", "case", "organ"]
    rows = pd.concat(frames, ignore_index=True)
    rows = rows[[*first, *(name for name in rows if name not in first)]]
    patch, batch = planned(dataset, study_name, size)
    config = {
        "data": dataset,
        "trainer": TRAINER,
        "plans": plans_name(study_name, size),
        "trainings": [f"repetition {repetition}, fold {fold}" for repetition, fold in trainings],
        "epochs": int(runs["epochs"].max()),
        "iterations": int(runs["iterations"].max()),
        "image_size": patch,
        "batch_size": batch,
        "input_channels": len(data.channels),
        "organs": list(data.table.names),
        "rule": rule,
        "tta": tta,
        "notes": notes,
        "papers_data": published.is_papers_data(raw / dataset),
    }
    voxels = [data.geometry(data.cases[name])[1] for name in truths]
    about_data = {
        "name": data.name,
        "cases": list(truths),
        "voxel_mm": [[round(float(of(axis)), 4) for axis in zip(*voxels)] for of in (min, max)],
        "tolerance_mm": {label.name: label.tolerance_mm for label in data.table},
    }
    plan = Foreign(ours, size, tuple(range(len(trainings))), tuple(dict.fromkeys(rows["arm"])), config=config)
    runs = runs.drop(columns=["epochs", "iterations"]).assign(state="done", seconds_per_step=np.nan)
    runs["source"] = data.source.text
    return Collected(rows, pd.DataFrame(lines).set_index("arm"), missing, notes, plan, about_data, runs)


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
