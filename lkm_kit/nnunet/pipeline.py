"""From a raw data set to scores, as shell commands: print them for a cluster, or run them one after the other."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lkm_kit.devices import allotted_cpus
from lkm_kit.errors import KitError, install
from lkm_kit.files import read_json
from lkm_kit.nnunet.places import dataset_name, nnunet_folder, predictions_folder, results_folder
from lkm_kit.nnunet.plans import base_configuration, configurations, nnunet_study, plans_name
from lkm_kit.profiles import Profile, profile

EPOCHS, ITERATIONS = 1000, 250
"""nnU-Net's own budget, which is the paper's."""

STARTED = "debug.json"
"""What nnU-Net's trainer notes of itself whenever it starts on a fold; the budget is in it."""

NO_COMPILE = (("nnUNet_compile", "f"),)
"""nnU-Net compiles networks on CUDA unless told not to. The scan has kernels of its own, which torch.compile does not
know; for all arms alike, so that none is faster for that."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One command.

    Args:
        name: "plan", "plans", "train", "predict" or "collect".
        arm, fold, repetition: which run; arm and fold are empty for steps of the whole data set.
        command: the program and its arguments.
        makes: what is there when it is done.
        environment: variables it needs.
    """

    name: str
    arm: str
    fold: str
    command: tuple[str, ...]
    makes: tuple[Path, ...]
    environment: tuple[tuple[str, str], ...] = ()
    repetition: int = 0

    @property
    def done(self) -> bool:
        """Everything that it makes is there."""
        return bool(self.makes) and all(path.exists() for path in self.makes)

    def __str__(self) -> str:
        return " ".join([*(f"{name}={value}" for name, value in self.environment), shlex.join(self.command)])


def trained_with(folder: Path) -> dict[str, Any]:
    """What nnU-Net's trainer notes of a fold: ``epochs``, ``iterations`` of each, and ``hardware``.

    The trainer's own note is read, not one of ours: whoever started it last, by whichever command, wrote that. Without
    a note it is nnU-Net's own budget.
    """
    if not (folder / STARTED).exists():
        return {"epochs": EPOCHS, "iterations": ITERATIONS, "hardware": "not recorded"}
    remedy = f"move {folder} away, and train that fold again"
    about = read_json(folder / STARTED, "note of nnU-Net's trainer", remedy=remedy)
    budget = {"epochs": int(about["num_epochs"]), "iterations": int(about["num_iterations_per_epoch"])}
    return {**budget, "hardware": str(about.get("gpu_name", about.get("device", "not recorded")))}


def check_budget(folder: Path, epochs: int, iterations: int) -> None:
    """Whether a fold's checkpoints, if there are any, were trained with this budget (:func:`trained_with`).

    Raises:
        KitError: with another one.
    """
    if not any(folder.glob("checkpoint_*.pth")):
        return
    about = trained_with(folder)
    found = [about["epochs"], about["iterations"]]
    if found != [epochs, iterations]:
        raise KitError(
            f"{folder} holds a training of {found[0]} epochs of {found[1]} iterations, not of {epochs} of {iterations}",
            remedy="ask for the same budget, move the folder away, or set nnUNet_results to another place",
        )


