"""The scores of a segmentation, organ by organ: a dict of metrics, by the paper's script or by the textbook."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from lkm_kit.data.labels import Label, LabelTable
from lkm_kit.errors import KitError, one_of
from lkm_kit.monai_parts import monai_part

RULES = {
    "plain": "all slices; an organ in neither truth nor prediction is left out; in only one of them it scores 0, and "
    "its HD95 is the image's diagonal",
    "official": "the released scripts for DSC and NSD: an organ in neither scores 1; in the prediction only, 0; aorta, "
    "inferior vena cava and esophagus count from the truth's first slice to its last but one; rounded to 4 decimals. "
    "Other metrics have no official form and stay plain",
}
"""The two ways to score a case. The paper's tables are official; the kit's own are plain unless they say otherwise."""

SLICED_ORGANS = ("aorta", "inferior vena cava", "esophagus")


class About(NamedTuple):
    """How a metric is read; a function without an attribute ``about`` is read as these defaults say.

    Args:
        higher_is_better: False for a distance.
        best: score of a perfect segmentation; what rightly leaving an organ out counts as where it must have a score.
        scale: reports print score times scale.
        unit: of what they print.
        difference: unit of a difference of two of them.
    """

    higher_is_better: bool = True
    best: float = 1.0
    scale: float = 100.0
    unit: str = "%"
    difference: str = "points"


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
    ``use_subvoxels=True``. Agrees with DeepMind's surface-distance to 1e-6.

    >>> square = np.zeros((20, 20), bool); square[5:15, 5:15] = True
    >>> surface_dice(np.roll(square, 1, axis=0), square, (1.0, 1.0), tolerance_mm=1.0)
    1.0
    """
    _on_one_grid(prediction, truth, spacing)
    if not prediction.any() or not truth.any():
        return 0.0 if prediction.any() or truth.any() else float("nan")
    with _monai() as metrics:
        found = metrics.utils.get_mask_edges(
            *_cut_out(prediction, truth),
            crop=False,  # done already, and MONAI's own takes as long as all the rest
            spacing=tuple(map(float, spacing)),
            always_return_as_numpy=True,
        )
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


def hausdorff95(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """95 % Hausdorff distance (HD95): so far, or less, are 95 % of each surface's voxels from the other surface, in mm.

    Args:
        prediction, truth: bool masks (H, W) or (D, H, W) of one shape.
        spacing: mm along each axis.

    Returns:
        the larger of both directions, in mm; nan when both masks are empty. When one is, the image's diagonal: the
        largest distance that two voxels of it can have, so that a mean over cases stays finite.

    Source: what MONAI's ``compute_hausdorff_distance`` with ``percentile=95`` gives, to the last bit, from its parts.

    >>> square = np.zeros((20, 20), bool); square[5:15, 5:15] = True
    >>> hausdorff95(np.roll(square, 2, axis=0), square, (1.5, 1.0))
    3.0
    """
    _on_one_grid(prediction, truth, spacing)
    if not prediction.any() or not truth.any():
        diagonal = math.hypot(*((n - 1) * mm for n, mm in zip(truth.shape, spacing)))
        return diagonal if prediction.any() or truth.any() else float("nan")
    with _monai() as metrics:
        edges = metrics.utils.get_mask_edges(*_cut_out(prediction, truth), crop=False)
        both_ways = [
            metrics.utils.get_surface_distance(one, other, spacing=list(map(float, spacing)))
            for one, other in (edges, edges[::-1])
        ]
    return max(float(torch.quantile(torch.as_tensor(distances), 0.95)) for distances in both_ways)


@contextlib.contextmanager
def _monai() -> Iterator[Any]:
    """MONAI's metrics, without the warning about an argument that they give one another."""
    metrics = monai_part("metrics")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        yield metrics


def _cut_out(prediction: np.ndarray, truth: np.ndarray) -> list[torch.Tensor]:
    """Both masks where either is: the surface runs between voxels, so the cut has a border of empty ones."""
    box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in np.nonzero(prediction | truth))
    return [torch.from_numpy(np.pad(mask[box], 2)).float() for mask in (prediction, truth)]


def _dsc(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float], label: Label) -> float:
    return dice(prediction, truth)


