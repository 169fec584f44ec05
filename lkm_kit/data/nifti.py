"""NIfTI files as they come: which of a header's two geometries holds, in which unit, and what cannot be right."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lkm_kit.data.geometry import PLAUSIBLE_MM, require_square, spacing_of
from lkm_kit.errors import KitError, note

if TYPE_CHECKING:
    import nibabel

UNITS_MM = {1: ("metres", 1000.0), 3: ("microns", 1e-3)}
"""Code of ``xyzt_units`` -> its name and its mm; every other code is taken for mm."""

ROUNDED_QUATERNION = 1e-2
"""A quaternion may be longer than 1 by this share: then it is rounding, and is scaled back."""

RESAMPLE = (
    "resample it to square axes: from nibabel.processing import resample_to_output; resample_to_output(image, "
    "image.header.get_zooms()[:3], order=1, cval=image.get_fdata().min()), with order=0 and cval=0 for a label map"
)


def read_image(path: str | Path) -> tuple[np.ndarray, np.ndarray, nibabel.Nifti1Header]:
    """Read a 3D NIfTI file in RAS order and in mm.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file; trailing axes of length 1 are dropped.

    Returns:
        ``(array, affine, header)``: array (x, y, z) in the stored type (scaled if the header scales), its RAS affine
        (4, 4) in mm, and the file's header. The header keeps its own axis order and unit, and has a geometry that can
        be read. A spoilt one of two is replaced by the other, with a note.

    Raises:
        KitError: missing, truncated or not NIfTI; not 3D; not scalar; a geometry that cannot be inverted, is sheared,
            or whose voxels have no patient's size.

    >>> array, affine, header = read_image("scan.nii.gz")  # doctest: +SKIP
    """
    from nibabel import orientations
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.openers import ImageOpener

    path = Path(path)
    header, shape, affine = _read_geometry(path)
    try:
        with warnings.catch_warnings(), ImageOpener(path) as file:
            warnings.simplefilter("ignore", RuntimeWarning)  # of values that overflow; what comes out is checked
            # Of the opener, ArrayProxy would map the compressed bytes into memory wherever there are enough of them.
            array = np.asanyarray(ArrayProxy(file.fobj, header)).reshape(shape)
            file.seek(header.get_data_offset() + _claimed(header))
            behind = 0
            while rest := len(file.read(1 << 20)):  # to the end of a compressed file, where its checksum is compared
                behind += rest
    except Exception as error:  # of decompressing and reading, and of scale factors that are no numbers
        raise KitError(
            f"{path} is truncated or damaged: its voxels cannot be read ({error})",
            remedy="download or copy the file again and compare its checksum",
        ) from error
    if behind:
        note(f"{path} goes on for {behind:,} bytes behind its last voxel: see that {shape} are all that it should have")
    to_ras = orientations.io_orientation(affine)
    return orientations.apply_orientation(array, to_ras), _in_ras(shape, affine), header


def is_nifti(path: Path) -> bool:
    """Whether the name is a NIfTI file's, in whatever case Windows has written its suffix."""
    return path.name.lower().endswith((".nii", ".nii.gz")) and not path.name.startswith(".")


def case_name(path: str | Path) -> str:
    """A file's name without ``.nii`` or ``.nii.gz``.

    >>> case_name("scans/p1.nii.gz"), case_name("P2.NII")
    ('p1', 'P2')
    """
    return re.sub(r"\.nii(\.gz)?$", "", Path(path).name, flags=re.IGNORECASE)


