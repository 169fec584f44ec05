"""Chapters as nbgrader assignments: every exercise earns a point; a solved copy gets all of them, an empty one none."""

import importlib.util
import shutil
import sqlite3
from pathlib import Path

import pytest

from lkm_kit import errors
from lkm_kit.course import assignment
from lkm_kit.course.sources import BEGIN, STUB, chapters, read_source
from lkm_kit.errors import KitError

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = """# %% [markdown]
# # A chapter

# %%
from lkm_kit.course.check import check_value

# %%
three = ...
### BEGIN SOLUTION
three = 1 + 2
### END SOLUTION

# %%
check_value(three, 3, name="three")
"""


@pytest.mark.parametrize("source", chapters(ROOT), ids=lambda path: path.stem)
def test_every_exercise_has_a_point(source):
    plain = read_source(source)
    marks = [c.metadata.nbgrader for c in assignment.graded(read_source(source)).cells if "nbgrader" in c.metadata]
    exercises = sum(BEGIN in cell.source for cell in plain.cells)
    assert sum(mark.get("points", 0) for mark in marks) == exercises >= 1
    assert len({mark.grade_id for mark in marks}) == len(marks) == 2 * exercises


def test_without_nbgrader_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(KitError, match="an assignment needs nbgrader, which is not installed"):
        assignment.nbgrader(tmp_path, "list")


@pytest.mark.skipif(importlib.util.find_spec("nbgrader") is None, reason="nbgrader is not installed")
def test_the_config_gives_a_training_its_time(tmp_path):
    from nbgrader.preprocessors import Execute
    from traitlets.config import PyFileConfigLoader

    (tmp_path / "nbgrader_config.py").write_text(assignment.CONFIG)
    config = PyFileConfigLoader("nbgrader_config.py", path=str(tmp_path)).load_config()
    assert Execute(config=config).timeout >= 1800 > Execute().timeout
    assert config.ClearSolutions.code_stub["python"] == STUB


@pytest.mark.course
@pytest.mark.skipif(importlib.util.find_spec("nbgrader") is None, reason="nbgrader is not installed")
def test_a_solved_copy_gets_all_points_and_an_empty_one_none(tmp_path):
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    (tmp_path / "notebooks" / "src" / "00_first.py").write_text(CHAPTER)
    course = tmp_path / "course"
    (released,) = assignment.write_assignments(tmp_path, course)
    text = released.read_text(encoding="utf-8")
    assert "1 + 2" not in text and "YOUR CODE HERE" in text
    for student, copy in (("solved", course / "source" / "00_first" / "00_first.ipynb"), ("unsolved", released)):
        folder = course / "submitted" / student / "00_first"
        folder.mkdir(parents=True)
        shutil.copy(copy, folder)
    assignment.nbgrader(course, "autograde", "00_first", "--create")
    scores = sqlite3.connect(course / "gradebook.db").execute("select auto_score from grade order by auto_score")
    assert [score for (score,) in scores] == [0.0, 1.0]
