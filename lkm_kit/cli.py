"""The command ``lkm``: a thin layer over the library.

A new subcommand is a function in ``lkm_kit/commands/`` and one line below; a group of them is a ``typer.Typer``.
"""

from __future__ import annotations

import sys

import typer

from lkm_kit.commands import bench, data, doctor, erf, evaluate, figures, nnunet, predict, reach, study, train
from lkm_kit.errors import KitError

app = typer.Typer(
    help="LKM-UNet to learn, reproduce and question. Sizes come from LKM_PROFILE (smoke, laptop, gpu, paper).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command(epilog=doctor.EPILOG)(doctor.doctor)
app.add_typer(data.app, name="data")
app.command(epilog=train.EPILOG)(train.train)
app.command(epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command(epilog=predict.EPILOG)(predict.predict)
app.command(epilog=erf.EPILOG)(erf.erf)
app.command(epilog=reach.EPILOG)(reach.reach)
app.command(epilog=figures.EPILOG)(figures.figures)
app.add_typer(study.app, name="study")
app.add_typer(nnunet.app, name="nnunet")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Entry point: an error of the user's is printed without a traceback, and the exit status is 2."""
    try:
        app()
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
