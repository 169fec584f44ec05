"""A scan of the user's own: a NIfTI file or a folder of DICOM slices, looked over before a network sees it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lkm_kit.data.case import Case, read_case, require_contrast
from lkm_kit.data.dicom import stored_series
from lkm_kit.data.geometry import require_one_geometry, spacing_of
from lkm_kit.data.preprocess import looks_like
from lkm_kit.errors import KitError


def read_scan(path: str | Path | Sequence[Path], *, modality: str | None = None, default: str = "CT") -> Case:
    """Read a scan without labels.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file, one for each channel, or a folder with one DICOM series.
        modality: ``"CT"`` or ``"MR"``; None asks the DICOM files.
        default: what a NIfTI file, which does not say, is taken for; :func:`doubts_about` tells when that looks wrong.

    Returns:
        a Case whose header is the file's: :func:`lkm_kit.data.write_segmentation` writes on exactly that grid.

    Raises:
        KitError: see :func:`lkm_kit.data.read_image` and :func:`lkm_kit.data.read_dicom_series`; also a qform
            and an sform that disagree, an image of one single value, and a DICOM series that is neither CT nor MR.

    >>> case = read_scan("scan.nii.gz")  # doctest: +SKIP
    """
    paths = [Path(path)] if isinstance(path, (str, Path)) else list(path)
    if paths[0].is_dir():
        case = _read_dicom(paths[0], modality)
    else:
        case = read_case(paths, modality=modality or default)
        require_one_geometry(case.header, paths[0])
    for file, channel in zip(paths, case.image if len(paths) > 1 else [case.image]):
        require_contrast(channel, str(file))
    return case


def doubts_about(case: Case, trained_on: str) -> list[str]:
    """What the user should know before trusting a segmentation of this case; empty when nothing is odd.

    Args:
        trained_on: modality that the network was trained on.
    """
    doubts = []
    seems = looks_like(case.image)
    if case.modality != trained_on:
        doubts.append(f"the network was trained on {trained_on}, {case.name} is {case.modality}: expect little of it")
    elif seems != trained_on:
        doubts.append(
            f"the network was trained on {trained_on}, the values of {case.name} ({case.image.min():g} to "
            f"{case.image.max():g}) look like {seems}: give --modality {seems} if it is, and expect little"
        )
    header = case.header
    if header is not None and not (int(header["qform_code"]) or int(header["sform_code"])):
        doubts.append(
            f"the header of {case.name} does not say how the patient lies (qform_code and sform_code are 0): left and "
            "right, front and back are guessed"
        )
    return doubts


def _read_dicom(folder: Path, modality: str | None) -> Case:
    from nibabel import as_closest_canonical

    stored, tagged = stored_series(folder)
    if modality is None and tagged not in ("CT", "MR"):
        raise KitError(
            f"the series in {folder} has the modality {tagged or 'none'}, the kit knows CT and MR",
            remedy="give the folder of a CT or MR series, or say which it is with --modality",
        )
    ras = as_closest_canonical(stored)
    image = np.ascontiguousarray(ras.dataobj, dtype=np.float32)
    affine = np.asarray(ras.affine, dtype=np.float64)
    return Case(image, None, spacing_of(affine), affine, folder.name, modality or tagged, stored.header.copy())
