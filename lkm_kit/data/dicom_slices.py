"""One DICOM file: read with or without its preamble, looked over, and its stored values made physical ones."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lkm_kit.errors import KitError, note

if TYPE_CHECKING:
    from pydicom import Dataset

CONVERT = "convert the series with dcm2niix, which writes NIfTI, and give that file"

BESIDE_SLICES = ("dicomdir", "readme", "license", "licence", "version", "thumbs", "desktop", "autorun", "index")
"""Names, without suffix, of files that exports put beside the slices: skipped, with a note."""

DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR."""

SCALE = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}
"""What makes stored values physical ones, and what holds where an MR leaves it out."""

GREY = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
"""What a slice is that leaves these out, if it has a value for each pixel."""


def dicom_files(folder: Path) -> list[Path]:
    """Files of a folder that begin as DICOM files do; ones without the word in their preamble are not found."""
    found = []
    for path in sorted(path for path in folder.glob("[!.]*") if path.is_file()):
        with open(path, "rb") as file:
            found += [path] if b"DICM" in (file.read(4), file.read(128)[-4:]) else []
    return found


def read_slices(files: Sequence[Path]) -> dict[Path, Dataset]:
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
                    f"{file} is not a readable DICOM file ({found})",
                    remedy="move it out of the folder; if it should be a slice, copy it again",
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
        with open(file, "rb") as content:
            bare = content.read(4) == b"DICM"  # the preamble's zeros alone are missing
            content.seek(4 if bare else 0)
            found = pydicom.dcmread(io.BytesIO(content.read()), force=True)
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
    return "" if file.suffix[1:].isdecimal() else file.suffix.lower()


def attribute(found: Dataset, name: str) -> Any:
    """An attribute; None where it is missing, empty or not what its type says."""
    try:
        value = getattr(found, name, None)
        return None if value is None or str(value) == "" else value
    except Exception:  # pydicom converts on access, and fails by many classes
        return None


def _require_grey_slice(file: Path, found: Dataset) -> None:
    """One grey picture of its own: no report, no colour, not several frames in one file, no scale but a line."""
    colours = str(attribute(found, "PhotometricInterpretation"))
    bits = [attribute(found, name) for name in ("BitsStored", "HighBit")]
    if not attribute(found, "Rows") or not attribute(found, "Columns") or "PixelData" not in found:
        wrong, remedy = f"no picture (modality {attribute(found, 'Modality')})", "move it out of the folder"
    elif str(attribute(found, "NumberOfFrames") or 1) != "1":
        wrong, remedy = f"{attribute(found, 'NumberOfFrames')} frames in one file", CONVERT
    elif str(attribute(found, "SamplesPerPixel") or 1) != "1" or colours not in ("None", "MONOCHROME1", "MONOCHROME2"):
        wrong, remedy = f"a colour picture ({colours})", "move it out of the folder, or export the scan in grey"
    elif "ModalityLUTSequence" in found or "SharedFunctionalGroupsSequence" in found:
        wrong = "values that a table or a functional group scales"
        remedy = f"export it with RescaleSlope and RescaleIntercept, or {CONVERT}"
    elif all(isinstance(n, int) for n in bits) and bits[0] != bits[1] + 1:  # decoders take the low ones all the same
        wrong, remedy = f"{bits[0]} bits a pixel up to bit {bits[1]}", "export it again with its values in the low bits"
    else:
        return
    raise KitError(f"{file} holds {wrong}, not one grey slice", remedy=remedy)


def finite_numbers(found: Dataset, file: Path, name: str, count: int) -> np.ndarray:
    """(count,) an attribute of finite numbers.

    Raises:
        KitError: it is missing, empty, of another length, or holds something else.
    """
    value = attribute(found, name)
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


def physical_values(file: Path, found: Dataset) -> np.ndarray:
    """(row, column) float32, by the slice's own scale.

    Raises:
        KitError: the pixels cannot be decoded, or are scaled by nothing.
    """
    try:
        for name, value in GREY.items():
            if attribute(found, name) is None:
                setattr(found, name, value)
        shape = int(found.Rows), int(found.Columns)
        if not found.file_meta.TransferSyntaxUID.is_compressed:
            row, column = (n * int(found.BitsAllocated) // 8 for n in reversed(shape))
            there, needed = len(found.PixelData), shape[0] * row
            if there >= needed + min(row, column):  # less is padding
                raise ValueError(f"{there} bytes for {shape[0]} rows of {shape[1]} pixels, which take {needed}")
        stored = found.pixel_array.astype(np.float32)
        if stored.shape != shape:
            raise ValueError(f"they are {stored.shape}, not {shape}")
    except Exception as error:  # every decoder has classes of its own
        raise KitError(f"the pixels of {file} cannot be decoded ({error})", remedy=_decoders(found)) from error
    slope, intercept = (
        default if attribute(found, name) is None else finite_numbers(found, file, name, 1)[0]
        for name, default in SCALE.items()
    )
    if slope == 0:
        raise KitError(f"{file} has a RescaleSlope of 0", remedy="export the series again")
    return stored * np.float32(slope) + np.float32(intercept)


def _decoders(found: Dataset) -> str:
    """What decodes the file's compression, as pydicom knows it."""
    from pydicom.pixels import get_decoder

    syntax, damaged = found.file_meta.TransferSyntaxUID, "the series is damaged: copy it again"
    try:
        if not syntax.is_compressed or "pydicom" in get_decoder(syntax).available_plugins:
            return damaged
        missing = [line for line in get_decoder(syntax).missing_dependencies if line.startswith("pylibjpeg")]
    except (NotImplementedError, ValueError):  # a compression that nothing reads, or a UID that is none
        return CONVERT
    packages = re.findall(r"(pylibjpeg[a-z-]*)>", " ".join(missing))
    return f"pip install {' '.join(packages)} (for {syntax.name}), or {CONVERT}" if packages else damaged
