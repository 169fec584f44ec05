"""``lkm figures``: rebuild the figures, their captions and their tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lkm_kit.commands.options import Phantoms

EPILOG = "Examples:  lkm figures  |  lkm figures token_orders organ_scores --out pictures  |  lkm figures --list"


def figures(
    names: Annotated[list[str] | None, typer.Argument(help="Which to build; default all but the long ones.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default figures/, or LKM_FIGURES.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Say which figures there are, and stop.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Figures at a time. What is timed is built last, alone.")] = 1,
    phantoms: Phantoms = False,
) -> None:
    """Rebuild the figures: a picture, a caption (config, profile, seed, version) and the numbers behind it as CSV.

    A drawing has a second picture for dark pages, NAME-dark.png, under the same caption. Networks that a figure shows
    are taken from runs/, or trained first.
    """
    from lkm_kit.figures import FIGURES, build_figures
    from lkm_kit.figures.registry import LONG, everyday
    from lkm_kit.files import require_writable
    from lkm_kit.plots.style import figure_folder

    if list_:
        for name, function in FIGURES.items():
            by_name = "" if name not in LONG else "[by name only] "
            typer.echo(f"{name:20s} {by_name}{(function.__doc__ or '').splitlines()[0]}")
        return
    require_writable(figure_folder() if out is None else out, folder=True)
    if jobs > 1:
        from lkm_kit.figures.side_by_side import build_side_by_side

        for pictures in build_side_by_side(names or everyday(), out, jobs):
            for picture in pictures:
                typer.echo(picture)
        return
    for name in names or everyday():
        for picture in build_figures([name], out):
            typer.echo(picture)
