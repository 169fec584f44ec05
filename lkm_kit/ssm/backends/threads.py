"""A small thread pool of the kit's own, which never fights torch's.

numba's parallel loops bring a second pool that spins beside torch's and breaks after fork. Kernels compiled without the
interpreter's lock need nothing of the sort: ranges of tasks go to a few Python threads that sleep when idle.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_lock = threading.Lock()
_pool: tuple[tuple[int, int], ThreadPoolExecutor] | None = None
# More ranges than threads: a core that another process keeps busy then holds up one range, not half the work.
_RANGES_PER_THREAD = 4


def _executor(threads: int) -> ThreadPoolExecutor:
    """The pool of this process (a forked child must not use its parent's) and of this number of threads."""
    global _pool
    key = (os.getpid(), threads)
    with _lock:
        if _pool is None or _pool[0] != key:
            _pool = (key, ThreadPoolExecutor(threads, thread_name_prefix="lkm-scan"))
        return _pool[1]


def run_ranges(kernel: Callable[[int, int], None], tasks: int) -> None:
    """Call ``kernel(first, last)`` on ranges that cover 0..tasks, on torch.get_num_threads() threads at once.

    >>> done = []
    >>> run_ranges(lambda first, last: done.extend(range(first, last)), 10)
    >>> sorted(done) == list(range(10))
    True
    """
    threads = min(torch.get_num_threads(), tasks)
    if threads <= 1:
        kernel(0, tasks)
        return
    ranges = min(tasks, threads * _RANGES_PER_THREAD)
    edges = [i * tasks // ranges for i in range(ranges + 1)]
    pending = itertools.pairwise(edges)
    take = threading.Lock()

    def work() -> None:
        while True:
            with take:
                piece = next(pending, None)
            if piece is None:
                return
            kernel(*piece)

    others = [_executor(threads - 1).submit(work) for _ in range(threads - 1)]
    work()  # the calling thread works too
    for other in others:
        other.result()


def _forget_after_fork() -> None:
    """The parent may have held the lock at the moment of the fork."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
