"""DSC and NSD per organ and case, by the paper's scoring script ("official") or by the textbook ("plain")."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from lkm_kit.data.labels import LabelTable
from lkm_kit.errors import KitError

RULES = {
    "plain": "all slices; an organ in neither truth nor prediction is left out; in only one of them it scores 0",
    "official": "the released scripts: an organ in neither scores 1; in the prediction only, 0; aorta, inferior vena "
    "cava and esophagus count from the truth's first slice to its last but one; rounded to 4 decimals",
}
"""The two ways to score a case. The paper's tables are official; the kit's own are plain unless they say otherwise."""

SLICED_ORGANS = ("aorta", "inferior vena cava", "esophagus")


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Dice similarity coefficient 2 |P ∩ T| / (|P| + |T|) of two masks; nan when both are empty.

    Args:
        prediction, truth: bool arrays of one shape.

    >>> dice(np.array([1, 1, 0], bool), np.array([0, 1, 0], bool))
    0.6666666666666666
    """
    _same_shape(prediction, truth)
    total = int(prediction.sum()) + int(truth.sum())
    return 2 * int((prediction & truth).sum()) / total if total else float("nan")


def surface_dice(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float], tolerance_mm: float) -> float:
    """Normalised surface Dice (NSD): the share of both surfaces that lies within a tolerance of the other one.

    Args:
        prediction, truth: bool masks (H, W) or (D, H, W) of one shape.
        spacing: mm along each axis.
        tolerance_mm: how far a contour may be off and still count, in mm.

    Returns:
        number in [0, 1]; nan when both masks are empty, 0 when one is.

    Source: Nikolov et al., arXiv 1809.04430. Surface elements and their areas from MONAI's ``get_mask_edges`` on the
    part of the image where either mask is (nothing outside it counts), as in its ``compute_surface_dice`` with
    ``use_subvoxels=True``; agrees with DeepMind's surface-distance to 1e-6.

    >>> square = np.zeros((20, 20), bool); square[5:15, 5:15] = True
    >>> surface_dice(np.roll(square, 1, axis=0), square, (1.0, 1.0), tolerance_mm=1.0)
    1.0
    """
    from monai.metrics.utils import get_mask_edges

    _same_shape(prediction, truth)
    if prediction.ndim not in (2, 3) or len(spacing) != prediction.ndim:
        raise KitError(
            f"masks with {prediction.ndim} axes and a spacing of {len(spacing)} numbers",
            remedy="give masks (H, W) or (D, H, W) and the mm along each of their axes",
        )
    either = prediction | truth
    if not either.any():
        return float("nan")
    if not prediction.any() or not truth.any():
        return 0.0
    # The surface runs between voxels, so the cut needs a border of empty ones.
    box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in np.nonzero(either))
    masks = [torch.from_numpy(np.pad(mask[box], 2)).float() for mask in (prediction, truth)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        found = get_mask_edges(*masks, spacing=tuple(map(float, spacing)), always_return_as_numpy=True)
    edges, areas = [part.astype(bool) for part in found[:2]], [part.astype(float) for part in found[2:]]
    points = [np.argwhere(edge) * np.asarray(spacing, float) for edge in edges]
    near = [_within(points[k], points[1 - k], tolerance_mm) for k in (0, 1)]
    total = sum(float(area[edge].sum()) for area, edge in zip(areas, edges))
    return sum(float(area[edge][close].sum()) for area, edge, close in zip(areas, edges, near)) / total


def _within(points: np.ndarray, others: np.ndarray, tolerance_mm: float) -> np.ndarray:
    """Which points have one of the others within the tolerance: bool.

    Looking no further than that is many times faster than finding the nearest, above all on bad predictions.
    """
    from scipy.spatial import KDTree

    reach = tolerance_mm * (1 + 1e-6) + 1e-6  # distances are rounded; the bound itself is exclusive
    distance, _ = KDTree(others, leafsize=32).query(points, distance_upper_bound=reach)
    return np.isfinite(distance)


def evaluate_case(
    prediction: np.ndarray,
    case_label: np.ndarray,
    spacing: Sequence[float],
    table: LabelTable,
    rule: str = "plain",
    *,
    case: str = "",
) -> pd.DataFrame:
    """Score one case, organ by organ.

    Args:
        prediction, case_label: ids on one grid, (x, y, z), or (H, W) for a single slice.
        spacing: mm along each axis.
        table: the labels to score, with their NSD tolerances (without one: the diagonal of a voxel).
        rule: a key of :data:`RULES`.
        case: name of the case, for the table.

    Returns:
        one row an organ: case, organ, DSC, NSD (fractions in [0, 1]; nan = left out).

    Raises:
        KitError: unknown rule, shapes that differ, ids outside the label table, or the official rule without slices.

    Source: the released evaluation/abdomen_DSC_Eval.py and abdomen_NSD_Eval.py. Their slice rule leaves out the truth's
    last slice, so that an organ on one slice has nothing to count and gets nan; kept under "official", because the
    paper's numbers were made so.

    >>> truth = np.zeros((8, 8, 4), np.uint8); truth[2:6, 2:6, 1:3] = 1
    >>> rows = evaluate_case(truth, truth, (3, 3, 3), LabelTable(("liver", "spleen")))
    >>> rows["DSC"].tolist()
    [1.0, nan]
    """
    if rule not in RULES:
        raise KitError(f"there is no scoring rule {rule!r}", remedy=f"choose one of {', '.join(RULES)}")
    prediction = table.check(prediction, where="the prediction")
    truth = table.check(case_label, where="the label")
    _same_shape(prediction, truth)
    if rule == "official" and truth.ndim != 3:
        raise KitError(
            f"the official rule goes by slices, the label has {truth.ndim} axes",
            remedy="score a whole volume, or use plain",
        )
    if not np.all(np.asarray(spacing, dtype=float) > 0):
        raise KitError(f"the spacing {tuple(spacing)} is not positive", remedy="give mm along each axis")
    score = _official if rule == "official" else _plain
    rows = []
    for label in table:
        dsc, nsd = score(prediction == label.id, truth == label.id, spacing, label)
        rows.append({"case": case, "organ": label.name, "DSC": dsc, "NSD": nsd})
    return pd.DataFrame(rows)


def _plain(prediction, truth, spacing, label) -> tuple[float, float]:
    return dice(prediction, truth), surface_dice(prediction, truth, spacing, label.tolerance(spacing))


def _official(prediction, truth, spacing, label) -> tuple[float, float]:
    if not truth.any():
        score = 0.0 if prediction.any() else 1.0
        return score, score
    if label.name in SLICED_ORGANS:
        slices = np.nonzero(truth)[2]
        inside = slice(int(slices.min()), int(slices.max()))  # the last slice is left out: see the docstring
        prediction, truth = prediction[..., inside], truth[..., inside]
    dsc, nsd = _plain(prediction, truth, spacing, label)
    return round(dsc, 4), round(nsd, 4)


def _same_shape(prediction: np.ndarray, truth: np.ndarray) -> None:
    if prediction.shape != truth.shape:
        raise KitError(
            f"the prediction has {prediction.shape} voxels, the label {truth.shape}",
            remedy="bring the prediction to the label's grid first (predict_case does)",
        )
