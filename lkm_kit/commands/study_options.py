"""Options of `lkm study`, in groups: which runs, and how they are launched."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lkm_kit.commands.options import Threads

if TYPE_CHECKING:
    from lkm_kit.profiles import Profile
    from lkm_kit.studies import Study
    from lkm_kit.studies.plan import Plan

StudyName = Annotated[
    str | None, typer.Argument(help="table1, table2, table3 or scans; see `lkm study list`. Or --file.")
]
File = Annotated[
    Path | None, typer.Option("--file", help="A Python file with a Study, or a function (Profile) -> Study, instead.")
]
ProfileName = Annotated[str | None, typer.Option("--profile", help="smoke, laptop, gpu or paper; default LKM_PROFILE.")]
Arms = Annotated[str | None, typer.Option(help="Only these arms, separated by commas.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="FIELD=VALUE of every arm's training config (JSON), repeatable.")
]
Data = Annotated[
    Path | None, typer.Option(help="Folder of a data set (or its name in nnUNet_raw); default the kit's cohort.")
]
Folds = Annotated[
    str | None,
    typer.Option(help="Of a data set: 0,1,2 or all. A run a fold, scored on the cases that the fold holds out."),
]
Dims = Annotated[int, typer.Option(min=2, max=3, help="2: slices; 3: patches, with windows as boxes.")]
Root = Annotated[Path | None, typer.Option(help="Folder of all studies; default LKM_RUNS, else runs/.")]
BestOf = Annotated[
    Path | None,
    typer.Option("--best-of", help="Folder (or sweep.csv) of a sweep: every arm at its own best learning rate."),
]
Launcher = Annotated[
    str,
    typer.Option(
        help="auto, serial, processes or slurm. auto: on a CPU as many runs at a time as there are cores, one thread "
        "each; on a GPU one after the other. Another number of threads changes the last digits of a run's numbers."
    ),
]
Concurrent = Annotated[
    int | None, typer.Option("--processes", min=1, help="Runs at a time, for --launcher processes; default 2.")
]
Slurm = Annotated[
    list[str] | None,
    typer.Option(
        help="KEY=VALUE of a job by submitit's names, repeatable: slurm_partition=gpu, timeout_min=1440, mem_gb=32, "
        "slurm_array_parallelism=4, slurm_setup='module load cuda'."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")]
Devices = Annotated[
    int, typer.Option(min=1, help="GPUs (with --device cpu: processes) that train one run together, data-parallel.")
]
Workers = Annotated[int | None, typer.Option(min=0, help="DataLoader processes; default from the profile.")]


@dataclasses.dataclass
class Trainings:
    """Which trainings a study has, but for their seeds."""

    study: StudyName = None
    file: File = None
    profile: ProfileName = None
    arms: Arms = None
    set_: Changes = None
    root: Root = None
    data: Data = None
    dims: Dims = 2

    def plan(self, seeds: int | None, found: bool = False, folds: str | None = None) -> Plan:
        """The plan that the options stand for; with ``found`` and no number, of the seeds that have a folder."""
        from lkm_kit.commands.train import _assignment
        from lkm_kit.data import find_dataset
        from lkm_kit.errors import KitError
        from lkm_kit.profiles import in_3d
        from lkm_kit.profiles import profile as profile_of
        from lkm_kit.studies.own_data import chosen_folds
        from lkm_kit.studies.runner import make_plan, seeds_found

        if folds is not None and self.data is None:
            raise KitError("the cohort has no folds", remedy="name a data set with --data")
        size = profile_of(self.profile) if self.dims == 2 else in_3d(profile_of(self.profile))
        fields = dict(_assignment(text) for text in self.set_ or ())
        names = [each.strip() for each in self.arms.split(",")] if self.arms else []
        own = None if self.data is None else find_dataset(self.data)
        chosen = chosen_folds(own, folds) if folds is not None else ()
        study = study_named(self.study, self.file, size)
        plan = self.tuned(make_plan(study, size, seeds, names, self.root, own, chosen, **fields))
        there = seeds_found(plan) if found and seeds is None else ()
        return dataclasses.replace(plan, seeds=tuple(there)) if there else plan

    def tuned(self, plan: Plan) -> Plan:
        """The plan with what only some commands ask for."""
        return plan


@dataclasses.dataclass
class Runs(Trainings):
    """Which runs a study has: its trainings, their folds, and rates of a sweep."""

    folds: Folds = None
    best_of: BestOf = None

    def plan(self, seeds: int | None, found: bool = False) -> Plan:
        """As of trainings, with the folds."""
        return super().plan(seeds, found, self.folds)

    def tuned(self, plan: Plan) -> Plan:
        """Every arm at its own best rate, where a sweep is named."""
        from lkm_kit.studies.sweep import at_best

        return plan if self.best_of is None else at_best(plan, self.best_of)

    def again(self) -> str:
        """The options that name the same runs again, beside the study's."""
        given = [("--arms", self.arms), *(("--set", change) for change in self.set_ or ())]
        given += [("--best-of", self.best_of), ("--root", self.root)]
        return "".join(f" {option} {shlex.quote(str(value))}" for option, value in given if value)


@dataclasses.dataclass
class How:
    """How runs are launched."""

    launcher: Launcher = "auto"
    processes: Concurrent = None
    slurm: Slurm = None
    device: Device = "auto"
    devices: Devices = 1
    workers: Workers = None
    threads: Threads = None

    def launch(self, plan: Plan) -> None:
        """Run what is missing of a plan, and say how many runs are in which state."""
        from lkm_kit.commands.train import _assignment
        from lkm_kit.data import sample_source
        from lkm_kit.files import require_writable
        from lkm_kit.studies.launchers import side_by_side
        from lkm_kit.studies.runner import run_study

        asked = dict(_assignment(text, "--slurm") for text in self.slurm or ())
        how = {"device": self.device, "processes": self.devices, "slurm": asked}
        how["workers"] = plan.size.workers if self.workers is None else self.workers
        chosen = {"launcher": self.launcher, "concurrent": self.processes or 2, "threads": self.threads}
        if self.launcher == "auto":
            chosen = side_by_side(self.device, self.devices, self.threads, self.processes)
            if chosen["concurrent"] > 1 and self.workers is None:
                how["workers"] = 0  # loaders would take the cores from the runs
            print(f"runs at a time: {chosen['concurrent']}, CPU threads of each: {chosen['threads'] or 'all'}")
        require_writable(plan.folder, folder=True)
        if plan.on_cohort:
            print(sample_source())
        table = run_study(plan, **how, **chosen)
        print(table["state"].value_counts().to_string(header=False))


def study_named(name: str | None, file: Path | None, size: str | Profile | None) -> Study:
    """The study of a name or a file."""
    from lkm_kit.errors import KitError
    from lkm_kit.studies import study
    from lkm_kit.studies.files import study_from_file

    if (name is None) == (file is None):
        raise KitError("give a study's name or --file, one of the two", remedy="lkm study list names the kit's own")
    return study(name, size) if file is None else study_from_file(file, size)
