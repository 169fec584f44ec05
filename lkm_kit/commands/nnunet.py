"""``lkm nnunet``: Tables 1 to 3 under the real nnU-Net."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from lkm_kit.commands.options import whole_numbers
from lkm_kit.errors import install

app = typer.Typer(
    help=f"Tables 1 to 3 under the real nnU-Net. To train, {install('nnunet')}",
    epilog="Examples:  lkm nnunet commands 702 --study table3  |  lkm nnunet collect 702 --study table3",
    no_args_is_help=True,
)

Number = Annotated[int, typer.Argument(help="nnU-Net's data set id: 702, 722, ...")]
StudyName = Annotated[str, typer.Option("--study", help="table1, table1-ct (3D), table2 or table3.")]
ProfileName = Annotated[str | None, typer.Option("--profile", help="Sizes: paper, gpu, laptop, smoke.")]
Arms = Annotated[str | None, typer.Option(help="Only these arms, separated by commas.")]
Tta = Annotated[bool, typer.Option("--tta", help="Mirror at test time; the released commands do not.")]
Folds = Annotated[str, typer.Option(help="all, or numbers from 0 to 4, separated by commas.")]
Repetitions = Annotated[
    str,
    typer.Option(help="Numbers of the trainings of each arm and fold, from 0: 0,1,2 are three. nnU-Net has no seeds."),
]


@app.command(epilog="Example:  lkm nnunet plans 702 --study table2")
def plans(
    number: Number,
    study: StudyName,
    profile: ProfileName = "paper",
    patch_size: Annotated[str | None, typer.Option(help="Another patch size, such as 320,320.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Another batch size.")] = None,
    repetitions: Repetitions = "0",
) -> None:
    """Write nnU-Net plans with one configuration per arm, and say what the paper leaves open."""
    from lkm_kit.nnunet import DOUBTS, nnunet_study, write_plans

    patch = whole_numbers(patch_size, least=1) if patch_size else None
    for repetition in whole_numbers(repetitions):
        how = {"repetition": repetition, "patch_size": patch, "batch_size": batch_size}
        print(f"plans: {write_plans(number, study, profile, **how)}")
    ours, left_out = nnunet_study(study, profile)
    print("arms: " + ", ".join(arm.name for arm in ours.arms))
    for arm, reason in left_out.items():
        print(f"left out: {arm}: {reason}")
    print("what the paper leaves open:\n" + "\n".join(f"  {doubt}" for doubt in DOUBTS))


@app.command(epilog="Examples:  lkm nnunet commands 702 --study table3  |  ... --arms pim,pam --folds 0,1,2,3,4 --run")
def commands(
    number: Number,
    study: StudyName,
    profile: ProfileName = "paper",
    arms: Arms = None,
    folds: Folds = "all",
    repetitions: Repetitions = "0",
    device: Annotated[str, typer.Option(help="cuda, cpu or mps.")] = "cuda",
    epochs: Annotated[int, typer.Option(help="The paper's and nnU-Net's: 1000.")] = 1000,
    iterations: Annotated[int, typer.Option(help="Of each epoch; the paper's and nnU-Net's: 250.")] = 250,
    tta: Tta = False,
    run: Annotated[bool, typer.Option("--run", help="Run them, one after the other; what is done is skipped.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds for each command, with --run.")] = None,
) -> None:
    """Print every command from the raw data to the scores, one a line; with --run, run what is not done yet."""
    from lkm_kit.nnunet import run_steps, steps

    todo = steps(
        number,
        study,
        profile,
        arms=_split(arms),
        folds=_split(folds),
        repetitions=whole_numbers(repetitions),
        device=device,
        epochs=epochs,
        iterations=iterations,
        tta=tta,
    )
    if run:
        run_steps(todo, timeout_s=timeout)
        return
    for step in todo:
        print(step)


@app.command(epilog="Example:  lkm nnunet submit 702 --study table2,table3 --repetitions 0,1,2 --slurm partition=gpu")
def submit(
    number: Number,
    study: Annotated[str, typer.Option("--study", help="One or several, separated by commas: table2,table3.")],
    profile: ProfileName = "paper",
    folds: Folds = "all",
    repetitions: Repetitions = "0",
    epochs: Annotated[int, typer.Option(help="The paper's and nnU-Net's: 1000.")] = 1000,
    iterations: Annotated[int, typer.Option(help="Of each epoch; the paper's and nnU-Net's: 250.")] = 250,
    tta: Tta = False,
    slurm: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for sbatch by its long names, repeatable: partition=gpu, mem=64G."),
    ] = None,
    at_once: Annotated[int | None, typer.Option(min=1, help="Trainings that may run at a time.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder of scripts and logs.")] = None,
    write_only: Annotated[bool, typer.Option("--write-only", help="Write the scripts, and submit nothing.")] = False,
) -> None:
    """Write and submit a Slurm array with a task a training; what several studies share is trained once."""
    from lkm_kit.commands.train import _assignment
    from lkm_kit.nnunet import submission
    from lkm_kit.nnunet import submit as hand_over
    from lkm_kit.nnunet.submit import scripts_folder, write

    how = {"epochs": epochs, "iterations": iterations, "tta": tta, "at_once": at_once}
    how |= {"folds": _split(folds), "repetitions": whole_numbers(repetitions)}
    options = {key: str(value) for key, value in (_assignment(text, "--slurm") for text in slurm or ())}
    scripts, folder = submission(number, _split(study), profile, options=options, **how), out or scripts_folder(number)
    if write_only:
        print(f"written to {write(scripts, folder)}: {', '.join(scripts)}")
    else:
        hand_over(scripts, folder)


@app.command(epilog="Example:  lkm nnunet collect 702 --study table2")
def collect(
    number: Number,
    study: StudyName,
    profile: ProfileName = "paper",
    arms: Arms = None,
    folds: Folds = "all",
    repetitions: Repetitions = "0",
    rule: Annotated[str, typer.Option(help="official (the paper's) or plain.")] = "official",
    tta: Tta = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder; default in nnUNet_results.")] = None,
) -> None:
    """Score the predictions and print published | ours, and the study's report, which `lkm study report` makes anew.

    With --arms, table and report of all arms stay as they are.
    """
    from lkm_kit.nnunet import collect as collect_scores
    from lkm_kit.nnunet.places import dataset_name, nnunet_folder
    from lkm_kit.nnunet.plans import plans_name
    from lkm_kit.profiles import profile as profile_of

    how = {"folds": _split(folds), "repetitions": whole_numbers(repetitions), "rule": rule, "tta": tta}
    made = collect_scores(number, study, profile, arms=_split(arms), **how)
    print(made.text())
    if out is None:
        name = dataset_name(number, nnunet_folder("nnUNet_raw"))
        kind = "lkm_scores_tta" if tta else "lkm_scores"
        out = nnunet_folder("nnUNet_results") / name / kind / plans_name(study, profile_of(profile)) / study
    # tasks of a job array collect side by side: each writes its own arm's table, and none that of the whole study
    print(f"written to {made.write(out, '-'.join(['table', *sorted(_split(arms))]))}")
    if made.comparable and not arms:
        report = made.report()
        folder = report.write(out / "report")
        print(
            f"\n{report.text()}\nwritten to {folder}\nanew: lkm study report {study} --again {shlex.quote(str(folder))}"
        )


def _split(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []
