"""``lkm study``: run a study of Tables 1 to 3 or of a file, see how far it is, and read its report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from lkm_kit.commands.options import Phantoms, Threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkm_kit.profiles import Profile
    from lkm_kit.studies import Study
    from lkm_kit.studies.plan import Plan


class _ByName(TyperGroup):
    """A study's name, or its file, in a command's place runs the study."""

    def parse_args(self, ctx, args):
        return super().parse_args(ctx, ["run", *args] if args and args[0].startswith("--file") else args)

    def resolve_command(self, ctx, args):
        from lkm_kit.errors import one_of
        from lkm_kit.studies import study_names

        if one_of(args[0], [*study_names(), *self.commands], "study or command") in study_names():
            args = ["run", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_ByName,
    help="Arms and their controls, compared: Tables 1 to 3, or a study of your own. `lkm study table2` is "
    "`lkm study run table2`; `lkm study --file my_study.py` runs yours.",
    no_args_is_help=True,
)

StudyName = Annotated[str | None, typer.Argument(help="table1, table2 or table3; see `lkm study list`. Or --file.")]
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
        help="serial, processes or slurm. Local processes share the cores; on a CPU, fewer threads a run change the "
        "last digits of its numbers."
    ),
]
Concurrent = Annotated[int, typer.Option("--processes", min=1, help="Runs at a time, for --launcher processes.")]
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


@app.command("list")
def list_(profile: ProfileName = None, file: File = None) -> None:
    """Which studies and arms there are, or are in a file."""
    from lkm_kit.studies import study_names

    for name in [None] if file else study_names():
        plan = _study(name, file, profile)
        print(f"{plan.name}: {plan.question} (control: {plan.control})")
        for arm in plan.arms:
            print(f"  {arm.name:20s} {arm.title:24s} {arm.note}")


@app.command(
    epilog="Examples:  lkm study table2 --profile smoke --seeds 3  |  lkm study table3 --arms pim,pam  |  "
    "lkm study table2 --profile paper --launcher slurm --slurm slurm_partition=gpu --slurm timeout_min=2880  |  "
    "lkm study --file my_study.py --profile smoke  |  lkm study table3 --data hippocampus --folds all --dry-run"
)
def run(
    study: StudyName = None,
    file: File = None,
    profile: ProfileName = None,
    seeds: Annotated[int | None, typer.Option(help="How many training seeds; default from the profile.")] = None,
    arms: Arms = None,
    set_: Changes = None,
    root: Root = None,
    data: Data = None,
    folds: Folds = None,
    dims: Dims = 2,
    best_of: BestOf = None,
    launcher: Launcher = "serial",
    processes: Concurrent = 2,
    slurm: Slurm = None,
    device: Device = "auto",
    devices: Devices = 1,
    workers: Workers = None,
    threads: Threads = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run, and train nothing.")] = False,
    phantoms: Phantoms = False,
) -> None:
    """Run what is missing. The same command again resumes; finished runs are never repeated."""
    from lkm_kit.studies.preview import preview

    plan = _plan(study, file, profile, seeds, arms, set_, root, data, folds, dims, best_of)
    if dry_run:
        print(preview(plan))
        return
    _launch(plan, launcher, processes, slurm, device, devices, workers, threads)
    # what names the same runs again; seeds are found by the report itself
    given = [("--arms", arms), *(("--set", change) for change in set_ or ()), ("--best-of", best_of), ("--root", root)]
    same = "".join(f" {option} {shlex.quote(str(value))}" for option, value in given if value)
    print(f"report: lkm study report {plan.called}{same}")


@app.command(epilog="Example:  lkm study status table2 --profile smoke --seeds 3")
def status(
    study: StudyName = None,
    file: File = None,
    profile: ProfileName = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds; default those that have a folder.")] = None,
    arms: Arms = None,
    set_: Changes = None,
    root: Root = None,
    data: Data = None,
    folds: Folds = None,
    dims: Dims = 2,
    best_of: BestOf = None,
) -> None:
    """One line a run: waiting, running, training, trained, done, diverged or damaged."""
    from lkm_kit.studies.runner import status as status_of

    plan = _plan(study, file, profile, seeds, arms, set_, root, data, folds, dims, best_of, found=True)
    print(status_of(plan).to_string(index=False))


@app.command(
    epilog="Examples:  lkm study report table2 --profile smoke  |  "
    "lkm study report table2 --again figures/studies/table2-laptop"
)
def report(
    study: StudyName = None,
    file: File = None,
    profile: ProfileName = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds; default those that have a folder.")] = None,
    arms: Arms = None,
    set_: Changes = None,
    root: Root = None,
    data: Data = None,
    folds: Folds = None,
    dims: Dims = 2,
    best_of: BestOf = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder; default report/ in the study's.")] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Also compare runs made with different versions or devices, and say so.")
    ] = False,
    again: Annotated[
        Path | None, typer.Option("--again", help="A written report's folder: make it anew from its CSV files.")
    ] = None,
) -> None:
    """Published | ours | what can be concluded: printed, and written as CSV, Markdown, LaTeX and a figure."""
    from lkm_kit.studies.reference import read_results
    from lkm_kit.studies.report import make_report

    if again is not None:
        plan, results = read_results(_written(study, file, profile), again)
        made, out = make_report(plan, results), out or again
    else:
        plan = _plan(study, file, profile, seeds, arms, set_, root, data, folds, dims, best_of, found=True)
        made = make_report(plan, mixed=mixed)
        out = plan.folder / "report-best-of" if out is None and best_of else out
    written = made.write(out)
    print(f"{made.text()}\nwritten to {written}")


def _launch(
    plan: Plan,
    launcher: str,
    concurrent: int,
    slurm: list[str] | None,
    device: str,
    devices: int,
    workers: int | None,
    threads: int | None,
) -> None:
    from lkm_kit.commands.train import _assignment
    from lkm_kit.data import sample_source
    from lkm_kit.files import require_writable
    from lkm_kit.studies.runner import run_study

    workers = plan.size.workers if workers is None else workers
    asked = dict(_assignment(text, "--slurm") for text in slurm or ())
    how = {"concurrent": concurrent, "device": device, "processes": devices, "workers": workers, "slurm": asked}
    require_writable(plan.folder, folder=True)
    if plan.on_cohort:
        print(sample_source())
    table = run_study(plan, launcher, threads=threads, **how)
    print(table["state"].value_counts().to_string(header=False))


def _written(name: str | None, file: Path | None, size: str | None) -> Study | str | Callable[[Profile], Study]:
    from lkm_kit.nnunet.plans import STUDIES, nnunet_study
    from lkm_kit.studies import study_names

    if file is None and name in STUDIES and name not in study_names():  # which only nnU-Net trains
        return lambda size: nnunet_study(name, size)[0]
    return name if file is None and name else _study(name, file, size)


def _study(name: str | None, file: Path | None, size: str | Profile | None) -> Study:
    from lkm_kit.errors import KitError
    from lkm_kit.studies import study
    from lkm_kit.studies.files import study_from_file

    if (name is None) == (file is None):
        raise KitError("give a study's name or --file, one of the two", remedy="lkm study list names the kit's own")
    return study(name, size) if file is None else study_from_file(file, size)


def _plan(
    name: str | None,
    file: Path | None,
    profile: str | None,
    seeds: int | None,
    arms: str | None,
    changes: list[str] | None,
    root: Path | None,
    data: Path | None,
    folds: str | None,
    dims: int,
    best_of: Path | None = None,
    found: bool = False,
) -> Plan:
    import dataclasses

    from lkm_kit.commands.train import _assignment
    from lkm_kit.data import find_dataset
    from lkm_kit.errors import KitError
    from lkm_kit.profiles import in_3d
    from lkm_kit.profiles import profile as profile_of
    from lkm_kit.studies.own_data import chosen_folds
    from lkm_kit.studies.runner import make_plan, seeds_found
    from lkm_kit.studies.sweep import at_best

    if folds is not None and data is None:
        raise KitError("the cohort has no folds", remedy="name a data set with --data")
    size = profile_of(profile) if dims == 2 else in_3d(profile_of(profile))
    fields = dict(_assignment(text) for text in changes or ())
    names = [each.strip() for each in arms.split(",")] if arms else []
    own = None if data is None else find_dataset(data)
    chosen = chosen_folds(own, folds) if folds is not None else ()
    plan = make_plan(_study(name, file, size), size, seeds, names, root, own, chosen, **fields)
    plan = plan if best_of is None else at_best(plan, best_of)
    there = seeds_found(plan) if found and seeds is None else ()
    return dataclasses.replace(plan, seeds=tuple(there)) if there else plan
