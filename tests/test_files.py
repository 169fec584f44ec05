"""Outputs that cannot be written are refused before anything is computed, in every command that writes."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from lkm_kit import cli
from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, require_writable


def test_what_can_be_written(tmp_path):
    (tmp_path / "old.csv").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path in ("new.csv", "old.csv", "a/b/new.csv", "dangling"):
        assert require_writable(tmp_path / path) == tmp_path / path
    assert require_writable(tmp_path / "a", folder=True) == tmp_path / "a"
    assert {p.name for p in tmp_path.iterdir()} == {"old.csv", "dangling"}, "asking makes nothing"


WRITERS = {
    "numpy": lambda path: np.save(path, np.zeros(100_000)),
    "torch": lambda path: torch.save({"a": torch.zeros(100_000)}, path),
    "safetensors": lambda path: save_file({"a": torch.zeros(100_000)}, str(path)),
    "text": lambda path: path.write_text("x" * 400_000),
}


@pytest.mark.skipif(os.name == "nt", reason="files have no such limit there")
@pytest.mark.parametrize("writer", WRITERS)
def test_where_a_file_has_no_room_whatever_writes_it(tmp_path, writer):
    """numpy, torch and safetensors have classes and words of their own for it, in which no errno is left."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "a.npy"
    path.write_text("old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        words = r"a\.npy grows larger than a file may be(.|\n)*ulimit -f"
        with pytest.raises(KitError, match=words), atomic_path(path) as temporary:
            WRITERS[writer](temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"] and path.read_text() == "old"
    with pytest.raises(RuntimeError, match="of its own"), atomic_path(path):
        raise RuntimeError("an error of its own")


@pytest.mark.skipif(os.name == "nt", reason="no flock there")
def test_what_a_killed_writer_left_goes_and_a_living_ones_stays(tmp_path):
    path = tmp_path / "mask.nii.gz"
    others = {tmp_path / name for name in (".mask.nii.gz.lock", ".mask.nii.gz.abcdefgh.json", "mask.nii.gz.part")}
    for left in {tmp_path / ".mask.nii.gz.abcdefgh.nii.gz", *others}:
        left.write_text("half")
    with atomic_path(path) as first:
        with atomic_path(path) as second:
            assert {p for p in tmp_path.iterdir()} == {first, second, *others}
            second.write_text("two")
        assert path.read_text() == "two"
        first.write_text("one")
    assert path.read_text() == "one" and {p for p in tmp_path.iterdir()} == {path, *others}


@pytest.fixture
def places(tmp_path):
    """What stands in the way -> (path, whether a folder is wanted, words of the message)."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    return {
        "a folder for a file": (tmp_path / "folder", False, "is a folder"),
        "a file for a folder": (tmp_path / "file", True, "is no folder"),
        "a file on the way": (tmp_path / "file" / "x" / "y", False, "cannot be written: Not a directory"),
        "a name too long": (tmp_path / ("x" * 300), False, "cannot be written: File name too long"),
        "no name": (tmp_path / "a\0b", False, "cannot be written: .*null"),
    }


@pytest.mark.parametrize(
    "kind", ["a folder for a file", "a file for a folder", "a file on the way", "a name too long", "no name"]
)
def test_what_cannot_be_written(places, kind):
    path, folder, words = places[kind]
    with pytest.raises(KitError, match=words) as error:
        require_writable(path, folder=folder)
    assert error.value.remedy


def test_a_folder_that_takes_no_file(tmp_path, monkeypatch):
    """Permission, a read-only disk: the system's own answer counts, for permission bits do not bind root."""
    import tempfile

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(KitError, match=r"seg\.nii\.gz cannot be written: Permission denied(.|\n)*LKM_DATA"):
        require_writable(tmp_path / "seg.nii.gz")


COMMANDS = {
    "predict": ("predict", "SCAN", "--run", "tiny-2d", "-o", "PLACE"),
    "predict a folder": ("predict", "SCANS", "--run", "tiny-2d", "-o", "PLACE"),
    "evaluate": ("evaluate", "tiny-2d", "-o", "PLACE"),
    "train": ("train", "--profile", "smoke", "--run-dir", "PLACE"),
    "study": ("study", "table3", "--profile", "smoke", "--root", "PLACE"),
    "figures": ("figures", "token_orders", "--out", "PLACE"),
    "erf": ("erf", "lkm-unet/tiny-2d", "--out", "PLACE"),
    "data cohort": ("data", "cohort", "--out", "PLACE"),
    "data check": ("data", "check", "SET", "--report", "PLACE"),
    "data amos": ("data", "amos", "--download", "--out", "PLACE"),
    "data hippocampus": ("data", "hippocampus", "--out", "PLACE"),
    "bench": ("bench", "growth", "--csv", "PLACE"),
    "sweep": ("study", "sweep", "table3", "--profile", "smoke", "--out", "PLACE"),
    "report": ("study", "report", "table3", "--profile", "smoke", "--out", "PLACE"),
    "reach": ("reach", "--profile", "smoke", "--out", "PLACE"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_say_so_before_they_compute(tmp_path, monkeypatch, command):
    """A file lies on the way to every output; no network is built or loaded, nothing is read."""

    def computed(*_, **__):
        raise AssertionError("it began to compute")

    for name in ("lkm_kit.training.train", "lkm_kit.training.load_checkpoint", "lkm_kit.studies.runner.run_study",
                 "lkm_kit.data.fetch_sample", "lkm_kit.data.obtain", "lkm_kit.data.hippocampus.hippocampus_archive",
                 "lkm_kit.figures.build_figures", "lkm_kit.erf.erf", "lkm_kit.studies.functional.run",
                 "lkm_kit.data.check_dataset", "lkm_kit.bench.growth.table",
                 "lkm_kit.studies.report.make_report"):  # fmt: skip
        monkeypatch.setattr(name, computed)
    (tmp_path / "file").write_text("x")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "scan.nii.gz").write_bytes(b"never read")
    about = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "scans" / "dataset.json").write_text(json.dumps(about))
    named = {
        "PLACE": tmp_path / "file" / "under" / ("seg.nii.gz" if command == "predict" else "out"),
        "SCAN": tmp_path / "scans" / "scan.nii.gz", "SCANS": tmp_path / "scans", "SET": tmp_path / "scans",
    }  # fmt: skip
    done = CliRunner().invoke(cli.app, [str(named.get(word, word)) for word in COMMANDS[command]])
    assert isinstance(done.exception, KitError) and "cannot be written" in str(done.exception), done.exception


def test_an_unwritable_cache_is_said_before_the_download(tmp_path, monkeypatch):
    from lkm_kit.data import sample

    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("LKM_DATA", str(tmp_path / "file"))
    monkeypatch.setattr(sample, "_download", lambda target: pytest.fail("it began to download"))
    with pytest.raises(KitError, match="cannot be written"):
        sample.fetch_sample()


def test_names_are_drawn_as_they_stand():
    """Dollars would be formulas, and bytes that are no text stop the drawing."""
    import numpy as np

    from lkm_kit.plots.volumes import plot_orthogonal

    label = np.zeros((8, 8, 8), int)
    label[2:5, 2:5, 2:5] = 1
    name = os.fsdecode(b"50% of $\\x$ caf\xe9")
    figure = plot_orthogonal({name: label}, label, (1, 1, 1), {1: "the $lobe$"}, grey=(0, 1))
    figure.canvas.draw()
    assert figure.axes[0].get_title().startswith(r"50% of \$\x\$ caf?")
