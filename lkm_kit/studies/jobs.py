"""One run of a study, from nothing to scores: what it is, and the one function that does it.

A run's folder ``<root>/<study>/<profile>/<arm>/seed-<s>/`` is a training's folder (see
:mod:`lkm_kit.training.checkpoint`) and holds, besides::

    per_case.csv    rows case, organ, DSC, NSD on the test items
    done.json       written by the training, and once more, last of all, with the scores' digest and sha256
    diverged.json   instead of both: the training stopped at a loss that is not finite

Every file is written atomically and a folder has one worker at a time, so that a process may be killed at any moment:
whatever is missing is made at the next start, and nothing that is there is made twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, write_json
from lkm_kit.profiles import Profile
from lkm_kit.studies.arms import Arm, Study
from lkm_kit.studies.folders import State, lock, read_json, set_aside, sha256, state_of
from lkm_kit.training import TrainConfig, TrainResult, train

Datasets = Callable[["Job"], Mapping[str, Any]]
"""job → {"train", "validation", "test": items; "source": where they come from, in words (may be left out)}"""

Outcome = tuple[str, str]
"""("done" | "diverged" | "busy" | "failed", message)"""

OWN_FIELDS = ("network", "network_overrides", "seed")
"""What arms and seeds differ in. Everything else is the protocol, one for the whole study."""

_DIVERGED = re.compile(r"^the (loss|norm of the gradients) is \S+ at step \d+")


@dataclasses.dataclass(frozen=True)
class Job:
    """One arm with one seed.

    Args:
        study, profile, arm, seed: where it belongs.
        config: the training.
        test_slices: number of test items to score.
    """

    study: str
    profile: str
    arm: str
    seed: int
    config: TrainConfig
    test_slices: int

    def folder(self, root: str | Path) -> Path:
        """``<root>/<study>/<profile>/<arm>/seed-<seed>``."""
        return Path(root) / self.study / self.profile / self.arm / f"seed-{self.seed}"

    def digest(self) -> str:
        """sha256 over the training and the test items: equal digests, equal scores."""
        return hashlib.sha256(json.dumps([self.config.digest(), self.test_slices]).encode()).hexdigest()


def make_job(study: Study, arm: Arm, size: Profile, seed: int, changes: Mapping[str, Any] | None = None) -> Job:
    """The run of an arm with a seed at the sizes of a profile; ``changes`` replaces fields of every arm's TrainConfig.

    Raises:
        KitError: a field that does not exist, or one that arms or seeds differ in.

    >>> from lkm_kit.profiles import profile
    >>> from lkm_kit.studies import study
    >>> plan = study("table3", "smoke")
    >>> make_job(plan, plan.arm("pim"), profile("smoke"), 0, {"iterations": 2}).config.iterations
    2
    """
    own = {"network": arm.network, "network_overrides": arm.overrides, "seed": seed}
    config = TrainConfig.from_json({**protocol(size, changes or {}), **own})
    return Job(study.name, size.name, arm.name, seed, config, size.test_slices)


def protocol(size: Profile, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of TrainConfig that all arms and seeds of a study share.

    Raises:
        KitError: ``changes`` names a field that does not exist, or one that arms or seeds differ in.
    """
    if clash := [name for name in OWN_FIELDS if name in changes]:
        raise KitError(f"{clash[0]} cannot be changed for all arms", remedy="it is what arms or seeds differ in")
    config = TrainConfig.from_json({**TrainConfig.from_profile(size).to_dict(), **changes}).to_dict()
    return {name: value for name, value in config.items() if name not in OWN_FIELDS}


