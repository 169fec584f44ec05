"""Options that several commands share."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable
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
    typer.Option(
        help="CPU threads of a run; default chosen: `train` measures, `study` takes one a run. Another number changes "
        "the last digits."
    ),
]


def _raw_folder(given: Path | None) -> Path:
    from lkm_kit.data import raw_folder
    from lkm_kit.files import require_writable

    return require_writable(raw_folder(given), folder=True)


RawFolder = Annotated[
    Path | None,
    typer.Option(callback=_raw_folder, help="The nnUNet_raw folder; default $nnUNet_raw, else LKM_DATA's."),
]


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses of options: every field of one is an option of the command.

    >>> @dataclasses.dataclass
    ... class Place:
    ...     root: str = "runs"
    >>> @grouped
    ... def show(place: Place, name: str = "a"):
    ...     print(place.root, name)
    >>> list(inspect.signature(show).parameters), show(root="there", name="b")
    there b
    (['root', 'name'], None)
    """
    groups: dict[str, tuple[type, list[str]]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if dataclasses.is_dataclass(kind := parameter.annotation):
            fields = inspect.signature(kind, eval_str=True).parameters
            groups[name] = (kind, list(fields))
            parameters += fields.values()
        else:
            parameters.append(parameter)
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]

    @functools.wraps(function)
    def command(**given):
        for name, (kind, fields) in groups.items():
            given[name] = kind(**{field: given.pop(field) for field in fields})
        return function(**given)

    del command.__wrapped__  # typer is to see the fields
    command.__signature__ = inspect.Signature(parameters)
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


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
