"""A chapter as slides: ``lkm course slides 03``.

Across go the pictures: a slide for each section with its drawings and formulas, or the first picture that its code
draws, or its first paragraph. Below each slide lies the section itself, text and code, for whoever asks. The chapters
carry no marks for slides: their headings say where a section begins.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lkm_kit.course.handout import DRAWING, FORMULA, goals
from lkm_kit.course.setup_cell import SETUP
from lkm_kit.course.sources import chapters
from lkm_kit.errors import KitError
from lkm_kit.files import write_text

HEADING = re.compile(r"^(#{1,2}) .+", re.MULTILINE)
STYLE = """<style>
.reveal .jp-RenderedHTMLCommon { font-size: 24px; }
.reveal .jp-RenderedHTMLCommon h1 { font-size: 1.9em; }
.reveal .jp-InputPrompt, .reveal .jp-OutputPrompt { display: none; }
.reveal section img { max-height: 68vh; width: auto; margin: auto; display: block; }
.reveal section .jp-RenderedMarkdown img { max-height: 54vh; }
.reveal .jp-RenderedHTMLCommon h2 { text-align: center; }
</style>"""


def deck(notebook: NotebookNode) -> NotebookNode:
    """A notebook whose cells are marked as slides, in the metadata that nbconvert and JupyterLab read.

    >>> from nbformat.v4 import new_markdown_cell, new_notebook
    >>> texts = ("# A", "## 1. B\\n\\nWhy.\\n\\n$$x^2$$")
    >>> made = deck(new_notebook(cells=[new_markdown_cell(text) for text in texts]))
    >>> [(cell.metadata.slideshow.slide_type, cell.source) for cell in made.cells][2:]
    [('slide', '## 1. B\\n\\n$$x^2$$'), ('subslide', '## 1. B\\n\\nWhy.\\n\\n$$x^2$$')]
    """
    made = nbformat.v4.new_notebook(metadata=copy.deepcopy(notebook.metadata))
    for number, section in enumerate(sections(notebook)):
        top = _top(section, with_goals=number == 0)
        made.cells += [_marked(cell, "-" if i else "slide") for i, cell in enumerate(top)]
        made.cells += [_marked(cell, "subslide" if cell.cell_type == "markdown" else "-") for cell in section]
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"  # pieces of one cell would share its id
    return made


def sections(notebook: NotebookNode) -> list[list[NotebookNode]]:
    """The notebook's cells by section; markdown cells are cut at their headings, the setup cell is left out."""
    found: list[list[NotebookNode]] = [[]]
    for cell in notebook.cells:
        if cell.source == SETUP:
            continue
        starts = [match.start() for match in HEADING.finditer(cell.source)] if cell.cell_type == "markdown" else []
        for begin, end in zip(sorted({0, *starts}), [*(start for start in starts if start), len(cell.source)]):
            piece = copy.deepcopy(cell)
            piece.source = cell.source[begin:end].strip()
            if begin in starts and found[-1]:
                found.append([])
            if piece.source:
                found[-1].append(piece)
    return found


def _top(section: list[NotebookNode], with_goals: bool) -> list[NotebookNode]:
    """What the room sees of a section: heading, then goals, drawings and formulas, else its first drawn picture."""
    first = section[0]
    heading = HEADING.search(first.source) if first.cell_type == "markdown" else None
    parts, attachments = [heading[0] if heading else ""], {}
    if with_goals:
        parts.append(goals(first.source))
    for cell in section:
        if cell.cell_type == "markdown":
            parts += re.findall(f"{DRAWING.pattern}|{FORMULA.pattern}", cell.source, re.DOTALL)
            attachments |= cell.get("attachments", {})
    cell = nbformat.v4.new_markdown_cell("\n\n".join(filter(None, parts)))
    if attachments:
        cell.attachments = copy.deepcopy(attachments)
    drawn = [] if len(parts) > 1 else _drawn(section)
    if len(parts) == 1 and not drawn:
        cell.source = "\n\n".join(first.source.split("\n\n")[:2])  # nothing to see: what the section begins with
    return [cell, *drawn]


def _drawn(section: list[NotebookNode]) -> list[NotebookNode]:
    for cell in section:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                return [nbformat.v4.new_code_cell("", outputs=[copy.deepcopy(output)])]
    return []


def _marked(cell: NotebookNode, kind: str) -> NotebookNode:
    cell.metadata = nbformat.from_dict({**cell.metadata, "slideshow": {"slide_type": kind}})
    return cell


def slides(notebook: NotebookNode, title: str) -> str:
    """The page with all slides; pictures are inside, reveal.js and MathJax come from the network when it is shown."""
    from nbconvert import SlidesExporter

    page, _ = SlidesExporter(reveal_scroll=True, reveal_width="1280", reveal_height="720").from_notebook_node(
        deck(notebook), resources={"metadata": {"name": title}}
    )
    return page.replace("</head>", f"{STYLE}\n</head>", 1)


def write_slides(root: Path, out: Path, names: Sequence[str] = ()) -> list[Path]:
    """Write ``NN_name.slides.html`` of the committed notebooks into ``out``.

    Returns:
        paths of the files that were written.

    Raises:
        KitError: no such chapter, or it was not built yet.
    """
    written = []
    for source in chapters(root, names):
        notebook = root / "notebooks" / f"{source.stem}.ipynb"
        if not notebook.is_file():
            raise KitError(f"{notebook.name} was not built yet", remedy=f"run: make notebooks CHAPTERS={source.stem}")
        path = out / f"{source.stem}.slides.html"
        write_text(path, slides(nbformat.read(notebook, as_version=4), source.stem))
        written.append(path)
    return written
