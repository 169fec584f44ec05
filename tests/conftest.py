"""Without a GPU, Triton's kernels run in its interpreter; that is decided when triton is imported, hence up here.

Tests run without a network too: phantoms may stand in for the sample scans.
"""

import dataclasses
import os
import signal

import pytest
import shared_state
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("LKM_PHANTOMS", "1")

# One thread, here and in the processes that tests start: runs that are compared bit by bit need the same number.
if "OMP_NUM_THREADS" not in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

# A shell starts its background jobs with Ctrl-C ignored, and children inherit that: tests of Ctrl-C would find it dead.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def as_it_was():
    """Around every test and its own fixtures."""
    with shared_state.put_back():
        yield


@pytest.fixture
def a_slab(monkeypatch):
    """An eighth of the patient, from the middle: predicting and scoring all slices takes most of a short run's time."""
    from lkm_kit.data import training_case

    case = training_case("CT")
    middle = slice(7 * case.shape[2] // 16, 9 * case.shape[2] // 16)
    slab = dataclasses.replace(case, image=case.image[..., middle], label=case.label[..., middle])
    monkeypatch.setattr("lkm_kit.data.training_case", lambda modality: slab)


LONG = ("notebook", "browser", "nnunet", "slurm", "mutation")
"""Marks of tests that take long, and other files in which one takes ten seconds or more."""
LONG_FILES = (
    "test_gpu_check", "test_meta_steps", "test_orders_and_mixers", "test_processes", "test_site", "test_studies_smoke",
    "test_threads", "test_triton",
)  # fmt: skip


HERE = "test_chapter_and_its_student_copy_run"
ELSEWHERE = ("test_chapter_runs_and_its_widgets_move",)
"""Tests of a chapter and its student copy: in a kernel alone, in a browser."""


def executes_a_chapter(item, names=(HERE, *ELSEWHERE)):
    return getattr(item, "originalname", None) in names and not any(m.args[0] for m in item.iter_markers("skipif"))


@pytest.hookimpl(trylast=True)  # when -m and -k have chosen
def pytest_collection_modifyitems(config, items):
    """Files with long tests first: with short ones at the end, the workers end together. A chapter is executed once."""
    elsewhere = {item.callspec.id for item in items if executes_a_chapter(item, ELSEWHERE)}
    again = [item for item in items if executes_a_chapter(item, [HERE]) and item.callspec.id in elsewhere]
    if again:
        config.hook.pytest_deselected(items=again)
        items[:] = [item for item in items if item not in again]
    long = {item.path for item in items if any(item.get_closest_marker(name) for name in LONG)}
    items.sort(key=lambda item: item.path not in long and item.path.stem not in LONG_FILES)
