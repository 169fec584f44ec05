"""Training, study and prediction, killed and interrupted at random moments: nothing is lost, and no number changes.

LKM_INTERRUPTIONS says how often (default 2 of each; 100 takes about half an hour on two quiet cores).
"""

import contextlib
import functools
import multiprocessing
import os
import random
import signal
import sys
import time

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from toy_study import plan, squares
from toy_training import PRELOAD, start, toy_config

from lkm_kit.studies.runner import run_study

if not hasattr(signal, "SIGKILL"):
    pytest.skip("Windows kills and forks otherwise", allow_module_level=True)
NUMBER = int(os.environ.get("LKM_INTERRUPTIONS", "2"))
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(PRELOAD)
pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(240 + 60 * NUMBER)]


def _train(folder):
    start(toy_config(iterations=40, validate_every=4), folder)


def _study(folder):
    run_study(plan(folder, 1), datasets=squares, device="cpu", log=lambda line: None)


def _predict(folder):
    from lkm_kit.cli import main

    sys.argv = ["lkm", "predict", str(folder / "scan.nii.gz"), "-o", str(folder / "out.nii.gz"), "--run", "tiny-2d"]
    with contextlib.suppress(SystemExit):
        main()


def _child(work, folder):
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1), os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    work(folder)


def run(work, folder, after=None, how=None):
    """Do the work in a process of its own, to its end or for ``after`` seconds; returns the seconds it took."""
    process = CONTEXT.Process(target=_child, args=(work, folder), daemon=True)
    began = time.monotonic()
    process.start()
    process.join(after)
    if process.is_alive() and how is not None:
        os.kill(process.pid, how)
    process.join(180)
    assert process.exitcode is not None, "it hangs"
    assert process.exitcode != -signal.SIGSEGV
    return time.monotonic() - began


def _of_training(folder):
    history = pd.read_csv(folder / "history.csv").drop(columns="seconds")
    return [
        history.to_csv(),
        *(t.numpy().tobytes() for _, t in sorted(load_file(folder / "weights.safetensors").items())),
    ]


def _of_study(folder):
    found = {path.relative_to(folder): path.read_bytes() for path in sorted(folder.glob("**/per_case.csv"))}
    assert len(found) == 2
    return found


def _of_prediction(folder):
    return np.asarray(nibabel.load(folder / "out.nii.gz").dataobj).tobytes()


WORK = {"train": (_train, _of_training), "study": (_study, _of_study), "predict": (_predict, _of_prediction)}


def prepared(folder):
    folder.mkdir()
    image = np.random.default_rng(0).normal(40, 60, (64, 64, 24)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([3.0, 3.0, 3.0, 1.0])), folder / "scan.nii.gz")
    return folder


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """What a piece of work gives when nothing happens to it, and the seconds that it takes."""

    @functools.cache
    def left_alone(name):
        work, result = WORK[name]
        folder = tmp_path_factory.mktemp(name)
        whole = prepared(folder / "whole")
        run(work, whole)  # compiles and caches
        seconds = run(work, prepared(folder / "timed"))
        wanted = result(whole)
        assert result(folder / "timed") == wanted
        return wanted, seconds

    return left_alone


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda signal: signal.name)
@pytest.mark.parametrize("name", WORK)
def test_nothing_is_lost_and_no_number_changes(name, how, left_alone, tmp_path):
    work, result = WORK[name]
    wanted, seconds = left_alone(name)
    rng, folder, rest = random.Random(f"{name} {how}"), prepared(tmp_path / "0"), NUMBER
    for attempt in range(1, 20 * NUMBER):
        run(work, folder, rng.uniform(0.02, 0.9) * seconds, how)
        rest -= 1
        with contextlib.suppress(FileNotFoundError):
            if name == "predict" or (folder / "done.json").exists():
                assert result(folder) == wanted  # whole, or not there
                folder = prepared(tmp_path / str(attempt))
        if rest == 0:
            break
    run(work, folder)
    assert result(folder) == wanted
    leftovers = [p.name for p in folder.rglob(".*") if p.is_file() and not p.name.endswith(".lock")]
    assert not leftovers, leftovers
