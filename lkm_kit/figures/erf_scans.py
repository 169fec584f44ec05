"""What the trained networks of the study ``scans`` see: orders and mixers of PiM, on patients, asked at 25 places."""

from __future__ import annotations

from collections.abc import Mapping
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
ARMS = {
    "no block": "residual-unet",
    "rows both ways": "rows",
    "rows forward": "one-way",
    "dilated grid": "dilated",
    "depth-wise 7×7": "depthwise",
    "window's mean": "mean",
    "S4D": "s4d",
    "minGRU": "mingru",
}
MORE = {
    "snake": "snake",
    "diagonals": "diagonal",
    "Hilbert's curve": "hilbert",
    "shuffled": "shuffled",
    "local windows": "local",
    "rows and columns": "cross-scan",
    "attention": "attention",
    "Mamba-2": "mamba2",
}
"""Title → arm; two pictures, because sixteen columns are too small to read."""


def erf_scans_trained() -> Built:
    """Maps of the network without a block and of one PiM in several orders and with several mixers, after training."""
    return _built(
        "erf_scans_trained", ARMS, "One PiM in several orders and with several mixers, and the network without it"
    )


def erf_more_scans_trained() -> Built:
    """The same for the other orders and mixers of the study."""
    return _built("erf_more_scans_trained", MORE, "One PiM in further orders and with further mixers")


def _built(name: str, arms: Mapping[str, str], shown: str) -> Built:
    networks, images, config = trained_arms(arms)
    window = min(images.shape[-2:]) // 4
    found = pd.concat({stats: at_places(networks, images, window, stats) for stats in STATISTICS}, names=["statistics"])
    table = summary(found)
    rows = {f"{stats} statistics": middle(networks, images, window, stats) for stats in STATISTICS}
    text = (
        f"{shown}, after the same training on "
        f"patients, {SEEDS} trainings each. All logits at the middle of a window (red ring), mean over {len(images)} "
        "validation slices and the trainings. Above, statistics of normalisation layers frozen: direct paths only. "
        "Below, live, as the networks are used. Share of the image that holds 90 % of the mass, at "
        f"{PLACES**2} places: {' '.join(_said(table, stats) for stats in STATISTICS)} Its table has "
        "Student's 95 % intervals over seeds and places."
    )
    about = {**config, "networks": list(arms.values()), "places": PLACES**2, "seeds": SEEDS}
    return Built(erf_grid(rows), text, about, profile().name, None, f"data set {DATA}", {name: table})


def trained_arms(arms: Mapping[str, str]) -> tuple[dict[str, list[nn.Module]], Tensor, dict[str, Any]]:
    """Arms of the study ``scans`` on the data set, found in ``runs/`` or trained now (minutes each).

    Args:
        arms: title → name.

    Returns:
        title → networks, one a seed; validation slices (images, channels, H, W); the study's protocol.

    Raises:
        KitError: the data set is not there.
    """
    from lkm_kit.data import find_dataset
    from lkm_kit.studies.runner import make_plan, run_study
    from lkm_kit.training import load_result
    from lkm_kit.training.batches import make_datasets

    plan = make_plan("scans", profile(), SEEDS, list(arms.values()), data_set=find_dataset(DATA), **PROTOCOL)
    run_study(plan, log=lambda line: None)
    jobs, by_arm = plan.jobs(), {name: [] for name in arms.values()}
    for job in jobs:
        by_arm[job.arm].append(load_result(job.run(plan.root).folder).network.eval())
    slices = make_datasets(jobs[0].config)["validation"]
    step = max(1, len(slices) // IMAGES)
    images = torch.stack([slices[k]["image"] for k in range(0, step * IMAGES, step)])
    return {title: by_arm[name] for title, name in arms.items()}, images, plan.protocol()


def _said(table: pd.DataFrame, stats: str) -> str:
    areas = ", ".join(f"{title} {100 * area:.0f} %" for title, area in table.loc[stats, "area_90"].items())
    return f"{stats}: {areas}."
