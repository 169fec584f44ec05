"""Chapters as nbgrader assignments: ``lkm course assignment 03``.

Writes a course folder: ``source/NN_name`` with one point for each check, and, by nbgrader (extra ``course``),
``release/NN_name`` to hand out. ``nbgrader autograde NN_name`` in that folder then grades what lies in ``submitted``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lkm_kit.course.build import to_text
from lkm_kit.course.execute import PATIENCE_S
from lkm_kit.course.sources import BEGIN, STUB, chapters, read_source
from lkm_kit.errors import KitError, needs
from lkm_kit.files import write_text

CONFIG = f"""c = get_config()
c.ClearSolutions.code_stub = {{"python": {STUB!r}}}
# a training takes minutes; after 30 s, its own limit, nbgrader would interrupt the cell and grade what is there
c.ExecutePreprocessor.timeout = {PATIENCE_S["laptop"]}
"""


def graded(notebook: NotebookNode) -> NotebookNode:
    """Mark a chapter's exercises for nbgrader, in place: a solution cell, and its check, locked, worth one point."""
    number, wanted = 0, False
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        lines = cell.source.splitlines()
        if BEGIN in cell.source:
            number, wanted = number + 1, True
            _mark(cell, f"answer-{number}", solution=True)
        elif wanted and lines and lines[-1].startswith("check_"):
            wanted = False
            lines[-1:] = [f"grade = {lines[-1]}", "print(grade.message)", "assert grade"]
            cell.source = "\n".join(lines)
            _mark(cell, f"check-{number}", solution=False)
    return notebook


def _mark(cell: NotebookNode, name: str, *, solution: bool) -> None:
    marks = {"grade_id": name, "grade": not solution, "solution": solution, "locked": not solution, "task": False}
    if not solution:
        marks["points"] = 1
    cell.metadata["nbgrader"] = nbformat.from_dict({**marks, "schema_version": 3})


def nbgrader(course: Path, *arguments: str) -> None:
    """Run nbgrader of this very Python in the folder ``course``.

    Raises:
        KitError: nbgrader is not installed, or it failed.
    """
    needs("an assignment needs", "nbgrader", extra="course")
    # nbgrader calls alembic by its bare name, also where the environment was not activated
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "nbgrader", *arguments, f"--CourseDirectory.root={course}"]
    done = subprocess.run(command, cwd=course, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise KitError(f"nbgrader {arguments[0]} failed:\n{done.stderr[-3000:]}", remedy="see its message above")


def write_assignments(root: Path, course: Path, names: Sequence[str] = ()) -> list[Path]:
    """Write source and release version of the chapters into ``course``; returns the released notebooks."""
    course.mkdir(parents=True, exist_ok=True)
    write_text(course / "nbgrader_config.py", CONFIG)
    released = []
    for source in chapters(root, names):
        write_text(course / "source" / source.stem / f"{source.stem}.ipynb", to_text(graded(read_source(source))))
        nbgrader(course, "generate_assignment", source.stem, "--create", "--force")
        released.append(course / "release" / source.stem / f"{source.stem}.ipynb")
    return released
