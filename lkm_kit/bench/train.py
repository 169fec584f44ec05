"""``lkm train`` as it is called, alone and beside a process that keeps one core busy: what does the neighbour cost?

It chooses its threads and makes its batches in a loader's process, as always at the laptop profile.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from lkm_kit.bench.timing import busy_core
from lkm_kit.errors import KitError
from lkm_kit.files import read_json

NETWORKS = {"no Mamba": ["--no-mamba"], "LKM-UNet": []}
PLACES = {"alone": contextlib.nullcontext, "beside a busy process": busy_core}


def table(*, repeats: int = 3, steps: int = 60, profile: str = "laptop") -> pd.DataFrame:
    """Seconds of a training's steps and one validation, the threads that it chose, and their ratio.

    Args:
        repeats: trainings of each kind, which take turns; medians count.
        steps: of a training.
        profile: of ``lkm train``.

    Raises:
        KitError: a training failed.
    """
    taken: dict[tuple[str, str], list[float]] = {}
    threads: dict[tuple[str, str], set[int]] = {}
    for _ in range(repeats):
        for network, words in NETWORKS.items():
            for place, beside in PLACES.items():
                with beside():
                    seconds, used = _train([*words, "--profile", profile], steps)
                taken.setdefault((network, place), []).append(seconds)
                threads.setdefault((network, place), set()).add(used)
    rows = []
    for network in NETWORKS:
        alone, beside = (statistics.median(taken[network, place]) for place in PLACES)
        row = {"network": network, "steps": steps, "alone s": round(alone, 1), "beside s": round(beside, 1)}
        row["beside / alone"] = round(beside / alone, 2)
        chosen = (" or ".join(map(str, sorted(threads[network, place]))) for place in PLACES)
        rows.append({**row, "threads alone, beside": ", ".join(chosen)})
    return pd.DataFrame(rows)


def _train(words: list[str], steps: int) -> tuple[float, int]:
    """Seconds of one training in a folder of its own, and its threads."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [sys.executable, "-m", "lkm_kit.cli", "train", *words, "--run-dir", str(run), "--device", "cpu"]
        command += ["--set", f"iterations={steps}", "--set", f"validate_every={steps}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise KitError(f"{' '.join(command[3:])} failed: {done.stderr.strip()[-300:]}", remedy="try it by itself")
        return float(pd.read_csv(run / "history.csv")["seconds"].iloc[-1]), int(read_json(run / "done.json")["threads"])