def steps(
    number: int,
    study_name: str,
    size: Profile | str | None = None,
    *,
    arms: Sequence[str] = (),
    folds: Sequence[str] = ("all",),
    repetitions: Sequence[int] = (0,),
    device: str = "cuda",
    epochs: int = EPOCHS,
    iterations: int = ITERATIONS,
    tta: bool = False,
) -> list[Step]:
    """Every command of a study on a data set, in order.

    Args:
        number: nnU-Net's data set id.
        study_name: of :data:`lkm_kit.nnunet.plans.STUDIES`.
        size: profile or its name.
        arms: names; empty for all that nnU-Net can train.
        folds: ``"all"`` (train on every case, as the U-Mamba authors do) or numbers of the five folds.
        repetitions: numbers of the trainings of each arm and fold, which differ by nnU-Net's own randomness.
        device: nnU-Net's ``-device``: cuda, cpu or mps.
        epochs, iterations: training budget. nnU-Net's command knows no other than its own; for another one the kit
            calls nnU-Net's trainer from :mod:`lkm_kit.nnunet.train`.
        tta: predict with test-time mirroring, nnU-Net's default. Without, as the released commands of LKM-UNet and
            U-Mamba do (``--disable_tta``), a prediction takes a quarter (2D) or an eighth (3D) of the time.

    Raises:
        KitError: unknown study, arm or fold, the raw data set is not there, or a fold was trained with another budget.

    >>> print(steps(702, "table2", "paper", arms=["contiguous-large"])[2])  # doctest: +SKIP
    nnUNet_compile=f nnUNetv2_train 702 lkm-unet all -p lkmPaperPlans -device cuda
    """
    size = size if isinstance(size, Profile) else profile(size)
    ours, left_out = nnunet_study(study_name, size)
    for arm in arms:
        if arm in left_out:
            raise KitError(f"arm {arm}: {left_out[arm]}", remedy="train it with the kit's own loop: lkm study <table>")
        ours.arm(arm)
    folds = [str(fold) for fold in folds]
    if wrong := [fold for fold in folds if fold not in ("all", "0", "1", "2", "3", "4")]:
        raise KitError(f"there is no fold {wrong[0]}", remedy="nnU-Net has the folds 0 to 4, and all")
    if any(each < 0 for each in repetitions) or not repetitions:
        raise KitError(f"repetitions {list(repetitions)}", remedy="give whole numbers from 0 on")
    raw = nnunet_folder("nnUNet_raw")
    dataset = dataset_name(number, raw)
    base, (_, mine) = base_configuration(study_name), configurations(study_name, size)
    preprocessed = nnunet_folder("nnUNet_preprocessed") / dataset
    cases = [path.name.removesuffix("_0000.nii.gz") for path in sorted((raw / dataset / "imagesTs").glob("*.nii.gz"))]
    kit = (sys.executable, "-m", "lkm_kit.cli", "nnunet")
    chosen = ("--study", study_name, "--profile", size.name)
    plan = ("nnUNetv2_plan_and_preprocess", "-d", str(number), "-c", base, "--verify_dataset_integrity")
    # nnU-Net copies the labels last of all, once every case is preprocessed
    labels = [preprocessed / "gt_segmentations" / path.name for path in (raw / dataset / "labelsTr").glob("*.nii.gz")]
    made = (preprocessed / "nnUNetPlans.json", preprocessed / f"nnUNetPlans_{base}", *labels)
    again = ("--repetitions", ",".join(map(str, repetitions))) if tuple(repetitions) != (0,) else ()
    named = {each: plans_name(study_name, size, each) for each in repetitions}
    files = tuple(preprocessed / f"{plans}.json" for plans in named.values())
    result = [
        Step("plan", "", "", plan, made),
        Step("plans", "", "", (*kit, "plans", str(number), *chosen, *again), files),
    ]
    runs = itertools.product(named.items(), folds, [arm for arm in ours.arms if not arms or arm.name in arms])
    for (repetition, plans), fold, arm in runs:
        configuration = mine[arm.name]
        where = (str(number), configuration, fold, "-p", plans, "-device", device)
        if (epochs, iterations) == (EPOCHS, ITERATIONS):
            train: tuple[str, ...] = ("nnUNetv2_train", *where)
        else:
            budget = ("--epochs", str(epochs), "--iterations", str(iterations))
            train = (sys.executable, "-m", "lkm_kit.nnunet.train", *where, *budget)
        folder = results_folder(dataset, plans, configuration, fold)
        check_budget(folder, epochs, iterations)
        final = folder / "checkpoint_final.pth"
        result.append(Step("train", arm.name, fold, train, (final,), NO_COMPILE, repetition))
        if not cases:
            continue
        out = predictions_folder(dataset, plans, configuration, fold, tta)
        predict = (
            "nnUNetv2_predict", "-d", str(number), "-i", str(raw / dataset / "imagesTs"), "-o", str(out),
            "-c", configuration, "-p", plans, "-f", fold, "-device", device, *(() if tta else ("--disable_tta",)),
        )  # fmt: skip
        found = tuple(out / f"{case}.nii.gz" for case in cases)
        result.append(Step("predict", arm.name, fold, predict, found, repetition=repetition))
    if cases:
        only = ("--arms", ",".join(arms)) if arms else ()  # each task of a job array scores its own arm
        how = ("--folds", ",".join(folds), *again, *(("--tta",) if tta else ()))
        collect = (*kit, "collect", str(number), *chosen, *only, *how)
        result.append(Step("collect", "", "", collect, ()))
    return result


def own_processes() -> dict[str, str]:
    """nnU-Net's variables for its numbers of processes: its defaults, 8 and 12, but no more than this process may use.

    nnU-Net itself looks at the whole machine, of which a job or a container has a part.

    >>> sorted(own_processes())
    ['nnUNet_def_n_proc', 'nnUNet_n_proc_DA']
    """
    number = allotted_cpus()
    return {"nnUNet_def_n_proc": str(min(8, number)), "nnUNet_n_proc_DA": str(min(12, number))}


def run_steps(todo: Sequence[Step], *, timeout_s: float | None = None, log: Callable[[str], None] = print) -> None:
    """Run what is not done yet, in order; the same call again goes on where it stopped.

    A training that was interrupted goes on from nnU-Net's last checkpoint (``--c``). What the environment says of
    nnU-Net's numbers of processes holds; without it, :func:`own_processes`.

    Args:
        todo: of :func:`steps`.
        timeout_s: for each command, in seconds; None waits as long as it takes.
        log: told the command before it runs.

    Raises:
        KitError: nnU-Net is not installed, or a command failed or took too long.
    """
    for step in todo:
        if step.done:
            log(f"done already: {step}")
            continue
        command = list(step.command)
        program = shutil.which(command[0]) or shutil.which(command[0], path=str(Path(sys.executable).parent))
        if program is None:
            raise KitError(f"there is no command {command[0]}", remedy=install("nnunet"))
        command[0] = program
        if step.name == "train" and (step.makes[0].parent / "checkpoint_latest.pth").exists():
            command.append("--c")
        log(shlex.join(command))
        try:
            # nobody answers: a program that asks must fail, not wait
            environment = {**own_processes(), **os.environ, **dict(step.environment)}
            status = subprocess.run(command, timeout=timeout_s, env=environment, stdin=subprocess.DEVNULL).returncode
        except subprocess.TimeoutExpired as error:
            raise KitError(
                f"the step {step.name} {step.arm} took longer than {timeout_s:.0f} s: {step}",
                remedy="see its output above; give more time and run the same command again: it goes on from there",
            ) from error
        if status:
            raise KitError(
                f"the step {step.name} {step.arm} ended with status {status}: {step}",
                remedy="see its output above; mend that and run the same command again: what is done stays done",
            )
