"""my_kit.py: what a student has written is kept once it is right, stays, runs on its own, and is found again."""

import itertools
import linecache
import math
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as functional
from torch import nn

from lkm_kit import course
from lkm_kit.blocks import BiM, PaM, PiM
from lkm_kit.course import check_mamba, keep, kept
from lkm_kit.course.check import CheckResult
from lkm_kit.course.sources import chapters, read_source
from lkm_kit.course.student import RECORD
from lkm_kit.errors import KitError
from lkm_kit.networks import LKMUNet, UNet
from lkm_kit.ssm import Mamba, selective_scan

CELLS = itertools.count()


def accept(_thing):
    return CheckResult(True, "")


def run(cell, **space):
    """What a notebook does with a cell: its lines can be found by the name that its code has."""
    name = f"<cell {next(CELLS)} of test_own>"
    linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
    space = {"__name__": "__main__", "torch": torch, "nn": nn, **space}
    exec(compile(cell, name, "exec"), space)
    return space


@pytest.fixture
def work(tmp_path, monkeypatch):
    (tmp_path / RECORD).write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_kit", raising=False)
    yield tmp_path
    sys.modules.pop("my_kit", None)


HALF = "def half(x):\n    return x / 2\n"
CLASS = """
@register
class Quarter(nn.Module):
    '''A quarter of what comes in.'''

    def forward(self, tokens):
        loose = [half(x) for x in tokens]
        return half(torch.stack(loose))
"""


def test_a_class_is_kept_with_what_it_needs_and_found_again(work, capsys):
    space = run(HALF + "\n\ndef register(cls):\n    return cls\n" + CLASS + "\nloose = 4\n")
    assert keep(space["Quarter"], accept).message == "✓ Quarter: my_kit.py now holds half, register, Quarter."
    text = (work / "my_kit.py").read_text()
    assert "import torch\nimport torch.nn as nn\n" in text and "@register\nclass Quarter(nn.Module):" in text
    own = kept("Quarter", Mamba)
    assert own.__module__ == "my_kit" and own()(torch.ones(4)).tolist() == [0.25] * 4
    assert kept("Third", Mamba) is Mamba
    assert capsys.readouterr().out == "Quarter: your own, from my_kit.py\nThird: the library's Mamba\n"
    # a later chapter builds on it: what was fetched is not written a second time
    later = run("def eighth(x):\n    return Quarter()(x) / 2\n", Quarter=own)
    assert keep(later["eighth"], accept).ok and (work / "my_kit.py").read_text().count("class Quarter") == 1
    assert kept("eighth", Mamba)(torch.ones(2)).tolist() == [0.125] * 2


def test_again_changes_nothing_and_other_code_replaces_only_when_told(work):
    assert keep(run(HALF)["half"], accept).ok
    path = work / "my_kit.py"
    path.write_text(path.read_text() + "\n\nnote = 'of my own'\n")  # and what she wrote by hand stays
    before = path.read_text()
    again = keep(run("\n\n" + HALF)["half"], accept)
    assert again.ok and "as it stands here" in again.message and path.read_text() == before
    other = run(HALF.replace("x / 2", "0.5 * x"))["half"]
    refused = keep(other, accept)
    assert not refused and "keep(half, accept, replace=True)" in refused.message and path.read_text() == before
    assert keep(other, accept, replace=True).ok
    assert path.read_text() == before.replace("x / 2", "0.5 * x")


def test_only_right_answers_are_kept_and_only_in_a_student_s_folder(work):
    space = run("class MyMamba(nn.Module):\n    def __init__(self, channels):\n        super().__init__()\n")
    assert not keep(space["MyMamba"], check_mamba)
    (work / RECORD).unlink()
    assert "would now be kept" in keep(run(HALF)["half"], accept).message
    assert not (work / "my_kit.py").exists()


def test_the_library_s_part_gives_way_to_her_own(work):
    later = run("def pair(n):\n    return MyMamba(n), MyMamba(n)\n", MyMamba=kept("MyMamba", Mamba))
    assert keep(later["pair"], accept).ok
    assert "from lkm_kit.ssm import Mamba as MyMamba" in (work / "my_kit.py").read_text()
    own = run("class MyMamba(nn.Linear):\n    def __init__(self, n):\n        super().__init__(n, n)\n")["MyMamba"]
    assert keep(own, accept).ok
    assert "import Mamba" not in (work / "my_kit.py").read_text()
    assert [type(layer).__name__ for layer in kept("pair", Mamba)(2)] == ["MyMamba"] * 2


OWN = {  # chapter -> what its student keeps, of which check, and what of the library stands in for what is not kept
    "02": ("MyMamba", "check_mamba", {}),
    "03": ("MyBiM", "check_bim", {"MyMamba": Mamba}),
    "04": ("MyPiM", "check_pim", {"MyBiM": BiM}),
    "05": ("MyPaM", "check_pam", {"MyBiM": BiM}),
    "06": ("MyLKMUNet", "check_network", {"MyPiM": PiM, "MyPaM": PaM}),
}


@pytest.mark.parametrize("skipped", [None, "03"])
def test_a_network_of_her_own_grows_from_chapter_to_chapter(work, skipped):
    """The chapters' own solutions, each as one cell; skipped ones leave a gap that the library fills."""
    root = Path(__file__).resolve().parents[1]
    for chapter, (name, check, needs) in OWN.items():
        if chapter == skipped:
            continue
        cells = [cell.source for cell in read_source(chapters(root, [chapter])[0]).cells]
        cell = next(source for source in cells if f"class {name}(" in source)
        cut = "".join(source for source in cells if "def cut_windows(" in source)
        built_on = {own: kept(own, library) for own, library in needs.items()}
        tools = {"math": math, "F": functional, "selective_scan": selective_scan, "UNet": UNet}
        space = run(f"{cut}\n\n\n{cell}", **tools, **built_on)
        assert keep(space[name], getattr(course, check)).ok
    sys.modules.pop("my_kit")
    own = kept("MyLKMUNet", LKMUNet)
    assert own is not LKMUNet and course.check_network(own).ok
    network = own(1, 3, True, windows=[4, 2], features_per_stage=[4, 8], strides=[(1, 1), (2, 2)])
    kinds = {type(module).__name__ for module in network.modules() if type(module).__module__ == "my_kit"}
    assert {"MyLMBlock", "MyPiM", "MyPaM", *([] if skipped else ["MyBiM", "MyMamba"])} == kinds - {"MyLKMUNet"}
    sum(output.sum() for output in network(torch.randn(2, 1, 8, 8))).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_what_only_the_notebook_has_is_refused(work):
    space = run("side = 6\n\ndef area():\n    return side * side\n")
    with pytest.raises(KitError, match="area uses side, a value that only this notebook has"):
        keep(space["area"], accept)
    with pytest.raises(KitError, match="uses nowhere, which is not defined"):
        keep(run("def lost():\n    return nowhere\n")["lost"], accept)
    assert not (work / "my_kit.py").exists()


def test_a_broken_file_is_named_with_its_line(work):
    (work / "my_kit.py").write_text("import torch\n\nx = = 2\n")
    with pytest.raises(KitError, match="SyntaxError in line 3"):
        kept("half", Mamba)
    (work / "my_kit.py").write_text("import torch\n\nx = torch.nothing\n")
    with pytest.raises(KitError, match="AttributeError in line 3"):
        kept("half", Mamba)
