"""``lkm course``: build the chapters, and make of them a site, slides and assignments. Needs a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lkm_kit.errors import needs

app = typer.Typer(
    help="Build the chapters from notebooks/src, and make of them a site, slides and assignments.",
    epilog="Examples:  lkm course build 06  |  lkm course assignment 03 04  |  lkm course slides 03",
    no_args_is_help=True,
)
Names = Annotated[
    list[str] | None, typer.Argument(help="Chapters, by the start of their name (06, 06_lkm_unet); default all.")
]


@app.callback()
def course() -> None:
    """Before any of them: the packages that make and run notebooks."""
    needs("lkm course needs", "nbformat", "jupytext", "nbclient", "nbconvert", extra="notebooks")


@app.command()
def build(
    names: Names = None,
    execute: Annotated[bool, typer.Option("--execute", help="Run the chapters and keep their outputs.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit status 1 if a notebook is not in step.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write executed chapters there and leave the committed ones alone.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Chapters at a time; default 2 at smoke, and with --out at laptop, else 1."),
    ] = None,
) -> None:
    """Build the notebooks from their sources.

    Without --execute a cell keeps the outputs it had, as long as its text is the same.
    """
    from lkm_kit.course import build as builder
    from lkm_kit.devices import available_cpus
    from lkm_kit.profiles import profile

    root = builder.repository_root()
    if check:
        problems = builder.out_of_step(root, names or ())
        print("\n".join([*problems, "run: make notebooks"]) if problems else "all notebooks are in step")
        raise typer.Exit(1 if problems else 0)
    two = profile().name == "smoke" or (out is not None and profile().name == "laptop")
    jobs = jobs or (min(2, available_cpus()) if two else 1)
    out = out and out.resolve()
    builder.build(root, names or (), execute=execute or out is not None, out=out, jobs=jobs)


@app.command()
def student(
    out: Annotated[Path | None, typer.Option(help="Folder of the copies; default work/ in the checkout.")] = None,
) -> None:
    """Your own copies of the chapters, without solutions; called again, it keeps your answers."""
    from lkm_kit.course.build import repository_root
    from lkm_kit.course.student import hand_out

    root = repository_root()
    folder = root / "work" if out is None else out
    print(hand_out(root, folder).text(folder))


@app.command()
def site(out: Annotated[Path, typer.Option(help="Folder of the site.")] = Path("build/site")) -> None:
    """Chapters, handouts, docs and public names as web pages, which ask no other machine for anything."""
    from lkm_kit.course.build import repository_root
    from lkm_kit.course.site import build_site

    print(f"open {build_site(repository_root(), out)} in a browser")


@app.command()
def assignment(
    names: Names = None,
    out: Annotated[Path, typer.Option(help="nbgrader's course folder.")] = Path("build/course"),
) -> None:
    """Chapters as nbgrader assignments, one point for each check: source and release versions."""
    from lkm_kit.course.assignment import write_assignments
    from lkm_kit.course.build import repository_root

    for path in write_assignments(repository_root(), out.resolve(), names or ()):
        print(path)


@app.command()
def slides(
    names: Names = None, out: Annotated[Path, typer.Option(help="Folder for the pages.")] = Path("build/slides")
) -> None:
    """Chapters as slides: across drawings, formulas and pictures, below each its text and code."""
    from lkm_kit.course.build import repository_root
    from lkm_kit.course.slides import write_slides

    for path in write_slides(repository_root(), out, names or ()):
        print(path)


@app.command()
def summary(folder: Annotated[Path, typer.Argument(help="Where `lkm course build --out` wrote chapters.")]) -> None:
    """The end of `make tutorial`: what was run, what came out, where it lies."""
    from lkm_kit.course.summary import summary as text

    print(text(folder))
