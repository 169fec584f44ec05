"""Every long piece of work, killed and interrupted at random moments: nothing is lost, and no number changes.

LKM_INTERRUPTIONS says how often (default 2 of each; 100 takes about half an hour on two quiet cores).
"""

import contextlib
import functools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from fault_server import FaultServer
from safetensors.torch import load_file
from test_hippocampus import members, write_tar
from toy_study import plan, squares
from toy_training import PRELOAD, start, toy_config

from lkm_kit.data.download import download
from lkm_kit.data.hippocampus import prepare_hippocampus
from lkm_kit.studies.report import make_report
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
    run_study(plan(folder / "new", 1), datasets=squares, device="cpu", log=lambda line: None)


def _predict(folder):
    from lkm_kit.cli import main

    sys.argv = ["lkm", "predict", str(folder / "scan.nii.gz"), "-o", str(folder / "out.nii.gz"), "--run", "tiny-2d"]
    with contextlib.suppress(SystemExit):
        main()


def _report(folder):
    make_report(plan(folder / "study", 1)).write(folder / "report")


def _unpack(folder):
    prepare_hippocampus(folder / "archive.tar", folder / "raw")


def _download(folder):
    download((folder / "url").read_text(), folder / "scans.zip", pause_s=0.01)


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
    (folder / "done.json").stat()
    history = pd.read_csv(folder / "history.csv").drop(columns="seconds")
    return [
        history.to_csv(),
        *(t.numpy().tobytes() for _, t in sorted(load_file(folder / "weights.safetensors").items())),
    ]


def _files(folder, pattern):
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob(pattern) if path.is_file()}


def _of_study(folder):
    found = _files(folder, "new/**/per_case.csv")
    if len(found) < 2:
        raise FileNotFoundError("one of the two arms has no scores yet")
    return found


def _of_prediction(folder):
    return np.asarray(nibabel.load(folder / "out.nii.gz").dataobj).tobytes()


def _of_report(folder):
    (folder / "report" / "learning.json").stat()
    return _files(folder, "report/*")


def _of_unpacking(folder):
    (folder / "raw" / "Dataset004_Hippocampus" / "splits_final.json").stat()
    return _files(folder, "raw/**/*.nii.gz") | _files(folder, "raw/*/splits_final.json")


def _of_download(folder):
    return (folder / "scans.zip").read_bytes()


WORK = {
    "train": (_train, _of_training),
    "study": (_study, _of_study),
    "predict": (_predict, _of_prediction),
    "report": (_report, _of_report),
    "unpack": (_unpack, _of_unpacking),
    "download": (_download, _of_download),
}
"""Name -> the work in a folder, and what it gave; FileNotFoundError as long as it is not done."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Makes a folder in which every piece of work can begin."""
    model = tmp_path_factory.mktemp("model")
    image = np.random.default_rng(0).normal(40, 60, (64, 64, 24)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([3.0, 3.0, 3.0, 1.0])), model / "scan.nii.gz")
    write_tar(model / "archive.tar", members())
    run_study(plan(model / "study", 1), datasets=squares, device="cpu", log=lambda line: None)
    with FaultServer({"scans.zip": random.Random(0).randbytes(50_000_000)}) as server:
        (model / "url").write_text(server.url("scans.zip"))
        yield lambda folder: shutil.copytree(model, folder)


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory, prepared):
    """What a piece of work gives when nothing happens to it, and the seconds that it takes."""

    @functools.cache
    def left_alone(name):
        work, result = WORK[name]
        folder = tmp_path_factory.mktemp(name)
        whole = prepared(folder / "whole")
        run(work, whole)  # compiles and caches
        seconds = run(work, prepared(folder / "timed"))
        wanted = result(whole)
        assert wanted and result(folder / "timed") == wanted
        return wanted, seconds

    return left_alone


IN_MAKE_TEST = {("train", signal.SIGKILL), ("study", signal.SIGINT)}
"""CI interrupts every work by both signals."""
CASES = [
    pytest.param(name, how, id=f"{name}-{how.name}", marks=() if (name, how) in IN_MAKE_TEST else pytest.mark.thorough)
    for name in WORK
    for how in (signal.SIGKILL, signal.SIGINT)
]


@pytest.mark.parametrize(("name", "how"), CASES)
def test_nothing_is_lost_and_no_number_changes(name, how, left_alone, prepared, tmp_path):
    work, result = WORK[name]
    wanted, seconds = left_alone(name)
    rng, folder, rest = random.Random(f"{name} {how}"), prepared(tmp_path / "0"), NUMBER
    for attempt in range(1, 20 * NUMBER):
        run(work, folder, rng.uniform(0.02, 0.9) * seconds, how)
        rest -= 1
        with contextlib.suppress(FileNotFoundError):
            assert result(folder) == wanted  # whole, or not there
            folder = prepared(tmp_path / str(attempt))
        if rest == 0:
            break
    run(work, folder)
    assert result(folder) == wanted
    leftovers = [p.name for p in folder.rglob(".*") if p.is_file() and not p.name.endswith(".lock")]
    assert not leftovers, leftovers
