"""Where voxels lie: spacing and volume of a voxel, whether two grids are one, whether a grid is sheared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lkm_kit.errors import KitError, note

if TYPE_CHECKING:
    import nibabel

ROUNDING_MM = 1e-2
"""Two grids this close are one: headers store float32."""

TOLERATED_SHARE = 0.1
"""Of the smallest voxel: grids that lie further apart are refused, up to here they are taken for one, which is said."""

PLAUSIBLE_MM = (0.01, 100.0)
"""Sizes of a voxel in a scan of a patient: what lies outside is in another unit than the file says, or damaged."""

SHEAR_DEGREES = 1.0
"""A grid's axes may be this far from square; a gantry is tilted by more, or not at all."""


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Voxel size in mm: the lengths of the affine's first three columns.

    >>> spacing_of(np.diag([3.0, 3.0, 5.0, 1.0]))
    (3.0, 3.0, 5.0)
    """
    return tuple(float(round(v, 6)) for v in np.linalg.norm(np.asarray(affine)[:3, :3], axis=0))


def voxel_ml(affine: np.ndarray) -> float:
    """Volume of a voxel in ml: the affine's determinant, which is less than the product of spacings in a sheared grid.

    >>> round(voxel_ml(np.diag([10.0, 10.0, 5.0, 1.0])), 6)
    0.5
    """
    return abs(float(np.linalg.det(np.asarray(affine, dtype=float)[:3, :3]))) / 1000


def corners_apart(shape: tuple[int, ...], affine_a: np.ndarray, affine_b: np.ndarray) -> float:
    """Largest distance between the places that two affines give to the corners of one grid, in the affines' unit.

    At the corners a small error of an affine is largest.

    >>> corners_apart((2, 2, 2), np.eye(4), np.diag([1.5, 1, 1, 1]))
    0.5
    """
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)
    corners[:, :3] *= np.asarray(shape) - 1
    moved = corners @ (np.asarray(affine_a) - np.asarray(affine_b)).T
    return float(np.linalg.norm(moved[:, :3], axis=1).max())


def require_same_geometry(shape_a, affine_a, shape_b, affine_b, name_a: str, name_b: str) -> None:
    """Raise a :class:`KitError` unless the two grids have one shape and their voxels lie in the same places.

    Grids up to a tenth of a voxel apart are taken for one, with a note; ``LKM_GEOMETRY_TOLERANCE_MM`` says otherwise,
    in mm.
    """
    if tuple(shape_a) != tuple(shape_b):
        raise KitError(
            f"{name_a} has {tuple(shape_a)} voxels, {name_b} has {tuple(shape_b)} (RAS order)",
            remedy="resample the label onto the image's grid with nearest neighbours",
        )
    apart = corners_apart(shape_a, affine_a, affine_b)
    if apart <= ROUNDING_MM:
        return
    allowed = _tolerance_mm()
    if apart > (allowed or TOLERATED_SHARE * min(spacing_of(affine_a))):
        raise KitError(
            f"{name_a} and {name_b} have the same shape but lie up to {apart:.3g} mm apart",
            remedy="one of the two headers is wrong, or the label belongs to another scan; if voxel belongs to voxel "
            f"all the same, set LKM_GEOMETRY_TOLERANCE_MM={np.ceil(apart * 100) / 100:g}",
        )
    why = "which LKM_GEOMETRY_TOLERANCE_MM allows" if allowed else "less than a tenth of a voxel"
    note(f"{name_a} and {name_b} lie up to {apart:.3g} mm apart, {why}: taken for one grid")


def _tolerance_mm() -> float | None:
    given = os.environ.get("LKM_GEOMETRY_TOLERANCE_MM", "").strip()
    if not given:
        return None
    try:
        if (value := float(given)) > 0:
            return value
    except ValueError:
        pass
    raise KitError(f"LKM_GEOMETRY_TOLERANCE_MM is {given!r}", remedy="give a distance in mm above 0, or unset it")


def shear_degrees(affine: np.ndarray) -> float:
    """How far the most oblique pair of axes is from a right angle.

    >>> round(shear_degrees(np.array([[1.0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]])))
    45
    """
    axes = np.asarray(affine, dtype=float)[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    cosine = np.abs(np.triu(axes.T @ axes, 1)).max()
    return float(np.degrees(np.arcsin(min(1.0, cosine))))


def require_square(affine: np.ndarray, where: str, *, remedy: str) -> None:
    """Raise a :class:`KitError` where a grid is sheared, as of a tilted gantry: slices, distances and windows assume
    square axes."""
    if (shear := shear_degrees(affine)) > SHEAR_DEGREES:
        raise KitError(
            f"{where} is sheared: its axes are {shear:.3g} degrees from square (a tilted gantry?)", remedy=remedy
        )


def require_one_geometry(header: nibabel.Nifti1Header, path: Path) -> None:
    """Raise a :class:`KitError` where a NIfTI header's two geometries put a voxel more than half a voxel apart."""
    if not (int(header["qform_code"]) and int(header["sform_code"])):
        return
    sform, as_qform = header.get_sform(), header.copy()
    as_qform.set_qform(sform)  # as near as a qform, which knows no shear, comes to it
    apart = corners_apart(header.get_data_shape()[:3], header.get_qform(), as_qform.get_qform())
    if apart > max(0.5 * min(spacing_of(sform)), ROUNDING_MM):
        raise KitError(
            f"{path}: qform and sform disagree, by up to {apart:.3g} mm",
            remedy="find out which is right and copy it over the other, in nibabel: image.set_qform(image.get_sform()) "
            "or image.set_sform(image.get_qform())",
        )
