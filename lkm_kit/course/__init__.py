"""The course: exercise checks (``check_*``), their machinery (``check.py``, ``check_class.py``), what a student keeps
of her own (``own.py``) and the notebook builder (``build.py``).

Each topic keeps its checks in a file of its own and lists their names here; they are imported when first asked for, so
that a chapter on one topic does not pay for the imports of another.

>>> from lkm_kit.course import check_function
>>> check_function(lambda x: 2 * x, lambda x: 2 * x, [(3,)], name="double").ok
True
"""

from importlib import import_module
from typing import Any

from lkm_kit.course.check import CheckResult, check_function, check_value
from lkm_kit.course.own import keep, kept

CHECKS = {
    "checks_own_data": ("check_leaked", "check_pair_gap", "check_case_dsc", "check_worst"),
    "checks_start": ("check_volume_ml", "check_ct_window", "check_axial", "check_dice"),
    "checks_ssm": (
        "check_discretize_diagonal",
        "check_scan",
        "check_kernel",
        "check_half_life",
        "check_causal",
    ),
    "checks_scan": ("check_mamba", "check_tree", "check_memory_length", "check_time_step"),
    "checks_bidirectional": ("check_bim", "check_already_read", "check_heard_pairs", "check_bim_test"),
    "checks_pixel": ("check_place_in_window", "check_cut_windows", "check_tokens_apart", "check_mates", "check_pim"),
    "checks_patch": ("check_reached", "check_pam", "check_way", "check_attention_cost"),
    "checks_blocks": (
        "check_network",
        "check_windows_for",
        "check_bim_parameters",
        "check_supervision_weights",
        "check_image_multiple",
    ),
    "checks_volumes": ("check_window_mm", "check_tiles", "check_mirrored", "check_logits_gib"),
    "checks_scale": ("check_gpu_hours", "check_trainings", "check_seeds_needed", "check_empty_organs"),
    "checks_erf": ("check_field_side", "check_erf_by_hand", "check_area_holding", "check_window_share"),
    "checks_data": ("check_to_mm", "check_translate", "check_slice_gap", "check_box_dice"),
    "checks_audit": (
        "check_residues",
        "check_three_readings",
        "check_fallback",
        "check_translated",
        "check_chance",
    ),
    "checks_kernel_size": ("check_same_length", "check_order_agreement"),
    "checks_baselines": ("check_patch_tokens", "check_conv_parameters", "check_in_spreads"),
    "checks_studies": ("check_paired", "check_interval", "check_holm", "check_tokens"),
    "checks_other_scans": ("check_snake", "check_cross_scan", "check_never_joined", "check_ssd_attention"),
    "checks_training": ("check_soft_dice_loss", "check_poly_rate", "check_surface_dice", "check_official_slices"),
}
"""Module of the course -> the exercise checks in it."""

__all__ = ["CHECKS", "CheckResult", "check_function", "check_value", "keep", "kept"]


def __getattr__(name: str) -> Any:
    for module, names in CHECKS.items():
        if name in names:
            return getattr(import_module(f"lkm_kit.course.{module}"), name)
    raise AttributeError(f"lkm_kit.course has no check {name!r}; there are: {', '.join(sorted(__dir__()))}")


def __dir__() -> list[str]:
    return [*__all__, *(name for names in CHECKS.values() for name in names)]
