"""Build the notebooks from their sources: ``python -m lkm_kit.course.build [--execute] [--check] [--out DIR] [names]``.

``notebooks/src/NN_name.py`` is the only file a person edits. From it come ``notebooks/NN_name.ipynb`` (with solutions
and outputs) and ``notebooks/student/NN_name.ipynb`` (solutions taken out, no outputs). Without ``--execute`` a cell
keeps the outputs it had, as long as its text is the same.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from tqdm import tqdm

from lkm_kit.course.execute import execute
from lkm_kit.course.sources import chapters, read_source, source_lines, student_copy
from lkm_kit.errors import KitError
from lkm_kit.files import write_text
from lkm_kit.profiles import profile


def repository_root() -> Path:
    """Folder of the checkout: the working folder if it has chapters, else the one this package lies in."""
    here = Path.cwd()
    return here if (here / "notebooks" / "src").is_dir() else Path(__file__).resolve().parents[2]


def keep_outputs(notebook: NotebookNode, previous: Path) -> NotebookNode:
    """Give each code cell the outputs that the same text had in ``previous``, if that file exists."""
    if previous.is_file():
        old = nbformat.read(previous, as_version=4)
        done = {cell.id: cell for cell in old.cells if cell.cell_type == "code"}
        for cell in notebook.cells:
            if cell.cell_type == "code" and cell.id in done:
                cell.outputs, cell.execution_count = done[cell.id].outputs, done[cell.id].execution_count
        if "lkm" in old.metadata:
            notebook.metadata["lkm"] = old.metadata["lkm"]
    return notebook


def to_text(notebook: NotebookNode) -> str:
    """The file's content, the same bytes for the same notebook."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def out_of_step(root: Path, names: Sequence[str] = ()) -> list[str]:
    """What a build would change, one line each; empty when every notebook is in step with its source."""
    problems = []
    for source in chapters(root, names):
        plain = read_source(source)
        student = to_text(student_copy(plain, source.stem))
        main = root / "notebooks" / f"{source.stem}.ipynb"
        for path, text in (
            (main, to_text(keep_outputs(plain, main))),
            (root / "notebooks" / "student" / main.name, student),
        ):
            if not path.is_file():
                problems.append(f"{path.relative_to(root).as_posix()} is missing")
            elif path.read_text(encoding="utf-8") != text:
                problems.append(
                    f"{path.relative_to(root).as_posix()} differs from {source.relative_to(root).as_posix()}"
                )
    if not names:
        wanted = {source.stem for source in chapters(root)}
        for path in sorted((root / "notebooks").glob("**/*.ipynb")):
            if path.stem not in wanted and ".ipynb_checkpoints" not in path.parts:
                problems.append(f"{path.relative_to(root).as_posix()} has no source")
    return problems


def run_chapter(source: Path, root: Path, folder: Path, *, student: bool = False, quiet: bool = False) -> NotebookNode:
    """Execute one chapter (or its student copy) in ``folder`` at the current profile and return it with its outputs."""
    notebook = read_source(source)
    if student:
        notebook = student_copy(notebook, source.stem)
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    bar = tqdm(total=total, desc=source.stem, unit="cell", disable=True if quiet else None)
    with bar:
        execute(
            notebook,
            folder,
            name=source.stem,
            lines=source_lines(source),
            source=source.relative_to(root).as_posix(),
            places={str(root): "<repository>", str(folder): "."},
            on_cell=bar.update,
        )
    notebook.metadata["lkm"] = {"profile": profile().name}
    return notebook


def build(root: Path, names: Sequence[str] = (), *, execute: bool = False, out: Path | None = None) -> list[Path]:
    """Write the chapters' notebooks; with ``out``, only the executed ones and only there.

    Returns:
        paths of the files that were written.

    Raises:
        KitError: a chapter's cell raised; the chapters before it are written, its own file is left as it was.
    """
    written = []
    for number, source in enumerate(todo := chapters(root, names), start=1):
        folder = root / "notebooks" if out is None else out
        path = folder / f"{source.stem}.ipynb"
        start = time.perf_counter()
        if execute:
            print(f"[{number}/{len(todo)}] {source.stem} (profile {profile().name})", flush=True)
            notebook = run_chapter(source, root, folder)
        else:
            notebook = keep_outputs(read_source(source), path)
        write_text(path, to_text(notebook))
        written.append(path)
        if out is None:
            student = folder / "student" / path.name
            write_text(student, to_text(student_copy(read_source(source), source.stem)))
            written.append(student)
        print(f"    {path.name}: {len(notebook.cells)} cells, {time.perf_counter() - start:.0f} s", flush=True)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m lkm_kit.course.build``; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lkm_kit.course.build", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="chapters, by the start of their name (06, 06_lkm_unet); default all")
    parser.add_argument("--execute", action="store_true", help="run the chapters and keep their outputs")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a notebook is not in step")
    parser.add_argument("--out", type=Path, help="write executed chapters there and leave the committed ones alone")
    options = parser.parse_args(arguments)
    root = repository_root()
    try:
        if options.check:
            problems = out_of_step(root, options.names)
            print("\n".join([*problems, "run: make notebooks"]) if problems else "all notebooks are in step")
            return 1 if problems else 0
        out = options.out.resolve() if options.out else None
        build(root, options.names, execute=options.execute or out is not None, out=out)
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
