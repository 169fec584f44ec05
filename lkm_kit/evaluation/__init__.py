"""Scores and predictions: metrics, per-organ tables, sliding windows (paper Section 4.2). Knows no network by name."""

from lkm_kit.evaluation.inference import predict_case, predict_volume, settings_of
from lkm_kit.evaluation.metrics import METRICS, RULES, About, dice, evaluate_case, hausdorff95, surface_dice
from lkm_kit.evaluation.scoring import score_case, score_dataset, score_slices, score_volumes, trained_cases
from lkm_kit.evaluation.tables import compare, organ_table

__all__ = [
    "METRICS",
    "RULES",
    "About",
    "compare",
    "dice",
    "evaluate_case",
    "hausdorff95",
    "organ_table",
    "predict_case",
    "predict_volume",
    "score_case",
    "score_dataset",
    "score_slices",
    "score_volumes",
    "settings_of",
    "surface_dice",
    "trained_cases",
]
