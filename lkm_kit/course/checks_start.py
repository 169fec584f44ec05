"""Checks of the first chapter: volumes in millilitres, windows of grey, pictures the right way up, the Dice score."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lkm_kit.course.check import CheckResult, check_function


def check_volume_ml(fn: Callable[..., float]) -> CheckResult:
    """``volume_ml(mask, spacing)``: the volume of a bool array in ml, spacing in mm.

    >>> check_volume_ml(lambda mask, spacing: mask.sum() * np.prod(spacing) / 1000).ok
    True
    """
    mask = np.zeros((4, 5, 6), bool)
    mask[1:3, 1:4, 2:5] = True
    return check_function(
        fn,
        lambda mask, spacing: float(mask.sum() * np.prod(spacing) / 1000),
        [(mask, (10.0, 10.0, 10.0)), (mask, (3.0, 3.0, 3.0)), (mask, (0.8, 0.7, 5.0)), (~mask, (1.0, 2.0, 3.0))],
        hints=(
            "how large is one voxel in mm³, and how many mm³ are a millilitre?",
            "mask.sum() times the product of the spacing, divided by 1000",
        ),
        mistakes=[
            (lambda mask, spacing: mask.sum() * np.prod(spacing), "these are mm³; a millilitre is 1000 of them"),
            (lambda mask, spacing: mask.sum(), "these are voxels; each of them has a size in mm"),
            (lambda mask, spacing: mask.sum() * spacing[0] ** 3 / 1000, "a voxel need not be a cube"),
            (lambda mask, spacing: mask.sum() * spacing[2] ** 3 / 1000, "a voxel need not be a cube"),
            (lambda mask, spacing: mask.sum() * np.mean(spacing) ** 3 / 1000, "a voxel need not be a cube"),
            (
                lambda mask, spacing: mask.sum() * np.sum(spacing) / 1000,
                "a volume is a product of sides, not their sum",
            ),
            (lambda mask, spacing: mask.size * np.prod(spacing) / 1000, "only the voxels where the mask is true count"),
            (
                lambda mask, spacing: mask.sum() * np.prod(spacing[:2]) / 1000,
                "a voxel has three sides: this is the area of two",
            ),
            (
                lambda mask, spacing: mask.sum() * np.prod(spacing) / 10,
                "10 mm make a cm, and a millilitre is a cube of 10 mm a side: 1000 mm³",
            ),
            (
                lambda mask, spacing: mask.sum() * np.prod(spacing) / 100,
                "a millilitre is a cube of 10 mm a side: 1000 mm³",
            ),
        ],
    )


def check_ct_window(fn: Callable[..., np.ndarray]) -> CheckResult:
    """``ct_window(image, center, width)``: Hounsfield units to grey values between 0 and 1.

    >>> check_ct_window(lambda image, center, width: np.clip((image - center) / width + 0.5, 0, 1)).ok
    True
    """
    ramp = np.linspace(-1000, 1000, 41)
    picture = np.array([[55.5, -24.75], [12.25, 90.5], [124.9, 0.0]])
    return check_function(
        fn,
        lambda image, center, width: np.clip((image - center) / width + 0.5, 0, 1),
        [(ramp, 40.0, 400.0), (ramp, -600.0, 1500.0), (picture, 50.0, 150.0)],
        hints=(
            "which HU become 0 and 1, and what about those outside?",
            "center - width / 2 becomes 0, center + width / 2 becomes 1; np.clip cuts what lies outside",
        ),
        mistakes=[
            (lambda image, center, width: (image - center) / width + 0.5, "cut off below 0 and above 1: np.clip"),
            (
                lambda image, center, width: np.clip((image - center) / width, 0, 1),
                "the center of the window should become 0.5, not 0",
            ),
            (
                lambda image, center, width: np.clip((image - center) / (2 * width) + 0.5, 0, 1),
                "width is the whole range, not the half of it",
            ),
            (
                lambda image, center, width: np.where(abs(image - center) <= width / 2, image, 0),
                "a window makes grey values from 0 to 1 of what lies inside, and 1 of all above",
            ),
            (
                lambda image, center, width: (image - image.min()) / (image.max() - image.min()),
                "the window decides, not the smallest and the largest value of this image",
            ),
            (
                lambda image, center, width: np.clip((image - center) / width + 0.5, 0, 1).round(),
                "linear in between: these are black and white alone",
            ),
            (
                lambda image, center, width: 255 * np.clip((image - center) / width + 0.5, 0, 1),
                "grey values from 0 to 1, not to 255",
            ),
        ],
        draw=True,
    )


def check_axial(fn: Callable[..., np.ndarray]) -> CheckResult:
    """``axial(volume, z)``: the slice as a picture, the front of the body at the top, its right side at the left.

    >>> check_axial(lambda volume, z: volume[::-1, ::-1, z].T).ok
    True
    """
    volume = np.zeros((6, 5, 3))
    volume[4:, 3:, 1] = 1.0  # a mark in front, on the patient's right
    volume[0, :, 1] = 0.5  # and a rim along the left side
    return check_function(
        fn,
        lambda volume, z: volume[::-1, ::-1, z].T,
        [(volume, 1), (np.arange(24.0).reshape(2, 3, 4), 2)],
        hints=(
            "which way does x grow in the patient, and which way do a picture's columns? And y, and its rows?",
            "rows run from front to back (y falls), columns from the right side to the left (x falls)",
        ),
        mistakes=[
            (lambda volume, z: volume[:, :, z], "an array's first axis is drawn downwards: transpose it (.T)"),
            (lambda volume, z: volume[:, :, z].T, "upside down, and left and right exchanged: turn both axes round"),
            (lambda volume, z: volume[:, ::-1, z].T, "the patient's right side is to be on the left of the picture"),
            (lambda volume, z: volume[::-1, :, z].T, "the front of the body is to be at the top"),
            (lambda volume, z: volume[::-1, ::-1, z], "an array's first axis is drawn downwards: transpose it (.T)"),
            (
                lambda volume, z: np.rot90(volume[:, :, z]),
                "the patient's right side is to be on the left of the picture",
            ),
            (lambda volume, z: np.rot90(volume[:, :, z], -1), "the front of the body is to be at the top"),
            (lambda volume, z: volume[::-1, ::-1, -z - 1].T, "that is another slice: z counts from the first one"),
        ],
        draw=True,
    )


def check_dice(fn: Callable[..., float]) -> CheckResult:
    """``dice(prediction, truth)``: 2 |P ∩ T| / (|P| + |T|) of two bool arrays.

    >>> check_dice(lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum())).ok
    True
    """
    truth = np.zeros((8, 8), bool)
    truth[2:6, 2:6] = True
    shifted = np.roll(truth, 2, axis=1)
    small = np.zeros_like(truth)
    small[3:5, 3:5] = True
    return check_function(
        fn,
        lambda p, t: float(2 * (p & t).sum() / (p.sum() + t.sum())),
        [(truth, truth), (shifted, truth), (small, truth), (np.roll(truth, 4, axis=1), truth), (truth, ~small)],
        hints=(
            "p & t are the pixels that both masks have",
            "2 (p & t).sum() / (p.sum() + t.sum()): twice what both have, over what the two have together",
        ),
        mistakes=[
            (lambda p, t: (p & t).sum() / (p | t).sum(), "this is the Jaccard index (intersection over union)"),
            (lambda p, t: (p == t).mean(), "this is the accuracy; the background makes it look good"),
            (lambda p, t: (p & t).sum() / t.sum(), "this is the recall; what the prediction has too much must count"),
            (lambda p, t: (p & t).sum() / p.sum(), "this is the precision; what the prediction lacks must count"),
            (lambda p, t: (p & t).sum() / (p.sum() + t.sum()), "twice the intersection: two equal masks score 1"),
            (lambda p, t: 2 * (p & t).sum() / (p + t).sum(), "of bool arrays, p + t is the union: add the two sums"),
            (lambda p, t: 2 * (p | t).sum() / (p.sum() + t.sum()), "above the line stands what both have: p & t"),
            (lambda p, t: 2 * (p & t).sum() / p.size, "below the line stand the two masks, not all pixels"),
            (lambda p, t: 200 * (p & t).sum() / (p.sum() + t.sum()), "a number from 0 to 1, not in percent"),
            (lambda p, t: 1 - 2 * (p & t).sum() / (p.sum() + t.sum()), "two equal masks score 1: this is the loss"),
        ],
    )