def image_geometry(path: str | Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and affine (4, 4; mm) in RAS order of what :func:`read_image` would read, from the header alone.

    Raises:
        KitError: as :func:`read_image`, except for what only the voxels show.
    """
    from nibabel import orientations

    _, shape, affine = _read_geometry(Path(path))
    order = orientations.io_orientation(affine)[:, 0].argsort()
    return tuple(int(shape[axis]) for axis in order), _in_ras(shape, affine)


def _in_ras(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    from nibabel import orientations

    return affine @ orientations.inv_ornt_aff(orientations.io_orientation(affine), shape)


def _read_geometry(path: Path) -> tuple[nibabel.Nifti1Header, tuple[int, int, int], np.ndarray]:
    """Header, shape and affine (mm) in the file's own axis order, all looked over."""
    header, stored = _read_header(path)
    shape = _three_axes(header.get_data_shape(), path)
    if header.get_data_dtype().kind not in "iuf":
        raise KitError(f"{path} holds {header.get_data_dtype()} values", remedy="save it with one number per voxel")
    if (bits := 8 * header.get_data_dtype().itemsize) != (said := int(stored["bitpix"])):
        note(f"{path}: the header says {said} bits a voxel, and a type of {bits} ({header.get_data_dtype()})")
    for name in ("sform", "qform"):
        if (code := int(stored[f"{name}_code"])) != int(header[f"{name}_code"]):
            note(f"{path}: {name}_code is {code}, which NIfTI does not know; the {name} is not taken")
    _require_enough_bytes(header, path)
    affine = _in_mm(_best_affine(header, stored["pixdim"][1:4].astype(float), path), header, path)
    require_square(affine, str(path), remedy=RESAMPLE)
    return header, shape, affine


def _read_header(path: Path) -> tuple[nibabel.Nifti1Header, nibabel.Nifti1Header]:
    """The header, and the header as it is stored: nibabel repairs spacing, codes and bits of a voxel without a word."""
    import nibabel
    from nibabel.openers import ImageOpener

    if not path.is_file():
        raise KitError(f"there is no file {path}", remedy="check the path; a .nii or .nii.gz file is expected")
    try:
        with ImageOpener(path) as file:
            block = file.read(nibabel.Nifti2Header.sizeof_hdr)
        sizes = {int.from_bytes(block[:4], order) for order in ("little", "big")}
        kinds = [kind for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header) if kind.sizeof_hdr in sizes]
        if not kinds:
            raise ValueError("it does not begin with a header's size")
        kind, block = kinds[0], block[: kinds[0].sizeof_hdr]
        header, stored = kind(block, check=False), kind(block, check=False)
        header.check_fix(logger=logging.Logger("quiet", logging.CRITICAL))  # what it repairs or refuses is said below
        if stored["pixdim"][0] < 0:  # nibabel believes -1 alone, the standard any number below 0
            header["pixdim"][0] = -1
        if not bytes(header["magic"]).startswith(b"n+"):
            raise ValueError("it is the header of a pair of files")
        if header.get_data_offset() < header.single_vox_offset:
            raise ValueError(f"its voxels would begin at byte {header.get_data_offset()}, within the header")
        header.get_data_dtype(), header.get_data_shape()
        return header, stored
    except Exception as error:  # damaged headers raise a dozen classes, some derived from Exception alone
        raise KitError(
            f"{path} is not a readable NIfTI file ({error})",
            remedy="give a .nii file, or a compressed one that ends in .nii.gz; other formats are converted by nibabel "
            "or dcm2niix",
        ) from error