def run_job(
    job: Job,
    root: str | Path,
    *,
    device: str = "auto",
    processes: int = 1,
    workers: int = 0,
    datasets: Datasets | None = None,
    wait: bool = True,
    log: Callable[[str], None] = print,
) -> str:
    """Bring one run to its end from whatever state it is in. This is the function that every launcher calls.

    A finished run of the same digest in another study is copied instead of made again. A folder that is damaged, or
    holds the run of another config, is renamed (``seed-0.damaged-1``) and named in the log; nothing is deleted.

    Args:
        job: what to run.
        root: folder of all studies.
        device, processes, workers: of :func:`lkm_kit.training.train`; no part of the digest.
        datasets: see :data:`Datasets`; default the cohort's.
        wait: when another process is at work in the folder, wait for it; False returns "busy".
        log: told in one line what happens.

    Returns:
        "done", "diverged" (a result, not an error) or "busy".

    Raises:
        KitError: whatever else keeps the training or the scoring from being done.
    """
    folder, name = job.folder(root), f"{job.arm} seed {job.seed}"
    with lock(folder, wait) as mine:
        if not mine:
            log(f"{name}: another process is at work on it")
            return "busy"
        state = state_of(job, root, thorough=True)
        if state.name in ("stale", "damaged"):
            log(f"{name}: {folder} is {state.name} ({state.detail}); moved to {set_aside(folder, state.name).name}")
            state = State("waiting")
        if state.name == "waiting" and (twin := _copy_twin(job, root)):
            log(f"{name}: the same run as {twin}, copied")
            return "done"
        if state.finished:
            log(f"{name}: {state.name} before")
            return state.name
        try:
            data = (datasets or cohort_datasets)(job)
            items = {split: data[split] for split in ("train", "validation")}
            how = {"device": device, "processes": processes, "workers": workers, "progress": False}
            result = train(job.config, folder, data=items, **how)
        except KitError as error:
            if not _DIVERGED.match(error.message):
                raise
            write_json(folder / "diverged.json", {"digest": job.digest(), "message": error.message})
            log(f"{name}: diverged, {error.message}")
            return "diverged"
        _score(job, result, data["test"], data.get("source", "given by the caller"), device)
        log(f"{name}: done")
        return "done"


def attempt(job: Job, root: str | Path, how: Mapping[str, Any]) -> Outcome:
    """:func:`run_job` with the keywords ``how``; whatever keeps it from its end becomes the outcome "failed"."""
    try:
        return run_job(job, root, **how), ""
    except Exception as error:  # the others go on; the runner reports this one
        message = f"{type(error).__name__}: {error}"
        how.get("log", print)(f"{job.arm} seed {job.seed}: failed, {message}")
        return "failed", message


def cohort_datasets(job: Job) -> dict[str, Any]:
    """Training, validation and test items of the cohort, and whether they are made of a real scan or of a phantom."""
    from lkm_kit.data import sample_source
    from lkm_kit.training.batches import cohort_items, make_datasets

    source = sample_source()
    test = cohort_items(job.config, "test", job.test_slices)
    return {**make_datasets(job.config), "test": test, "source": source}


def _score(job: Job, result: TrainResult, test: Dataset, source: str, device: str) -> None:
    from lkm_kit.devices import resolve_device
    from lkm_kit.evaluation import score_slices

    folder, where = result.run_dir, resolve_device(device)
    rows = score_slices(result.network, test, table=job.config.table, spacing_mm=job.config.spacing_mm, device=where)
    with atomic_path(folder / "per_case.csv") as temporary:
        rows.to_csv(temporary, index=False)
    scores = {
        "digest": job.digest(),
        "sha256": sha256(folder / "per_case.csv"),
        "test_slices": job.test_slices,
        "source": source,
        "hardware": hardware(where),
    }
    write_json(folder / "done.json", {**read_json(folder / "done.json"), "scores": scores})


def hardware(device: torch.device) -> str:
    """What the run was made on, in words.

    >>> "threads" in hardware(torch.device("cpu"))
    True
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _copy_twin(job: Job, root: str | Path) -> Path | None:
    folder = job.folder(root)
    for done in sorted(Path(root).glob(f"*/*/*/seed-{job.seed}/done.json")):
        with contextlib.suppress(ValueError, OSError, AttributeError):
            if read_json(done).get("scores", {}).get("digest") != job.digest():
                continue
            copy = folder.with_name(f".{folder.name}.copy")
            shutil.rmtree(copy, ignore_errors=True)  # of a process that was killed while it copied
            shutil.copytree(done.parent, copy, ignore=shutil.ignore_patterns(".*"))
            if folder.exists():
                set_aside(folder, "empty")
            os.replace(copy, folder)
            if state_of(job, root).name == "done":
                return done.parent
            set_aside(folder, "damaged")
    return None
