"""Without a GPU, Triton's kernels run in its interpreter; that is decided when triton is imported, hence up here.

Tests run without a network too: phantoms may stand in for the sample scans.
"""

import os
import signal

import pytest
import shared_state
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("LKM_PHANTOMS", "1")

# A shell starts its background jobs with Ctrl-C ignored, and children inherit that: tests of Ctrl-C would find it dead.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def as_it_was():
    """Around every test and its own fixtures."""
    with shared_state.put_back():
        yield


LONG = ("notebook", "browser", "nnunet", "slurm", "mutation")


def pytest_collection_modifyitems(items):
    """Files with long tests first: with short ones at the end, the workers end together."""
    long = {item.path for item in items if any(item.get_closest_marker(name) for name in LONG)}
    items.sort(key=lambda item: item.path not in long)
