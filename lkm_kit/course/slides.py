"""A chapter as slides: ``lkm course slides 03``.

The chapters carry no marks for slides; their headings say where one begins. A title (``#``, ``##``) starts a slide, a
smaller heading (``###``: an exercise) a slide below it, and what follows stays on that slide.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lkm_kit.course.sources import chapters
from lkm_kit.errors import KitError
from lkm_kit.files import write_text

HEADING = re.compile(r"^(#{1,6}) ", re.MULTILINE)


def mark_slides(notebook: NotebookNode) -> NotebookNode:
    """Copy of ``notebook`` whose headings start slides, in the metadata that nbconvert and JupyterLab read.

    >>> from nbformat.v4 import new_markdown_cell, new_notebook
    >>> marked = mark_slides(new_notebook(cells=[new_markdown_cell(t) for t in ("# A", "text", "### B")]))
    >>> [cell.metadata.slideshow.slide_type for cell in marked.cells]
    ['slide', '-', 'subslide']
    """
    marked = copy.deepcopy(notebook)
    for cell in marked.cells:
        heading = HEADING.search(cell.source) if cell.cell_type == "markdown" else None
        kind = "-" if heading is None else "slide" if len(heading[1]) < 3 else "subslide"
        cell.metadata["slideshow"] = nbformat.from_dict({"slide_type": kind})
    return marked


def slides(notebook: NotebookNode, title: str) -> str:
    """The page with all slides; pictures are inside, reveal.js and MathJax come from the network when it is shown."""
    from nbconvert import SlidesExporter

    page, _ = SlidesExporter(reveal_scroll=True).from_notebook_node(
        mark_slides(notebook), resources={"metadata": {"name": title}}
    )
    return page


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
