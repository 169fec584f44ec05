"""The one function that brings a run of a study to its end, from whatever state it is in; every launcher calls it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lkm_kit.devices import hardware, resolve_device, use_threads
from lkm_kit.files import ESCAPED, Busy, atomic_path, sha256, write_json
from lkm_kit.studies.files import load
from lkm_kit.studies.job import Job
from lkm_kit.training import Diverged, TrainResult
from lkm_kit.training.identity import data_digest
from lkm_kit.training.provenance import followed_by, made_with, own_sources
from lkm_kit.training.running import carry_out, identity
from lkm_kit.training.store import Run, State, find, place

Datasets = Callable[[Job], Mapping[str, Any]]
"""job → {"train", "validation": items; "test": cases; "source": where they come from, in words (may be left out)}

Cases have a length and ``score(network, record, device)`` → rows case, organ and a column a metric.
"""

Outcome = tuple[str, str]
"""("done" | "diverged" | "busy" | "failed", message)"""


def run_job(
    job: Job,
    root: str | Path,
    *,
    device: str = "auto",
    processes: int = 1,
    workers: int = 0,
    threads: int | None = None,
    datasets: Datasets | None = None,
    wait: bool = True,
    progress: bool = False,
    log: Callable[[str], None] = print,
) -> str:
    """Bring one run to its end.

    A finished run of the same digest in another study is copied instead of made again. A folder that is damaged is
    renamed (``seed-0.damaged-1``) and named in the log; nothing is deleted.

    Args:
        job: what to run.
        root: folder of all studies.
        device, processes, workers: of :func:`lkm_kit.training.train`.
        threads: to compute with, see :func:`lkm_kit.devices.use_threads`.
        datasets: see :data:`Datasets`; default those of the job's config.
        wait: when another process is at work in the folder, wait for it; False returns "busy".
        progress: draw a bar with the arm, its steps and the time left.
        log: told in one line what happens.

    Returns:
        "done", "diverged" (a result, not an error) or "busy".

    Raises:
        KitError: whatever else keeps the training or the scoring from being done.
    """
    data = (datasets or job_datasets)(job)
    who, how = identity(job.config, data, processes=processes), (device, processes, workers, progress)
    try:
        while True:
            run = place(job.folder(root), who)
            with run.held(wait), use_threads(threads, processes):
                if run.state().name != "stale":  # another run took the folder while this one waited for it
                    return _bring_to_its_end(job, run, Path(root), data, how, log)
    except Busy:
        log(f"{job}: another process is at work on it")
        return "busy"


def attempt(job: Job, root: str | Path, how: Mapping[str, Any]) -> Outcome:
    """:func:`run_job` with the keywords ``how``; whatever keeps it from its end becomes the outcome "failed"."""
    try:
        if job.file:
            load(job.file)
        return run_job(job, root, **how), ""
    except Exception as error:  # the others go on; the runner reports this one
        message = f"{type(error).__name__}: {error}"
        how.get("log", print)(f"{job}: failed, {message}")
        return "failed", message


def job_datasets(job: Job) -> dict[str, Any]:
    """Training and validation items and (where they are scored) test cases of the cohort, or of the job's data set."""
    from lkm_kit.studies.cohort_cases import Warps
    from lkm_kit.studies.own_data import data_set_of
    from lkm_kit.training.batches import cohort_volumes, make_datasets

    if not job.scored:
        return make_datasets(job.config)
    if job.config.data != "cohort":
        return data_set_of(job)
    return {**make_datasets(job.config), "test": Warps(cohort_volumes(job.config, "test", job.test_cases))}


def _bring_to_its_end(
    job: Job, run: Run, root: Path, data: Mapping[str, Any], how: tuple, log: Callable[[str], None]
) -> str:
    name, test = str(job), data_digest({"test": data["test"]}) if job.scored else None
    state = job.state(run, thorough=True, test=test)
    if state.name == "damaged":
        log(f"{name}: {run.folder} is damaged ({state.detail}); moved to {run.set_aside('damaged').name}")
        state = State("waiting")
    if state.name == "waiting" and (twin := _copy_twin(job, run, root, test)):
        log(f"{name}: the same run as {twin}, copied")
        return "done"
    if state.finished:
        log(f"{name}: {state.name} before")
        return state.name
    device, *_ = how
    if state.name != "trained":
        begins = f"goes on after step {state.step} of" if state.step else "begins,"
        log(f"{name}: {begins} {job.config.iterations} steps")
    try:
        items = {split: data[split] for split in ("train", "validation")}
        result = carry_out(run, job.config, None, items, *how)
    except Diverged as error:
        log(f"{name}: diverged, {error.message}")
        return "diverged"
    if job.scored:
        _score(job, run, result, data, test, device)
    log(f"{name}: done")
    return "done"


def _score(job: Job, run: Run, result: TrainResult, data: Mapping[str, Any], test: str, device: str) -> None:
    from lkm_kit.evaluation.metrics import metrics_in

    cases, where = data["test"], resolve_device(device)
    source, rows = getattr(cases, "source", None), cases.score(result.network, result.record, where)
    with atomic_path(run.folder / "per_case.csv") as temporary:
        rows.to_csv(temporary, index=False, errors=ESCAPED)
    scores = {
        "sha256": sha256(run.folder / "per_case.csv"),
        "test_cases": job.test_cases,
        "test": test,
        "metrics": metrics_in(rows),
        "source": data.get("source") or (source.text if source else "given by the caller"),
        "hardware": hardware(where),
        "data": getattr(cases, "record", None),
    }
    done, now = run.done(), made_with(where, own=own_sources(result.network, job.config))
    now["processes"] = done["processes"]  # one scores for all that trained
    write_json(run.folder / "done.json", {**done, **followed_by(done, now), "scores": scores})


def _copy_twin(job: Job, run: Run, root: Path, test: str | None) -> Path | None:
    """Copy a finished run of the same identity from wherever it is below ``root``."""
    for twin in find(root, f"*/*/*/{job.name}*", run.identity):
        if job.state(twin, test=test).name == "done":
            copy = run.folder.with_name(f".{run.folder.name}.copy")
            shutil.rmtree(copy, ignore_errors=True)  # of a process that was killed while it copied
            shutil.copytree(twin.folder, copy, ignore=shutil.ignore_patterns(".*"))
            if run.folder.exists():
                run.set_aside("empty")
            os.replace(copy, run.folder)
            return twin.folder
    return None
