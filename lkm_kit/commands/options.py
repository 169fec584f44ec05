"""Options that several commands share."""

from __future__ import annotations

import os
from typing import Annotated

import typer


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
