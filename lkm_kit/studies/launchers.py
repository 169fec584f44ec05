"""Three ways to work through a list of runs, all by the one job function: in this process, in local ones, on Slurm."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from shutil import which
from typing import Any

from lkm_kit.errors import KitError
from lkm_kit.studies.jobs import Job, run_job

Outcome = tuple[str, str]
"""("done" | "diverged" | "busy" | "failed", message)"""


def launch(jobs: Sequence[Job], root: str, launcher: str = "serial", concurrent: int = 2, **how: Any) -> list[Outcome]:
    """Run all jobs; one that fails does not stop the others.

    Args:
        jobs: of :func:`lkm_kit.studies.jobs.make_job`.
        root: folder of all studies.
        launcher: "serial", "processes" or "slurm".
        concurrent: how many runs at a time, for "processes".
        **how: keywords of :func:`lkm_kit.studies.jobs.run_job`; for "slurm" also ``slurm``, the parameters of
            submitit's executor.

    Returns:
        one outcome a job, in their order.
    """
    if launcher not in LAUNCHERS:
        raise KitError(f"there is no launcher {launcher!r}", remedy=f"choose one of {', '.join(LAUNCHERS)}")
    return LAUNCHERS[launcher](list(jobs), root, concurrent, how)


def serial(jobs: list[Job], root: str, concurrent: int, how: dict[str, Any]) -> list[Outcome]:
    """One after the other in this process; those that another process is working on come last."""
    outcomes = [_outcome(job, root, {**how, "wait": False}) for job in jobs]
    return [_outcome(job, root, how) if outcome[0] == "busy" else outcome for job, outcome in zip(jobs, outcomes)]


def local_processes(jobs: list[Job], root: str, concurrent: int, how: dict[str, Any]) -> list[Outcome]:
    """A fresh process for each run, ``concurrent`` at a time, each with its share of the cores."""
    threads = max(1, (os.cpu_count() or 1) // concurrent)
    with ThreadPoolExecutor(concurrent) as pool:
        return list(pool.map(lambda job: _in_process(job, root, threads, how), jobs))


def slurm(jobs: list[Job], root: str, concurrent: int, how: dict[str, Any]) -> list[Outcome]:
    """One array of Slurm jobs through submitit; a job that reaches its time limit is queued again and resumes.

    Raises:
        KitError: submitit or Slurm is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise KitError("the Slurm launcher needs the package submitit", remedy="pip install submitit") from None
    if which("sbatch") is None:
        raise KitError("there is no Slurm on this machine (no sbatch)", remedy="use --launcher processes or serial")
    how = dict(how)
    executor = submitit.AutoExecutor(folder=os.path.join(root, ".slurm", "%j"), cluster="slurm")
    executor.update_parameters(**{"name": "lkm-study", "timeout_min": 240, "cpus_per_task": 4, **how.pop("slurm", {})})
    tasks = executor.map_array(_Requeued(root, how), jobs)
    return [task.result() for task in tasks]


LAUNCHERS: dict[str, Callable[[list[Job], str, int, dict[str, Any]], list[Outcome]]] = {
    "serial": serial,
    "processes": local_processes,
    "slurm": slurm,
}


class _Requeued:
    """What submitit pickles: on a time-out it submits the same call again, and the run resumes from its folder."""

    def __init__(self, root: str, how: dict[str, Any]):
        self.root, self.how = root, how

    def __call__(self, job: Job) -> Outcome:
        return _outcome(job, self.root, self.how)

    def checkpoint(self, job: Job) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(self, job)


def _outcome(job: Job, root: str, how: dict[str, Any]) -> Outcome:
    try:
        return run_job(job, root, **how), ""
    except Exception as error:  # the others go on; the runner reports this one
        message = f"{type(error).__name__}: {error}"
        how.get("log", print)(f"{job.arm} seed {job.seed}: failed, {message}")
        return "failed", message


def _in_process(job: Job, root: str, threads: int, how: dict[str, Any]) -> Outcome:
    log = how.get("log", print)
    context = _clean_context()
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(writer, job, root, threads, {**how, "log": None}))
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
        log(f"{job.arm} seed {job.seed}: failed, {outcome[1]}")
    return outcome


def _clean_context() -> Any:
    """Processes that never held this one's thread pool: a plain fork would wait for torch's threads for ever."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lkm_kit.training.loop", "lkm_kit.evaluation"])  # seconds of imports, only once
    return context


def _child(writer: Any, job: Job, root: str, threads: int, how: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(threads)
    writer.send(("outcome", _outcome(job, root, {**how, "log": lambda line: writer.send(("log", line))})))
    writer.close()
