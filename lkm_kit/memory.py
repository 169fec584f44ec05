"""The memory of a process: keep what is freed, and how much it was at most.

A training asks for the same large blocks again at every step. glibc gives large blocks back to the system when they are
freed. When the next step asks for them, the system hands out zeroed pages, one page fault each. At the sizes of PiM's
scans that costs as much as the scans' arithmetic.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
_LARGEST_KEPT, _NEVER_TRIM = 1 << 30, (1 << 31) - 1


def keep_memory() -> bool:
    """Make malloc keep what is freed, for the rest of this process; training calls it on a CPU.

    The process then stays as large as it once was. ``LKM_KEEP_MEMORY=0`` in the environment turns it off. Numbers do
    not depend on it.

    Returns:
        whether the C library took it: glibc does; elsewhere nothing changes.

    Source: mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD; measured by ``lkm bench block``.

    >>> keep_memory() in (True, False)
    True
    """
    if os.environ.get("LKM_KEEP_MEMORY") == "0" or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM))


def peak_bytes(pid: int | None = None) -> int:
    """The most memory that a process has had so far, without that of its children; default this process.

    Where the system keeps no such number (macOS), what the process has now. (``ru_maxrss`` will not do: in Linux it
    begins with what the process that started this one had.)

    >>> 10**7 < peak_bytes() < 10**12
    True
    """
    status = Path("/proc", str(pid or os.getpid()), "status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return 1024 * int(found[1])
    import psutil

    memory = psutil.Process(pid).memory_info()
    return getattr(memory, "peak_wset", memory.rss)
