"""Three ways to work through a list of runs, all by the one job function: in this process, in local ones, on Slurm."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lkm_kit.devices import available_cpus, resolve_device
from lkm_kit.errors import KitError, one_of
from lkm_kit.studies.job import Job
from lkm_kit.studies.slurm import slurm
from lkm_kit.studies.worker import Outcome, attempt


def launch(jobs: Sequence[Job], root: str, launcher: str = "serial", concurrent: int = 2, **how: Any) -> list[Outcome]:
    """Run all jobs; one that fails does not stop the others.

    Args:
        jobs: of :func:`lkm_kit.studies.job.make_job`.
        root: folder of all studies.
        launcher: "serial", "processes" or "slurm".
        concurrent: how many runs at a time, for "processes".
        **how: keywords of :func:`lkm_kit.studies.worker.run_job`; for "slurm" also ``slurm``, what each job asks for
            (:func:`lkm_kit.studies.slurm.checked`).

    Returns:
        one outcome a job, in their order.

    Raises:
        KitError: no such launcher, or parameters for Slurm given to another one.
    """
    one_of(launcher, LAUNCHERS, "launcher")
    if how.get("slurm") and launcher != "slurm":
        raise KitError(f"--slurm {next(iter(how['slurm']))} means nothing here", remedy="add --launcher slurm")
    if launcher != "slurm":
        how.pop("slurm", None)
    return LAUNCHERS[launcher](list(jobs), root, concurrent, how)


def side_by_side(
    device: str = "auto", processes: int = 1, threads: int | None = None, concurrent: int | None = None
) -> dict[str, Any]:
    """Keywords of :func:`launch` that keep all cores of this machine busy.

    On a CPU, small networks gain little by a second thread (a training step 1.25 to 1.3 times). Two runs of one thread
    each hardly disturb each other. So a run gets one thread, and there are as many runs at a time as cores. A GPU's
    runs follow one another, and so do runs that several processes share.

    Args:
        device: that runs compute on.
        processes: that train one run together.
        threads, concurrent: of a run, and runs at a time, where that was asked for.

    Returns:
        launcher, concurrent and threads.

    >>> side_by_side("cpu", processes=2)
    {'launcher': 'serial', 'concurrent': 1, 'threads': None}
    """
    if concurrent is None and (resolve_device(device).type != "cpu" or processes > 1):
        return {"launcher": "serial", "concurrent": 1, "threads": threads}
    if concurrent is None:
        threads = threads or 1
        concurrent = max(1, available_cpus() // threads)
    return {"launcher": "processes" if concurrent > 1 else "serial", "concurrent": concurrent, "threads": threads}


def serial(jobs: list[Job], root: str, concurrent: int, how: dict[str, Any]) -> list[Outcome]:
    """One after the other in this process; those that another process is working on come last."""
    how = {"progress": sys.stderr.isatty(), **how}
    outcomes = [attempt(job, root, {**how, "wait": False}) for job in jobs]
    return [attempt(job, root, how) if outcome[0] == "busy" else outcome for job, outcome in zip(jobs, outcomes)]


def local_processes(jobs: list[Job], root: str, concurrent: int, how: dict[str, Any]) -> list[Outcome]:
    """A fresh process for each run, ``concurrent`` at a time, each with its share of the cores or ``threads``."""
    if how.get("threads") is None and how.get("processes", 1) == 1:
        how = {**how, "threads": max(1, available_cpus() // concurrent)}
    with ThreadPoolExecutor(concurrent) as pool:
        return list(pool.map(lambda job: _in_process(job, root, how), jobs))


LAUNCHERS: dict[str, Callable[[list[Job], str, int, dict[str, Any]], list[Outcome]]] = {
    "serial": serial,
    "processes": local_processes,
    "slurm": slurm,
}


def _in_process(job: Job, root: str, how: dict[str, Any]) -> Outcome:
    log = how.get("log", print)
    context = _clean_context()
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(writer, job, root, {**how, "log": None}))
    process.start()
    writer.close()
    outcome: Outcome = ("failed", "")
    try:
        while True:
            kind, content = reader.recv()
            if kind == "log":
                log(content)
            else:
                outcome = content
    except EOFError:
        process.join()
    if process.exitcode:
        hint = '; a script needs `if __name__ == "__main__":` around this call' if process.exitcode == 1 else ""
        outcome = ("failed", f"its process ended with exit code {process.exitcode}{hint}")
        log(f"{job}: failed, {outcome[1]}")
    return outcome


def _clean_context() -> Any:
    """Processes that never held this one's thread pool: a plain fork would wait for torch's threads for ever."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lkm_kit.training.preload"])  # seconds of imports, only once
    return context


def _child(writer: Any, job: Job, root: str, how: dict[str, Any]) -> None:
    writer.send(("outcome", attempt(job, root, {**how, "log": lambda line: writer.send(("log", line))})))
    writer.close()
