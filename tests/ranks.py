"""Ranks as torchrun starts them, forked from one process that has imported everything but computed nothing yet."""

import os
import sys
import time
import traceback
from pathlib import Path

import torch
from toy_training import Poisoned, toy_config, toy_data, toy_network

from lkm_kit.training import Diverged, train

SMALL = {"features_per_stage": [4, 8, 8], "strides": [[1, 1], [2, 2], [2, 2]], "windows": [8, 4, 4]}  # two heads
BATCH_DICE = toy_config(iterations=6, validate_every=1)
EACH_DICE = toy_config(iterations=6, validate_every=1, batch_dice=False)
ONE_HEAD = toy_config(
    iterations=4, validate_every=2, deep_supervision=False, network_overrides=SMALL, optimizer="sgd"
)  # AdamW would make steps of the rounding errors in gradients that are zero
SHORT = toy_config(iterations=1, validate_every=1, validation_slices=4)
DIVERGING = toy_config(iterations=16, validate_every=2)


def run(config, folder, processes, kind=None, network="toy"):
    network = toy_network(dropout=0.0) if network == "toy" else None
    data = toy_data(config, kind) if kind else toy_data(config)
    return train(config, folder, network=network, data=data, device="cpu", processes=processes, progress=False)


def batch_dice(folder, processes):
    run(BATCH_DICE, folder, processes)


def each_dice(folder, processes):
    run(EACH_DICE, folder, processes)


def one_head(folder, processes):
    run(ONE_HEAD, folder, processes, network=None)


def together(folder, processes):
    assert len(run(SHORT, folder, processes).history) == 1


def apart(folder, processes):
    """Each takes itself for the only process, as where `lkm train` is started without --processes."""
    assert len(run(SHORT, folder, 1).history) == 1


def diverging(folder, processes):
    for _ in range(2):  # the second time, nothing is tried
        try:
            run(DIVERGING, folder, processes, Poisoned)
        except Diverged as error:
            assert "the loss is nan at step" in str(error)
        else:
            raise AssertionError("a NaN went unnoticed")


def main(what, ranks, folder, ports):
    """``what`` is a function above: one round of it for each port, all ranks at a barrier first."""
    children = []
    os.environ.update(MASTER_ADDR="127.0.0.1", WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks), GROUP_RANK="0")
    os.environ["TORCHELASTIC_RUN_ID"] = "test"
    for rank in range(ranks):
        if pid := os.fork():
            children.append(pid)
            continue
        try:
            torch.set_num_threads(1)
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
            for number, port in enumerate(ports):
                os.environ["MASTER_PORT"] = port
                Path(folder, f".ready-{number}-{rank}").touch()
                while not all(Path(folder, f".ready-{number}-{other}").exists() for other in range(ranks)):
                    time.sleep(0.001)
                globals()[what](Path(folder, f"run-{number}"), ranks)
                if torch.distributed.is_initialized():
                    torch.distributed.destroy_process_group()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
