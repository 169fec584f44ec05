"""``lkm study sweep``: which learning rate is each arm's own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from lkm_kit.commands.options import Phantoms, grouped
from lkm_kit.commands.study_options import How, Trainings, study_named

EPILOG = (
    "Examples:  lkm study sweep table3 --profile laptop --rates 0.003,0.01,0.02 --warmups 0.1  |  "
    "lkm study sweep table3 --arms residual-unet,pim --seeds 3  |  "
    "lkm study run table3 --profile laptop --best-of runs/table3-sweep/laptop/report"
)


@grouped
def sweep(
    which: Trainings,
    how: How,
    rates: Annotated[str, typer.Option(help="Learning rates, separated by commas.")] = "0.003,0.01,0.02",
    warmups: Annotated[
        str | None,
        typer.Option(help="Shares of the steps in which one cycle rises, separated by commas; default the profile's."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds: 1000, 1001, ..., which no study uses.")] = 2,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder; default report/ in the sweep's.")] = None,
    again: Annotated[
        Path | None, typer.Option("--again", help="A written sweep's folder: table and picture anew from sweep.csv.")
    ] = None,
    with_: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            help="A written sweep's folder, repeatable: what it holds is not trained again, and is reported, too.",
        ),
    ] = None,
    phantoms: Phantoms = False,
) -> None:
    """Train every arm at every learning rate, score on validation items alone, and name each arm's best rate.

    The same command again resumes. Test items are not read.
    """
    from lkm_kit.errors import KitError
    from lkm_kit.files import read_json, require_writable
    from lkm_kit.studies.sweep import curves, joined, left_to_sweep, make_sweep, read_sweep
    from lkm_kit.studies.sweep_report import sweep_text, write_sweep

    if again is not None and with_:
        raise KitError("--again reads one sweep and --with adds one to trainings", remedy="give one of the two")
    if out is not None:
        require_writable(out, folder=True)
    if again is not None:
        whole, table = study_named(which.study, which.file, which.profile), read_sweep(again)
        caption = read_json(again / "sweep.json", "caption of a sweep's picture")
        about, out = {key: caption[key] for key in ("config", "profile", "seed")}, out or again
    else:
        plan = which.plan(None)
        mine = make_sweep(plan, _numbers("--rates", rates), _numbers("--warmups", warmups or ""), seeds)
        protocol, tables = mine.protocol(), [read_sweep(folder) for folder in with_ or ()]
        for folder in with_ or ():
            mine = left_to_sweep(mine, folder)
        if mine.jobs():
            how.launch(mine)
            tables.append(curves(mine))
        whole, table, out = plan.study, joined(plan.study, *tables), out or mine.folder / "report"
        swept = {"learning_rate": "rate", "warmup": "warmup", "seeds": "seed"}
        values = {name: sorted(table[column].unique().tolist()) for name, column in swept.items()}
        about = {"config": {**protocol, **values}, "profile": mine.size.name, "seed": values["seeds"]}
    folder = write_sweep(table, whole, out, about)
    print(f"{sweep_text(table, whole)}\nwritten to {folder}")
    if again is None:
        print(f"each arm at its own best: lkm study run {plan.called} --best-of {shlex.quote(str(folder))}")


def _numbers(option: str, text: str) -> list[float]:
    from lkm_kit.errors import KitError

    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise KitError(f"{option} {text}", remedy=f"give numbers separated by commas: {option} 0.1,0.3") from None
