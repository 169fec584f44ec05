"""The recipes of docs/architecture.md do what they say, as they stand there, with public names only."""

import ast
import dataclasses
import importlib
import re
import sys
from pathlib import Path

import pytest

from lkm_kit.profiles import PROFILES

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
RECIPES = {
    title: re.findall(r"```(python|console)\n(.*?)```", text, re.DOTALL)
    for title, text in re.findall(r"^### (Add .*?)\n(.*?)(?=^### |^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
}


def named(text):
    """The file that a block is, or None for one that is run."""
    first = re.match(r"# (\w+\.py)\n", text)
    return first and first[1]


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty folder to work in; the modules of a recipe are forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("LKM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LKM_PROFILE", "smoke")
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if (path := getattr(sys.modules[name], "__file__", None)) and Path(path).parent == tmp_path:
            del sys.modules[name]


def test_there_are_recipes_for_what_people_change():
    assert [title.split()[-1] for title in RECIPES] == ["order", "mixer", "metric", "network", "study"]


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_is_at_most_two_files_of_public_names(title):
    blocks = RECIPES[title]
    assert 1 <= sum(named(text) is not None for _, text in blocks) <= 2
    for kind, text in blocks:
        for node in ast.walk(ast.parse(text)) if kind == "python" else ():
            if isinstance(node, ast.ImportFrom) and node.module.startswith("lkm_kit"):
                package = importlib.import_module(node.module)
                for alias in node.names:
                    assert alias.name in package.__all__, f"{node.module} does not offer {alias.name}"


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_runs(title, fresh, a_slab, monkeypatch):
    """As it stands on the page; its study takes few steps on a few slices, one run after the other in this process."""
    few = dataclasses.replace(PROFILES["smoke"], iterations=2, validate_every=2, validation_slices=2)
    monkeypatch.setitem(PROFILES, "smoke", few)
    monkeypatch.setattr("lkm_kit.studies.launchers.available_cpus", lambda: 1)
    for kind, text in RECIPES[title]:
        if name := named(text):
            (fresh / name).write_text(text)
            importlib.invalidate_caches()
        elif kind == "python":
            exec(compile(text, f"{title}, {PAGE.name}", "exec"), {"__name__": "recipe"})
        else:
            for line in text.strip().splitlines():
                command(line.split("#")[0].split())


def command(words):
    """One line of a console block, run by the kit's own command."""
    from typer.testing import CliRunner

    from lkm_kit.cli import app

    assert words[0] == "lkm"
    done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
