"""A chapter's source (py:percent) as a notebook, and its student copy with the solutions taken out."""

from __future__ import annotations

import base64
import copy
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lkm_kit.course.outputs import lighter
from lkm_kit.course.setup_cell import PLACE, add_setup
from lkm_kit.errors import KitError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "...  # YOUR CODE HERE"
PICTURE = re.compile(r"(!\[[^\]]*\])\(\.\./figures/([\w-]+\.png)\)")
"""A picture of figures/ in a markdown cell. It goes into the cell, so that every copy of the notebook has it."""
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def chapters(root: Path, names: Sequence[str] = ()) -> list[Path]:
    """Sources under ``root/notebooks/src`` in order; ``names`` picks some by the start of their name ("06").

    Raises:
        KitError: no sources there, or a name that fits none.
    """
    every = sorted((root / "notebooks" / "src").glob("[0-9][0-9]_*.py"))
    if not every:
        raise KitError(
            f"there are no chapters in {root / 'notebooks' / 'src'}", remedy="call this in the folder of the repository"
        )
    for name in names:
        if not any(path.stem.startswith(name) for path in every):
            raise KitError(
                f"no chapter is called {name!r}", remedy=f"choose among {', '.join(path.stem for path in every)}"
            )
    return [path for path in every if not names or path.stem.startswith(tuple(names))]


def read_source(path: Path) -> NotebookNode:
    """The notebook that ``path`` describes, without outputs, with the cell that installs the kit where it is missing.

    Cell ids follow from the cells' text, so that inserting a cell leaves the others' ids alone.

    Raises:
        KitError: a cell shows a picture that figures/ does not hold.
    """
    import jupytext

    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags"})
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        if cell.cell_type == "markdown":
            _attach_pictures(cell, path)
    nbformat.validate(add_setup(notebook))
    return notebook


def _attach_pictures(cell: NotebookNode, chapter: Path) -> None:
    for name in dict.fromkeys(name for _, name in PICTURE.findall(cell.source)):
        picture = chapter.parents[2] / "figures" / name
        if not picture.is_file():
            what = f"{chapter.name} shows figures/{name}, which is not there"
            raise KitError(what, remedy=f"run: lkm figures {picture.stem}")
        data = base64.b64encode(picture.read_bytes()).decode()
        cell.setdefault("attachments", nbformat.from_dict({}))[name] = nbformat.from_dict({"image/png": lighter(data)})
    cell.source = PICTURE.sub(r"\1(attachment:\2)", cell.source)


def source_lines(path: Path) -> list[int]:
    """Line of the source at which each cell starts, in the order of the notebook's cells; the first line for
    the cell that the source does not have."""
    lines = path.read_text(encoding="utf-8").splitlines()
    starts = [number for number, line in enumerate(lines, start=1) if re.match(r"# %%(?!%)", line)]
    return [*starts[:PLACE], *starts[:1], *starts[PLACE:]]


def student_copy(notebook: NotebookNode, name: str = "") -> NotebookNode:
    """The same chapter for a student: solutions replaced by a stub, no outputs, no execution counts.

    Raises:
        KitError: a solution's begin and end do not pair up.

    >>> cell = nbformat.v4.new_code_cell("def f(x):\\n    ### BEGIN SOLUTION\\n    return x\\n    ### END SOLUTION")
    >>> print(student_copy(nbformat.v4.new_notebook(cells=[cell])).cells[0].source)
    def f(x):
        ...  # YOUR CODE HERE
    """
    student = copy.deepcopy(notebook)
    for cell in student.cells:
        if cell.cell_type == "code":
            cell.source = _strip(cell.source, name)
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = re.sub(r"\]\((?=GLOSSARY\.md|\.\./)", "](../", cell.source)  # one folder further down
    return student


def _strip(source: str, name: str) -> str:
    kept: list[str] = []
    inside = False
    for line in source.splitlines():
        marker = line.strip()
        if marker not in (BEGIN, END):
            if not inside:
                kept.append(line)
            continue
        if inside == (marker == BEGIN):
            raise KitError(
                f"{name}: {marker!r} without its partner in the cell that starts with {source.splitlines()[0]!r}",
                remedy=f"pair every {BEGIN!r} with one {END!r} in the same cell",
            )
        inside = marker == BEGIN
        if inside:
            kept.append(line[: len(line) - len(line.lstrip())] + STUB)
    if inside:
        raise KitError(f"{name}: a solution is begun and not ended", remedy=f"add {END!r} to the cell")
    return "\n".join(kept)
