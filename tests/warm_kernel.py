"""Kernels that are forked from the tests' warm process: a chapter runs at once instead of importing for seconds."""

import os
import runpy
import sys
import time

from toy_training import in_a_process

INLINE = "module://matplotlib_inline.backend_inline"


class Forked:
    """What jupyter_client asks of a started kernel, in ``subprocess.Popen``'s words."""

    stdin = stdout = stderr = None

    def __init__(self, process):
        self.process, self.pid = process, process.pid

    def poll(self):
        return self.process.exitcode

    def wait(self, timeout=None):
        self.process.join(timeout)
        return self.process.exitcode

    def send_signal(self, signum):
        os.kill(self.pid, signum)


def launch(command, *, env, cwd=None, **_):
    """Instead of ``jupyter_client.launcher.launch_kernel``: the same command, but not in a new Python."""
    words = command[command.index("-m") + 1 :]
    process = in_a_process(_kernel, words, dict(env), cwd, daemon=False)  # a daemon could not start processes
    while process.is_alive() and os.getpgid(process.pid) != process.pid:
        time.sleep(0.005)  # until then it shares the tests' group, and signals for the kernel go to its group
    return Forked(process)


def _kernel(words, environment, folder):
    import matplotlib  # which had not heard of a notebook when it was imported

    os.setsid()
    os.environ.clear()
    os.environ.update(environment, JPY_PARENT_PID=str(os.getppid()))  # when that process ends, the kernel does
    matplotlib.rcParams["backend"] = INLINE
    if folder is not None:
        os.chdir(folder)
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
