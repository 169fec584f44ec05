"""Look a raw nnU-Net data set over before days of training go into it: files, geometry, labels, sides, leakage.

Every finding is an *error* (training or its result would be wrong) or a *warning* (unusual, may be right).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lkm_kit.data.case import read_image, require_same_geometry, spacing_of
from lkm_kit.data.manifest import Manifest, content_hash
from lkm_kit.data.nnunet_raw import FOLDERS
from lkm_kit.data.prepare import looks_like
from lkm_kit.data.report import Finding, Preview, Report, make_preview
from lkm_kit.errors import KitError

if TYPE_CHECKING:
    import pandas as pd

SIDES = (("right kidney", "left kidney"), ("right adrenal gland", "left adrenal gland"), ("liver", "spleen"))
"""Pairs of organs; the first lies further to the patient's right."""

SIDE_MARGIN_MM = 5.0
"""Centroids may be the wrong way round by this much before it is a finding: small organs near the middle may be."""

SPACING_FACTOR = 3.0
"""A spacing that differs from the data set's median by more than this factor is unusual."""


def check_dataset(folder: str | Path, *, accept: Iterable[str] = ()) -> Report:
    """Read every file of a raw nnU-Net data set and say what is wrong with it.

    Looks at: ``dataset.json``; images without labels and labels without images; files that cannot be read; image and
    label that lie apart; spacing and orientation; intensities that do not fit the modality; label values outside the
    table; empty labels; organs on the wrong side (by their centroids); one scan in two cases or in two splits, whatever
    its file's name and compression; files that differ from the manifest.

    Args:
        folder: ``nnUNet_raw/DatasetXXX_Name``.
        accept: cases whose errors are known and right, a patient with situs inversus for instance.

    Raises:
        KitError: no such folder, or its ``dataset.json`` cannot be used.

    >>> print(check_dataset("nnUNet_raw/Dataset722_AMOS22MR"))  # doctest: +SKIP
    """
    import pandas as pd
    from tqdm import tqdm

    folder = Path(folder)
    channel, names, training = _read_dataset_json(folder)
    manifest = Manifest.read(folder)
    about = manifest.about if manifest else {}
    findings = _manifest_findings(manifest)
    rows, previews = [], {}
    seen = _Seen()
    files = list(_files(folder, findings))
    for split, case, image, label in tqdm(files, desc=folder.name, unit="case", disable=None, leave=False):
        row, found, preview = _check_case(split, case, image, label, channel, names, bool(about.get("mirrored")), seen)
        rows.append(row)
        findings += found
        if preview is not None:
            previews[case if case not in previews else f"{case} ({split})"] = preview
    table = pd.DataFrame(rows, columns=_COLUMNS)
    findings += _set_findings(table, training, names)
    accepted = set(accept)
    findings = [f._replace(level="accepted") if f.case in accepted and f.level == "error" else f for f in findings]
    order = ["error", "warning", "accepted"]
    findings.sort(key=lambda finding: order.index(finding.level))
    return Report(folder, table, findings, previews, names)


_COLUMNS = ["case", "split", "voxels", "spacing_mm", "orientation", "low", "high", "organs", "missing"]


