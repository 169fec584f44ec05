"""The pair of chapter 08, LKM-UNet and the same network without Mamba, trained at the profile, and its scores.

It is taken from ``runs/`` when it is there, and trained when it is not. They are the same configs as in the chapter, so
that either of the two finds what the other one made.
"""

from __future__ import annotations

import functools
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lkm_kit.figures.built import Built
from lkm_kit.profiles import profile

ARMS = {"LKM-UNet": {}, "no Mamba": {"pim": False, "pam": False}}


def pair_config():
    """The training of LKM-UNet at the profile."""
    from lkm_kit.training import TrainConfig

    return TrainConfig.from_profile(profile())


def of_the_runs(figure: Figure, text: str, tables: dict[str, pd.DataFrame]) -> Built:
    """A figure of the pair, with the config, profile, seed and data that it was trained with."""
    config = pair_config()
    source = test_warps().source.text
    return Built(figure, text, config.to_dict(), profile().name, config.seed, source, tables)


@functools.cache
def trained_pair() -> dict[str, Any]:
    """Arm -> finished training, found in ``runs/`` or made now."""
    from lkm_kit.training import TrainConfig, run_folder, train

    configs = {arm: TrainConfig.from_profile(profile(), network_overrides=how) for arm, how in ARMS.items()}
    return {
        arm: train(config, run_folder(config, "chapter-08"), workers=profile().workers)
        for arm, config in configs.items()
    }


@functools.cache
def test_warps():
    """The held-out deformed copies of the cohort at the profile."""
    from lkm_kit.training.batches import cohort_items

    return cohort_items(pair_config(), "test", profile().test_slices)


@functools.cache
def segmented_stranger() -> dict[str, Any]:
    """Arm -> labels of ct_b on its own grid."""
    from lkm_kit.data import load_sample
    from lkm_kit.devices import resolve_device
    from lkm_kit.evaluation import predict_case

    config, case = pair_config(), load_sample("ct_b")
    how = {"table": config.table, "spacing_mm": config.spacing_mm, "window": config.image_size}
    return {arm: predict_case(r.network, case, device=resolve_device(), **how) for arm, r in trained_pair().items()}


@functools.cache
def pair_scores() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of both arms: on the held-out deformed copies, and on ct_b."""
    from lkm_kit.data import load_sample
    from lkm_kit.devices import resolve_device
    from lkm_kit.evaluation import compare, evaluate_case, score_slices

    config, case = pair_config(), load_sample("ct_b")
    how = {"table": config.table, "spacing_mm": config.spacing_mm, "device": resolve_device()}
    warps = {arm: score_slices(result.network, test_warps(), **how) for arm, result in trained_pair().items()}
    stranger = {
        arm: evaluate_case(labels, case.label, case.spacing, config.table, case=case.name)
        for arm, labels in segmented_stranger().items()
    }
    return compare(warps), compare(stranger)
