"""The cell that installs the kit where it is missing, and the badges that open a chapter where that happens."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from lkm_kit.course import setup_cell

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(monkeypatch):
    """Execute the cell as in a fresh kernel; gather what it would run. A clone makes the folders of a checkout."""
    commands = []

    def record(command, check):
        assert check
        commands.append(command)
        if command[0] == "git":
            Path(command[-1], "notebooks").mkdir(parents=True)

    def execute(code=setup_cell.SETUP, installed=False, there=()):
        if not installed:
            monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in there else None)
        monkeypatch.setattr("subprocess.run", record)
        monkeypatch.setattr(sys, "path", [*sys.path])
        exec(code, {})
        return commands

    return execute


def test_where_the_kit_is_there_the_cell_does_nothing(run):
    before = [*sys.path]
    assert run(installed=True) == [] and sys.path == before


def test_in_a_checkout_it_installs_that(run, tmp_path, monkeypatch):
    (tmp_path / "lkm_kit").mkdir()
    (tmp_path / "notebooks" / "student").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notebooks" / "student")
    assert run() == [[sys.executable, "-m", "pip", "install", "-e", f"{tmp_path}[notebooks]"]]
    assert sys.path[0] == str(tmp_path)
    assert run(there=["ipywidgets"])[-1][-1] == str(tmp_path), "Colab's own ipywidgets stays"


def test_elsewhere_it_fetches_a_checkout_of_a_named_account_and_works_in_it(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clone, install = run(setup_cell.SETUP.replace(f"com/{setup_cell.OWNER}/", "com/somebody/"))
    assert clone == ["git", "clone", "--depth=1", "https://github.com/somebody/lkm-kit", "lkm-kit"]
    assert install[-2:] == ["-e", f"{tmp_path / 'lkm-kit'}[notebooks]"]
    assert Path.cwd() == tmp_path / "lkm-kit" / "notebooks"


@pytest.mark.skipif(setup_cell.OWNER != "OWNER", reason="the kit has an address")
def test_without_an_address_nothing_is_fetched(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="in place of OWNER"):
        run()


@pytest.mark.parametrize("page", ["README.md", "notebooks/README.md"])
def test_badges_have_the_form_of_colab_s_and_binder_s_addresses_and_name_a_chapter(page):
    text, owner = (ROOT / page).read_text(encoding="utf-8"), re.escape(setup_cell.OWNER)
    for badge, address in {
        r"https://colab\.research\.google\.com/assets/colab-badge\.svg": (
            rf"https://colab\.research\.google\.com/github/{owner}/lkm-kit/blob/main/(notebooks/\w+\.ipynb)"
        ),
        r"https://mybinder\.org/badge_logo\.svg": (
            rf"https://mybinder\.org/v2/gh/{owner}/lkm-kit/HEAD\?urlpath=lab/tree/(notebooks/\w+\.ipynb)"
        ),
    }.items():
        (chapter,) = re.findall(rf"\[!\[[^\]]+\]\({badge}\)\]\({address}\)", text)
        assert (ROOT / chapter).is_file()
    assert "- -e ." in (ROOT / "environment.yml").read_text(encoding="utf-8")  # what Binder builds from