def _read_dataset_json(folder: Path) -> tuple[str, dict[int, str], int]:
    """Channel name, label id -> organ name (in the kit's spelling), stated number of training cases."""
    path = folder / "dataset.json"
    if not path.is_file():
        raise KitError(
            f"there is no dataset.json in {folder}",
            remedy="give a folder nnUNet_raw/DatasetXXX_Name; if its preparation was interrupted, run that again",
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        names = {int(value): key.lower().replace("_", " ") for key, value in about["labels"].items()}
        channels, training = about["channel_names"], int(about["numTraining"])
        ending = about["file_ending"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KitError(
            f"{path} is not nnU-Net's dataset.json ({type(error).__name__}: {error})",
            remedy="it needs channel_names, labels (name: id), numTraining and file_ending",
        ) from error
    if sorted(names) != list(range(len(names))) or names[0] != "background":
        raise KitError(
            f"{path}: the labels are {sorted(names)}", remedy="nnU-Net wants background: 0 and then 1, 2, 3, ..."
        )
    if len(channels) != 1 or ending != ".nii.gz":
        raise KitError(
            f"{path}: {len(channels)} channels, files end in {ending}",
            remedy="this check knows data sets of one channel in .nii.gz files",
        )
    return str(next(iter(channels.values()))), {k: v for k, v in names.items() if k}, training


def _files(folder: Path, findings: list[Finding]):
    """Yield split, case, image, label (or None); notes files without a partner."""
    for split, (images, labels) in FOLDERS.items():
        found = {}
        for sub, tail in ((images, "_0000.nii.gz"), (labels, ".nii.gz")):
            paths = sorted((folder / sub).glob("*")) if (folder / sub).is_dir() else []
            found[sub] = {p.name.removesuffix(tail): p for p in paths if p.name.endswith(tail)}
            for path in paths:
                if not path.name.endswith(tail) or path.name.startswith("."):
                    findings.append(Finding("error", "", "files", f"{sub}/{path.name} is no file of nnU-Net's layout"))
                    found[sub].pop(path.name.removesuffix(tail), None)
        for case in sorted(set(found[labels]) - set(found[images])):
            findings.append(Finding("error", case, "files", f"there is a label in {labels} and no image in {images}"))
        missing = sorted(set(found[images]) - set(found[labels]))
        for case in missing:
            if split == "training" or found[labels]:
                findings.append(Finding("error", case, "files", f"there is an image in {images}, no label in {labels}"))
        if split == "test" and missing and not found[labels]:
            text = f"none of the {len(missing)} test cases has a label: they can be predicted, not scored"
            findings.append(Finding("warning", "", "files", text))
        for case, image in found[images].items():
            yield split, case, image, found[labels].get(case)


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
    split: str,
    case: str,
    image_path: Path,
    label_path: Path | None,
    channel: str,
    names: dict[int, str],
    mirrored: bool,
    seen: _Seen,
) -> tuple[dict[str, Any], list[Finding], Preview | None]:
    import nibabel

    row: dict[str, Any] = {"case": case, "split": split}
    found: list[Finding] = []

    def error(kind: str, text: str) -> None:
        found.append(Finding("error", case, kind, text.replace(f"{image_path.parents[1]}/", "")))

    try:
        image, affine, header = read_image(image_path)
    except KitError as fault:
        error("files", fault.message)
        return row, found, None
    spacing = spacing_of(affine)
    row |= {
        "voxels": "x".join(map(str, image.shape)),
        "spacing_mm": "x".join(f"{s:.4g}" for s in spacing),
        "orientation": "".join(nibabel.aff2axcodes(header.get_best_affine())),
    }
    if not np.isfinite(image).all():
        error("intensities", f"{int((~np.isfinite(image)).sum())} voxels are NaN or infinite")
        image = np.nan_to_num(image)
    row["low"], row["high"] = (float(v) for v in np.percentile(image, (0.5, 99.5)))
    if channel in ("CT", "MR") and (seems := looks_like(image)) != channel:
        text = f"dataset.json says {channel}, the intensities ({row['low']:g} to {row['high']:g}) look like {seems}"
        error("intensities", text)
    label = None
    if label_path is not None:
        try:
            label, label_affine, _ = read_image(label_path)
        except KitError as fault:
            error("files", fault.message)
    if label is not None:
        try:
            require_same_geometry(image.shape, affine, label.shape, label_affine, "the image", "its label")
        except KitError as fault:
            error("geometry", fault.message)
            label = None
    if label is not None:
        values, counts = np.unique(label, return_counts=True)
        outside = [f"{v:g}" for v in values if v not in names and v != 0]
        if outside:
            error("labels", f"the label holds {', '.join(outside[:8])}, which dataset.json does not name")
        present = {names[int(v)]: int(n) for v, n in zip(values, counts) if v in names}
        row |= {"organs": len(present), "missing": ", ".join(n for n in names.values() if n not in present)}
        if not present:
            error("labels", "the label is empty")
        if not mirrored:
            for text in wrong_sides(label, spacing, names):
                error("sides", text)
    found += seen.findings(split, case, image, label)
    return row, found, make_preview(image, label, spacing, channel)


def wrong_sides(label: np.ndarray, spacing: tuple[float, float, float], names: dict[int, str]) -> list[str]:
    """Sentences on organs that lie on the wrong side of their partners.

    Args:
        label: (x, y, z) in RAS order: x grows to the patient's right.
        spacing: mm.
        names: label id -> organ name.

    >>> label = np.zeros((9, 1, 1), int); label[0], label[8] = 2, 13
    >>> wrong_sides(label, (10.0, 1, 1), {2: "right kidney", 13: "left kidney"})
    ['right kidney lies 80 mm to the left of left kidney: are the two labels exchanged?']
    """
    place = {}
    along_x = np.arange(label.shape[0]) * spacing[0]
    for number, name in names.items():
        weight = (label == number).sum(axis=(1, 2))
        if weight.any():
            place[name] = float((along_x * weight).sum() / weight.sum())
    apart = {(a, b): place[a] - place[b] for a, b in SIDES if a in place and b in place}
    wrong = {pair: distance for pair, distance in apart.items() if distance < -SIDE_MARGIN_MM}
    if len(wrong) > 1 and len(wrong) == len(apart):
        return [
            "right and left are exchanged in the whole scan: its header is wrong, or the patient has situs inversus"
        ]
    return [f"{a} lies {-d:.0f} mm to the left of {b}: are the two labels exchanged?" for (a, b), d in wrong.items()]


def _manifest_findings(manifest: Manifest | None) -> list[Finding]:
    if manifest is None:
        text = "there is no manifest.json: where the files come from is not known"
        return [Finding("warning", "", "manifest", text)]
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


def _set_findings(table: pd.DataFrame, training: int, names: dict[int, str]) -> list[Finding]:
    """What only shows when all cases are looked at."""
    found = []
    there = int((table["split"] == "training").sum())
    if there != training:
        text = f"dataset.json says {training} training cases, imagesTr holds {there}"
        found.append(Finding("error", "", "files", text))
    readable = table.dropna(subset=["spacing_mm"])
    if len(readable):
        spacings = np.array([[float(s) for s in text.split("x")] for text in readable["spacing_mm"]])
        ratio = spacings / np.median(spacings, axis=0)
        for row, own in zip(readable.itertuples(), ratio):
            if own.max() > SPACING_FACTOR or own.min() < 1 / SPACING_FACTOR:
                text = f"spacing {row.spacing_mm} mm, the median is " + "x".join(
                    f"{s:.3g}" for s in np.median(spacings, axis=0)
                )
                found.append(Finding("warning", row.case, "spacing", text))
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
            ordered = ", ".join(name for name in names.values() if name in never)
            found.append(Finding("warning", "", "labels", f"in no case there is any {ordered}"))
    return found