def _three_axes(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    kept = list(shape)
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    if len(kept) != 3:
        raise KitError(
            f"{path} has {len(shape)} axes {tuple(shape)}, a case has 3",
            remedy="save one channel and one time point, for instance with nibabel: img.slicer[..., 0]"
            if len(shape) > 3
            else "give the whole volume; nibabel.Nifti1Image(image.dataobj[..., None], affine) makes one of a slice",
        )
    if min(kept) < 1:
        raise KitError(f"{path} holds no voxels: its shape is {tuple(shape)}", remedy="export the scan again")
    return tuple(kept)


def _require_enough_bytes(header: nibabel.Nifti1Header, path: Path) -> None:
    """A header that claims more voxels than the file can hold is damaged; nobody should ask for that memory."""
    claimed, there = _claimed(header), path.stat().st_size
    if claimed > there * (1 if path.name.endswith(".nii") else 1100):  # deflate's best is 1032 to 1
        raise KitError(
            f"{path} is truncated or damaged: its header claims {claimed:,} bytes of voxels, the file has {there:,}",
            remedy="download or copy the file again and compare its checksum",
        )


def _claimed(header: nibabel.Nifti1Header) -> int:
    """Bytes of the voxels."""
    return int(np.prod(header.get_data_shape(), dtype=object)) * header.get_data_dtype().itemsize


def _best_affine(header: nibabel.Nifti1Header, pixdim: np.ndarray, path: Path) -> np.ndarray:
    """(4, 4) the affine that holds, in the header's unit: the sform, else the qform, else the spacing alone.

    A form that cannot be read is replaced in ``header``.

    Raises:
        KitError: there is none that holds.
    """
    codes = {name: int(header[f"{name}_code"]) for name in ("sform", "qform")}
    forms = {"sform": header.get_sform(), "qform": _qform(header)} if any(codes.values()) else {}
    forms = {name: form for name, form in forms.items() if codes[name]} or {"spacing": header.get_base_affine()}
    sized = bool((np.abs(pixdim) > 0).all())  # what the qform and the spacing alone rest on
    holding = [name for name, form in forms.items() if _invertible(form) and (sized or name == "sform")]
    if not holding:
        affine = "nibabel.Nifti1Image(image.dataobj, affine) makes one"
        if not sized:
            raise KitError(
                f"{path} says that a voxel measures {' x '.join(f'{v:g}' for v in pixdim)} mm",
                remedy=f"export the scan again, or write the true affine into a new header: {affine}",
            )
        raise KitError(
            f"the affine in the header of {path} cannot be inverted",
            remedy=f"export the scan again, or write the true affine into a new header: {affine}",
        )
    for name in set(forms) - set(holding):
        note(f"{path}: the {name} in the header cannot be used; the {holding[0]} is taken")
        if name == "sform":
            header.set_sform(None, code=0)
        else:
            header.set_qform(forms["sform"], code=codes[name])
    return forms[holding[0]].astype(np.float64)


def _qform(header: nibabel.Nifti1Header) -> np.ndarray | None:
    """The qform; None where its quaternion is not one. One that is too long by rounding is scaled back."""
    names = ["quatern_b", "quatern_c", "quatern_d"]
    length = np.linalg.norm([float(header[name]) for name in names])
    if 1 < length <= 1 + ROUNDED_QUATERNION:
        for name in names:
            header[name] = header[name] / length
    try:
        with np.errstate(invalid="ignore"):  # of a spacing that is infinite
            return header.get_qform()
    except Exception:  # nibabel's refusal has no class of its own
        return None


def _invertible(affine: np.ndarray | None) -> bool:
    return affine is not None and bool(np.isfinite(affine).all()) and abs(np.linalg.det(affine[:3, :3])) > 1e-12


def _in_mm(affine: np.ndarray, header: nibabel.Nifti1Header, path: Path) -> np.ndarray:
    """The affine in mm; what the header says of units is believed only where it gives voxels of a patient's size."""
    unit, mm = UNITS_MM.get(int(header["xyzt_units"]) & 7, ("mm", 1.0))
    affine = affine * np.array([[mm]] * 3 + [[1.0]])
    spacing = spacing_of(affine)
    low, high = PLAUSIBLE_MM
    if min(spacing) < low or max(spacing) > high:
        raise KitError(
            f"{path} says that a voxel measures {' x '.join(f'{v:g}' for v in spacing)} mm (its unit: {unit})",
            remedy="find out what is true and write it into its header: image.header.set_xyzt_units('mm') (or 'meter', "
            "'micron') in nibabel says the unit, nibabel.Nifti1Image(image.dataobj, affine) sets the geometry",
        )
    if mm != 1.0:
        note(f"{path} is in {unit}: a voxel measures {' x '.join(f'{v:g}' for v in spacing)} mm")
    return affine
