"""Several processes train one run: the numbers of one process, one writer, and one end for all of them."""

import socket
import sys
import time

import pandas as pd
import pytest
import ranks
import torch
from combinations import first
from safetensors.torch import load_file
from toy_training import Poisoned, in_a_process, start, toy_config, toy_data, toy_network

from lkm_kit.files import Busy
from lkm_kit.training import Diverged, train
from lkm_kit.training.store import Run

RUN_FILES = {"config.json", "history.csv", "weights.safetensors", "weights.json", "done.json"}


def start_ranks(what, number, folder, rounds=1):
    sockets = [socket.socket() for _ in range(rounds)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [str(each.getsockname()[1]) for each in sockets]  # free, and no two the same
    for each in sockets:
        each.close()
    process = in_a_process(ranks.main, what, number, folder, ports, said=folder / "said")
    process.join(240)
    assert process.exitcode == 0, (folder / "said").read_text()[-4000:]


@pytest.mark.parametrize(
    ("what", "config", "network"),
    [
        ("batch_dice", ranks.BATCH_DICE, "toy"),
        ("each_dice", ranks.EACH_DICE, "toy"),
        ("one_head", ranks.ONE_HEAD, None),
    ],
)
def test_two_processes_give_the_losses_of_one(what, config, network, tmp_path):
    """Dice is counted over both; without deep supervision, the lower heads are left alone by both."""
    start_ranks(what, 2, tmp_path)
    one = ranks.run(config, tmp_path / "one", 1, network=network)
    two = pd.read_csv(tmp_path / "run-0" / "history.csv")
    assert two["train_loss"].tolist() == pytest.approx(one.history["train_loss"].tolist(), abs=1e-6)
    assert two["gradient_norm"].tolist() == pytest.approx(one.history["gradient_norm"].tolist(), rel=1e-4)
    assert two["DSC"].tolist() == pytest.approx(one.history["DSC"].tolist(), abs=1e-6)
    weights = load_file(tmp_path / "run-0" / "weights.safetensors")
    for name, tensor in load_file(tmp_path / "one" / "weights.safetensors").items():
        assert torch.allclose(tensor, weights[name], atol=1e-4), name


@pytest.mark.parametrize("rounds", first([4, 20]))
@pytest.mark.parametrize("what", ["together", "apart"])
def test_four_ranks_that_start_together_many_times(what, rounds, tmp_path):
    """As torchrun starts them: all open the same folder at the same moment, as one run or as four of the same run."""
    start_ranks(what, 4, tmp_path, rounds=rounds)
    for number in range(rounds):
        assert {path.name for path in (tmp_path / f"run-{number}").iterdir()} == RUN_FILES


def test_divergence_of_two_processes_is_one_result(tmp_path):
    start_ranks("diverging", 2, tmp_path)
    assert (tmp_path / "run-0" / "diverged.json").exists()


@pytest.mark.thorough  # processes that a test starts: above
def test_processes_that_the_kit_starts_itself(tmp_path):
    config = toy_config(iterations=16, validate_every=2)
    how = {"network": toy_network(dropout=0.0), "data": toy_data(config, Poisoned), "device": "cpu", "progress": False}
    with pytest.raises(Diverged, match="the loss is nan at step"):
        train(config, tmp_path / "run", processes=2, **how)
    assert (tmp_path / "run" / "diverged.json").exists()


SHORT = toy_config(iterations=4, validate_every=2)


def _second(folder):
    start(SHORT, folder, watch=lambda *_: sys.exit("trained a second time"))


def test_a_second_call_waits_for_the_first_and_returns_its_result(tmp_path):
    said, processes = tmp_path / "said", []

    def watch(step, loss, history):
        if step == 1:
            processes.append(in_a_process(_second, tmp_path / "run", said=said))
            while processes[0].is_alive() and not (said.exists() and "waiting" in said.read_text()):
                time.sleep(0.01)

    start(SHORT, tmp_path / "run", watch=watch)
    processes[0].join(60)
    assert processes[0].exitcode == 0, said.read_text()
    assert f"waiting: another process is busy with the run {tmp_path / 'run'}\n" in said.read_text()


def test_a_run_has_one_worker(tmp_path):
    one, other = (Run(tmp_path / "run", toy_config().identity()) for _ in range(2))
    with one.held(), pytest.raises(Busy, match="busy with the run"), other.held(wait=False):
        pass
    with other.held(wait=False):
        pass
