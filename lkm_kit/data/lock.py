"""One writer at a time: two scripts that fill the same folder wait for each other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lkm_kit.errors import KitError


@contextmanager
def locked(path: str | Path, what: str, *, wait_s: float = 3600.0) -> Iterator[None]:
    """Hold the lock file ``path``; a second caller says that it waits, and goes on when the first is done.

    The operating system frees the lock of a process that dies, so a killed run never blocks the next one.

    Args:
        path: of the lock file; its folder is made.
        what: is being done, for the messages.
        wait_s: how long to wait, in seconds.

    Raises:
        KitError: the other one took longer than ``wait_s``.

    >>> import tempfile
    >>> with locked(tempfile.mkdtemp() + "/x.lock", "a test"):
    ...     pass
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"waiting: another process is busy with {what}", file=sys.stderr, flush=True)
            lock.acquire(timeout=wait_s)
    except Timeout as error:
        raise KitError(
            f"another process has been busy with {what} for {wait_s:.0f} s (it holds {path})",
            remedy="wait until it has finished, or end it, and run the same command again",
        ) from error
    try:
        yield
    finally:
        lock.release()
