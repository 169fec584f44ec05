"""A training that is killed and started again ends in the same bits as one that was left alone."""

import signal
import time

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from toy_training import in_a_process, start, start_and_die, toy_config, toy_network

from lkm_kit.errors import KitError

CONFIG = toy_config(iterations=12, validate_every=4)
SMALL_LKM = {"features_per_stage": [4, 8], "strides": [[1, 1], [2, 2]], "windows": [8, 4]}


def same_bits(folder_a, folder_b):
    a, b = load_file(folder_a / "weights.safetensors"), load_file(folder_b / "weights.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def same_history(folder_a, folder_b):
    a, b = (pd.read_csv(folder / "history.csv").drop(columns="seconds") for folder in (folder_a, folder_b))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    start(CONFIG, folder)
    return folder


@pytest.mark.parametrize("kills", [[2], [7], [12], [3, 5, 9]], ids=str)
def test_killed_and_resumed_is_the_same_to_the_bit(kills, undisturbed, tmp_path):
    for at_step in kills:
        start_and_die(CONFIG, tmp_path, at_step)
        assert not (tmp_path / "done.json").exists()
    steps = []
    start(CONFIG, tmp_path, watch=lambda step, loss, history: steps.append(step), workers=2)
    resumed_from = max([s for s in (0, 4, 8, 12) if s <= max(kills)])
    assert steps == list(range(resumed_from + 1, 13))
    assert same_bits(tmp_path, undisturbed)
    same_history(tmp_path, undisturbed)


def test_the_comparison_would_notice(undisturbed, tmp_path):
    start(CONFIG, tmp_path, network=lambda: toy_network(seed=1))
    assert not same_bits(tmp_path, undisturbed)


def test_lkm_unet_resumes_to_the_bit(tmp_path):
    config = toy_config(
        iterations=4, validate_every=2, batch_size=2, optimizer="sgd", network_overrides=SMALL_LKM, validation_slices=2
    )
    start(config, tmp_path / "whole", network=None)
    start_and_die(config, tmp_path / "killed", 3, network=None)
    start(config, tmp_path / "killed", network=None)
    assert same_bits(tmp_path / "whole", tmp_path / "killed")


def _slowly(folder, steps):
    def watch(step, loss, history):
        with open(steps, "a") as handle:
            handle.write(f"{step}\n")
        time.sleep(0.1)

    start(CONFIG, folder, watch=watch)


def test_killed_from_outside_in_a_process_of_its_own(undisturbed, tmp_path):
    """As a user's `kill -9` or a cluster's time limit would: the command is the same one, twice."""
    steps = tmp_path / "steps"
    process = in_a_process(_slowly, tmp_path, steps)
    end = time.monotonic() + 120
    while not (steps.exists() and steps.read_text().endswith("6\n")):
        assert process.is_alive() and time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    steps.unlink()
    start(CONFIG, tmp_path)
    assert same_bits(tmp_path, undisturbed)


def test_history_never_runs_ahead_of_the_state(undisturbed, tmp_path):
    """Killed between state.pt and history.csv: the next start brings the history back in step."""
    start_and_die(CONFIG, tmp_path, 5)
    (tmp_path / "history.csv").write_text("step\n4\n8\n")
    start(CONFIG, tmp_path)
    same_history(tmp_path, undisturbed)


def test_leftovers_of_a_kill_while_writing_are_swept(tmp_path):
    start_and_die(CONFIG, tmp_path, 5)
    for name in (".state.pt.k1ll3d.pt", ".history.csv.k1ll3d.csv", ".weights.safetensors.k1ll3d.safetensors"):
        (tmp_path / name).write_bytes(b"half")
    start(CONFIG, tmp_path)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_damaged_state_is_named(tmp_path):
    start_and_die(CONFIG, tmp_path, 5)
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(KitError, match=r"state\.pt is damaged") as error:
        start(CONFIG, tmp_path)
    assert "delete that file" in error.value.remedy
    state.unlink()
    assert start(CONFIG, tmp_path).history["step"].iloc[-1] == 12


def test_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    start_and_die(CONFIG, tmp_path, 5)
    before = (tmp_path / "state.pt").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(KitError, match="no space left"):
        start(CONFIG, tmp_path)
    assert (tmp_path / "state.pt").read_bytes() == before
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_config_file_that_cannot_be_read(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(KitError, match=r"config\.json cannot be read"):
        start(CONFIG, tmp_path)
