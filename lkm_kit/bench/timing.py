"""Measurements that can be trusted on a shared machine: alternate the contestants, report medians and ratios."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any


def medians(contestants: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each contestant; they take turns, so that a slow moment of the machine hits all of them."""
    for run in contestants.values():
        run()  # compile, allocate
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What ``function`` returns, called in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _spin(stop) -> None:
    while not stop.is_set():
        sum(range(10_000))


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Another process that keeps one core busy meanwhile."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_spin, args=(stop,), daemon=True)
    process.start()
    time.sleep(1.0)
    try:
        yield
    finally:
        stop.set()
        process.join()
