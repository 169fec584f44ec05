"""Look a raw nnU-Net data set over before days of training go into it: files, geometry, labels, sides, leakage.

Every finding is an *error* (training or its result would be wrong) or a *warning* (unusual, may be right).
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lkm_kit.data.case import require_values
from lkm_kit.data.dataset import SPACING_LIMIT, CaseFiles, DataSet
from lkm_kit.data.geometry import require_one_geometry, require_same_geometry, spacing_of, voxel_ml
from lkm_kit.data.labels import partner_name
from lkm_kit.data.manifest import Manifest, content_hash
from lkm_kit.data.nifti import read_image
from lkm_kit.data.nnunet_raw import FOLDERS
from lkm_kit.data.organs import whole_numbers
from lkm_kit.data.persons import shared_persons
from lkm_kit.data.preprocess import looks_like
from lkm_kit.data.report import Finding, Preview, Report, make_preview
from lkm_kit.errors import KitError, KitWarning, one_of

if TYPE_CHECKING:
    import pandas as pd

SIDE_MARGIN_MM = 5.0
"""Centroids may be the wrong way round by this much before it is a finding: small organs near the middle may be."""

SPACING_FACTOR = 3.0
"""A spacing that differs from the data set's median by more than this factor is unusual."""


def check_dataset(folder: str | Path, *, accept: Iterable[str] = ()) -> Report:
    """Read every file of a raw nnU-Net data set and say what is wrong with it.

    Of the set it looks at ``dataset.json``, images without labels and labels without images, and files that differ from
    the manifest. One scan in two cases or in two splits is found whatever its file's name and compression, and so is
    one person in two splits. Of a case it looks at missing channels, files that cannot be read, channels and label that
    lie apart, spacing and orientation. It looks for intensities that do not fit the modality. Labels are looked through
    for empty ones, for values outside the table and for the wrong side (by their centroids).

    Args:
        folder: with ``dataset.json``, ``imagesTr`` and ``labelsTr``.
        accept: cases whose errors are known and right, a patient with situs inversus for instance.

    Raises:
        KitError: no such folder, or its ``dataset.json`` cannot be used.

    >>> print(check_dataset("nnUNet_raw/Dataset722_AMOS22MR"))  # doctest: +SKIP
    """
    import pandas as pd
    from tqdm import tqdm

    data = DataSet(folder)
    accepted = {one_of(name, data.cases, "case", message=f"--accept {name}: there is no such case") for name in accept}
    manifest = Manifest.read(data.folder)
    findings = [*_manifest_findings(manifest, data), *data.problems]
    mirrored = bool(manifest.about.get("mirrored")) if manifest else False
    rows, previews, volumes = [], {}, []
    seen = _Seen()
    for case in tqdm(data.listed, desc=data.name, unit="case", disable=None, leave=False):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", KitWarning)
            row, found, preview = _check_case(data, case, mirrored, seen, volumes)
        rows.append(row)
        told = dict.fromkeys(str(w.message).replace(f"{data.folder}/", "") for w in said if w.category is KitWarning)
        findings += [*found, *(Finding("warning", case.name, "headers", text) for text in told)]
        if preview is not None:
            previews[case.name if case.name not in previews else f"{case.name} ({case.split})"] = preview
    table = pd.DataFrame(rows, columns=_COLUMNS)
    findings += [*_set_findings(table, data), *_split_findings(data)]
    findings = [f._replace(level="accepted") if f.case in accepted and f.level == "error" else f for f in findings]
    order = ["error", "warning", "accepted"]
    findings.sort(key=lambda finding: order.index(finding.level))
    about = ""
    with contextlib.suppress(KitError):  # of files that cannot be read, which the findings name
        about = str(data) if data.training else ""
    ml = pd.DataFrame(dict(volumes), index=data.table.names).T.rename_axis("case").fillna(0.0).astype(float)
    return Report(data.folder, table, findings, previews, data.table.by_id, ml, about)


_COLUMNS = ["case", "split", "voxels", "spacing_mm", "orientation", "low", "high", "labels", "missing"]


class _Seen:
    """Contents met so far: hash -> split and case."""

    def __init__(self):
        self.images: dict[str, tuple[str, str]] = {}
        self.labels: dict[str, tuple[str, str]] = {}
        self.names: dict[str, str] = {}

    def findings(self, split: str, case: str, image: np.ndarray, label: np.ndarray | None) -> list[Finding]:
        found = []
        if self.names.setdefault(case, split) != split:
            found.append(Finding("error", case, "leakage", f"the name is in {self.names[case]} and in {split}"))
        other = self.images.setdefault(content_hash(image), (split, case))
        if other != (split, case):
            if other[0] != split:
                text = f"the same scan is {other[0]} case {other[1]}: tested on what was trained on"
                found.append(Finding("error", case, "leakage", text))
            else:
                found.append(Finding("error", case, "duplicate", f"the same scan is {other[0]} case {other[1]}"))
        elif label is not None and label.any():
            twin = self.labels.setdefault(content_hash(label), (split, case))
            if twin != (split, case):
                text = f"its label is, voxel by voxel, that of {twin[0]} case {twin[1]}, its scan is not"
                found.append(Finding("warning", case, "duplicate", text))
        return found


