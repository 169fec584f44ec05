"""A case: one patient's scan, its organ labels and where they lie; read and written without losing the geometry."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lkm_kit.data.geometry import require_same_geometry, spacing_of, voxel_ml
from lkm_kit.data.labels import LabelTable
from lkm_kit.data.nifti import case_name, read_image
from lkm_kit.data.organs import to_kit_ids
from lkm_kit.data.source import GIVEN, Source
from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, write_text

LARGEST = 1e9
"""No scanner gives larger numbers, and a normalisation squares them: float32 ends at 3e38."""

if TYPE_CHECKING:
    import nibabel


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One scan in RAS order: index 0 grows to the patient's right, 1 to anterior, 2 to superior.

    Args:
        image: (x, y, z) float32, or (c, x, y, z) with several channels; Hounsfield units for CT, else arbitrary ones.
        label: (x, y, z) whole numbers, ids of its data set's label table (the samples': of
            :data:`lkm_kit.data.ORGANS`), or None without labels.
        spacing: size of a voxel along x, y, z in mm.
        affine: (4, 4) float64, voxel index -> RAS+ coordinates in mm.
        name: what tables and figures call the case.
        modality: ``"CT"`` or ``"MR"``.
        header: NIfTI header of the file it was read from, in the file's own axis order;
            :func:`write_segmentation` writes onto exactly that grid.
        source: where it comes from and who labelled it.

    Raises:
        KitError: image is not 3D or not finite, or image and label differ in shape.
    """

    image: np.ndarray
    label: np.ndarray | None
    spacing: tuple[float, float, float]
    affine: np.ndarray
    name: str
    modality: str
    header: nibabel.Nifti1Header | None = None
    source: Source = GIVEN

    def __post_init__(self):
        if self.image.ndim not in (3, 4):
            raise KitError(
                f"case {self.name}: the image has {self.image.ndim} axes {self.image.shape}, a case has 3",
                remedy="give one time point as (x, y, z), or several channels as (c, x, y, z)",
            )
        if self.modality not in ("CT", "MR"):
            raise KitError(f"case {self.name}: unknown modality {self.modality!r}", remedy='use "CT" or "MR"')
        if self.label is not None and self.label.shape != self.shape:
            raise KitError(
                f"case {self.name}: image {self.shape} and label {self.label.shape} differ in shape",
                remedy="resample the label onto the image's grid with nearest neighbours",
            )
        require_values(self.image, f"case {self.name}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        return self.image.shape[-3:]

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return voxel_ml(self.affine)

    @property
    def digest(self) -> str:
        """sha256 over what decides a result: voxels, labels, geometry and modality; neither name nor file."""
        digest = hashlib.sha256(f"{self.modality} {self.shape} {self.spacing}".encode())
        for array, kind in ((self.image, "<f4"), (self.label, "<i4"), (self.affine, "<f8")):
            digest.update(b"none" if array is None else np.ascontiguousarray(array, dtype=kind).tobytes())
        return digest.hexdigest()


def read_case(
    image: str | Path | Sequence[str | Path],
    label: str | Path | None = None,
    *,
    modality: str,
    name: str | None = None,
    label_ids: str | LabelTable = "kit",
    source: Source = GIVEN,
) -> Case:
    """Read a scan and, if given, its label map as a :class:`Case`.

    Args:
        image: NIfTI file of the scan, or one for each channel, all on one grid.
        label: NIfTI file of the label map on the same grid, or None.
        modality: ``"CT"`` or ``"MR"``.
        name: case name; default: the first file's name without suffixes.
        label_ids: the label file's table; or a numbering of the kit's organs, ``"kit"`` (= FLARE22), ``"amos"``,
            ``"total"`` or ``"total_mr"``, which is translated to kit ids.
        source: where the scan comes from and who labelled it.

    Raises:
        KitError: see :func:`read_image`; also NaN or infinite voxels, channels or label of another geometry, label
            values outside the numbering.

    >>> case = read_case("amos_0507.nii.gz", "label.nii.gz", modality="MR", label_ids="amos")  # doctest: +SKIP
    """
    first, *others = [image] if isinstance(image, (str, Path)) else image
    array, affine, header = read_image(first)
    channels = [_pixels(array, first)]
    for path in others:
        more, more_affine, _ = read_image(path)
        require_same_geometry(array.shape, affine, more.shape, more_affine, str(first), str(path))
        channels.append(_pixels(more, path))
    pixels = np.stack(channels) if others else channels[0]
    name = name or case_name(first)
    labels = None
    if label is not None:
        raw, label_affine, _ = read_image(label)
        require_same_geometry(array.shape, affine, raw.shape, label_affine, str(first), str(label))
        own = isinstance(label_ids, LabelTable)
        labels = label_ids.check(raw, where=str(label)) if own else to_kit_ids(raw, label_ids, where=str(label))
    return Case(pixels, labels, spacing_of(affine), affine, name, modality, header, source)


def _pixels(array: np.ndarray, path: str | Path) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused
        pixels = array.astype(np.float32)
    require_values(pixels, str(path))
    return pixels


def write_segmentation(path: str | Path, labels: np.ndarray, *, like: Case, table: LabelTable | None = None) -> None:
    """Write a label map on the grid of the file that ``like`` was read from: same shape, axis order and affine.

    Args:
        path: ``.nii`` or ``.nii.gz`` file to write (atomically).
        labels: (x, y, z) ids of the table in ``like``'s RAS order.
        like: the case that was segmented.
        table: if given, ``NAME.labels.json`` beside it says which labels were looked for and their ids; else the kit's.

    Raises:
        KitError: wrong suffix or shape, values that are not in the table, or a full disk.

    >>> write_segmentation("seg.nii.gz", labels, like=case)  # doctest: +SKIP
    """
    import nibabel
    from nibabel import orientations

    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise KitError(f"{path} does not end in .nii or .nii.gz", remedy=f"write to {path.name}.nii.gz, for instance")
    labels = np.asarray(labels)
    if labels.shape != like.shape:
        raise KitError(
            f"the segmentation has {labels.shape} voxels, case {like.name} has {like.shape}",
            remedy="predict on the case itself: predict_case returns labels on its grid",
        )
    labels = (table or LabelTable()).check(labels, where="the segmentation")
    affine, header = like.affine, None
    if like.header is not None:
        affine, header = like.header.get_best_affine(), like.header.copy()
        to_file = orientations.ornt_transform(
            orientations.io_orientation(like.affine), orientations.io_orientation(affine)
        )
        labels = orientations.apply_orientation(labels, to_file)
    image_class = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    image = image_class(np.ascontiguousarray(labels), affine, header)
    image.set_data_dtype(labels.dtype)
    image.header.set_slope_inter(1, 0)
    image.header["cal_min"] = image.header["cal_max"] = 0
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)
    if table is not None:
        write_text(path.with_name(case_name(path) + ".labels.json"), table.to_json() + "\n")


def require_contrast(image: np.ndarray, what: str) -> None:
    """Refuse a channel of one single value: there is nothing in it to segment."""
    if image.min() == image.max():
        raise KitError(
            f"{what} is empty: every voxel is {image.flat[0]:g}", remedy="check that the export was complete"
        )


def require_values(pixels: np.ndarray, what: str) -> None:
    """Refuse voxels that are NaN, infinite or larger than :data:`LARGEST`."""
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        bad = int((~np.isfinite(pixels)).sum())
        raise KitError(
            f"{what}: {bad} voxels are NaN or infinite", remedy="repair the file, for instance set them to air"
        )
    if pixels.size and max(float(pixels.max()), -float(pixels.min())) > LARGEST:
        raise KitError(
            f"{what}: values from {pixels.min():g} to {pixels.max():g}, which no scanner gives",
            remedy="its scale is wrong (scl_slope, RescaleSlope): export it again",
        )
