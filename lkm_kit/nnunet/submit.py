"""A study under nnU-Net on Slurm: three jobs, written as scripts that one can read, then handed to ``sbatch``.

``prepare.sh`` plans and preprocesses, ``train.sh`` is an array with a task a training (it trains, predicts and scores),
``collect.sh`` scores all and writes the report. Each waits for the one before. A task that is requeued goes on from
nnU-Net's last checkpoint; the same submission again leaves out what is done.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shutil import which
from typing import Any

from lkm_kit.errors import KitError
from lkm_kit.files import write_text
from lkm_kit.nnunet.pipeline import Step, steps
from lkm_kit.nnunet.places import dataset_name, nnunet_folder
from lkm_kit.nnunet.plans import configurations
from lkm_kit.profiles import Profile, profile

ASKED = {"gres": "gpu:1", "cpus-per-task": "12", "mem": "32G", "time": "4-00:00:00", "requeue": ""}
"""What a task of the array asks Slurm for unless told otherwise; an empty value is an option without one."""

FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def submission(
    number: int,
    study_names: Sequence[str],
    size: Profile | str | None = None,
    *,
    folds: Sequence[str] = ("all",),
    repetitions: Sequence[int] = (0,),
    options: Mapping[str, str] | None = None,
    at_once: int | None = None,
    **how: Any,
) -> dict[str, str]:
    """The scripts of some studies; a network that two of them share is trained in one task.

    Args:
        number: nnU-Net's data set id.
        study_names: of :data:`lkm_kit.nnunet.plans.STUDIES`.
        size: profile or its name.
        folds, repetitions: of :func:`lkm_kit.nnunet.pipeline.steps`.
        options: of ``sbatch``, by their long names: ``{"partition": "gpu"}``; they add to :data:`ASKED`, or replace.
        at_once: tasks of the array that may run at a time.
        **how: further keywords of :func:`lkm_kit.nnunet.pipeline.steps`: epochs, iterations, tta.

    Returns:
        name of the file -> text, in the order in which they run; without those that have nothing to do.

    Raises:
        KitError: see :func:`lkm_kit.nnunet.pipeline.steps`.

    >>> print(submission(702, ["table2", "table3"], "paper")["train.sh"])  # doctest: +SKIP
    #!/bin/bash
    """
    size = size if isinstance(size, Profile) else profile(size)
    prepare: dict[str, Step] = {}
    tasks: dict[tuple[str, str, int], str] = {}
    given = [f"--{name} {value}" for name, value in how.items() if name != "tta"] + ["--tta"] * bool(how.get("tta"))
    for name in study_names:
        mine = configurations(name, size)[1]
        todo = steps(number, name, size, folds=folds, repetitions=repetitions, **how)
        prepare |= {str(step): step for step in todo if step.name in ("plan", "plans") and not step.done}
        for step in todo:
            if step.name in ("train", "predict") and not step.done:
                words = f"--study {name} --arms {step.arm} --folds {step.fold} --repetitions {step.repetition}"
                tasks.setdefault((mine[step.arm], step.fold, step.repetition), words)
    kit, chosen = f"{shlex.quote(sys.executable)} -m lkm_kit.cli nnunet", f"{number} --profile {size.name}"
    asked = {**ASKED, **(options or {})}
    made = {}
    if prepare:
        cpu = {key: value for key, value in asked.items() if key not in ("gres", "gpus", "gpus-per-node")}
        made["prepare.sh"] = _script("lkm-prepare", cpu, [*map(str, prepare)])
    if tasks:
        limit = f"%{at_once}" if at_once else ""
        rows = ["runs=(", *(f"    {shlex.quote(words)}" for words in tasks.values()), ")"]
        run = f"{kit} commands {chosen} ${{runs[$SLURM_ARRAY_TASK_ID]}} {' '.join([*given, '--run'])}"
        made["train.sh"] = _script("lkm-train", {"array": f"0-{len(tasks) - 1}{limit}", **asked}, [*rows, run])
    same = f"--folds {','.join(folds)} --repetitions {','.join(map(str, repetitions))}{' --tta' * bool(how.get('tta'))}"
    each = [f"{kit} collect {chosen} --study {name} {same}" for name in study_names]
    cpu = {key: value for key, value in asked.items() if key in ("account", "partition", "qos")}
    made["collect.sh"] = _script("lkm-collect", {**cpu, "cpus-per-task": "4", "mem": "16G"}, each)
    return made


def submit(scripts: Mapping[str, str], folder: str | Path, log: Callable[[str], None] = print) -> list[str]:
    """Write the scripts and hand them to Slurm, each after the one before.

    Args:
        scripts: of :func:`submission`.
        folder: for the scripts and the jobs' logs; must be visible from the nodes.
        log: told each job.

    Returns:
        the jobs' numbers.

    Raises:
        KitError: there is no Slurm, or it refuses a job.
    """
    folder = write(scripts, folder)
    if which("sbatch") is None:
        raise KitError(
            f"there is no Slurm on this machine (no sbatch); the scripts are in {folder}",
            remedy="hand them to sbatch on the cluster's login node, each after the one before: " + ", ".join(scripts),
        )
    jobs: list[str] = []
    for name in scripts:
        # scores are collected of what there is, whatever became of single tasks; training needs what was prepared
        after = [f"--dependency={'afterany' if name == 'collect.sh' else 'afterok'}:{jobs[-1]}"] if jobs else []
        command = ["sbatch", "--parsable", *after, name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["without a word"])[-1]
            raise KitError(
                f"Slurm did not take {folder / name}: {said}",
                remedy="change what is asked for with --slurm KEY=VALUE, such as --slurm partition=gpu"
                + (f"; scancel {' '.join(jobs)} takes back what it took" if jobs else ""),
            )
        jobs.append(done.stdout.strip().split(";")[0])
        log(f"{name}: Slurm job {jobs[-1]}")
    return jobs


def write(scripts: Mapping[str, str], folder: str | Path) -> Path:
    """Write the scripts into a folder, and return it."""
    folder = Path(folder)
    for name, text in scripts.items():
        write_text(folder / name, text)
    return folder


def scripts_folder(number: int) -> Path:
    """Where the scripts of a data set lie unless told otherwise."""
    return nnunet_folder("nnUNet_results") / dataset_name(number, nnunet_folder("nnUNet_raw")) / "lkm_slurm"


def _script(name: str, options: Mapping[str, str], lines: Sequence[str]) -> str:
    asked = [f"#SBATCH --{key}{f'={value}' if value else ''}" for key, value in options.items()]
    where = [f"export {each}={shlex.quote(os.environ[each])}" for each in FOLDERS if os.environ.get(each)]
    return "\n".join(["#!/bin/bash", f"#SBATCH --job-name={name}", *asked, "set -e", *where, *lines, ""])
