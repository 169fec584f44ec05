"""A folder of predictions against a folder of labels: every case and organ, the mean of each case, the worst cases."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lkm_kit.data.case import Case
from lkm_kit.data.geometry import require_same_geometry, spacing_of
from lkm_kit.data.labels import LabelTable
from lkm_kit.data.nifti import case_name, is_nifti, read_image
from lkm_kit.data.organs import to_kit_ids
from lkm_kit.errors import KitError
from lkm_kit.evaluation.metrics import about, evaluate_case, metrics_in
from lkm_kit.files import read_json


def nifti_files(folder: str | Path) -> dict[str, Path]:
    """Case name -> file, in order of names; an image's ``_0000`` (nnU-Net's channel) is no part of the name.

    Raises:
        KitError: no folder, or two files of one case.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise KitError(f"there is no folder {folder}", remedy="give a folder with one .nii.gz file a case")
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if is_nifti(path)):
        name = case_name(path).removesuffix("_0000")
        if name in found:
            raise KitError(f"{folder} holds two files of case {name}", remedy=f"keep {path.name} or {found[name].name}")
        found[name] = path
    return found


def pair_files(predictions: str | Path, labels: str | Path) -> dict[str, tuple[Path, Path]]:
    """Case name -> its prediction and its label.

    Raises:
        KitError: no case at all, or a case that is in one of the two folders only. A mean over what happens to be there
            would not be the mean of the test set.
    """
    found, truth = nifti_files(predictions), nifti_files(labels)
    if not truth:
        raise KitError(f"{labels} holds no .nii or .nii.gz file", remedy="give the folder of the label maps")
    for these, those, where in ((truth, found, predictions), (found, truth, labels)):
        if missing := sorted(set(these) - set(those)):
            raise KitError(
                f"{where} lacks {len(missing)} of {len(these)} cases: {', '.join(missing[:5])}",
                remedy="predict all cases of the test set, and name both files of a case alike",
            )
    return {name: (found[name], truth[name]) for name in truth}


def table_of(predictions: list[Path]) -> LabelTable | None:
    """The label table that ``lkm predict`` wrote beside its segmentations; None where there is none.

    Raises:
        KitError: the cases were predicted with different tables.
    """
    beside = [path.with_name(case_name(path) + ".labels.json") for path in predictions]
    tables = {
        LabelTable.from_json(read_json(path, "label table", remedy="predict again, or move it away"))
        for path in beside
        if path.exists()
    }
    if len(tables) > 1:
        raise KitError(
            f"the predictions in {predictions[0].parent} have {len(tables)} different label tables",
            remedy="predict all cases with one network",
        )
    return tables.pop() if tables else None


def read_pair(
    name: str, prediction: Path, label: Path, *, table: LabelTable | None = None, label_ids: str = "kit"
) -> Case:
    """Both label maps of a case on one grid, as a Case whose ``image`` is the prediction.

    Args:
        table: of both files; default the kit's.
        label_ids: another numbering of the label, see :func:`lkm_kit.data.read_case`.

    Raises:
        KitError: a file that cannot be read, values that are not in the table, or grids that differ.
    """
    found, affine, _ = read_image(prediction)
    truth, truth_affine, _ = read_image(label)
    require_same_geometry(truth.shape, truth_affine, found.shape, affine, str(label), str(prediction))
    table = table or LabelTable()
    found = table.check(found, where=str(prediction))
    if label_ids != "kit":
        truth = to_kit_ids(truth, label_ids, where=str(label))
    truth = table.check(truth, where=str(label))
    return Case(found, truth, spacing_of(affine), affine, name, "CT")


def score_folders(
    predictions: str | Path,
    labels: str | Path,
    *,
    table: LabelTable | None = None,
    rule: str = "plain",
    label_ids: str = "kit",
    progress: bool = False,
) -> pd.DataFrame:
    """Score every case of two folders.

    Args:
        predictions: files ``CASE.nii.gz`` with the table's ids.
        labels: files of the same names on the same grids.
        table: organs to score; default the predictions' own table, else all 13.
        rule: a key of :data:`lkm_kit.evaluation.RULES`.
        label_ids: numbering of the labels, see :func:`lkm_kit.data.read_case`.
        progress: draw a progress bar.

    Returns:
        rows case, organ and a column a metric, see :func:`lkm_kit.evaluation.evaluate_case`.

    Raises:
        KitError: see :func:`pair_files` and :func:`read_pair`.

    >>> score_folders("predictions", "labelsTs", rule="official")  # doctest: +SKIP
    """
    from tqdm.auto import tqdm

    pairs = pair_files(predictions, labels)
    table = table or table_of([found for found, _ in pairs.values()]) or LabelTable()
    rows = []
    for name, files in tqdm(pairs.items(), unit="case", disable=not progress):
        case = read_pair(name, *files, table=table, label_ids=label_ids)
        rows.append(evaluate_case(case.image, case.label, case.spacing, table, rule, case=name))
    return pd.concat(rows, ignore_index=True)


def case_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over the organs of each case, the worst by the first metric first; cases without any organ last.

    >>> rows = pd.DataFrame({"case": ["a", "b"], "organ": "liver", "DSC": [0.9, 0.4], "NSD": [0.8, 0.3]})
    >>> case_table(rows).index.tolist()
    ['b', 'a']
    """
    scores = metrics_in(rows)
    table = rows.groupby("case", sort=False)[scores].mean()
    return table.sort_values(scores[0], ascending=about(scores[0]).higher_is_better, kind="stable")