def _nsd(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float], label: Label) -> float:
    return surface_dice(prediction, truth, spacing, label.tolerance(spacing))


def _hd95(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float], label: Label) -> float:
    return hausdorff95(prediction, truth, spacing)


_hd95.about = About(higher_is_better=False, best=0.0, scale=1.0, unit="mm", difference="mm")

Metric = Callable[[np.ndarray, np.ndarray, Sequence[float], Label], float]

METRICS: dict[str, Metric] = {"DSC": _dsc, "NSD": _nsd, "HD95": _hd95}
"""Name -> ``f(prediction, truth, spacing, label)``: two bool masks (2D or 3D), mm along each axis, whose mask it is.

Every table, statistic, report and command takes its columns from here, in this order; verdicts go by the first one.
``METRICS["mine"] = f`` adds one; ``f.about = About(...)`` says how it is read. nan means: no score for this organ here.
"""

OFFICIAL = ("DSC", "NSD")
"""Metrics that the released scripts define."""


def about(name: str) -> About:
    """How a metric is read.

    >>> about("HD95").unit, about("DSC").unit
    ('mm', '%')
    """
    return getattr(METRICS[name], "about", About())


def metrics_in(rows: pd.DataFrame) -> list[str]:
    """The metrics that a score table has a column of: tables written before a metric was added are read without it.

    Raises:
        KitError: there is none.

    >>> metrics_in(pd.DataFrame({"case": ["a"], "organ": "liver", "NSD": 0.5, "DSC": 0.5}))
    ['DSC', 'NSD']
    """
    found = [name for name in METRICS if name in rows.columns]
    if not found:
        raise KitError(f"the score table lacks {', '.join(METRICS)}", remedy="give rows of evaluate_case")
    return found


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
        one row an organ: case, organ, and a column for each of :data:`METRICS` (DSC and NSD are fractions in [0, 1],
        HD95 is in mm; nan = left out).

    Raises:
        KitError: unknown rule, shapes that differ, ids outside the label table, or the official rule without slices.

    Source: the released evaluation/abdomen_DSC_Eval.py and abdomen_NSD_Eval.py. Their slice rule leaves out the truth's
    last slice, so that an organ on one slice has nothing to count and gets nan. Kept under "official", as the released
    scripts have it.

    >>> truth = np.zeros((8, 8, 4), np.uint8); truth[2:6, 2:6, 1:3] = 1
    >>> rows = evaluate_case(truth, truth, (3, 3, 3), LabelTable(("liver", "spleen")))
    >>> rows["DSC"].tolist()
    [1.0, nan]
    """
    one_of(rule, RULES, "scoring rule")
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
    rows = []
    for label in table:
        masks = (prediction == label.id, truth == label.id)
        row: dict[str, Any] = {"case": case, "organ": label.name}
        for name, metric in METRICS.items():
            if rule == "official" and name in OFFICIAL:
                row[name] = _official(metric, *masks, spacing, label)
            else:
                row[name] = float(metric(*masks, spacing, label))
        rows.append(row)
    return pd.DataFrame(rows)


def _official(metric: Metric, prediction, truth, spacing, label: Label) -> float:
    if not truth.any():
        return 0.0 if prediction.any() else 1.0
    if label.name in SLICED_ORGANS:
        slices = np.nonzero(truth)[2]
        inside = slice(int(slices.min()), int(slices.max()))  # the last slice is left out: see the docstring
        prediction, truth = prediction[..., inside], truth[..., inside]
    return round(metric(prediction, truth, spacing, label), 4)


def _on_one_grid(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> None:
    _same_shape(prediction, truth)
    if prediction.ndim not in (2, 3) or len(spacing) != prediction.ndim:
        raise KitError(
            f"masks with {prediction.ndim} axes and a spacing of {len(spacing)} numbers",
            remedy="give masks (H, W) or (D, H, W) and the mm along each of their axes",
        )


def _same_shape(prediction: np.ndarray, truth: np.ndarray) -> None:
    if prediction.shape != truth.shape:
        raise KitError(
            f"the prediction has {prediction.shape} voxels, the label {truth.shape}",
            remedy="bring the prediction to the label's grid first (predict_case does)",
        )
