"""Several figures at a time, each group in a process of its own: ``lkm figures --jobs``."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from lkm_kit.devices import available_cpus
from lkm_kit.figures.registry import build_figures

SHARED = ("organ_scores", "held_out_patient")
"""Figures of the same predictions, which a process makes once."""
LONGEST = (*SHARED, "erf_before_and_after")
"""Figures that take longest: they begin first."""
TIMED = ("cost_against_length",)
"""Figures that show how long something takes: each is built when all others are there."""


def groups(names: Sequence[str]) -> list[list[str]]:
    """Figures that one process builds, in the order in which they begin.

    >>> groups(["token_orders", "held_out_patient", "erf_before_and_after", "organ_scores"])
    [['organ_scores', 'held_out_patient'], ['erf_before_and_after'], ['token_orders']]
    """
    ordered = sorted(names, key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))
    shared = [name for name in ordered if name in SHARED]
    alone = [[name] for name in ordered if name not in SHARED]
    return [shared, *alone] if shared else alone


def build_side_by_side(names: Sequence[str], folder: str | Path | None = None, jobs: int = 2) -> Iterator[list[Path]]:
    """Build figures as :func:`lkm_kit.figures.build_figures` does, several at a time.

    What shows how long something takes (:data:`TIMED`) comes last, one after the other, with nothing beside it. A
    training that several figures show is made once: the others wait for it.

    Args:
        names: keys of :data:`lkm_kit.figures.FIGURES`.
        folder: default :func:`lkm_kit.plots.style.figure_folder`.
        jobs: processes, no more than there are processors; so are their threads together.

    Yields:
        paths of the pictures of a group, when it is there.

    Raises:
        KitError: of the first figure that failed.

    >>> import tempfile
    >>> [path.name for paths in build_side_by_side(["u_shape"], tempfile.mkdtemp(), jobs=1) for path in paths]
    ['u_shape.png', 'u_shape-dark.png']
    """
    untimed = [name for name in names if name not in TIMED]
    spawn, jobs = multiprocessing.get_context("spawn"), min(jobs, available_cpus())
    threads = available_cpus() // jobs
    with ProcessPoolExecutor(jobs, spawn, torch.set_num_threads, (threads,)) as pool:
        begun = [pool.submit(build_figures, group, folder) for group in groups(untimed)]
        try:
            for future in as_completed(begun):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
    for name in names:
        if name in TIMED:
            yield build_figures([name], folder)
