"""What a figure function returns: the picture, its caption, and the numbers that it draws."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure


class Built(NamedTuple):
    """What a figure function returns.

    Args:
        figure: the picture.
        text: its caption, one or two sentences.
        config: what was run, as plain values.
        profile, seed: None for a figure that depends on neither.
        source: where the data came from and who labelled them; empty for a figure without data.
        tables: name -> the numbers behind the picture, written as CSV.
    """

    figure: Figure
    text: str
    config: dict[str, Any]
    profile: str | None = None
    seed: int | None = None
    source: str = ""
    tables: dict[str, pd.DataFrame] = {}  # noqa: RUF012  never changed
