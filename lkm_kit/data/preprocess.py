"""What happens to a scan before a network sees it: resampling to one spacing, intensities to one scale."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from lkm_kit.data.case import Case
from lkm_kit.errors import KitError

CT_WINDOW_HU = (-175.0, 250.0)
CT_MEAN_HU, CT_SD_HU = 40.0, 90.0
"""Soft-tissue window, its mean and spread, fixed once: nothing is estimated from a case that is scored."""

AIR_BELOW_HU, AIR_SHARE = -300.0, 0.005
"""A scan with at least this share of voxels below this value is CT. Air in and around a body is at -1000 HU, and MR
scanners give no negative numbers but for a little ringing."""


def looks_like(image: np.ndarray) -> str:
    """``"CT"`` or ``"MR"``, from the intensities alone.

    >>> looks_like(np.array([-1000.0, -1000.0, 40.0])), looks_like(np.array([0.0, 120.0, 900.0]))
    ('CT', 'MR')
    """
    return "CT" if (np.asarray(image) < AIR_BELOW_HU).mean() >= AIR_SHARE else "MR"


def normalize(image: np.ndarray, modality: str) -> np.ndarray:
    """Bring intensities to about zero mean and unit spread.

    Args:
        image: any shape; Hounsfield units for CT.
        modality: ``"CT"``: clip to -175..250 HU, subtract 40, divide by 90 (constants of this kit; nnU-Net takes them
            from the training set). ``"MR"``: clip to the 0.5 and 99.5 percentiles, then z-score of this image, as
            nnU-Net does.

    Returns:
        float32 array of the same shape.

    >>> normalize(np.array([-1000.0, 40.0, 130.0]), "CT").round(2).tolist()
    [-2.390000104904175, 0.0, 1.0]
    """
    return normalizer(image, modality)(image)


def clip_range(image: np.ndarray, modality: str) -> tuple[float, float]:
    """The values at which :func:`normalize` clips, the darkest and the brightest that a network is shown.

    >>> clip_range(np.arange(201.0), "MR"), clip_range(np.arange(201.0), "CT")
    ((1.0, 199.0), (-175.0, 250.0))
    """
    if modality == "CT":
        return CT_WINDOW_HU
    low, high = np.percentile(image, (0.5, 99.5))
    return float(low), float(high)


def normalizer(
    image: np.ndarray, modality: str, statistics: Sequence[float] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """:func:`normalize` of ``image``, as a function of its parts: a large volume is then normalised slice by slice.

    Args:
        modality: as there; or ``"noNorm"``, which changes nothing.
        statistics: for CT, low and high end, mean and standard deviation of a training set instead of the kit's.

    >>> volume = np.arange(8.0).reshape(2, 2, 2)
    >>> part = normalizer(volume, "MR")
    >>> bool(np.array_equal(part(volume[0]), normalize(volume, "MR")[0]))
    True
    """
    if modality == "CT":
        low, high, mean, sd = statistics or (*CT_WINDOW_HU, CT_MEAN_HU, CT_SD_HU)
    elif modality == "MR":
        image = np.asarray(image, dtype=np.float32)
        low, high = clip_range(image, modality)
        clipped = np.clip(image, low, high)
        mean, sd = float(clipped.mean()), max(float(clipped.std()), 1e-6)
    elif modality == "noNorm":
        low, high, mean, sd = -np.inf, np.inf, 0.0, 1.0
    else:
        raise KitError(f"unknown modality {modality!r}", remedy='use "CT" or "MR"')

    return functools.partial(_scaled, low=low, high=high, mean=mean, sd=sd)  # which other processes can be given


def _scaled(part: np.ndarray, low: float, high: float, mean: float, sd: float) -> np.ndarray:
    return (np.clip(np.asarray(part, dtype=np.float32), low, high) - np.float32(mean)) / np.float32(sd)


def resample_case(case: Case, spacing: float | Sequence[float]) -> Case:
    """Put a case on a grid of another spacing that covers the same space.

    Args:
        case: any spacing.
        spacing: mm; one number, or one per axis (x, y, z).

    Returns:
        a Case: image linear, smoothed first where the grid gets coarser; label nearest neighbour.

    Raises:
        KitError: spacing not positive.

    >>> from lkm_kit.data.phantom import make_phantom
    >>> resample_case(make_phantom(shape=(40, 36, 12)), 6.0).shape
    (20, 18, 10)
    """
    target = np.broadcast_to(np.asarray(spacing, dtype=float), 3)
    if not (target > 0).all():
        raise KitError(f"spacing {spacing} mm is not positive", remedy="give the size of a voxel in mm")
    shape = tuple(max(1, round(n * s / t)) for n, s, t in zip(case.shape, case.spacing, target))
    scale = np.asarray(case.shape) / np.asarray(shape)  # old voxels per new one, so that the outer edges coincide
    offset = 0.5 * scale - 0.5  # voxel centres, not corners
    image = ndimage.gaussian_filter(case.image, np.maximum(0, (scale - 1) / 2)) if (scale > 1).any() else case.image
    image = ndimage.affine_transform(image, scale, offset, shape, order=1, mode="nearest")
    label = case.label
    if label is not None:
        label = ndimage.affine_transform(label, scale, offset, shape, order=0, mode="nearest")
    step = np.diag([*scale, 1.0])
    step[:3, 3] = offset
    new_spacing = tuple(float(s * k) for s, k in zip(case.spacing, scale))
    return dataclasses.replace(
        case, image=image.astype(np.float32), label=label, spacing=new_spacing, affine=case.affine @ step, header=None
    )
