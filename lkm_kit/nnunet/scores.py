"""Scores of nnU-Net's predictions, by the paper's own rule, beside the paper's numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lkm_kit.data.geometry import require_same_geometry, spacing_of
from lkm_kit.data.labels import LabelTable
from lkm_kit.data.manifest import Manifest
from lkm_kit.data.nifti import read_image
from lkm_kit.data.organs import ORGANS, to_kit_ids
from lkm_kit.errors import KitError
from lkm_kit.evaluation.metrics import METRICS, about, metrics_in
from lkm_kit.files import atomic_path, read_json, write_text
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
) -> Collected:
    """Score what was predicted for the test cases of a raw data set.

    Args:
        number: nnU-Net's data set id.
        study_name, size: as they were planned.
        arms: names; empty for all. An arm whose predictions are not complete is named, not scored.
        folds: of :func:`lkm_kit.nnunet.pipeline.steps`.
        rule: of :data:`lkm_kit.evaluation.RULES`; ``"official"`` is the paper's.

    Raises:
        KitError: no test labels, another label table than the kit's, a prediction that does not lie on its label's
            grid, or nothing to score at all.

    Source: the mean of the released scripts: over cases, then over organs, in percent.
    """
    import pandas as pd

    from lkm_kit.evaluation import organ_table

    size = size if isinstance(size, Profile) else profile(size)
    raw = nnunet_folder("nnUNet_raw")
    dataset = dataset_name(number, raw)
    truths = _truths(raw / dataset)
    ours, _ = nnunet_study(study_name, size)
    plans = plans_name(study_name, size)
    frames, lines, missing = [], [], {}
    for arm in ours.arms:
        if arms and arm.name not in arms:
            continue
        for fold in map(str, folds):
            folder = predictions_folder(dataset, plans, arm.name, fold)
            absent = [case for case in truths if not (folder / f"{case}.nii.gz").is_file()]
            if absent:
                missing[arm.name, fold] = f"{len(absent)} of {len(truths)} predictions are not in {folder}"
                continue
            rows = pd.concat([_score(folder / f"{case}.nii.gz", path, case, rule) for case, path in truths.items()])
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


def _truths(folder: Path) -> dict[str, Path]:
    about = read_json(
        folder / "dataset.json",
        "description of the data set",
        remedy="prepare it with `lkm data umamba`, `amos` or `flare`",
    )
    wanted = {"background": 0, **{organ.name: organ.label for organ in ORGANS}}
    if about.get("labels") != wanted:
        raise KitError(
            f"{folder.name} has another label table than the kit's",
            remedy="prepare it with `lkm data umamba`, `amos` or `flare`",
        )
    found = {path.name.removesuffix(".nii.gz"): path for path in sorted((folder / "labelsTs").glob("*.nii.gz"))}
    if not found:
        raise KitError(
            f"{folder.name} has no labels of test cases (labelsTs)",
            remedy="without them nothing can be scored; only the validation folds of nnU-Net say something",
        )
    return found


def _score(prediction_path: Path, truth_path: Path, case: str, rule: str) -> pd.DataFrame:
    from lkm_kit.evaluation import evaluate_case

    prediction, prediction_affine, _ = read_image(prediction_path)
    truth, affine, _ = read_image(truth_path)
    require_same_geometry(
        prediction.shape, prediction_affine, truth.shape, affine, str(prediction_path), str(truth_path)
    )
    prediction = to_kit_ids(prediction, where=str(prediction_path))
    return evaluate_case(prediction, truth, spacing_of(affine), LabelTable(), rule, case=case)


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
