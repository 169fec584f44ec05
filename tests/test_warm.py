"""Kernels forked from a process with the imports done: like fresh ones, but sooner; and where none can be had."""

import os
import signal
import socket
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from lkm_kit.course import warm
from lkm_kit.course.execute import execute
from lkm_kit.errors import KitError

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="kernels are forked on Linux only")


LOOK = """import os, signal, sys, tempfile
print("torch" in sys.modules, "lkm_kit" in sys.modules)
print(hash("a"), os.environ["LKM_HERE"], os.getcwd(), __name__, sys.argv[1], sys.path[:2])
print(signal.getsignal(signal.SIGCHLD), signal.getsignal(signal.SIGINT), os.getsid(0) == os.getpid())
print(tempfile.gettempdir() == os.environ["TMPDIR"])
"""
SETTINGS = """import matplotlib, numpy, pandas, torch
print(pandas.describe_option(_print_desc=False))
print(sorted(map(str, matplotlib.rcParams.items())), numpy.get_printoptions(), torch.get_num_threads())
print(torch.are_deterministic_algorithms_enabled(), matplotlib.get_backend())
"""
PLOT = "import matplotlib.pyplot as plt\nplt.plot([0, 1]);"
BUSY = """
import socket, sys, threading, time
from lkm_kit.course import warm
warm.IMPORTED = ()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
warm.serve(socket.socket(fileno=int(sys.argv[1])))
"""
EXECUTES = """
import sys
from pathlib import Path
import nbformat
from lkm_kit.course.execute import execute
cell = "import os, time; print(os.getpid(), file=open('kernel.txt', 'w')); time.sleep(60)"
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
execute(notebook, Path(sys.argv[1]), name="x", warm=True)
"""


@pytest.fixture(scope="module", autouse=True)
def a_server_of_one_thread():
    """For all tests here; one that another file's test began with more threads would fork nothing."""
    warm._server.cache_clear()


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def run(folder, *cells, how=True):
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    execute(notebook, folder, name="a chapter", warm=how)
    return [cell.outputs for cell in notebook.cells]


def test_a_forked_kernel_is_like_a_fresh_one_with_its_imports_done(tmp_path, monkeypatch):
    monkeypatch.setenv("LKM_HERE", "one")
    fresh, fresh_settings, fresh_picture = run(tmp_path, LOOK, SETTINGS, PLOT, how=False)
    monkeypatch.setenv("LKM_HERE", "two")  # the server began, or begins, at another time than the kernel
    forked, settings, picture = run(tmp_path, LOOK, SETTINGS, PLOT)
    first, *rest = fresh[0].text.splitlines()
    also_first, *also_rest = forked[0].text.splitlines()
    assert (first, also_first) == ("False False", "True True")
    assert [line.replace("one", "two") for line in rest] == also_rest and "True" in rest[-1]
    assert "display.max_columns" in settings[0].text
    assert settings[0].text.lower() == fresh_settings[0].text.lower()  # the encoding is called UTF-8 or utf-8
    assert picture[0].data["image/png"] == fresh_picture[0].data["image/png"]


def test_what_a_forked_kernel_makes_is_gone_with_it(tmp_path):
    count = "import math; math.count = getattr(math, 'count', 0) + 1; math.count"
    shown = [run(tmp_path, count)[0][0].data["text/plain"] for _ in range(2)]
    assert shown == ["1", "1"]


def test_a_forked_kernel_that_is_killed_is_reported(tmp_path):
    with pytest.raises(KitError, match="kernel died"):
        run(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")


@pytest.mark.parametrize("channel", ["closed", None], ids=["a server that has died", "a system without"])
def test_without_a_server_the_kernel_is_a_fresh_python(channel, tmp_path, monkeypatch):
    ours, theirs = socket.socketpair()
    theirs.close()
    monkeypatch.setattr(warm, "_server", lambda seed: ours if channel else None)
    (said,) = run(tmp_path, "import sys; 'torch' in sys.modules")
    assert said[0].data["text/plain"] == "False"
    ours.close()


def test_a_server_with_threads_forks_nothing(tmp_path, monkeypatch):
    """A lock that another thread holds while a process forks stays locked for ever in the fork."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", BUSY, str(theirs.fileno())]
    with ours, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as server:
        theirs.close()
        monkeypatch.setattr(warm, "_server", lambda seed: ours)
        assert [warm.fork_kernel([], dict(os.environ), str(tmp_path)) for _ in range(2)] == [None, None]
        assert server.wait(timeout=30) == 0


def test_server_and_kernel_end_with_a_process_that_is_killed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", EXECUTES, str(tmp_path)])
    kernel = tmp_path / "kernel.txt"
    wait_for(lambda: kernel.is_file() and kernel.read_text().strip(), 120)
    begun = psutil.Process(process.pid).children(recursive=True)
    assert int(kernel.read_text()) in {each.pid for each in begun} and len(begun) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(map(alive, begun)), 30)


def alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def wait_for(happens, seconds):
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)
