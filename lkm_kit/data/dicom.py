"""A folder of DICOM slices as one volume: sorted along the body, in Hounsfield units, in RAS order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lkm_kit.data.case import require_values
from lkm_kit.data.dicom_slices import CONVERT, SCALE, attribute, finite_numbers, physical_values, read_slices
from lkm_kit.data.geometry import PLAUSIBLE_MM, require_square, spacing_of
from lkm_kit.data.preprocess import AIR_BELOW_HU
from lkm_kit.errors import KitError, note

if TYPE_CHECKING:
    import nibabel
    from pydicom import Dataset

SAME_DIRECTION, SAME_SIZE = 1e-4, 1e-4
"""How far the slices' direction cosines, and the share by which their pixel sizes, may differ: late decimals."""

ONE_STEP = 0.05
"""Share of a voxel by which a slice may be off its place."""


def read_dicom_series(source: str | Path | Iterable[str | Path]) -> tuple[np.ndarray, np.ndarray]:
    """Read one axial, sagittal or coronal series.

    The order of the slices comes from their positions in space, not from file names or instance numbers. Stored values
    become physical ones by RescaleSlope and RescaleIntercept. DICOM's LPS coordinates become RAS.

    Args:
        source: a folder (every file in it is read) or the files.

    Returns:
        ``(image, affine)``: image (x, y, z) float32 in RAS order, affine (4, 4) in mm.

    Raises:
        KitError: no file, or one that is not DICOM, holds no plain grey slice, or has a compression that no installed
            decoder reads. Slices of different size or direction, missing or unevenly spaced. A tilted gantry, or a CT
            without its scale.

    >>> image, affine = read_dicom_series("series/")  # doctest: +SKIP
    """
    from nibabel import as_closest_canonical

    ras = as_closest_canonical(stored_series(source)[0])
    return np.ascontiguousarray(ras.dataobj, dtype=np.float32), np.asarray(ras.affine, dtype=np.float64)


def stored_series(source: str | Path | Iterable[str | Path]) -> tuple[nibabel.Nifti1Image, str]:
    """One series as it lies in its files, (column, row, slice) and not yet in RAS order, and its modality.

    Returns:
        ``(image, modality)``: the grid that other programs' NIfTI files of the series have, up to flips; ``"CT"``,
        ``"MR"`` or whatever the files say.

    Raises:
        KitError: see :func:`read_dicom_series`.
    """
    from nibabel import Nifti1Image

    if isinstance(source, (str, Path)):
        where, files = str(source), sorted(p for p in Path(source).glob("[!.]*") if p.is_file())
    else:
        files = [Path(p) for p in source]
        where = str(files[0].parent) if files else "the list of files"
    slices = read_slices(files)
    if len(slices) < 2:
        raise KitError(f"{where} holds {len(slices)} DICOM slices", remedy="give the folder of one whole series")
    series = Counter(str(attribute(d, "SeriesInstanceUID") or "") for d in slices.values())
    if len(series) > 1:
        counts = ", ".join(f"{n} files of {uid[-12:] or 'no name'}" for uid, n in series.most_common(4))
        raise KitError(
            f"{where} holds {len(series)} series ({counts})",
            remedy="move the files of one series into a folder of their own and give that folder",
        )
    direction, (row_mm, column_mm) = _common_geometry(slices, where)
    along_row, along_column = direction[:3], direction[3:]
    positions = np.array([finite_numbers(d, file, "ImagePositionPatient", 3) for file, d in slices.items()])
    heights = positions @ np.cross(along_row, along_column)
    order = np.argsort(heights)
    steps = np.diff(heights[order])
    step = float(np.median(steps))
    if step <= 0 or np.abs(steps - step).max() > ONE_STEP * step:
        odd = int(np.abs(steps - step).argmax())
        one, other = (list(slices)[order[k]].name for k in (odd, odd + 1))
        raise KitError(
            f"the slices in {where} are {steps.min():.3g} to {steps.max():.3g} mm apart ({one} and {other}: "
            f"{steps[odd]:.3g}), they should be evenly spaced",
            remedy="a slice is missing or there twice, or two series are mixed: keep one file for each place, all of "
            "one whole series",
        )
    affine = np.eye(4)
    affine[:3, 0] = along_row * column_mm  # DICOM: the first direction is that of growing column index
    affine[:3, 1] = along_column * row_mm
    affine[:3, 2] = (positions[order[-1]] - positions[order[0]]) / (len(slices) - 1)
    affine[:3, 3] = positions[order[0]]
    line = affine[:3, 3] + np.arange(len(slices))[:, None] * affine[:3, 2]
    off = float(np.linalg.norm(positions[order] - line, axis=1).max())
    if off > ONE_STEP * max(spacing_of(affine)):
        raise KitError(
            f"a slice in {where} lies {off:.3g} mm beside the line that the others are on",
            remedy="two series are mixed, or the table was moved: keep the files of one series only",
        )
    if min(spacing_of(affine)) < PLAUSIBLE_MM[0] or max(spacing_of(affine)) > PLAUSIBLE_MM[1]:
        raise KitError(
            f"the series in {where} says that a voxel measures {' x '.join(f'{v:g}' for v in spacing_of(affine))} mm",
            remedy=f"export it again, or {CONVERT}",
        )
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # LPS -> RAS
    require_square(
        affine, f"the series in {where}", remedy=f"{CONVERT}: of a tilted CT it also writes a straightened one"
    )
    ordered = [list(slices.items())[k] for k in order]
    _require_one_kind(slices, where)
    volume = np.stack([physical_values(file, d) for file, d in ordered], axis=-1)  # (row, column, slice)
    require_values(volume, f"the series in {where}")
    _require_scale(slices, volume)
    image = Nifti1Image(volume.transpose(1, 0, 2), affine)
    image.header.set_xyzt_units("mm")
    return image, str(attribute(ordered[0][1], "Modality") or "")


