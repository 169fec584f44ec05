"""A chapter on one page to print: its goals, symbols, formulas and pictures (``make site``)."""

from __future__ import annotations

import re

from nbformat import NotebookNode

PICTURES = 4
"""On a page: more would not leave the symbols and formulas room."""
FORMULA = re.compile(r"\$\$.+?\$\$", re.DOTALL)
DRAWING = re.compile(r"!\[[^\]]*\]\([^)]+\)")
TABLE = re.compile(r"^\|.*(?:\n\|.*)+", re.MULTILINE)


def handout(notebook: NotebookNode, outputs: dict[str, str]) -> str:
    """The page as Markdown.

    Args:
        notebook: of the chapter.
        outputs: pictures that stand for chapters without drawings: id of a code cell -> link to the picture.

    >>> from nbformat.v4 import new_markdown_cell, new_notebook
    >>> texts = ("# 01 · A\\n\\n**Goals.** You can\\n* count", "## 1. Sums\\n\\nNow $$1 + 1 = 2 .$$")
    >>> print(handout(new_notebook(cells=[new_markdown_cell(text) for text in texts]), {}))
    # 01 · A
    <BLANKLINE>
    **Goals.** You can
    * count
    <BLANKLINE>
    ## Formulas
    <BLANKLINE>
    *1. Sums*
    <BLANKLINE>
    $$1 + 1 = 2 .$$
    """
    top = notebook.cells[0].source
    parts = [top.splitlines()[0], goals(top)]
    if (table := TABLE.search(top)) and table[0].startswith(("| symbol", "| word")):
        parts.append(table[0])
    section, formulas, drawings, drawn = "", [], [], []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for line in re.split(r"^(?=#+ )", cell.source, flags=re.MULTILINE):
                heading = re.match(r"##+ (.+)", line)
                section = heading[1] if heading else section
                formulas += [f"*{section}*\n\n{formula}" for formula in FORMULA.findall(line)]
                drawings += DRAWING.findall(line)
        elif cell.get("id") in outputs:
            drawn.append(f"![{section}]({outputs[cell.id]})")
    if formulas:
        parts += ["## Formulas", *formulas]
    if pictures := [*drawings, *drawn][:PICTURES]:
        parts += ["## Pictures", *pictures]
    return "\n\n".join(part for part in parts if part)


def goals(top: str) -> str:
    """The list of goals in a chapter's first cell, with the line above it."""
    found = re.search(r"\*\*Goals\.\*\*.*?(?=\n\n(?!\s*\*)|\Z)", top, re.DOTALL)
    return found[0].strip() if found else ""
