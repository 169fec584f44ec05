"""Keeping freed memory: only where it can be, never when told not to, and without effect on numbers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# A block of 32 MB is taken, touched and freed again and again; what counts is how many pages the system had to map.
FAULTS = """
import resource, torch
from lkm_kit.memory import keep_memory
took = keep_memory()
for _ in range(10):  # until the process has its size
    torch.ones(1 << 23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(1 << 23)
print(took, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment: str) -> tuple[bool, int]:
    run = subprocess.run(
        [sys.executable, "-c", FAULTS], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    took, count = run.stdout.split()
    return took == "True", int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc's malloc is told")
def test_pages_are_mapped_once_when_memory_is_kept():
    took, kept = faults(LKM_KEEP_MEMORY="1")
    if not took:
        pytest.skip("this C library has no mallopt")
    off, given_back = faults(LKM_KEEP_MEMORY="0")
    assert not off
    assert kept < 0.5 * given_back
