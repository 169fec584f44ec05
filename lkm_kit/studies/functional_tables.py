"""What the runs of the functional receptive field say: accuracy by distance, reach, and maps by offset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lkm_kit.data.cue_task import CueTask
from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, write_text
from lkm_kit.profiles import Profile
from lkm_kit.studies.functional import CueRun, functional_study, protocol
from lkm_kit.studies.render import to_markdown

CUES = ("anywhere", "before", "after")
THRESHOLD = 0.75
"""Half way between chance and certainty."""
CELL = 3
"""Side of a cell of the maps by offset, in pixels."""
ORDER = {
    "blocks": "PaM reads patches in this order, so that a cue a few rows further down, in a patch to the left, comes "
    "before all the same.",
    "scans": "An order other than rows meets them in another sequence.",
}
"""What "before" and "after" mean for the arms of each study."""


def by_distance(runs: Sequence[CueRun]) -> pd.DataFrame:
    """Accuracy against the distance to the cue, run by run.

    Args:
        runs: of :func:`lkm_kit.studies.functional.run`.

    Returns:
        columns arm, seed, cue, distance in pixels, accuracy, answers (how many were given), visible and bound. Cue is
        "anywhere", "before" the pixel in reading order (above it or left in its row), or "after" it. Visible is the
        share of cues that touch the pixel's theoretical receptive field. The accuracy cannot exceed bound but by
        chance. Accuracy is nan where there are no answers: "before" and "after" at distance 0, and everywhere in a
        diverged run.

    Raises:
        KitError: no runs.
    """
    if not runs:
        raise KitError("there are no runs of the functional receptive field", remedy="lkm reach")
    tables = []
    for done in runs:
        down, right = _offsets(done)
        distance = np.maximum(abs(down), abs(right))
        before = (down < 0) | ((down == 0) & (right < 0))
        for cue, where in zip(CUES, (distance >= 0, before, ~before & (distance > 0))):
            counts = (done.right, done.answers, done.visible, done.looks)
            sums = [np.bincount(distance[where], count[where], distance.max() + 1) for count in counts]
            visible = _share(sums[2], sums[3])
            columns = {"distance": range(len(visible)), "accuracy": _share(sums[0], sums[1])}
            columns |= {"answers": sums[1].astype(int), "visible": visible, "bound": 0.5 + visible / 2}
            table = pd.DataFrame({"arm": done.arm, "seed": done.seed, "cue": cue, **columns})
            tables.append(table[: len(table) - CueTask.cue + 1])  # what lies farther than a cue can
    return pd.concat(tables, ignore_index=True)


def reaches(table: pd.DataFrame, threshold: float = THRESHOLD) -> pd.DataFrame:
    """How far an arm looks: the largest distance up to which at least ``threshold`` of the answers are right.

    Args:
        table: of :func:`by_distance`.
        threshold: between 0.5 and 1.

    Returns:
        a row an arm and cue: reach (mean over the seeds), low and high (smallest and largest seed), possible (the same
        of the bound), seeds, diverged (how many of them). A reach is -1 where a network is below the threshold from the
        start.

    Raises:
        KitError: a threshold that chance reaches, or nobody.

    >>> near = {"arm": "a", "seed": 0, "cue": "anywhere", "answers": 9, "bound": 1.0}
    >>> table = pd.DataFrame([{**near, "distance": r, "accuracy": a} for r, a in enumerate([1, 0.9, 0.6, 0.8])])
    >>> float(reaches(table)["reach"].iloc[0])
    1.0
    """
    if not 0.5 < threshold <= 1:
        raise KitError(f"threshold {threshold}", remedy="choose more than 0.5, which is chance, and at most 1")

    def far(rows: pd.DataFrame, what: str) -> float:
        rows = rows.dropna(subset=what).sort_values("distance")
        below = rows[rows[what] < threshold]["distance"]
        return float(below.iloc[0] - 1 if len(below) else rows["distance"].max())  # nan without any row

    rows = []
    for (arm, cue), mine in table.groupby(["arm", "cue"], sort=False):
        of_seeds = [far(seed_rows, "accuracy") for _, seed_rows in mine.groupby("seed")]
        trained = [reach for reach in of_seeds if not np.isnan(reach)]
        low, mean, high = (min(trained), np.mean(trained), max(trained)) if trained else (np.nan,) * 3
        possible = far(mine.groupby("distance", as_index=False)["bound"].mean(), "bound")
        row = {"arm": arm, "cue": cue, "reach": mean, "low": low, "high": high, "possible": possible}
        rows.append({**row, "seeds": len(of_seeds), "diverged": len(of_seeds) - len(trained)})
    return pd.DataFrame(rows)


def by_offset(runs: Sequence[CueRun], cell: int = CELL) -> pd.DataFrame:
    """Accuracy against the steps down and right from the pixel to the cue, all seeds of an arm together.

    Args:
        runs: of :func:`lkm_kit.studies.functional.run`.
        cell: side of a cell in pixels; cells are centred on multiples of it.

    Returns:
        columns arm, down, right (centre of the cell), accuracy, answers; cells without answers are left out.
    """
    tables = []
    for done in runs:
        down, right = (cell * np.floor(steps / cell + 0.5).astype(int) for steps in _offsets(done))
        columns = {"down": down, "right": right, "hits": done.right, "answers": done.answers}
        tables.append(pd.DataFrame({"arm": done.arm, **{name: values.ravel() for name, values in columns.items()}}))
    table = pd.concat(tables).groupby(["arm", "down", "right"], sort=False, as_index=False).sum()
    table = table[table["answers"] > 0].reset_index(drop=True)
    table.insert(3, "accuracy", table.pop("hits") / table["answers"])
    return table


def report_text(runs: Sequence[CueRun], size: Profile, of: str = "blocks") -> str:
    """Reach of every arm, protocol and caveats in Markdown; ``of`` as in :func:`functional_study`."""
    study, table = functional_study(size.reach, of), reaches(by_distance(runs)).set_index(["arm", "cue"])
    arms = list(dict.fromkeys(done.arm for done in runs))
    shown = {study.arm(arm).title: [_reach_text(table.loc[(arm, cue)]) for cue in CUES] for arm in arms}
    columns = [f"cue {cue}" for cue in CUES]
    display = pd.DataFrame.from_dict(shown, orient="index", columns=columns).rename_axis("arm")
    hardwares = sorted({done.about["hardware"] for done in runs})
    seeds = sorted({done.seed for done in runs})
    lines = [f"# {study.question}", ""]
    lines += [
        f"Profile {size.name}, seeds {', '.join(map(str, seeds))}; {', '.join(hardwares)}. Distance in pixels up to "
        f"which at least {THRESHOLD:.0%} of the answers are right: mean of the seeds [smallest, largest], of what the "
        f"theoretical receptive field would allow. That is estimated from {size.reach.probes} random pixels a run, so "
        "that a seed may lie a pixel or two above it. The farthest cue is "
        f"{max(size.reach.size) - CueTask.cue} pixels away.",
        "",
        to_markdown(display),
        "",
        f"*Before*: the cue lies above the pixel, or left of it in its row; *after*: the others. {ORDER[of]}",
        "",
        "What these numbers cannot say: the cue is loud and alone, and one bit is all that has to travel. A network "
        "that hears it may still be deaf to what an organ's border needs. And what was not learnt in "
        f"{size.reach.iterations} steps may be learnt in more: the theoretical receptive field says what "
        "can be seen at all.",
        "",
        "Arms:",
        "",
        *(f"- {study.arm(arm).title}: {study.arm(arm).note}" for arm in arms if study.arm(arm).note),
        "",
        "The same for every arm:",
        "",
        *(f"- {key}: {value}" for key, value in protocol(size.reach).items()),
    ]
    return "\n".join(lines) + "\n"


def write_report(runs: Sequence[CueRun], size: Profile, folder: str | Path, of: str = "blocks") -> Path:
    """Write by_distance.csv, by_offset.csv, reach.csv and report.md; ``of`` as in :func:`functional_study`.

    Returns:
        the folder.
    """
    folder, table = Path(folder), by_distance(runs)
    tables = {"by_distance": table, "by_offset": by_offset(runs), "reach": reaches(table)}
    for name, values in tables.items():
        with atomic_path(folder / f"{name}.csv") as temporary:
            values.to_csv(temporary, index=False, float_format="%.4g")
    write_text(folder / "report.md", report_text(runs, size, of))
    return folder


def _offsets(done: CueRun) -> tuple[np.ndarray, np.ndarray]:
    """Steps down and right of each entry of a run's maps."""
    height, width = done.right.shape
    down, right = np.mgrid[-(height // 2) : height // 2 + 1, -(width // 2) : width // 2 + 1]
    return down, right


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _reach_text(row: pd.Series) -> str:
    def far(value: float) -> str:
        return "nowhere" if value < 0 else f"{value:.0f}"

    lost = f"; {row['diverged']:.0f} of {row['seeds']:.0f} diverged" if row["diverged"] else ""
    if np.isnan(row["reach"]):
        return f"–{lost}"
    spread = "" if row["low"] == row["high"] else f" [{far(row['low'])}, {far(row['high'])}]"
    return f"{far(row['reach'])}{spread} of {far(row['possible'])}{lost}"
