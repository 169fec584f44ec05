"""What the trained networks of the study ``scans`` see: orders and mixers of PiM, on patients, asked at 25 places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from lkm_kit.figures.built import Built
from lkm_kit.figures.erf_trained import IMAGES, PLACES, STATISTICS, at_places, middle, summary
from lkm_kit.plots.erf import erf_grid
from lkm_kit.profiles import profile

DATA, SEEDS = "hippocampus", 3
PROTOCOL = {
    "axis": 0, "batch_size": 16, "iterations": 600, "validation_slices": 200, "learning_rate": 0.01, "warmup": 0.1,
}  # fmt: skip
"""Of the committed reference results (docs/studies.md), so that their trainings are found again."""
CONTROL = "residual-unet"
ORDERS = ("rows", "one-way", "hilbert", "dilated", "local", "cross-scan")
MIXERS = ("rows", "depthwise", "mean", "attention", "s4d", "mamba2", "mingru")


def erf_orders_trained() -> Built:
    """Maps of the control and of one PiM in several orders, after the same training on patients."""
    return _built("erf_orders_trained", "orders of PiM's scan", (CONTROL, *ORDERS))


def erf_mixers_trained() -> Built:
    """Maps of the control and of PiM with several mixers, after the same training on patients."""
    return _built("erf_mixers_trained", "mixers of PiM's windows", (CONTROL, *MIXERS))


def trained_arms(arms: Sequence[str]) -> tuple[dict[str, list[nn.Module]], Tensor, dict[str, Any]]:
    """Arms of the study ``scans`` on the data set, found in ``runs/`` or trained now (minutes each).

    Args:
        arms: their names.

    Returns:
        title → networks, one a seed; validation slices (images, channels, H, W); the study's protocol.

    Raises:
        KitError: the data set is not there.
    """
    from lkm_kit.data import find_dataset
    from lkm_kit.studies.runner import make_plan, run_study
    from lkm_kit.training import load_result
    from lkm_kit.training.batches import make_datasets

    plan = make_plan("scans", profile(), SEEDS, list(arms), data_set=find_dataset(DATA), **PROTOCOL)
    run_study(plan, log=lambda line: None)
    networks: dict[str, list[nn.Module]] = {plan.study.arm(name).title: [] for name in arms}
    jobs = plan.jobs()
    for job in jobs:
        networks[plan.study.arm(job.arm).title].append(load_result(job.run(plan.root).folder).network.eval())
    slices = make_datasets(jobs[0].config)["validation"]
    step = max(1, len(slices) // IMAGES)
    images = torch.stack([slices[k]["image"] for k in range(0, step * IMAGES, step)])
    return networks, images, plan.protocol()


def _built(name: str, what: str, arms: Sequence[str]) -> Built:
    networks, images, config = trained_arms(arms)
    window = min(images.shape[-2:]) // 4
    found = pd.concat({stats: at_places(networks, images, window, stats) for stats in STATISTICS}, names=["statistics"])
    table = summary(found)
    rows = {f"{stats} statistics": middle(networks, images, window, stats) for stats in STATISTICS}
    text = (
        f"Several {what}, after the same training on patients, {SEEDS} trainings each. All logits at the middle of a "
        f"window (red ring), mean over {len(images)} validation slices and the trainings. Above, statistics of "
        "normalisation layers frozen: direct paths only. Below, live, as the networks are used. At "
        f"{PLACES**2} places {'; '.join(_said(table, stats) for stats in STATISTICS)}. Its table has "
        "Student's 95 % intervals over seeds and places."
    )
    about = {**config, "networks": list(arms), "places": PLACES**2, "seeds": SEEDS}
    return Built(erf_grid(rows), text, about, profile().name, None, f"data set {DATA}", {name: table})


def _said(table: pd.DataFrame, stats: str) -> str:
    areas = 100 * table.loc[stats, "area_90"]
    return f"({stats}) 90 % of the mass lie on {', '.join(f'{area:.0f} % ({title})' for title, area in areas.items())}"
