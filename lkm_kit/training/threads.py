"""How many CPU threads a training is given: as many as a short measurement finds worth having."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from lkm_kit.devices import available_cpus, resolve_device, use_threads
from lkm_kit.errors import KitError
from lkm_kit.training.config import TrainConfig
from lkm_kit.training.identity import Identity
from lkm_kit.training.running import initial_network
from lkm_kit.training.store import Run

WORTH = 0.9
"""A larger number of threads must bring a step to this share of the time, or the smaller one is taken. What threads
gain on an idle machine they lose beside one busy process, where all wait for the one that was pushed aside."""

REPEATS = 3


def choose_threads(config: TrainConfig, run_dir: str | Path, device: str = "auto") -> int | None:
    """Threads for a training: those that a run under way was begun with, else the fewest that are worth having.

    Args:
        config: of the training.
        run_dir: its folder.
        device: that it computes on.

    Returns:
        a number; None where there is nothing to choose: not on a CPU, one processor, or a finished run.

    >>> choose_threads(TrainConfig(), "no/such/run", "meta")
    Traceback (most recent call last):
    lkm_kit.errors.KitError: the kit does not run on 'meta'
      -> choose auto, cpu or cuda
    """
    cpus, folder = available_cpus(), Path(run_dir)
    if resolve_device(device).type != "cpu" or cpus == 1 or (folder / "done.json").exists():
        return None
    begun = _begun_with(folder)
    if begun is not None:
        return begun if begun <= cpus else None
    return fewest_worth_having(step_seconds(config, [1, cpus]))


def fewest_worth_having(seconds: Mapping[int, float]) -> int:
    """The fewest threads that no larger number beats by a tenth.

    Args:
        seconds: of a training step, by number of threads.

    >>> fewest_worth_having({1: 0.20, 2: 0.19}), fewest_worth_having({1: 0.20, 2: 0.12})
    (1, 2)
    """
    return next(n for n in sorted(seconds) if all(seconds[m] > WORTH * seconds[n] for m in seconds if m > n))


def step_seconds(
    config: TrainConfig, numbers: list[int], clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Median seconds of forward and backward pass on made-up items, by number of threads; numbers take turns.

    Args:
        config: network, batch and item sizes.
        numbers: of threads.
        clock: seconds.
    """
    with torch.random.fork_rng(devices=[]):
        network = initial_network(config).train()
        items = torch.randn(config.batch_size // config.accumulate, config.input_channels, *config.image_size)
    taken: dict[int, list[float]] = {number: [] for number in numbers}
    for repeat in range(REPEATS + 1):
        for number in numbers:
            with use_threads(number):
                begin = clock()
                heads = network(items)
                sum(
                    head.square().mean() for head in (heads if isinstance(heads, (list, tuple)) else [heads])
                ).backward()
                if repeat:  # the first one compiles and allocates
                    taken[number].append(clock() - begin)
    return {number: statistics.median(each) for number, each in taken.items()}


def _begun_with(folder: Path) -> int | None:
    try:
        state = Run(folder, Identity({})).load_state() or {}
    except KitError:  # a damaged checkpoint: the training itself says so
        return None
    threads = state.get("made_with", {}).get("threads")
    return threads if isinstance(threads, int) else None
