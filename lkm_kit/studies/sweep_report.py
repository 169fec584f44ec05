"""What a sweep has found, as a table, a picture and a CSV file from which both can be made anew."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lkm_kit.files import atomic_path, write_text
from lkm_kit.studies.arms import Study
from lkm_kit.studies.learning import ENOUGH, gain_text
from lkm_kit.studies.render import mean_sd, to_markdown
from lkm_kit.studies.sweep import best, grid, unlearnt


def sweep_text(table: pd.DataFrame, study: Study) -> str:
    """Markdown: each arm's best rate, every setting's score, and what was not learnt.

    Args:
        table: of :func:`lkm_kit.studies.sweep.curves`.
        study: whose arms they are.

    >>> from lkm_kit.studies import study
    >>> about = {"arm": "pim", "rate": 0.01, "warmup": 0.1, "seed": 1000, "state": "done", "source": "warps"}
    >>> seen = pd.DataFrame({**about, "step": [75, 100], "DSC": [0.7, 0.805], "DSC liver": [0.7, 0.805]})
    >>> print(sweep_text(seen, study("table3", "smoke")).split("## ")[1].splitlines()[4])
    | PiM | 0.01 | 10 % | 80.50 | +10.50, no |
    """
    chosen, lost = best(table), unlearnt(table)
    titles = {arm: study.arm(arm).title for arm in table["arm"].unique()}
    numbers = [str(seed) for seed in sorted(table["seed"].unique())]
    several = f"mean ± standard deviation over the seeds {', '.join(numbers)}"
    seeds = several if len(numbers) > 1 else f"of one training each, seed {numbers[0]}"
    lines = [
        f"# {study.name}: each arm's own learning rate",
        "",
        f"Data: {_source(table)}",
        "",
        "Scores are the DSC, in percent, of the pixels of all validation items together at the last step, "
        f"{seeds}. No study uses such seeds, and no test item was read.",
        "",
        f"## Best of {table['rate'].nunique()} learning rates, {table['step'].max()} steps",
        "",
        to_markdown(_best_table(chosen, titles)),
        "",
    ]
    lines += [f"- {titles[arm]} diverged at every rate." for arm in titles if arm not in chosen.index]
    edges = ((titles[arm], row) for arm, row in chosen.iterrows() if row.edge)
    lines += [
        f"- {arm}: {row.rate:g} is the {row.edge} rate that was tried; another may be better." for arm, row in edges
    ]
    lines += [f"- **{titles[arm]} at {rate:g}, {_rise(share)}: {said}.**" for (arm, rate, share), said in lost.items()]
    return "\n".join([*lines, "", "## All rates", "", to_markdown(_all_rates(table, titles)), ""])


def write_sweep(table: pd.DataFrame, study: Study, folder: str | Path, caption: Mapping[str, Any]) -> Path:
    """Write sweep.csv, sweep.md, and the picture sweep.png with its caption sweep.json.

    Args:
        table, study: as in :func:`sweep_text`.
        folder: of the files.
        caption: config, profile and seed, as in :func:`lkm_kit.plots.save_figure`.

    Returns:
        the folder.
    """
    from lkm_kit.plots.style import save_figure, use_style
    from lkm_kit.plots.sweep import plot_curves

    folder = Path(folder)
    with atomic_path(folder / "sweep.csv") as temporary:
        table.to_csv(temporary, index=False)
    write_text(folder / "sweep.md", sweep_text(table, study))
    use_style()
    titles = {arm: study.arm(arm).title for arm in table["arm"].unique()}
    text = (
        f"Validation DSC of {study.name}'s arms at every learning rate: a thin line a seed, a thick one their mean; "
        f"the ring marks the best rate. Data: {_source(table)}"
    )
    trained = f"{table['seed'].nunique()} training{'s' * (table['seed'].nunique() > 1)} a rate"
    headline = f"{study.title}, sweep: {re.split('[:,]', _source(table))[0]}, {trained}"
    figure = plot_curves(table, titles, best(table), headline)
    save_figure(figure, "sweep", {"text": text, **caption}, folder=folder)
    return folder


def _best_table(chosen: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    columns = {
        "best rate": [f"{rate:g}" for rate in chosen["rate"]],
        "warm-up": [f"{100 * share:g} %" for share in chosen["warmup"]],
        "DSC": [mean_sd(*row) for row in chosen[["mean", "sd"]].to_numpy()],
        f"last quarter's gain; below {ENOUGH:g} point?": [gain_text(gain) for gain in chosen["gain"]],
    }
    return pd.DataFrame(columns, index=pd.Index([titles[arm] for arm in chosen.index], name="arm"))


def _all_rates(table: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """A row an arm and warm-up, a column a rate."""
    cells: dict[str, dict[str, str]] = {}
    for (arm, rate, share), row in grid(table).iterrows():
        lost = f"diverged in {row['diverged']:.0f} of {row['seeds']:.0f} seeds"
        cell = lost if row["diverged"] else mean_sd(row["mean"], row["sd"])
        cells.setdefault(f"{titles[arm]}, {_rise(share)}", {})[f"{rate:g}"] = cell
    rates = [f"{rate:g}" for rate in sorted(table["rate"].unique())]
    return pd.DataFrame.from_dict(cells, orient="index").reindex(columns=rates).fillna("–").rename_axis("arm")


def _rise(share: float) -> str:
    return f"warm-up {100 * share:g} %"


def _source(table: pd.DataFrame) -> str:
    return " ".join(str(table["source"].iloc[0]).split())
