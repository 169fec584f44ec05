"""The command ``lkm``: a thin layer over the library.

A new subcommand is a function in ``lkm_kit/commands/`` and one line below; a group of them is a ``typer.Typer``. Every
command, and every script in ``data_scripts``, ends with one of these exit statuses:

==  =====================================================================================================
0   done
1   the answer is no: a check found faults, or `lkm data sample` no scans
2   an error that the user can mend, or a command that is spelt wrongly; the message says what to do
130 stopped with Ctrl-C; the message says whether the same command goes on from there
143 ended by SIGTERM or SIGHUP, as by a job's time limit, `kill` or a terminal that is closed; the same message
==  =====================================================================================================
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.core import TyperGroup

from lkm_kit.commands import (
    bench,
    card,
    course,
    data,
    doctor,
    erf,
    evaluate,
    figures,
    nnunet,
    predict,
    reach,
    study,
    sweep,
    train,
)
from lkm_kit.errors import KitError, KitWarning, Terminated, ending_as_ctrl_c
from lkm_kit.files import NO_ROOM

RESUMING = ("data", "train", "study", "reach", "figures", "nnunet")
"""Commands that go on where they were stopped, or skip what is done."""


class Commands(TyperGroup):
    """The commands; stopped with Ctrl-C, SIGTERM or SIGHUP, they say what the same command will do."""

    def invoke(self, ctx):
        for stream in (sys.stdout, sys.stderr):
            if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
                reconfigure(errors="replace")  # a terminal without ± or − must not lose a report
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            resumes = ctx.invoked_subcommand in RESUMING
            again = "goes on from here" if resumes else "starts anew; nothing half-written is left"
            print(f"\nstopped{stop}; the same command {again}", file=sys.stderr)
            raise typer.Exit(143 if isinstance(stop, Terminated) else 130) from None
        except EOFError as error:  # typer would say "Aborted!", and neither what nor where
            raise RuntimeError("a file ended before it was read") from error


app = typer.Typer(
    cls=Commands,
    help="LKM-UNet to learn, reproduce and question. Sizes come from LKM_PROFILE (smoke, laptop, gpu, paper).",
    epilog="Your own scans:  lkm data check FOLDER  |  lkm train --data FOLDER  |  lkm evaluate --data FOLDER  |  "
    "lkm study table3 --data FOLDER --seeds 3.  First:  lkm doctor",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # help texts are plain: '.[nnunet]' would be taken for markup
    pretty_exceptions_enable=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(doctor.version())
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Version and commit.")
    ] = False,
) -> None:
    """What holds for all commands."""


app.command(epilog=doctor.EPILOG, short_help="What this machine has, which scan it uses, and why.")(doctor.doctor)
app.add_typer(data.app, name="data")
app.command(epilog=train.EPILOG, short_help="Train on the cohort or on your own data; resumes.")(train.train)
app.command(epilog=evaluate.EPILOG, short_help="Score a run, or segmentations, by case and label.")(evaluate.evaluate)
app.command(epilog=predict.EPILOG)(predict.predict)
app.command(epilog=card.EPILOG, short_help="Write the model card of a run or packaged network.")(card.card)
app.command(epilog=erf.EPILOG, short_help="Draw effective receptive fields, trained or not.")(erf.erf)
app.command(epilog=reach.EPILOG, short_help="How far a network can use a cue, by training it to.")(reach.reach)
app.command(epilog=figures.EPILOG, short_help="Rebuild the committed figures with captions.")(figures.figures)
study.app.command(epilog=sweep.EPILOG)(sweep.sweep)
app.add_typer(study.app, name="study", short_help="Train arms alike and compare: Tables 1 to 3, or yours.")
app.add_typer(nnunet.app, name="nnunet")
app.add_typer(bench.app, name="bench")
app.add_typer(course.app, name="course", short_help="Build chapters, site, slides, student copies.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ends the process with the statuses above, and without a traceback where the user can do something.

    Args:
        arguments: of the command line; default the process's own.
    """
    show = warnings.showwarning

    def show_note(message, category, *where, **more) -> None:
        if issubclass(category, KitWarning):
            print(f"note: {message}", file=sys.stderr)
        else:
            show(message, category, *where, **more)

    warnings.showwarning = show_note
    try:
        with ending_as_ctrl_c():
            app(args=arguments)
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:  # a folder without permission, a disk that went away
        if error.filename is None and error.errno not in NO_ROOM:
            raise
        what = "check that this file or folder can be read and written" if error.filename else "free space on the disk"
        print(f"error: {error}\n  -> {what}", file=sys.stderr)
    sys.exit(2)


def script(command: str, doc: str) -> None:
    """One of ``data_scripts``: the command, whose help is preceded by the script's docstring.

    Args:
        command: such as ``"data amos"``.
        doc: what a user of these data must know.
    """
    arguments = sys.argv[1:]
    if "--help" in arguments:
        print(doc, flush=True)
    main([*command.split(), *arguments])


if __name__ == "__main__":
    main()