def _check_case(
    data: DataSet, case: CaseFiles, mirrored: bool, seen: _Seen, volumes: list[tuple[str, dict[str, float]]]
) -> tuple[dict[str, Any], list[Finding], Preview | None]:
    import nibabel

    row: dict[str, Any] = {"case": case.name, "split": case.split}
    found: list[Finding] = []

    def note(kind: str, text: str) -> None:
        found.append(Finding("error", case.name, kind, text.replace(f"{data.folder}/", "")))

    def lies_with(first: tuple, other: tuple, what: str) -> bool:
        """The two grids agree but for noise in their headers, which is told."""
        try:
            require_same_geometry(*first, *other, "the image", what)
        except KitError as fault:
            note("geometry", fault.message)
            return False
        return True

    channels: list[np.ndarray] = []
    for name, path in zip(data.channels, case.images):
        try:
            image, affine, header = read_image(path)
        except KitError as fault:
            note("files", fault.message)
            return row, found, None
        try:
            require_one_geometry(header, path)
        except KitError as fault:  # the kit goes by the sform, other programs by the qform
            found.append(Finding("warning", case.name, "geometry", fault.message.replace(f"{data.folder}/", "")))
        if not np.isfinite(image).all():
            note("intensities", f"{int((~np.isfinite(image)).sum())} voxels are NaN or infinite in {path}")
            image = np.nan_to_num(image)
        try:
            require_values(image, str(path))
        except KitError as fault:
            note("intensities", fault.message)
        low, high = (float(v) for v in np.percentile(image, (0.5, 99.5)))
        if name.upper() in ("CT", "MR") and (seems := looks_like(image)) != name.upper():
            text = f"dataset.json says {name}, the intensities ({low:g} to {high:g}) look like {seems}"
            note("intensities", text)
        if image.min() == image.max():
            note("intensities", f"every voxel of {path} is {image.flat[0]:g}")
        if not channels:
            grid, spacing = (image.shape, affine), spacing_of(affine)
            row |= {
                "voxels": "x".join(map(str, image.shape)),
                "spacing_mm": "x".join(f"{s:.4g}" for s in spacing),
                "orientation": "".join(nibabel.aff2axcodes(header.get_best_affine())),
                "low": low,
                "high": high,
            }
        elif not lies_with(grid, (image.shape, affine), f"channel {name}"):
            continue
        channels.append(image)
    label = None
    if case.label is not None:
        try:
            label, affine, _ = read_image(case.label)
            label = whole_numbers(label, "the label")
        except KitError as fault:
            note("files", fault.message)
        else:
            label = label if lies_with(grid, (label.shape, affine), "its label") else None
    if label is not None:
        names = data.table.by_id
        values, counts = np.unique(label, return_counts=True)
        outside = [f"{v:g}" for v in values if v not in names and v != 0]
        if outside:
            note("labels", f"the label holds {', '.join(outside[:8])}, which dataset.json does not name")
        present = {names[int(v)]: int(n) for v, n in zip(values, counts) if v in names}
        volumes.append((case.name, {name: n * voxel_ml(grid[1]) for name, n in present.items()}))
        row |= {"labels": len(present), "missing": ", ".join(n for n in names.values() if n not in present)}
        if not present:
            note("labels", "the label is empty")
        if not mirrored:
            for text in wrong_sides(label, spacing, names):
                note("sides", text)
    found += seen.findings(case.split, case.name, np.stack(channels), label)
    return row, found, make_preview(channels[0], label, spacing, data.channels[0])


def wrong_sides(label: np.ndarray, spacing: tuple[float, float, float], names: dict[int, str]) -> list[str]:
    """Sentences on labels that lie on the wrong side of their partners.

    Args:
        label: (x, y, z) in RAS order: x grows to the patient's right.
        spacing: mm.
        names: label id -> name; one with right in it has a partner with left, and the liver lies right of the spleen.

    >>> label = np.zeros((9, 1, 1), int); label[0], label[8] = 2, 13
    >>> wrong_sides(label, (10.0, 1, 1), {2: "right kidney", 13: "left kidney"})
    ['right kidney lies 80 mm to the left of left kidney: are the two labels exchanged?']
    """
    rights = [name for name in names.values() if re.search(r"(^|[\s_-])(right|r)($|[\s_-])", name, re.IGNORECASE)]
    pairs = [(name, partner_name(name)) for name in rights] + [("liver", "spleen")]
    place = {}
    along_x = np.arange(label.shape[0]) * spacing[0]
    for number, name in names.items():
        weight = (label == number).sum(axis=(1, 2))
        if weight.any():
            place[name] = float((along_x * weight).sum() / weight.sum())
    apart = {(a, b): place[a] - place[b] for a, b in pairs if a in place and b in place}
    wrong = {pair: distance for pair, distance in apart.items() if distance < -SIDE_MARGIN_MM}
    if len(wrong) > 1 and len(wrong) == len(apart):
        return [
            "right and left are exchanged in the whole scan: its header is wrong, or the patient has situs inversus"
        ]
    return [f"{a} lies {-d:.0f} mm to the left of {b}: are the two labels exchanged?" for (a, b), d in wrong.items()]


