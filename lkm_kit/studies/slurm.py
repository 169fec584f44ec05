"""The launcher for clusters: a study's runs as one array of Slurm jobs, through submitit.

A job that reaches its time limit, or is preempted, is queued again and resumes from its checkpoint. What a job asks
Slurm for goes by submitit's names: :func:`job_parameters` has the defaults and :func:`checked` refuses a misspelt one
before anything is queued. That a job was killed, submitit learns from Slurm's accounting (``sacct``): on a cluster
without it the launcher waits for such a job until it is interrupted. The same command again runs what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from shutil import which
from typing import Any

from lkm_kit.errors import KitError, install, one_of
from lkm_kit.studies.job import Job
from lkm_kit.studies.worker import Outcome, attempt

SECOND_CHANCES = 100
"""How often a job that reaches its time limit is queued again; submitit's own 3 would end a long training half-way."""

_LISTS = ("slurm_setup", "slurm_teardown", "slurm_srun_args")
_OTHER_WAYS = {
    "gpus_per_node": ("slurm_gres", "slurm_gpus_per_task", "slurm_num_gpus"),
    "cpus_per_task": ("slurm_cpus_per_gpu",),
    "timeout_min": ("slurm_time",),
}


def slurm(jobs: list[Job], root: str, concurrent: int, how: dict[str, Any]) -> list[Outcome]:
    """Queue all jobs as one array and wait for their outcomes; a job that Slurm ends is a failure, not an exception.

    Args:
        jobs, root: as in :func:`lkm_kit.studies.launchers.launch`; ``root`` must be visible from the nodes.
        concurrent: not used; ``slurm_array_parallelism`` limits how many run at a time.
        how: keywords of :func:`lkm_kit.studies.worker.run_job`, and ``slurm``, submitit's parameters.

    Raises:
        KitError: submitit or Slurm is not installed, or Slurm refuses the array.
    """
    try:
        import submitit
    except ImportError:
        raise KitError("the Slurm launcher needs the package submitit", remedy=install("cluster")) from None
    if which("sbatch") is None:
        raise KitError("there is no Slurm on this machine (no sbatch)", remedy="use --launcher processes or serial")
    given = checked(how.get("slurm") or {})
    how = {key: value for key, value in how.items() if key != "slurm"}
    needs = {key: how[key] for key in ("device", "processes", "workers", "threads") if key in how}
    parameters = merged({"name": "lkm-study", **job_parameters(jobs[0].profile, **needs)}, given)
    logs = os.path.join(root, ".slurm")
    executor = submitit.AutoExecutor(os.path.join(logs, "%j"), "slurm", slurm_max_num_timeout=SECOND_CHANCES)
    try:
        executor.update_parameters(**parameters)
        tasks = executor.map_array(_Requeued(root, how), jobs)
    except (AssertionError, TypeError, ValueError, RuntimeError, submitit.core.utils.FailedSubmissionError) as error:
        asked = ", ".join(f"{key}={value}" for key, value in parameters.items())
        raise KitError(
            f"Slurm did not take the jobs: {error} (asked for {asked})",
            remedy="change what is asked for with --slurm KEY=VALUE, such as --slurm slurm_partition=gpu",
        ) from None
    names = ", ".join(str(task.job_id) for task in tasks)
    how.get("log", print)(f"{len(tasks)} Slurm jobs are queued ({names}); their logs are below {logs}")
    return [_result(task) for task in tasks]


def job_parameters(
    profile: str, *, device: str = "auto", processes: int = 1, workers: int = 0, threads: int | None = None
) -> dict[str, Any]:
    """What one job asks for unless told otherwise: at ``gpu`` and ``paper`` a GPU for each process, else four cores.

    Args:
        profile: name of the profile.
        device: as for a training; ``"cpu"`` asks for no GPU.
        processes: GPUs (on the CPU: processes) that train one run together.
        workers: DataLoader processes; each gets a core beside its training's.
        threads: that a run computes with, where that was asked for.

    >>> job_parameters("paper", workers=12)
    {'timeout_min': 1440, 'cpus_per_task': 13, 'gpus_per_node': 1}
    >>> job_parameters("laptop", workers=1), job_parameters("laptop", workers=1, threads=8)["cpus_per_task"]
    ({'timeout_min': 240, 'cpus_per_task': 4}, 9)
    """
    large = profile in ("gpu", "paper")
    cores = max(4, processes * (workers + (threads or 1)))
    asked = {"timeout_min": 1440 if profile == "paper" else 240, "cpus_per_task": cores}
    if large and device != "cpu":
        asked["gpus_per_node"] = processes
    return asked


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults, then what is given; a default goes where the same thing is asked for under another of Slurm's names.

    >>> merged({"timeout_min": 240, "gpus_per_node": 1}, {"slurm_gres": "gpu:a100:1"})
    {'timeout_min': 240, 'slurm_gres': 'gpu:a100:1'}
    """
    said = {key for key, others in _OTHER_WAYS.items() if any(other in given for other in others)}
    return {**{key: value for key, value in defaults.items() if key not in said}, **given}


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of submitit's ``AutoExecutor`` by their names: ``timeout_min``, ``mem_gb``, ``slurm_partition``...

    Raises:
        KitError: a name that does not exist (the closest is offered), or more than one task a run.

    >>> checked({"slurm_partition": "gpu", "slurm_setup": "module load cuda"})
    {'slurm_partition': 'gpu', 'slurm_setup': ['module load cuda']}
    """
    try:
        from submitit import AutoExecutor, SlurmExecutor
    except ImportError:
        raise KitError("the Slurm launcher needs the package submitit", remedy=install("cluster")) from None
    names = [*AutoExecutor._typed_parameters(), *(f"slurm_{name}" for name in SlurmExecutor._valid_parameters())]
    for name in given:
        message = f"--slurm {name}: submitit has no such parameter"
        one_of(name, names, "parameter", message=message, remedy=f"there are {', '.join(sorted(names))}")
    for name in ("nodes", "tasks_per_node", "slurm_nodes", "slurm_ntasks_per_node"):
        if given.get(name, 1) != 1:
            raise KitError(f"--slurm {name}={given[name]}: a run is one task on one node", remedy="--devices N")
    if not isinstance(given.get("slurm_time", 0), int):
        raise KitError(f"--slurm slurm_time={given['slurm_time']}: minutes are asked for", remedy="timeout_min=1440")
    return {key: [value] if key in _LISTS and isinstance(value, str) else value for key, value in given.items()}


class _Requeued:
    """What submitit pickles: on a time-out it submits the same call again, and the run resumes from its folder."""

    def __init__(self, root: str, how: dict[str, Any]):
        self.root, self.how = root, how

    def __call__(self, job: Job) -> Outcome:
        return attempt(job, self.root, self.how)

    def checkpoint(self, job: Job) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(self, job)


def _result(task: Any) -> Outcome:
    """A job that was killed, cancelled or out of chances has no answer; the others' must not be lost with it."""
    try:
        return task.result()
    except Exception as error:
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        what = f"Slurm job {task.job_id} ({task.state}) ended without an answer: {last[:300]}"
        return "failed", f"{what} (its log: {task.paths.stderr})"
