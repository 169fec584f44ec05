"""The chapters: in step with their sources, within the course's rules, and running from start to end at smoke."""

import json
import re
import statistics
from pathlib import Path

import nbformat
import pytest
from chapter_run import chapter_and_student_cells, code_cells, output_text, run_both
from combinations import first
from conftest import executes_a_chapter
from machine_paths import machine_paths

from lkm_kit.course.build import out_of_step
from lkm_kit.course.setup_cell import SETUP
from lkm_kit.course.sources import BEGIN, END, STUB, chapters, read_source

ROOT = Path(__file__).resolve().parents[1]
SOURCES = chapters(ROOT) if list((ROOT / "notebooks" / "src").glob("[0-9][0-9]_*.py")) else []
every_chapter = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def built(source, *parts):
    return nbformat.read(ROOT.joinpath("notebooks", *parts, f"{source.stem}.ipynb"), as_version=4)


def test_there_are_chapters():
    assert [source.stem for source in SOURCES][:1] == ["00_start_here"]


def test_every_notebook_is_in_step_with_its_source():
    assert out_of_step(ROOT) == [], "run: make notebooks"


@every_chapter
def test_the_committed_notebook_was_run_from_start_to_end(source):
    notebook = built(source)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run: make notebooks"
    assert notebook.metadata["lkm"]["profile"] == "laptop"
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error", output.evalue
            if output.output_type == "stream":
                assert output.name == "stdout", f"a warning in the page of a chapter:\n{output.text}"


@every_chapter
def test_outputs_are_short_and_name_nobody_s_folders(source):
    path = ROOT / "notebooks" / f"{source.stem}.ipynb"
    assert path.stat().st_size <= 1_000_000
    notebook = built(source)
    for cell in code_cells(notebook):
        lines = sum(len(output_text(output).splitlines()) for output in cell.outputs)
        assert lines <= 60, f"{lines} lines of output under:\n{cell.source}"
        for output in cell.outputs:
            text = json.dumps({k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")})
            assert machine_paths(output_text(output) + text) == []
    assert machine_paths("\n".join(cell.source for cell in notebook.cells)) == []


@every_chapter
def test_cells_are_of_the_length_the_course_promises(source):
    cells = [cell for cell in code_cells(read_source(source)) if cell.source != SETUP]
    lengths = [len(cell.source.splitlines()) for cell in cells]
    assert 15 <= len(cells) <= 40, f"{len(cells)} code cells"
    assert statistics.median(lengths) <= 10
    assert max(lengths) <= 40, cells[lengths.index(max(lengths))].source


@every_chapter
def test_code_is_as_wide_as_a_page_shows(source):
    code = "\n".join(cell.source for cell in code_cells(read_source(source)))
    assert [line for line in code.splitlines() if len(line) > 88] == []


@every_chapter
def test_the_source_has_goals_minutes_exercises_and_no_magics(source):
    notebook = read_source(source)
    top = "\n".join(cell.source for cell in notebook.cells[:2])
    assert re.search(r"goals|you will", top, re.IGNORECASE) and re.search(r"\d+ min", top), "goals and minutes on top"
    assert not any(re.match(r"\s*[%!]", line) for cell in code_cells(notebook) for line in cell.source.splitlines())
    text = source.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) >= 1
    followers = [
        notebook.cells[i + 1 : i + 4] for i, cell in enumerate(notebook.cells) if BEGIN in cell.source
    ]  # the check stands right below, at most a sentence or two in between
    assert all(any("check_" in cell.source for cell in below) for below in followers)


@every_chapter
def test_student_copy_holds_no_solution_and_no_output(source):
    notebook, student = read_source(source), built(source, "student")
    text = "\n".join(cell.source for cell in student.cells)
    assert BEGIN not in text and END not in text
    assert text.count(STUB) == sum(cell.source.count(BEGIN) for cell in notebook.cells)
    for cell in code_cells(student):
        assert cell.outputs == [] and cell.execution_count is None
    for cell in code_cells(notebook):
        for solution in re.findall(rf"{BEGIN}\n(.*?){END}", cell.source, re.DOTALL):
            long = [line.strip() for line in solution.splitlines() if len(line.strip()) > 12]
            same = next(
                c for c in student.cells if STUB in c.source and c.source.split("\n")[0] == cell.source.split("\n")[0]
            )
            assert not any(line in same.source for line in long)


@pytest.fixture
def smoke(monkeypatch, tmp_path):
    monkeypatch.setenv("LKM_PROFILE", "smoke")
    monkeypatch.setenv("LKM_FIGURES", str(tmp_path / "figures"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    return tmp_path / "notebooks"


@pytest.mark.notebook
@pytest.mark.timeout(600)
@pytest.mark.parametrize("source", first(SOURCES), ids=lambda path: path.stem)
def test_chapter_and_its_student_copy_run(source, smoke):
    """But for chapters that another chosen test executes elsewhere: see conftest.py."""
    run_both(source, smoke)


def test_no_chapter_is_executed_twice(request):
    executed = [item.callspec.id for item in request.session.items if executes_a_chapter(item)]
    assert len(executed) == len({*executed})


EXERCISES = """# %% [markdown]
# # Title
# %%
x = 1
# %%
def f():
    ### BEGIN SOLUTION
    return x
    ### END SOLUTION
helper = f()
# %%
check_it(f)
# %%
x, later = 2, 3
"""


def test_a_student_copy_sees_nothing_of_the_solutions(tmp_path):
    (tmp_path / "00_x.py").write_text(EXERCISES, encoding="utf-8")
    chapter, student = chapter_and_student_cells(tmp_path / "00_x.py")
    names, seen = {}, []
    names["check_it"] = lambda f: seen.append((f(), sorted(names.keys() & {"x", "helper", "later"})))
    for cell in [*code_cells(chapter)[1:], *student]:  # without the one that installs the kit
        exec(cell.source, names)
    assert seen == [(1, ["helper", "x"]), (None, ["helper", "x"])] and names["helper"] is None and names["x"] == 2
    assert [cell.source.splitlines()[-1] for cell in student] == ["helper = f()", "check_it(f)", "x, later = 2, 3"]