def _manifest_findings(manifest: Manifest | None, data: DataSet) -> list[Finding]:
    if manifest is None:
        text = "where the files come from is not known: dataset.json has no licence and no reference"
        told = data.source.licence or data.source.citation
        return [] if told else [Finding("warning", "", "manifest", text)]
    found = []
    if not manifest.complete:
        found.append(Finding("error", "", "manifest", "its preparation did not finish: run the script again"))
    case_of = {path: case for case, about in manifest.cases.items() for path in about["files"]}
    for path in manifest.changed():
        case = case_of.get(path, "")
        found.append(Finding("error", case, "manifest", f"{path} is missing or was changed since it was written"))
    known = manifest.files()
    for sub in (sub for pair in FOLDERS.values() for sub in pair):
        for path in sorted((manifest.folder / sub).glob("*")):
            if f"{sub}/{path.name}" not in known:
                text = f"{sub}/{path.name} is not in the manifest: it was added by hand"
                found.append(Finding("warning", "", "manifest", text))
    return found


def _set_findings(table: pd.DataFrame, data: DataSet) -> list[Finding]:
    """What only shows when all cases are looked at."""
    found = []
    there = int((table["split"] == "training").sum())
    stated = data.about.get("numTraining", there)
    if str(there) != str(stated):
        text = f"dataset.json says {stated} training cases, imagesTr holds {there}"
        found.append(Finding("error", "", "files", text))
    if list(data.table.labels) != list(range(1, data.table.num_classes)):
        text = (
            f"the labels are {[0, *data.table.labels]}: nnU-Net wants 0, 1, 2, 3, ...; the kit takes them as they are"
        )
        found.append(Finding("warning", "", "labels", text))
    readable = table.dropna(subset=["spacing_mm"])
    if len(readable):
        spacings = np.array([[float(s) for s in text.split("x")] for text in readable["spacing_mm"]])
        ratio = spacings / np.median(spacings, axis=0)
        for row, own in zip(readable.itertuples(), ratio):
            apart = max(own.max(), 1 / own.min())
            if apart > SPACING_FACTOR:
                text = f"spacing {row.spacing_mm} mm, the median is " + "x".join(
                    f"{s:.3g}" for s in np.median(spacings, axis=0)
                )
                found.append(Finding("error" if apart >= SPACING_LIMIT else "warning", row.case, "spacing", text))
        codes = Counter(readable["orientation"])
        usual = codes.most_common(1)[0][0]
        for row in readable.itertuples():
            if row.orientation != usual:
                text = f"voxels are stored as {row.orientation}, most cases as {usual} (nnU-Net does not turn them)"
                found.append(Finding("warning", row.case, "orientation", text))
    labelled = table.dropna(subset=["missing"])
    if len(labelled):
        never = set.intersection(*(set(filter(None, text.split(", "))) for text in labelled["missing"]))
        if never:
            ordered = ", ".join(name for name in data.table.names if name in never)
            found.append(Finding("warning", "", "labels", f"in no case there is any {ordered}"))
    return found


def _split_findings(data: DataSet) -> list[Finding]:
    """One person on two sides: an error where persons are listed, a warning where names only suggest it."""
    found = []
    training, test = ([case.name for case in cases] for cases in (data.training, data.test))
    if len({data.persons[name] for name in training}) == 1:
        text = "all training cases show one person: nobody is left to validate on"
        found.append(Finding("error", "", "files", text))
    texts = shared_persons({"imagesTr": training, "imagesTs": test}, data.persons)
    for fold in range(len(data.splits or ())):
        try:
            split = data.split(fold=fold)
        except KitError as fault:
            found.append(Finding("error", "", "files", fault.message))
        else:
            shared = shared_persons({"train": split.train, "val": split.validation}, data.persons)
            texts += [f"fold {fold}: {text}" for text in shared]
    listed = "persons" in data.about or (data.folder / "persons.csv").is_file()
    level, why = ("error", "") if listed else ("warning", " (by the names)")
    return found + [Finding(level, "", "leakage", text + why) for text in texts]
