"""``lkm reach``: the functional receptive field, how far trained networks look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Examples:  lkm reach --profile smoke  |  lkm reach --arms pim,pim-bim --seeds 2  |  lkm reach --of scans"


def reach(
    profile: Annotated[str | None, typer.Option(help="smoke, laptop, gpu or paper; default LKM_PROFILE.")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many training seeds; default from the profile.")] = None,
    arms: Annotated[str | None, typer.Option(help="Only these arms, separated by commas.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of all studies; default LKM_RUNS, else runs/.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Also write the report here.")] = None,
    of: Annotated[str, typer.Option(help="What the arms differ in: blocks, or scans (orders and mixers).")] = "blocks",
    list_: Annotated[bool, typer.Option("--list", help="Say which arms there are, and stop.")] = False,
) -> None:
    """Train every arm to tell a far cue's sign, and say how far each looks. The same command again resumes."""
    from lkm_kit.files import require_writable
    from lkm_kit.profiles import profile as profile_of
    from lkm_kit.studies.functional import functional_study, run
    from lkm_kit.studies.functional_tables import report_text, write_report

    size = profile_of(profile)
    if list_:
        for arm in functional_study(size.reach, of).arms:
            typer.echo(f"{arm.name:24s} {arm.title:30s} {arm.note}")
        return
    names = [name.strip() for name in arms.split(",")] if arms else []
    if out is not None:
        require_writable(out, folder=True)
    runs = run(size, seeds, names, root, device, typer.echo, of)
    typer.echo(report_text(runs, size, of))
    if out is not None:
        typer.echo(f"written to {write_report(runs, size, out, of)}")
