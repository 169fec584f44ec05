"""``lkm nnunet``: Tables 1 to 3 under the real nnU-Net."""

from __future__ import annotations

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


@app.command(epilog="Example:  lkm nnunet plans 702 --study table2")
def plans(
    number: Number,
    study: StudyName,
    profile: ProfileName = "paper",
    patch_size: Annotated[str | None, typer.Option(help="Another patch size, such as 320,320.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Another batch size.")] = None,
) -> None:
    """Write nnU-Net plans with one configuration per arm, and say what the paper leaves open."""
    from lkm_kit.nnunet import DOUBTS, nnunet_study, write_plans

    patch = whole_numbers(patch_size, least=1) if patch_size else None
    path = write_plans(number, study, profile, patch_size=patch, batch_size=batch_size)
    ours, left_out = nnunet_study(study, profile)
    print(f"plans: {path}\narms: " + ", ".join(arm.name for arm in ours.arms))
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


@app.command(epilog="Example:  lkm nnunet collect 702 --study table2")
def collect(
    number: Number,
    study: StudyName,
    profile: ProfileName = "paper",
    arms: Arms = None,
    folds: Folds = "all",
    rule: Annotated[str, typer.Option(help="official (the paper's) or plain.")] = "official",
    tta: Tta = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder; default in nnUNet_results.")] = None,
) -> None:
    """Score the predictions and print published | ours. With --arms, the table of all arms stays as it is."""
    from lkm_kit.nnunet import collect as collect_scores
    from lkm_kit.nnunet.places import dataset_name, nnunet_folder
    from lkm_kit.nnunet.plans import plans_name
    from lkm_kit.profiles import profile as profile_of

    made = collect_scores(number, study, profile, arms=_split(arms), folds=_split(folds), rule=rule, tta=tta)
    print(made.text())
    if out is None:
        name = dataset_name(number, nnunet_folder("nnUNet_raw"))
        kind = "lkm_scores_tta" if tta else "lkm_scores"
        out = nnunet_folder("nnUNet_results") / name / kind / plans_name(study, profile_of(profile))
    # tasks of a job array collect side by side: each writes its own arm's table, and none that of the whole study
    print(f"written to {made.write(out, '-'.join(['table', *sorted(_split(arms))]))}")


def _split(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []
