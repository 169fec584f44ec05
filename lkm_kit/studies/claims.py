"""Every claim about the paper or its code that the kit's texts rest on: where it stands, what shows it, what came out.

The table is a page, ``docs/claims.md``; chapter 13 prints it. *Paper* is arXiv 2403.07332, *code* the repository
wjh892521292/LKM-UNet at 6615775 (26 June 2024), file LKMUNet.py unless another one is named.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_CHECKOUT = Path(__file__).resolve().parents[2] / "docs"
PAGE = (_CHECKOUT if _CHECKOUT.is_dir() else Path(__file__).with_name("results")) / "claims.md"
"""Of a checkout; setup.py puts it into the wheel."""


def claims() -> pd.DataFrame:
    """The table, indexed by the claim; a command is for the kit's folder, or names a chapter and its section.

    >>> claims().columns.tolist()
    ['source', 'command', 'verdict']
    """
    import pandas as pd

    rows = [line[2:-2].split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    table = pd.DataFrame(rows[1:], columns=["claim", "source", "command", "verdict"])
    table["command"] = table["command"].map(lambda text: re.sub(r"\[.*?\]\(\.\./(.*?)\)", r"\1", text).strip("`"))
    return table.set_index("claim")
