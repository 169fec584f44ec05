"""What needs what: imports are light, library and commands do without notebooks, the ERF with three packages."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lkm_kit import cli, errors
from lkm_kit.errors import KitError

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "erf.md").read_text(encoding="utf-8"), re.DOTALL)
ALONE = """
import sys

known, allowed = set(sys.argv[1].split()), set(sys.argv[2].split())

class Missing:
    def find_spec(name, path=None, target=None):
        if (top := name.partition(".")[0]) in known - allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=top)

sys.meta_path.insert(0, Missing)
exec(compile(sys.stdin.read(), "docs/erf.md", "exec"))

from lkm_kit.erf import measures
from lkm_kit.errors import KitError

try:
    measures(erf_map)
except KitError as error:
    assert error.remedy.startswith("pip install pandas;"), error
else:
    raise AssertionError("pandas was not out of reach: this test shows nothing")
assert not {"pandas", "scipy", "monai", "numba"} & set(sys.modules)
"""
NOTEBOOKS = {"IPython", "ipywidgets", "jupyter_client", "jupyterlab", "jupytext", "nbclient", "nbconvert", "nbformat"}
LIGHT = """
import sys

def others(before=frozenset(sys.modules)):
    return {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)

import lkm_kit
assert others() == {"lkm_kit"}, others()
import lkm_kit.cli
assert others() <= {"lkm_kit", "typer", "click", "rich", "shellingham", "typing_extensions", "annotated_doc"}, others()
"""


def test_the_package_imports_nothing_and_the_command_only_typer():
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def imported(path):
    return re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_only_chapters_and_widgets_import_what_belongs_to_notebooks():
    found = {
        path.relative_to(ROOT / "lkm_kit").as_posix()
        for path in (ROOT / "lkm_kit").rglob("*.py")
        if NOTEBOOKS & set(imported(path))
    }
    # style.py asks a notebook that is running already
    assert {name for name in found if not name.startswith(("course/", "widgets/"))} == {"plots/style.py"}


@pytest.mark.parametrize("line", ["course build", "course student", "course site"])
def test_what_makes_chapters_says_which_extra_it_needs(line, monkeypatch, capsys):
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name in NOTEBOOKS else True)
    with pytest.raises(SystemExit) as end:
        cli.main(line.split())
    said = capsys.readouterr().err
    assert end.value.code == 2 and "needs nbformat, jupytext, nbclient, nbconvert" in said and "'.[notebooks]'" in said


def test_widgets_say_which_extra_they_need(monkeypatch):
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "lkm_kit.widgets", raising=False)
    with pytest.raises(KitError, match="the widgets need ipywidgets") as error:
        import lkm_kit.widgets  # noqa: F401
    assert "'.[notebooks]'" in error.value.remedy


def with_what_they_ask_for(names):
    """Distributions and all that they require here."""
    found, open_ = set(), list(names)
    while open_:
        name = open_.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        try:
            asked = [Requirement(line) for line in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue
        open_ += [r.name for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def test_the_page_runs_as_written_with_torch_numpy_and_matplotlib_alone(tmp_path):
    there = with_what_they_ask_for(["torch", "numpy", "matplotlib"])
    modules = metadata.packages_distributions()
    allowed = {"lkm_kit"} | {
        module for module, names in modules.items() if there & {name.lower().replace("_", "-") for name in names}
    }
    known = {module for module in modules if module not in sys.stdlib_module_names}
    assert {"pandas", "scipy", "nibabel", "monai"} <= known - allowed
    command = [sys.executable, "-c", ALONE, " ".join(known), " ".join(allowed)]
    page = "".join(BLOCKS)
    done = subprocess.run(command, cwd=tmp_path, input=page, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "half of the gradient lies on" in done.stdout and "25 pixels have a path" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"erf.png", "before_and_after.png", "volume.png"}


def test_five_lines_are_five():
    five = BLOCKS[1].strip().splitlines()
    assert len([line for line in five if line]) == 5
