"""How far a training has come: score against steps, and what the last quarter of the steps brought."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lkm_kit.studies.job import Job
from lkm_kit.training.store import Run

LAST_QUARTER = 0.75
ENOUGH = 1.0
"""Points of DSC: a training is long enough where the last quarter of its steps brings less."""


def history(job: Job, run: Run) -> pd.DataFrame:
    """What a run has scored on validation items.

    Returns:
        one row a validation: arm, rate, warmup, seed (and fold, of a cross-validation), step, DSC and ``DSC <label>``,
        over the pixels of all validation items together (:func:`lkm_kit.training.loop.validate`). A run that diverged
        before its first validation has one row, at step 0, without scores.
    """
    path = run.folder / "history.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame({"step": [0], "DSC": [np.nan]})
    config = job.config
    about = {"arm": job.arm, "rate": config.learning_rate, "warmup": config.warmup, "seed": job.seed}
    about |= {} if job.fold is None else {"fold": job.fold}
    rows = table[["step", *scores_in(table)]].round(6).assign(**about)
    return rows[[*about, *table[["step", *scores_in(table)]].columns]]


def scores_in(table: pd.DataFrame) -> list[str]:
    """The columns of a history that are scores: of all labels together, and of each.

    >>> scores_in(pd.DataFrame(columns=["step", "DSC", "DSC liver", "seconds"]))
    ['DSC', 'DSC liver']
    """
    return [name for name in table if name == "DSC" or name.startswith("DSC ")]


def last_quarter(rows: pd.DataFrame) -> float:
    """Points of DSC that came after the last validation that is no later than three quarters of the steps.

    Args:
        rows: of :func:`history`, one arm at one setting; the mean over its runs.

    Returns:
        points; nan where no validation was that early.

    >>> float(round(last_quarter(pd.DataFrame({"seed": 0, "step": [50, 75, 100], "DSC": [0.5, 0.7, 0.72]})), 6))
    2.0
    """
    by_run = rows.pivot(index="step", columns=[name for name in ("seed", "fold") if name in rows], values="DSC")
    before = by_run[by_run.index <= LAST_QUARTER * by_run.index.max()]
    return float(100 * (by_run.iloc[-1] - before.iloc[-1]).mean()) if len(before) else float("nan")


def gain_text(gain: float) -> str:
    """
    >>> gain_text(0.4), gain_text(-1.25), gain_text(3.0), gain_text(float("nan"))
    ('+0.40, yes', '−1.25, yes', '+3.00, no', '–')
    """
    return "–" if np.isnan(gain) else f"{gain:+.2f}, {'yes' if gain < ENOUGH else 'no'}".replace("-", "−")
