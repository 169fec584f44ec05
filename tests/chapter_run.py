"""A chapter and its student copy, executed one after the other in one kernel.

Up to the first exercise both are the same cells. From there on the copy runs with the names that the chapter had there:
what the solutions made is gone, and nothing before them is computed a second time.
"""

import re

from nbformat.v4 import new_code_cell

from lkm_kit.course.execute import execute
from lkm_kit.course.sources import BEGIN, read_source, source_lines, student_copy

CHECK = re.compile(r"(course\.)?check_\w+\(")
KEEP = "_before_exercises = dict(globals())\n"
BACK = """for _name in [name for name in globals() if name[0] != "_" and name not in _before_exercises]:
    del globals()[_name]
globals().update({name: value for name, value in _before_exercises.items() if name[0] != "_"})
"""


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def chapter_and_student_cells(source):
    """The chapter, which keeps its names where the exercises begin, and the student's code cells from there on."""
    chapter = read_source(source)
    cells, student = code_cells(chapter), code_cells(student_copy(chapter, source.stem))
    first = next(i for i, cell in enumerate(cells) if BEGIN in cell.source)
    assert [cell.source for cell in cells[:first]] == [cell.source for cell in student[:first]]
    cells[first].source = KEEP + cells[first].source
    student[first].source = BACK + student[first].source
    for cell in student:
        cell.id = f"student-{cell.id}"  # ids are unique in a notebook
    return chapter, student[first:]


def run_both(source, folder, *more):
    """Execute both in a fresh kernel, and code in ``more`` behind them; the printed solutions solve the exercises.

    Returns what the last cell printed.
    """
    notebook, student = chapter_and_student_cells(source)
    chapter = code_cells(notebook)
    notebook.cells += [*student, *map(new_code_cell, more)]
    execute(notebook, folder, name=source.stem, lines=source_lines(source), source=source.name)
    assert all(cell.execution_count for cell in code_cells(notebook))
    said = ["\n".join(map(output_text, cell.outputs)) for cell in code_cells(notebook)]
    assert_solved(chapter, said[: len(chapter)])
    assert_unsolved(student, said[len(chapter) : len(chapter) + len(student)])
    return said[-1]


def output_text(output):
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join(output.traceback)
    return output.data.get("text/plain", "") if "image/png" not in output.data else ""


def assert_solved(cells, said):
    """The printed solutions solve the exercises; ``said`` is what each cell printed."""
    checks = _checks(cells, said)
    assert checks
    for source, text in checks:
        assert text.startswith("✓"), f"{source}\n{text}"


def assert_unsolved(cells, said):
    """An empty exercise is never taken for a solution."""
    checks = _checks(cells, said)
    assert checks
    for source, text in checks:
        assert text and not text.startswith("✓"), f"{source}\n{text}"


def _checks(cells, said):
    return [
        (cell.source, text) for cell, text in zip(cells, said, strict=True) if CHECK.match(cell.source.splitlines()[-1])
    ]


def run_in(connection_file, cells, timeout=240):
    """Execute code cells in a kernel that runs already; what each printed. A cell that raises is an error here."""
    from jupyter_client import BlockingKernelClient

    client = BlockingKernelClient(connection_file=str(connection_file))
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        return [_run(client, cell.source, timeout) for cell in cells]
    finally:
        client.stop_channels()


def _run(client, code, timeout):
    printed = []

    def hear(message):
        printed.append(message["content"].get("text", "") if message["msg_type"] == "stream" else "")

    reply = client.execute_interactive(code, timeout=timeout, allow_stdin=False, output_hook=hear)["content"]
    assert reply["status"] == "ok", f"{code}\n" + "\n".join(reply.get("traceback", []))
    return "".join(printed)
