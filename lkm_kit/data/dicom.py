"""A folder of DICOM slices as one volume: sorted along the body, in Hounsfield units, in RAS order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lkm_kit.errors import KitError

if TYPE_CHECKING:
    import nibabel


def read_dicom_series(source: str | Path | Iterable[str | Path]) -> tuple[np.ndarray, np.ndarray]:
    """Read one axial, sagittal or coronal series.

    The order of the slices comes from their positions in space, not from file names or instance numbers; stored
    values become physical ones by RescaleSlope and RescaleIntercept; DICOM's LPS coordinates become RAS.

    Args:
        source: a folder (every file in it is read) or the files.

    Returns:
        ``(image, affine)``: image (x, y, z) float32 in RAS order, affine (4, 4) in mm.

    Raises:
        KitError: no file, a file that is not DICOM or holds no pixels, slices of different size or direction,
            slices that are missing or unevenly spaced, or a compression that no installed decoder reads.

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
    import pydicom
    from nibabel import Nifti1Image
    from pydicom.errors import InvalidDicomError

    if isinstance(source, (str, Path)):
        where, files = str(source), sorted(p for p in Path(source).glob("[!.]*") if p.is_file())
    else:
        files = [Path(p) for p in source]
        where = str(files[0].parent) if files else "the list of files"
    slices = []
    for file in files:
        try:
            slices.append(pydicom.dcmread(file))
        except (InvalidDicomError, OSError, EOFError, ValueError) as error:
            raise KitError(f"{file} is not a readable DICOM file ({error})", remedy="keep only one series") from error
    if len(slices) < 2:
        raise KitError(f"{where} holds {len(slices)} DICOM slices", remedy="give the folder of one whole series")
    series = Counter(str(getattr(d, "SeriesInstanceUID", "")) for d in slices)
    if len(series) > 1:
        counts = ", ".join(f"{n} files of {uid[-12:] or 'no name'}" for uid, n in series.most_common(4))
        raise KitError(
            f"{where} holds {len(series)} series ({counts})",
            remedy="move the files of one series into a folder of their own and give that folder",
        )
    try:
        geometry = {
            (d.Rows, d.Columns, *map(float, d.PixelSpacing), *(round(float(v), 5) for v in d.ImageOrientationPatient))
            for d in slices
        }
        positions = np.array([[float(v) for v in d.ImagePositionPatient] for d in slices])
    except AttributeError as error:
        raise KitError(f"a slice in {where} has no geometry ({error})", remedy="keep only the image series") from error
    if len(geometry) > 1:
        raise KitError(
            f"the slices in {where} differ in size, spacing or direction", remedy="keep the files of one series only"
        )
    direction = np.array([float(v) for v in slices[0].ImageOrientationPatient])
    along_row, along_column = direction[:3], direction[3:]
    normal = np.cross(along_row, along_column)
    heights = positions @ normal
    order = np.argsort(heights)
    steps = np.diff(heights[order])
    step = float(np.median(steps))
    if step <= 0 or np.abs(steps - step).max() > 0.05 * step:
        raise KitError(
            f"the slices in {where} are {steps.min():.3g} to {steps.max():.3g} mm apart, they should be evenly spaced",
            remedy="a slice is missing or two series are mixed: copy the whole series again, and only that one",
        )
    try:
        volume = np.stack([_physical_values(slices[i]) for i in order], axis=-1)  # (row, column, slice)
    except (AttributeError, RuntimeError, NotImplementedError, ValueError, OSError) as error:
        raise KitError(
            f"the pixels in {where} cannot be decoded ({error})",
            remedy="the series is damaged, or its compression needs another decoder: pip install pylibjpeg",
        ) from error
    row_mm, column_mm = (float(v) for v in slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = along_row * column_mm  # DICOM: the first direction is that of growing column index
    affine[:3, 1] = along_column * row_mm
    affine[:3, 2] = (positions[order[-1]] - positions[order[0]]) / (len(slices) - 1)
    affine[:3, 3] = positions[order[0]]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # LPS -> RAS
    image = Nifti1Image(volume.transpose(1, 0, 2), affine)
    image.header.set_xyzt_units("mm")
    return image, str(getattr(slices[0], "Modality", ""))


def _physical_values(dataset) -> np.ndarray:
    slope, intercept = float(getattr(dataset, "RescaleSlope", 1)), float(getattr(dataset, "RescaleIntercept", 0))
    return dataset.pixel_array.astype(np.float32) * np.float32(slope) + np.float32(intercept)
