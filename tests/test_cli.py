"""The command lkm: help, doctor, a training and its scores, predictions that keep the geometry, plain errors."""

import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import archives
import nibabel
import numpy as np
import pytest
import typer
from scipy.spatial.transform import Rotation
from test_figures import every_fourth_slice
from typer.testing import CliRunner

from lkm_kit import __version__, cli
from lkm_kit.commands import doctor
from lkm_kit.data import CohortSlices, LabelTable, load_sample, make_phantom, organ, read_image
from lkm_kit.errors import KitError

runner = CliRunner()


def commands(group, path=()):
    """Every command of a group: its words and its click command."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(cli.app)))


def lkm(*arguments):
    """Run a command in this process; KitError comes through as an exception."""
    result = runner.invoke(cli.app, [str(a) for a in arguments], catch_exceptions=True)
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def main(monkeypatch, capsys, *arguments):
    """Run the entry point; returns exit status and what it printed to the error stream."""
    monkeypatch.setattr(sys, "argv", ["lkm", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_shows_an_example_and_loses_no_brackets(words):
    """Markup would eat the extra of ``pip install -e '.[nnunet]'``."""
    command, text = COMMANDS[words], " ".join(lkm(*words, "--help").output.split())
    if len(words) == 1 or words[0] == "data":
        assert f"lkm {' '.join(words)}" in text
    written = [command.help, command.epilog, *(getattr(option, "help", None) for option in command.params)]
    for bracket in re.findall(r"\[[^]]*\]", " ".join(filter(None, written))):
        assert " ".join(bracket.split()) in text


def test_the_list_of_commands_is_not_cut_short_and_ends_with_a_way_to_own_scans():
    text = lkm("--help").output
    assert "..." not in text.partition("Commands:")[2] and "lkm train --data FOLDER" in " ".join(text.split())


def test_the_extra_of_nnunet_can_be_read():
    assert "pip install -c constraints.txt -e '.[nnunet]'" in " ".join(lkm("nnunet", "--help").output.split())


def test_doctor_tells_what_is_here():
    text = lkm("doctor", "--no-speed").output
    for word in ("python", "torch", "device", "reference: ok", "threads", "GB free", "monai"):
        assert word in text


def test_doctor_measures_speed(monkeypatch):
    from lkm_kit.commands import doctor
    from lkm_kit.profiles import profile

    milliseconds, batch = doctor.training_step_ms(profile("smoke"), seconds=0.1)
    assert 0 < milliseconds < 60_000 and batch == 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few steps, made by the command itself."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    result = lkm(
        "train", "--profile", "smoke", "--iterations", 2, "--run-dir", folder, "--device", "cpu",
        "--set", "validate_every=1", "--set", "validation_slices=2", "--no-mamba",
    )  # fmt: skip
    assert "weights.safetensors" in result.output
    return folder


def test_train_wrote_a_run(trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["iterations"] == 2 and config["network_overrides"] == {"pim": False, "pam": False}
    assert (trained / "done.json").exists()


def test_train_on_a_finished_run_says_that_nothing_was_trained(trained):
    command = ["train", "--profile", "smoke", "--iterations", 2, "--run-dir", trained, "--device", "cpu", "--no-mamba"]
    assert "nothing was trained" in lkm(*command, "--set", "validate_every=1", "--set", "validation_slices=2").output


def test_evaluate_prints_tables_and_writes_rows(trained, tmp_path):
    output = tmp_path / "scores.csv"
    text = lkm("evaluate", trained, "--slices", 2, "--case", "mr_d", "-o", output, "--device", "cpu").output
    assert (
        "held-out deformed copies of the training" in text and "mr_d, another" in text and "expect little of it" in text
    )
    lines = output.read_text().splitlines()
    assert lines[0] == "case,organ,DSC,NSD,HD95,source" and len(lines) == 1 + 3 * 6
    assert load_sample("mr_d").source.text in text and load_sample("mr_d").source.text in lines[1]
    mean = next(line for line in text.splitlines() if line.startswith("mean"))
    assert mean.split()[-1] == "2", "two cases went into the mean"


def test_evaluate_knows_the_training_patient(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("lkm_kit.data.load_sample", every_fourth_slice)
    text = lkm(
        "evaluate", trained, "--slices", 0, "--case", "ct_a", "-o", tmp_path / "rows.csv", "--device", "cpu"
    ).output
    assert "ct_a, the training" in text and "ct_a, another" not in text


def test_evaluate_says_which_organs_a_label_lacks(trained, tmp_path):
    """The mean counts them 0 where the network finds them."""
    case = make_phantom(shape=(40, 36, 4))
    label = np.where(case.label == organ("liver").label, 0, case.label)
    for name, array in {"scan": case.image, "truth": label}.items():
        nibabel.save(nibabel.Nifti1Image(array, case.affine), tmp_path / f"{name}.nii.gz")
    scan, truth, rows = (tmp_path / name for name in ("scan.nii.gz", "truth.nii.gz", "rows.csv"))
    text = lkm("evaluate", trained, "--image", scan, "--label", truth, "-o", rows, "--device", "cpu").output
    assert "scan has no liver" in text and "counts 0" in text and "nobody said who labelled it" in text


def test_predict_keeps_a_foreign_geometry(trained, tmp_path):
    """Oblique, anisotropic, with axes in an unusual order: the segmentation lies exactly on the image."""
    source = load_sample("ct_a")
    stored = np.ascontiguousarray(source.image[::2, ::2, 40:44].transpose(2, 1, 0)[:, ::-1]).astype(np.int16)
    turned = Rotation.from_euler("xyz", (4, -3, 5), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.array([[0, 0, 5.8], [0, -6, 0], [3, 0, 0]])
    affine[:3, 3] = (-120, 90, -500)
    image = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(stored, affine), image)
    text = lkm("predict", image, "-o", tmp_path / "seg.nii.gz", "--run", trained, "--device", "cpu").output
    assert "liver" in text and "ml" in text
    before, after = nibabel.load(image), nibabel.load(tmp_path / "seg.nii.gz")
    assert before.shape == after.shape and np.allclose(before.affine, after.affine, atol=1e-4)
    table = json.loads((tmp_path / "seg.labels.json").read_text())
    allowed = {0, *(row["label"] for row in table["labels"])}
    assert set(np.unique(np.asarray(after.dataobj))) <= allowed


def test_newest_run_is_taken_when_none_is_named(trained, tmp_path, monkeypatch):
    from lkm_kit.commands.runs import newest_run

    assert newest_run(trained.parent) == trained
    monkeypatch.setenv("LKM_RUNS", str(tmp_path / "none"))
    with pytest.raises(KitError, match="no finished training"):
        newest_run()


def test_a_data_set_is_not_begun_with_a_source_that_there_is_not(tmp_path):
    (tmp_path / "scans").mkdir()
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "scans" / "a.nii.gz")
    places = ["--images", tmp_path / "scans", "--labels", tmp_path / "scans"]
    with pytest.raises(KitError, match="robot"):
        lkm("data", "init", tmp_path / "new", *places, "--label-source", "robot")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "option",
    [
        ("train", "--workers", -2),
        ("train", "--processes", 0),
        ("erf", "--window", 0),
        ("evaluate", "--worst", -1),
        ("evaluate", "--slices", -1),
        ("data", "cohort", "--train", 0),
        ("bench", "step", "--repeats", 0),
        ("bench", "data", "--workers", -1),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_begins(option):
    result = lkm(*option)
    assert result.exit_code == 2 and f"Invalid value for '{option[-2]}'" in result.output


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("train", "--profile", "lapptop"), "laptop"),
        (("train", "--profile", "smoke", "--set", "iteration=3"), "iterations"),
        (("train", "--profile", "smoke", "--set", "iterations"), "FIELD=VALUE"),
        (("train", "--profile", "smoke", "--set", "iterations=" + "9" * 5000), "a whole number"),
        (("train", "--profile", "smoke", "--set", "organs=" + "[" * 100_000), "organs takes"),
        (("train", "--profile", "smoke", "--no-mamba", "--set", "network_overrides=3"), "takes names with values"),
        (("train", "--profile", "smoke", "--set", 'network_overrides={"num_classes": 2}'), "which the config decides"),
        (
            ("train", "--profile", "smoke", "--set", 'network_overrides={"strides": 2}'),
            "cannot be built with strides=2",
        ),
        (("train", "--profile", "smoke", "--network", "lkm-unet/tiny"), "lkm-unet/tiny-2d"),
        (("evaluate", "RUN", "--rule", "nice"), "official"),
        (("erf", "RUN", "--size", "-4,-4"), "whole numbers from 1 on"),
        (("erf", "RUN", "--size", "a"), "write 96,96"),
        (("erf", "RUN", "--size", "96"), "a number for each axis: --size 96,96"),
        (("erf", "RUN", "--window", "1000"), "does not fit the map"),
        (("erf", "RUN", "--cls", "²"), "no class"),
        (("nnunet", "plans", "702", "--study", "table2", "--patch-size", "a,b"), "write 96,96"),
        (("data", "init", "broken.nii.gz/x", "--images", ".", "--labels", "."), "cannot be written"),
        (("evaluate", "RUN", "--image", "scan.nii.gz"), "--label"),
        (("evaluate", "nowhere"), "no training run"),
        (("predict", "missing.nii.gz", "-o", "seg.nii.gz", "--run", "RUN"), "missing.nii.gz"),
        (("predict", "missing.nii.gz", "-o", "seg.png", "--run", "RUN"), ".nii.gz"),
        (("predict", "broken.nii.gz", "-o", "seg.nii.gz", "--run", "RUN"), "broken.nii.gz"),
    ],
)
def test_users_errors_have_no_traceback_and_status_2(arguments, words, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LKM_RUNS", str(tmp_path / "runs"))
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8b not a scan")
    status, text = main(monkeypatch, capsys, *[str(trained) if a == "RUN" else a for a in arguments])
    assert status == 2 and words in text and "Traceback" not in text and text.startswith("error: ")
    assert not (tmp_path / "seg.nii.gz").exists() and not (tmp_path / "seg.labels.json").exists()


@pytest.mark.parametrize("option", [("--network", "lkm-unet/tiny2d"), ("--set", "network=lkm-unet/tiny2d")])
def test_a_misspelt_network_is_refused_before_scans_are_fetched_or_a_run_begins(option, tmp_path, monkeypatch, capsys):
    def fetched():
        raise AssertionError("scans are asked for")

    monkeypatch.setattr("lkm_kit.data.sample_source", fetched)
    monkeypatch.setenv("LKM_RUNS", str(tmp_path / "runs"))
    status, text = main(monkeypatch, capsys, "train", "--profile", "smoke", *option)
    assert status == 2 and "did you mean 'lkm-unet/tiny-2d'" in text and not (tmp_path / "runs").exists()


def test_cuda_asked_for_and_absent(trained, tmp_path, monkeypatch, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    status, text = main(
        monkeypatch, capsys, "train", "--profile", "smoke", "--device", "cuda", "--run-dir", tmp_path / "run"
    )
    assert status == 2 and "CUDA is not available" in text


def test_cohort_and_run_agree_on_their_classes(trained):
    record = json.loads((trained / "weights.json").read_text())
    table = LabelTable.from_json(record["label_table"])
    item = CohortSlices("test", size=(96, 96), spacing_mm=3.0, table=table, length=1, seed=0)[0]
    assert int(item["label"].max()) < record["network"]["num_classes"] == table.num_classes


def test_segmentation_reads_back(trained, tmp_path):
    case = load_sample("ct_a")
    image = tmp_path / "ct_a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(case.image[..., 60:62].astype(np.int16), case.affine), image)
    lkm("predict", image, "-o", tmp_path / "seg.nii", "--run", trained, "--device", "cpu")
    labels, affine, _ = read_image(tmp_path / "seg.nii")
    assert labels.shape == case.image[..., 60:62].shape and np.allclose(affine, case.affine)


@pytest.mark.parametrize(
    ("words", "module", "function", "said"),
    [
        (["train", "--profile", "smoke"], "lkm_kit.training", "train", "goes on from here"),
        (["data", "cohort"], "lkm_kit.data", "write_cohort", "goes on from here"),
        (["reach", "--profile", "smoke"], "lkm_kit.studies.functional", "run", "goes on from here"),
        (["bench", "scan"], "lkm_kit.bench.scan", "table", "starts anew"),
    ],
)
def test_ctrl_c_says_whether_the_same_command_resumes(words, module, function, said, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setenv("LKM_RUNS", str(tmp_path))
    monkeypatch.setattr(f"{module}.{function}", interrupted)
    status, text = main(monkeypatch, capsys, *words)
    assert status == 130 and said in text and "Traceback" not in text


def test_sigterm_is_told_as_ctrl_c_and_passed_on(tmp_path, monkeypatch, capsys):
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))

    def terminated(*_, **__):
        child.start()
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setenv("LKM_RUNS", str(tmp_path))
    monkeypatch.setattr("lkm_kit.training.train", terminated)
    status, text = main(monkeypatch, capsys, "train", "--profile", "smoke")
    child.join()
    assert status == 143 and "stopped; the same command goes on" in text and child.exitcode == -signal.SIGTERM


def test_a_folder_that_cannot_be_made_is_an_error_of_the_user(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    status, text = main(monkeypatch, capsys, "figures", "token_orders", "--out", tmp_path / "file" / "sub")
    assert status == 2 and str(tmp_path / "file") in text and "Traceback" not in text


def test_a_terminal_of_few_characters_loses_no_report():
    script = (
        "from lkm_kit import cli; cli.app.command('say')(lambda: print('DSC 0.81 \\u00b1 0.02')); cli.main(['say'])"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "DSC 0.81 ? 0.02\n"), done.stderr


def test_where_what_is_printed_goes_is_full(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("lkm_kit.bench.scan.table", full)
    status, text = main(monkeypatch, capsys, "bench", "scan")
    assert status == 2 and text.splitlines()[-1] == "  -> free space on the disk"


def test_a_run_whose_config_names_no_data(tmp_path, monkeypatch, capsys):
    for name, content in (("config", {"data": 5}), ("done", {})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    status, text = main(monkeypatch, capsys, "evaluate", tmp_path)
    assert status == 2 and "config.json names no data (5)" in text


def test_a_file_that_ends_too_early_is_no_silent_end(monkeypatch, capsys):
    def ends(*_, **__):
        raise EOFError

    monkeypatch.setattr("lkm_kit.bench.scan.table", ends)
    with pytest.raises(RuntimeError, match="a file ended before it was read"):
        main(monkeypatch, capsys, "bench", "scan")


def test_the_version_tells_the_commit_of_a_checkout(capsys, monkeypatch):
    assert archives.lkm("--version") == 0
    said = capsys.readouterr().out.strip()
    assert said.startswith(f"lkm-kit {__version__}") and re.fullmatch(r"[^,]+(, commit [0-9a-f]{10}\+?)?", said)
    monkeypatch.setenv("PATH", "")
    assert doctor.version() == f"lkm-kit {__version__}", "without git there is no commit to tell"
