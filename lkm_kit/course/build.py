"""Build the notebooks from their sources: ``lkm course build``.

``notebooks/src/NN_name.py`` is the only file a person edits. From it come ``notebooks/NN_name.ipynb`` (with solutions
and outputs) and ``notebooks/student/NN_name.ipynb`` (solutions taken out, no outputs).
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from tqdm import tqdm

from lkm_kit.course.execute import execute
from lkm_kit.course.sources import chapters, read_source, source_lines, student_copy
from lkm_kit.devices import available_cpus
from lkm_kit.files import write_text
from lkm_kit.profiles import profile

AFTER = {"11": "08"}
"""Chapters that load what another one has trained, by number: they start when that one has ended."""
LONG = ("08", "16", "11", "12", "09", "10")
"""Chapters that take longest, by number, the longest first: of several at a time they start in this order."""


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


def run_chapter(source: Path, root: Path, folder: Path, *, ahead: bool = False) -> NotebookNode:
    """Execute one chapter in ``folder`` at the current profile and return it with its outputs.

    With ``ahead`` it is one of many, beside others: without a bar, in a kernel that has its imports done.
    """
    notebook = read_source(source)
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    bar = tqdm(total=total, desc=source.stem, unit="cell", disable=True if ahead else None)
    with bar:
        execute(
            notebook,
            folder,
            name=source.stem,
            lines=source_lines(source),
            source=source.relative_to(root).as_posix(),
            places={str(root): "<repository>", str(folder): "."},
            on_cell=bar.update,
            warm=ahead,
        )
    return notebook


@contextmanager
def _executed(
    todo: Sequence[Path], root: Path, folder: Path, jobs: int
) -> Iterator[Callable[[Path], tuple[NotebookNode, float]]]:
    """How to get a chapter executed, and its seconds: here and now, or from ``jobs`` processes that work ahead."""
    if jobs == 1:
        yield lambda source: _timed(source, root, folder)
        return
    threads = str(max(1, available_cpus() // jobs))  # of every kernel: together no more than there are cores
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, _set_threads, (threads,)) as pool:
        waiting = sorted(todo, key=_rank)
        running: dict[Path, Future] = {}

        def result(source: Path) -> tuple[NotebookNode, float]:
            while source not in running or not running[source].done():
                at_work = [begun for begun, future in running.items() if not future.done()]
                missing = {later.stem[:2] for later in (*waiting, *at_work)}
                ready = [later for later in waiting if AFTER.get(later.stem[:2]) not in missing]
                for later in ready[: jobs - len(at_work)]:  # not all at once: what waited for another comes before them
                    waiting.remove(later)
                    running[later] = pool.submit(_timed, later, root, folder, True)
                wait([future for future in running.values() if not future.done()], return_when=FIRST_COMPLETED)
            return running[source].result()

        try:
            yield result
        finally:
            pool.shutdown(cancel_futures=True)


def _rank(source: Path) -> int:
    number = source.stem[:2]
    return LONG.index(number) if number in LONG else len(LONG)


def _timed(source: Path, root: Path, folder: Path, ahead: bool = False) -> tuple[NotebookNode, float]:
    start = time.perf_counter()
    return run_chapter(source, root, folder, ahead=ahead), time.perf_counter() - start


def _set_threads(number: str) -> None:
    """What a process that runs chapters hands on to their kernels."""
    os.environ["OMP_NUM_THREADS"] = number


def build(
    root: Path, names: Sequence[str] = (), *, execute: bool = False, out: Path | None = None, jobs: int = 1
) -> list[Path]:
    """Write the chapters' notebooks; with ``out``, only the executed ones and only there.

    Args:
        root: folder of the checkout.
        names: chapters; default all.
        execute: run them.
        out: see above.
        jobs: chapters that run at a time. What they measure is right only with one.

    Returns:
        paths of the files that were written.

    Raises:
        KitError: a chapter's cell raised; the chapters before it are written, its own file is left as it was.
        KeyboardInterrupt: names the chapter that ran; the files are as after a cell that raised.
    """
    written, peaks, todo = [], [], chapters(root, names)
    folder = root / "notebooks" if out is None else out
    if execute and jobs > 1:
        print(f"{jobs} chapters at a time, in their order as they end; times that they measure are of a busy machine")
    with _executed(todo, root, folder, jobs if execute else 1) as executed:
        for number, source in enumerate(todo, start=1):
            path = folder / f"{source.stem}.ipynb"
            if execute:
                print(f"[{number}/{len(todo)}] {source.stem} (profile {profile().name})", flush=True)
                try:
                    notebook, seconds = executed(source)
                except KeyboardInterrupt as stop:
                    raise type(stop)(f" while {source.stem} ran") from None
                peaks.append(notebook.metadata["lkm"].pop("peak_gb"))
                what = f"{len(notebook.cells)} cells, {seconds:.0f} s, {peaks[-1]} GB of memory at most"
            else:
                notebook = keep_outputs(read_source(source), path)
                what = f"{len(notebook.cells)} cells"
            write_text(path, to_text(notebook))
            written.append(path)
            if out is None:
                student = folder / "student" / path.name
                write_text(student, to_text(student_copy(read_source(source), source.stem)))
                written.append(student)
            print(f"    {path.name}: {what}", flush=True)
    if peaks:
        print(f"memory of the largest chapter: {max(peaks)} GB (its kernel, without worker processes)")
    return written
