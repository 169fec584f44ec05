"""Every claim has its row, and what a row names is there."""

import ast
from pathlib import Path

import pytest
import typer.main

from lkm_kit.cli import app
from lkm_kit.studies.claims import CLAIMS, page

ROOT = Path(__file__).parents[1]


def test_the_page_is_the_table():
    written = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert written == page(), "write page() of lkm_kit.studies.claims to docs/claims.md"


@pytest.mark.parametrize("row", CLAIMS, ids=lambda row: row.claim[:40])
def test_what_a_row_names_is_there(row):
    assert all(cell.strip() for cell in row) and "|" not in "".join(row)
    program, _, rest = row.command.partition(" ")
    if program == "pytest":
        path, _, test = rest.partition("::")
        functions = {node.name for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body
                     if isinstance(node, ast.FunctionDef)}  # fmt: skip
        assert not test or test in functions
    elif program == "lkm":
        from lkm_kit.figures import FIGURES

        name, *arguments = rest.split()
        assert name in typer.main.get_command(app).commands
        assert name != "figures" or set(arguments) <= set(FIGURES)
    else:
        path, _, section = row.command.partition(", section ")
        text = (ROOT / "notebooks" / "src" / Path(path).with_suffix(".py").name).read_text(encoding="utf-8")
        assert f"\n# ## {section}. " in text, f"{path} has no section {section}"
