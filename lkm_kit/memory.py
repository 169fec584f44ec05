"""Keep freed memory in the process: a training asks for the same large blocks again at every step.

glibc gives large blocks back to the system when they are freed, and the system hands out zeroed pages, one page fault
each, when the next step asks for them. At the sizes of PiM's scans that costs as much as the scans' arithmetic.
"""

from __future__ import annotations

import ctypes
import os
import sys

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
