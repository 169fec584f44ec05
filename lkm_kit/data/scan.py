"""A scan of the user's own: a NIfTI file or a folder of DICOM slices, looked over before a network sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lkm_kit.data.case import Case, read_case, read_image, spacing_of
from lkm_kit.data.dicom import stored_series
from lkm_kit.errors import KitError

AIR_BELOW_HU = -300.0
"""A CT shows air (-1000 HU) or at least fat and lung; no MR sequence is stored with values this low."""


def read_scan(path: str | Path, *, modality: str | None = None, default: str = "CT") -> Case:
    """Read a scan without labels.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file, or a folder with one DICOM series.
        modality: ``"CT"`` or ``"MR"``; None asks the DICOM files.
        default: what a NIfTI file, which does not say, is taken for; :func:`doubts_about` tells when that looks wrong.

    Returns:
        a Case whose header is the file's: :func:`lkm_kit.data.write_segmentation` writes on exactly that grid.

    Raises:
        KitError: see :func:`lkm_kit.data.read_image` and :func:`lkm_kit.data.read_dicom_series`; also a spacing of
            zero, a qform and an sform that disagree, an image of one single value, and a DICOM series
            that is neither CT nor MR.

    >>> case = read_scan("scan.nii.gz")  # doctest: +SKIP
    """
    path = Path(path)
    if path.is_dir():
        case = _read_dicom(path, modality)
    else:
        _require_geometry(path)
        case = read_case(path, modality=modality or default)
    if case.image.min() == case.image.max():
        raise KitError(
            f"{path} is empty: every voxel is {case.image.flat[0]:g}", remedy="check that the export was complete"
        )
    return case


def probable_modality(image: np.ndarray) -> str:
    """CT or MR, by the one thing that always differs: only a CT in Hounsfield units holds air far below zero.

    >>> probable_modality(np.array([-1000.0, 40.0])), probable_modality(np.array([0.0, 800.0]))
    ('CT', 'MR')
    """
    return "CT" if float(image.min()) < AIR_BELOW_HU else "MR"


def doubts_about(case: Case, trained_on: str) -> list[str]:
    """What the user should know before trusting a segmentation of this case; empty when nothing is odd.

    Args:
        trained_on: modality that the network was trained on.
    """
    doubts = []
    looks_like = probable_modality(case.image)
    if case.modality != trained_on:
        doubts.append(f"the network was trained on {trained_on}, {case.name} is {case.modality}: expect little of it")
    elif looks_like != trained_on:
        doubts.append(
            f"the network was trained on {trained_on}, the values of {case.name} ({case.image.min():g} to "
            f"{case.image.max():g}) look like {looks_like}: give --modality {looks_like} if it is, and expect little"
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


def _require_geometry(path: Path) -> None:
    """No spacing at all, or two geometries in one header that put a voxel half a voxel apart, are refused."""
    import nibabel

    if not path.is_file():
        read_image(path)  # says what is wrong
    try:
        header = nibabel.load(path).header
        with nibabel.openers.ImageOpener(path) as raw:  # nibabel.load turns a spacing of zero into one of 1 mm
            pixdim = type(header).from_fileobj(raw, check=False)["pixdim"][1:4]
        codes = int(header["qform_code"]), int(header["sform_code"])
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError, KeyError, TypeError):
        return  # not NIfTI, or damaged: read_image says so
    if not codes[1] and not (np.abs(pixdim) > 0).all():
        raise KitError(
            f"{path} says that a voxel measures {' x '.join(f'{v:g}' for v in pixdim)} mm",
            remedy="write the true spacing into its header: image.header.set_zooms((x, y, z)) in nibabel",
        )
    if not all(codes):
        return
    qform, sform = header.get_qform(), header.get_sform()
    if not (np.isfinite(qform).all() and np.isfinite(sform).all()):
        return
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)
    corners[:, :3] *= np.asarray(header.get_data_shape()[:3]) - 1
    apart = np.linalg.norm((corners @ (qform - sform).T)[:, :3], axis=1).max()
    if apart > max(0.5 * min(spacing_of(sform)), 1e-2):
        raise KitError(
            f"{path}: qform and sform disagree, by up to {apart:.3g} mm",
            remedy="find out which is right and copy it over the other: image.set_qform(image.get_sform()) in nibabel",
        )
