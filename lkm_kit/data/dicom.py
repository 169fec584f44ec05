"""A folder of DICOM slices as one volume: sorted along the body, in Hounsfield units, in RAS order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lkm_kit.data.geometry import require_square
from lkm_kit.data.preprocess import AIR_BELOW_HU
from lkm_kit.errors import KitError, note

if TYPE_CHECKING:
    import nibabel
    from pydicom import Dataset

CONVERT = "convert the series with dcm2niix, which writes NIfTI, and give that file"

BESIDE_SLICES = ("dicomdir", "readme", "license", "licence", "version", "thumbs", "desktop", "autorun", "index")
"""Names, without suffix, of files that exports put beside the slices: skipped, with a note."""

DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR."""

SAME_DIRECTION, SAME_SIZE = 1e-4, 1e-4
"""How far the slices' direction cosines, and the share by which their pixel sizes, may differ: late decimals."""

SCALE = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}
"""What makes stored values physical ones, and what holds where an MR leaves it out."""

ONE_STEP = 0.05
"""Share of the slices' distance by which one may be off."""


def read_dicom_series(source: str | Path | Iterable[str | Path]) -> tuple[np.ndarray, np.ndarray]:
    """Read one axial, sagittal or coronal series.

    The order of the slices comes from their positions in space, not from file names or instance numbers; stored
    values become physical ones by RescaleSlope and RescaleIntercept; DICOM's LPS coordinates become RAS.

    Args:
        source: a folder (every file in it is read) or the files.

    Returns:
        ``(image, affine)``: image (x, y, z) float32 in RAS order, affine (4, 4) in mm.

    Raises:
        KitError: no file, a file that is not DICOM or holds no plain grey slice, slices of different size or direction,
            slices that are missing or unevenly spaced, a tilted gantry, a CT without its scale, or a compression that
            no installed decoder reads.

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
    slices = _read_slices(files)
    if len(slices) < 2:
        raise KitError(f"{where} holds {len(slices)} DICOM slices", remedy="give the folder of one whole series")
    series = Counter(str(_value(d, "SeriesInstanceUID") or "") for d in slices.values())
    if len(series) > 1:
        counts = ", ".join(f"{n} files of {uid[-12:] or 'no name'}" for uid, n in series.most_common(4))
        raise KitError(
            f"{where} holds {len(series)} series ({counts})",
            remedy="move the files of one series into a folder of their own and give that folder",
        )
    direction, (row_mm, column_mm) = _common_geometry(slices, where)
    along_row, along_column = direction[:3], direction[3:]
    positions = np.array([_numbers(d, file, "ImagePositionPatient", 3) for file, d in slices.items()])
    heights = positions @ np.cross(along_row, along_column)
    order = np.argsort(heights)
    steps = np.diff(heights[order])
    step = float(np.median(steps))
    if step <= 0 or np.abs(steps - step).max() > ONE_STEP * step:
        raise KitError(
            f"the slices in {where} are {steps.min():.3g} to {steps.max():.3g} mm apart, they should be evenly spaced",
            remedy="a slice is missing or two series are mixed: copy the whole series again, and only that one",
        )
    affine = np.eye(4)
    affine[:3, 0] = along_row * column_mm  # DICOM: the first direction is that of growing column index
    affine[:3, 1] = along_column * row_mm
    affine[:3, 2] = (positions[order[-1]] - positions[order[0]]) / (len(slices) - 1)
    affine[:3, 3] = positions[order[0]]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # LPS -> RAS
    require_square(
        affine, f"the series in {where}", remedy=f"{CONVERT}: of a tilted CT it also writes a straightened one"
    )
    ordered = [list(slices.items())[k] for k in order]
    volume = np.stack([_physical_values(file, d) for file, d in ordered], axis=-1)  # (row, column, slice)
    _require_scale(slices, volume)
    image = Nifti1Image(volume.transpose(1, 0, 2), affine)
    image.header.set_xyzt_units("mm")
    return image, str(_value(ordered[0][1], "Modality") or "")


def _read_slices(files: Sequence[Path]) -> dict[Path, Dataset]:
    """The slices among the files; what usually lies beside slices is skipped with a note, all else must be a slice."""
    read = {file: _read_file(file) for file in files}
    slices = {file: found for file, found in read.items() if not isinstance(found, Exception)}
    suffixes = {_suffix(file) for file in slices}
    skipped = []
    for file, found in read.items():
        known = file.stem.lower() in BESIDE_SLICES
        if isinstance(found, Exception):
            if not (known or (slices and _suffix(file) not in suffixes)):
                raise KitError(
                    f"{file} is not a readable DICOM file ({found})", remedy="keep only one series in the folder"
                ) from found
            skipped.append(file.name)
        elif str(getattr(found.file_meta, "MediaStorageSOPClassUID", "")) == DIRECTORY:
            del slices[file]
            skipped.append(file.name)
    if skipped:
        note(f"skipped beside the slices: {', '.join(skipped)}")
    for file, found in slices.items():
        _require_grey_slice(file, found)
    return slices


def _read_file(file: Path) -> Dataset | Exception:
    """A DICOM file, with or without its preamble, or why it is none."""
    import pydicom
    from pydicom.dataset import FileMetaDataset

    try:
        found = pydicom.dcmread(file, force=True)
        if not getattr(found, "SOPClassUID", None) and not getattr(found, "file_meta", None):
            raise ValueError("it has neither a preamble nor a DICOM image in it")
        if not hasattr(found, "file_meta"):
            found.file_meta = FileMetaDataset()
        if "TransferSyntaxUID" not in found.file_meta:  # the syntax that reading it has guessed
            implicit, little = found.original_encoding
            explicit = pydicom.uid.ExplicitVRLittleEndian if little else pydicom.uid.ExplicitVRBigEndian
            found.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian if implicit else explicit
    except Exception as error:  # what a damaged file raises is not one class
        return error
    return found


def _suffix(file: Path) -> str:
    """Lower-case suffix; none where it is the end of a UID."""
    return "" if file.suffix[1:].isdigit() else file.suffix.lower()


def _value(found: Dataset, name: str) -> Any:
    """An attribute; None where it is missing, empty or not what its type says."""
    try:
        value = getattr(found, name, None)
        return None if value is None or str(value) == "" else value
    except Exception:  # pydicom converts on access, and fails by many classes
        return None


def _require_grey_slice(file: Path, found: Dataset) -> None:
    """One grey picture of its own: no report, no colour, not several frames in one file."""
    colours = str(_value(found, "PhotometricInterpretation"))
    if not _value(found, "Rows") or not _value(found, "Columns"):
        wrong, remedy = f"no picture (modality {_value(found, 'Modality')})", "move it out of the folder"
    elif str(_value(found, "NumberOfFrames") or 1) != "1":
        wrong, remedy = f"{_value(found, 'NumberOfFrames')} frames in one file", CONVERT
    elif str(_value(found, "SamplesPerPixel") or 1) != "1" or "PALETTE" in colours:
        wrong, remedy = f"a colour picture ({colours})", "move it out of the folder, or export the scan in grey"
    else:
        return
    raise KitError(f"{file} holds {wrong}, not one grey slice", remedy=remedy)


def _numbers(found: Dataset, file: Path, name: str, count: int) -> np.ndarray:
    """(count,) an attribute of finite numbers.

    Raises:
        KitError: it is missing, empty, of another length, or holds something else.
    """
    value = _value(found, name)
    try:
        numbers = np.array([float(v) for v in np.atleast_1d(value)])
    except (TypeError, ValueError):
        numbers = np.array([])
    if len(numbers) != count or not np.isfinite(numbers).all():
        said = f"{value!r}" if value is not None else "empty" if name in found else "missing"
        raise KitError(
            f"{file} cannot be placed or scaled: its {name} is {said}",
            remedy=f"keep only the image series, or {CONVERT}",
        )
    return numbers


def _common_geometry(slices: dict[Path, Dataset], where: str) -> tuple[np.ndarray, np.ndarray]:
    """(6,) direction cosines and (2,) mm between rows and between columns, which all slices share.

    Raises:
        KitError: they do not share them, or a pixel has no size, or the directions are none.
    """
    directions = np.array([_numbers(d, file, "ImageOrientationPatient", 6) for file, d in slices.items()])
    sizes = np.array([_numbers(d, file, "PixelSpacing", 2) for file, d in slices.items()])
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
    return directions[0], sizes[0]


def _physical_values(file: Path, found: Dataset) -> np.ndarray:
    """(row, column) float32, by the slice's own scale.

    Raises:
        KitError: the pixels cannot be decoded, or are scaled by nothing.
    """
    try:
        stored = found.pixel_array.astype(np.float32)
    except Exception as error:  # every decoder has classes of its own
        raise KitError(f"the pixels of {file} cannot be decoded ({error})", remedy=_decoders(found)) from error
    slope, intercept = (
        default if _value(found, name) is None else _numbers(found, file, name, 1)[0] for name, default in SCALE.items()
    )
    if slope == 0:
        raise KitError(f"{file} has a RescaleSlope of 0", remedy="export the series again")
    return stored * np.float32(slope) + np.float32(intercept)


def _require_scale(slices: dict[Path, Dataset], volume: np.ndarray) -> None:
    """A CT that does not say its scale may be stored in HU, or 1024 above: without air in it, nobody can know."""
    for file, found in slices.items():
        missing = [name for name in SCALE if _value(found, name) is None]
        if missing and _value(found, "Modality") == "CT" and volume.min() > AIR_BELOW_HU:
            raise KitError(
                f"{file} is a CT without {' and '.join(missing)}, and its values do not look like Hounsfield units "
                f"(they begin at {volume.min():g})",
                remedy="export it again, or write RescaleSlope and RescaleIntercept into its files: air is -1000",
            )


def _decoders(found: Dataset) -> str:
    """What decodes the file's compression, as pydicom knows it."""
    from pydicom.pixels import get_decoder

    syntax, damaged = found.file_meta.TransferSyntaxUID, "the series is damaged: copy it again"
    try:
        if not syntax.is_compressed:
            return damaged
        missing = [line for line in get_decoder(syntax).missing_dependencies if line.startswith("pylibjpeg")]
    except (NotImplementedError, ValueError):  # a compression that nothing reads, or a UID that is none
        return CONVERT
    packages = re.findall(r"(pylibjpeg[a-z-]*)>", " ".join(missing))
    return f"pip install {' '.join(packages)} (for {syntax.name}), or {CONVERT}" if packages else damaged
