"""A small thread pool of the kit's own, which never fights torch's.

numba's parallel loops bring a second pool that spins beside torch's and breaks after fork. Kernels compiled without the
interpreter's lock need nothing of the sort: ranges of tasks go to a few Python threads that sleep when idle.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_lock = threading.Lock()
_pool: tuple[int, ThreadPoolExecutor] | None = None
# More ranges than threads: a core that another process keeps busy then holds up one range, not half the work.
_RANGES_PER_THREAD = 4


def _executor(threads: int) -> ThreadPoolExecutor:
    """The pool of this process, with room for at least so many threads; one that has become too small ends by itself
    when its last work is done."""
    global _pool
    with _lock:
        if _pool is None or _pool[0] < threads:
            _pool = (threads, ThreadPoolExecutor(threads, thread_name_prefix="lkm-scan"))
        return _pool[1]


def run_ranges(kernel: Callable[[int, int], None], tasks: int) -> None:
    """Call ``kernel(first, last)`` on ranges that cover 0..tasks, on torch.get_num_threads() threads at once.

    Kernels read and write through bare addresses. So nothing leaves this function, Ctrl-C least of all, while a thread
    is inside a kernel; what was not yet begun is dropped then. A kernel that refers to its tensors keeps them alive
    even beyond that.

    Args:
        kernel: works on tasks first..last-1, without the interpreter's lock.
        tasks: their number.

    Raises:
        whatever a kernel raises, in whichever thread, and ``KeyboardInterrupt``.

    >>> done = []
    >>> run_ranges(lambda first, last: done.extend(range(first, last)), 10)
    >>> sorted(done) == list(range(10))
    True
    """
    room = torch.get_num_threads() - 1
    helpers = min(room, tasks - 1)
    if helpers <= 0:
        kernel(0, tasks)
        return
    ranges = min(tasks, (helpers + 1) * _RANGES_PER_THREAD)
    # Taken from the end: pop and clear are atomic, and an empty list tells a thread that comes late to go.
    pending = [(i * tasks // ranges, (i + 1) * tasks // ranges) for i in reversed(range(ranges))]
    inside = [threading.Lock() for _ in range(helpers)]  # one per helper, held while it works
    failures: list[BaseException] = []

    def work() -> None:
        while True:
            try:
                piece = pending.pop()
            except IndexError:
                return
            kernel(*piece)

    def help_out(busy: threading.Lock) -> None:
        with busy:
            try:
                work()
            except BaseException as error:  # for the calling thread to raise
                pending.clear()
                failures.append(error)

    try:
        pool = _executor(room)
        with contextlib.suppress(RuntimeError):  # no thread to be had: the caller does all the work
            for busy in inside:
                pool.submit(help_out, busy)
        work()
    except BaseException as error:  # Ctrl-C may come at any moment, also while threads are being asked
        failures.append(error)
    while True:
        try:
            if failures:
                pending.clear()
            for busy in inside:
                with busy:
                    pass
            break
        except BaseException as error:  # a second Ctrl-C, while waiting
            failures.append(error)
    if failures:
        try:
            raise failures[0]
        finally:
            failures.clear()  # an error that its own frame refers to would keep the tensors until the next collection


def _forget_after_fork() -> None:
    """Threads do not survive a fork, and the parent may have held the lock at that moment."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