def _common_geometry(slices: dict[Path, Dataset], where: str) -> tuple[np.ndarray, np.ndarray]:
    """(6,) direction cosines and (2,) mm between rows and between columns, which all slices share.

    Raises:
        KitError: they do not share them, or a pixel has no size, or the directions are none.
    """
    directions = np.array([finite_numbers(d, file, "ImageOrientationPatient", 6) for file, d in slices.items()])
    sizes = np.array([finite_numbers(d, file, "PixelSpacing", 2) for file, d in slices.items()])
    pixels = {(int(d.Rows), int(d.Columns)) for d in slices.values()}
    if sizes.min() <= 0:
        raise KitError(f"a slice in {where} says that its pixels measure {sizes.min():g} mm", remedy="export it again")
    lengths = np.linalg.norm(directions.reshape(-1, 2, 3), axis=2)
    if np.abs(lengths - 1).max() > 1e-2:
        raise KitError(f"a slice in {where} has directions of length {lengths.min():.3g}, not 1", remedy=CONVERT)
    if (
        len(pixels) > 1
        or np.ptp(directions, axis=0).max() > SAME_DIRECTION
        or (np.ptp(sizes, axis=0) / sizes[0]).max() > SAME_SIZE
    ):
        raise KitError(
            f"the slices in {where} differ in size, spacing or direction", remedy="keep the files of one series only"
        )
    return (directions[0].reshape(2, 3) / lengths[0][:, None]).ravel(), sizes[0]


def _require_one_kind(slices: dict[Path, Dataset], where: str) -> None:
    """One modality; and no slice that leaves out a scale which others have: its values would be of another kind."""
    kinds = Counter(str(attribute(d, "Modality") or "none") for d in slices.values())
    if len(kinds) > 1:
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        raise KitError(f"{where} holds slices of several modalities ({counts})", remedy="keep those of one series only")
    if "CT" not in kinds and any(attribute(d, "PhotometricInterpretation") == "MONOCHROME1" for d in slices.values()):
        note(f"{where} holds slices that are shown with dark for large values (MONOCHROME1): the values stay as stored")
    for name, default in SCALE.items():
        values = {file: attribute(d, name) for file, d in slices.items()}
        bare = [file for file, value in values.items() if value is None]
        if bare and any(value not in (None, default) for value in values.values()):
            raise KitError(
                f"{bare[0]} has no {name}, other slices of {where} have one", remedy=f"export it again, or {CONVERT}"
            )


def _require_scale(slices: dict[Path, Dataset], volume: np.ndarray) -> None:
    """A CT that does not say its scale may be stored in HU, or 1024 above: without air in it, nobody can know."""
    for file, found in slices.items():
        missing = [name for name in SCALE if attribute(found, name) is None]
        if missing and attribute(found, "Modality") == "CT" and volume.min() > AIR_BELOW_HU:
            raise KitError(
                f"{file} is a CT without {' and '.join(missing)}, and its values do not look like Hounsfield units "
                f"(they begin at {volume.min():g})",
                remedy="export it again, or write RescaleSlope and RescaleIntercept into its files: air is -1000",
            )
