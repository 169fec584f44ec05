"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand


def _allow_phantoms(asked: bool) -> bool:
    if asked:
        os.environ["LKM_PHANTOMS"] = "1"  # the library and the processes it starts read it there
    return asked


Phantoms = Annotated[
    bool,
    typer.Option(
        "--phantoms",
        callback=_allow_phantoms,
        help="Where the sample scans cannot be fetched, take made-up phantoms (as LKM_PHANTOMS=1): worth no result.",
    ),
]


Threads = Annotated[
    int | None,
    typer.Option(help="CPU threads of a run; default all its processors. Another number changes the last digits."),
]


def _raw_folder(given: Path | None) -> Path:
    from lkm_kit.data import raw_folder
    from lkm_kit.files import require_writable

    return require_writable(raw_folder(given), folder=True)


RawFolder = Annotated[
    Path | None,
    typer.Option(callback=_raw_folder, help="The nnUNet_raw folder; default $nnUNet_raw, else LKM_DATA's."),
]


def whole_numbers(text: str, least: int = 0) -> tuple[int, ...]:
    """``"96,96"`` as numbers, none below ``least``."""
    from lkm_kit.errors import KitError

    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < least:
        raise KitError(f"{text!r} is no list of whole numbers from {least} on", remedy="write 96,96")
    return numbers


class ManyValues(TyperCommand):
    """A command whose repeatable options also take all their values at once: ``--leave-out amos_0508 amos_0540``."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        many = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        spread: list[str] = []
        option, values = "", 0
        for word in args:
            if word.startswith("-"):
                option, values = word, 0
            else:
                values += 1
                spread += [option] * (option in many and values > 1)
            spread.append(word)
        return super().parse_args(ctx, spread)
