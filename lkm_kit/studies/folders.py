"""A run's folder: what state it is in, who is at work in it, and where it goes when it is of no use."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from lkm_kit.studies.jobs import Job


@dataclasses.dataclass(frozen=True)
class State:
    """What a run's folder holds.

    Args:
        name: "waiting" (nothing yet), "training", "trained" (to be scored), "done", "diverged", "stale" (the run of
            another config) or "damaged".
        step: last checkpoint of the training.
        detail: "diverged": the message; "stale": the fields that differ; "damaged": what is wrong.
    """

    name: str
    step: int = 0
    detail: str = ""

    @property
    def finished(self) -> bool:
        return self.name in ("done", "diverged")


def state_of(job: Job, root: str | Path, *, thorough: bool = False) -> State:
    """Read the state of a run from its folder; nothing is changed.

    ``thorough`` also reads the checkpoint of a training that is under way.
    """
    folder, end = job.folder(root), job.config.iterations
    try:
        if not (folder / "config.json").exists():
            orphans = [name for name in ("state.pt", "done.json", "diverged.json") if (folder / name).exists()]
            return State("damaged", detail=f"{orphans[0]} without config.json") if orphans else State("waiting")
        if different := job.config.differences(read_json(folder / "config.json")):
            return State("stale", detail="; ".join(f"{k}: {a!r} there, {b!r} asked" for k, (a, b) in different.items()))
        if (folder / "diverged.json").exists():
            return State("diverged", detail=read_json(folder / "diverged.json")["message"])
        if not (folder / "done.json").exists():
            if thorough and (folder / "state.pt").exists():
                torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
            history = folder / "history.csv"
            return State("training", int(pd.read_csv(history)["step"].iloc[-1]) if history.exists() else 0)
        if sha256(folder / "weights.safetensors") != read_json(folder / "weights.json")["sha256"]:
            return State("damaged", detail="weights.safetensors is not the file that the training wrote")
        scores = read_json(folder / "done.json").get("scores", {})
        per_case = folder / "per_case.csv"
        whole = {"source", "hardware"} <= scores.keys() and per_case.exists() and scores["sha256"] == sha256(per_case)
        return State("done" if whole and scores.get("digest") == job.digest() else "trained", end)
    except Exception as error:  # whatever a broken file makes its reader raise
        return State("damaged", detail=f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def lock(folder: Path, wait: bool) -> Iterator[bool]:
    """Hold the run's folder; yields False when another process holds it and ``wait`` is off.

    The lock is a file beside the folder, held by the operating system, so that it is free when its process is killed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        held.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def sha256(path: Path) -> str:
    """Hex digest of a file.

    Raises:
        OSError: it is not there.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def set_aside(folder: Path, why: str) -> Path:
    """Rename a run's folder to ``<name>.<why>-<n>`` and return the new path; nothing is deleted."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{why}-{number}")).exists():
        number += 1
    os.replace(folder, aside)
    return aside


def read_json(path: Path) -> dict[str, Any]:
    """Contents of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
