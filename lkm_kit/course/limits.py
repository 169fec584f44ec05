"""Limits on a learner's answer: an endless loop or a huge array ends in a hint, not in a dead notebook."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

SECONDS = 20.0
"""Computing time of one call; what an exercise asks takes a fraction of a second."""
BYTES = 8 << 30
"""Memory that one call may ask for beyond what the process has already."""


class TooLong(BaseException):
    """The time is over. No Exception: a loop that catches those must not catch this."""


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Bound what runs inside: computing time in the main thread on Unix, memory on Linux; elsewhere nothing.

    Raises:
        TooLong: more than :data:`SECONDS` of computing (waiting does not count, so a busy machine is no reason).
        MemoryError: or NumPy's and torch's own kinds of it, beyond :data:`BYTES`.

    >>> with limits():
    ...     sum(range(10))
    45
    """
    with _bounded_memory(), _bounded_time():
        yield


@contextlib.contextmanager
def _bounded_time() -> Iterator[None]:
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TooLong(f"{SECONDS:g} seconds of computing")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextlib.contextmanager
def _bounded_memory() -> Iterator[None]:
    pages = Path("/proc/self/statm")
    if not pages.is_file():
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = int(pages.read_text().split()[0]) * resource.getpagesize() + BYTES
    if soft != resource.RLIM_INFINITY or hard != resource.RLIM_INFINITY:
        yield  # somebody has set a limit already
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
