"""``lkm study``: run a study of Tables 1 to 3 or of a file, see how far it is, and read its report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from lkm_kit.commands.options import Phantoms, grouped
from lkm_kit.commands.study_options import File, How, ProfileName, Runs, study_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkm_kit.profiles import Profile
    from lkm_kit.studies import Study

With = Annotated[
    list[Path] | None,
    typer.Option("--with", help="A written report's folder, repeatable: the runs that it holds count as this study's."),
]


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


@app.command("list")
def list_(profile: ProfileName = None, file: File = None) -> None:
    """Which studies and arms there are, or are in a file."""
    from lkm_kit.studies import study_names

    for name in [None] if file else study_names():
        plan = study_named(name, file, profile)
        print(f"{plan.name}: {plan.question} (control: {plan.control})")
        for arm in plan.arms:
            print(f"  {arm.name:20s} {arm.title:24s} {arm.note}")


@app.command(
    epilog="Examples:  lkm study table2 --profile smoke --seeds 3  |  lkm study table3 --arms pim,pam  |  "
    "lkm study table2 --profile paper --launcher slurm --slurm slurm_partition=gpu --slurm timeout_min=2880  |  "
    "lkm study --file my_study.py --profile smoke  |  lkm study table3 --data hippocampus --folds all --dry-run"
)
@grouped
def run(
    which: Runs,
    how: How,
    seeds: Annotated[int | None, typer.Option(help="How many training seeds; default from the profile.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run, and train nothing.")] = False,
    with_: With = None,
    phantoms: Phantoms = False,
) -> None:
    """Run what is missing. The same command again resumes; finished runs are never repeated."""
    from lkm_kit.studies.joined import left_to_run
    from lkm_kit.studies.preview import preview

    plan = left_to_run(which.plan(seeds), with_ or [])
    if dry_run:
        print(preview(plan))
        return
    how.launch(plan)
    written = "".join(f" --with {shlex.quote(str(folder))}" for folder in with_ or ())
    print(f"report: lkm study report {plan.called}{which.again()}{written}")  # seeds are found by the report itself


@app.command(epilog="Example:  lkm study status table2 --profile smoke --seeds 3")
@grouped
def status(
    which: Runs,
    seeds: Annotated[int | None, typer.Option(help="How many seeds; default those that have a folder.")] = None,
) -> None:
    """One line a run: waiting, running, training, trained, done, diverged or damaged."""
    from lkm_kit.studies.runner import status as status_of

    plan = which.plan(seeds, found=True)
    print(status_of(plan).to_string(index=False))


@app.command(
    epilog="Examples:  lkm study report table2 --profile smoke  |  "
    "lkm study report table2 --again figures/studies/table2-laptop  |  "
    "lkm study report table3 --seeds 8 --with figures/studies/table3-laptop-cohort --set batch_size=4 ..."
)
@grouped
def report(
    which: Runs,
    seeds: Annotated[int | None, typer.Option(help="How many seeds; default those that have a folder.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder; default report/ in the study's.")] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Also compare runs made with different versions or devices, and say so.")
    ] = False,
    again: Annotated[
        Path | None, typer.Option("--again", help="A written report's folder: make it anew from its CSV files.")
    ] = None,
    with_: With = None,
    without_weights: Annotated[
        bool, typer.Option("--without-weights", help="Also take runs whose weights were not kept, as they were scored.")
    ] = False,
) -> None:
    """Published | ours | what can be concluded: printed, and written as CSV, Markdown, LaTeX and a figure."""
    from lkm_kit.errors import KitError
    from lkm_kit.files import require_writable
    from lkm_kit.studies.joined import collect_with
    from lkm_kit.studies.reference import read_results
    from lkm_kit.studies.report import make_report

    if again is not None and with_:
        raise KitError("--again reads one report and --with adds one to runs", remedy="give one of the two")
    if out is not None:
        require_writable(out, folder=True)
    if again is not None:
        plan, results = read_results(_written(which), again)
        made, out = make_report(plan, results), out or again
    else:
        plan = which.plan(seeds, found=True)
        made = make_report(plan, collect_with(plan, with_ or [], mixed=mixed, weights=not without_weights))
        out = plan.folder / "report-best-of" if out is None and which.best_of else out
    written = made.write(out)
    print(f"{made.text()}\nwritten to {written}")


def _written(which: Runs) -> Study | str | Callable[[Profile], Study]:
    from lkm_kit.nnunet.plans import STUDIES, nnunet_study
    from lkm_kit.studies import study_names

    name = which.study
    if which.file is None and name in STUDIES and name not in study_names():  # which only nnU-Net trains
        return lambda size: nnunet_study(name, size)[0]
    return name if which.file is None and name else study_named(name, which.file, which.profile)
