"""Kernels forked from a process that has imported torch and the kit: each starts with its imports done.

A chapter's first seconds go into imports, and they are the same for all chapters. Whoever executes several of them asks
one process, the *server*, for kernels. It has imported everything and computed nothing; each kernel is a fork of it.
A fork is safe where a process has one thread, as here with OMP_NUM_THREADS=1. A server that has more, a system without
``fork`` or pidfds (all but Linux), and a server that has died give no kernels. The caller then starts a fresh Python.

Source: ``fork(2)`` and ``pidfd_open(2)``; the same is done for runs by :mod:`lkm_kit.training.preload`.
"""

from __future__ import annotations

import builtins
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner

if TYPE_CHECKING:
    from jupyter_client.connect import KernelConnectionInfo

IMPORTED = ("matplotlib.pyplot", "scipy.stats", "ipywidgets", "lkm_kit.course", "lkm_kit.training.preload")
"""What the server imports, besides the kernel's own packages and pandas."""
LARGEST_REPLY = 100


class Forked:
    """A kernel's process, which is not a child of this one; what :class:`subprocess.Popen` offers and Jupyter uses.

    Args:
        pid: of the process.
        handle: its pidfd; closed with this object.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, handle: int):
        self.pid, self._handle = pid, handle

    def poll(self) -> int | None:
        """None while it runs, else 1: a process that is no child leaves no status."""
        return 1 if select.select([self._handle], [], [], 0)[0] else None

    def wait(self) -> int:
        """Wait for its end."""
        select.select([self._handle], [], [])
        return 1

    def send_signal(self, number: int) -> None:
        """Send it a signal; ProcessLookupError where it has ended."""
        signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __del__(self):
        os.close(self._handle)


class WarmProvisioner(LocalProvisioner):
    """Jupyter's way to start and end a kernel on this machine, except that it asks the server for the process."""

    async def launch_kernel(self, cmd: list[str], **how: Any) -> KernelConnectionInfo:
        """Start the kernel that ``cmd`` describes; a fresh Python where the server gives none."""
        kernel = fork_kernel(cmd[cmd.index("-f") :], how["env"], how["cwd"])
        if kernel is None:
            return await super().launch_kernel(cmd, **how)
        self.process = kernel
        self.pid = self.pgid = kernel.pid  # it leads a session of its own, as other kernels do
        self.cwd = how["cwd"]
        return self.connection_info


def fork_kernel(arguments: list[str], environment: dict[str, str], folder: str) -> Forked | None:
    """Ask this process's server, which starts with the first call, for a kernel.

    Args:
        arguments: of ipykernel's command line.
        environment: all variables of the kernel. Those that a package reads when it is imported (OMP_NUM_THREADS,
            NUMBA_CACHE_DIR, PYTHONHASHSEED) are what they were at the first call.
        folder: where it works.

    Returns:
        the process; None where there is no such server.
    """
    channel = _server(environment.get("PYTHONHASHSEED", "random"))
    if channel is None:
        return None
    request = {"arguments": arguments, "environment": environment, "folder": folder}
    try:
        channel.sendall(json.dumps(request).encode() + b"\n")
        said, handles, *_ = socket.recv_fds(channel, LARGEST_REPLY, 1)
    except OSError:
        return None
    return Forked(int(said), handles[0]) if handles else None


@functools.cache
def _server(hash_seed: str) -> socket.socket | None:
    """The way to the server, which ends when this process does."""
    if not _has_pidfds():
        return None
    ours, theirs = socket.socketpair()
    # matplotlib reads its backend when it is imported; in a kernel it is this one
    settings = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONHASHSEED": hash_seed}
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "lkm_kit.course.warm", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **settings},
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for the process that asked
        )
    return ours


def _has_pidfds() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # not Linux, or a kernel before 5.3
        return False
    return True


def serve(channel: socket.socket) -> None:
    """The server: import everything, then answer each request with a process id and its pidfd, until nobody asks."""
    import gc
    import importlib

    import numpy  # noqa: F401  whose OpenBLAS begins threads, unless OMP_NUM_THREADS is 1

    if _has_threads():  # said before the seconds of imports
        return
    import ipykernel.kernelapp  # noqa: F401

    # pandas asks at its import whether this is a notebook, and cuts tables to a terminal's width where it is none
    builtins.get_ipython = lambda: SimpleNamespace(kernel=None)  # type: ignore[attr-defined]
    import pandas  # noqa: F401

    del builtins.get_ipython  # type: ignore[attr-defined]
    for name in IMPORTED:
        importlib.import_module(name)
    if _has_threads():
        return
    gc.freeze()  # a collection in a kernel would write to, and so copy, every page of what it inherits
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a kernel here: none stays behind as a zombie
    for line in channel.makefile("rb"):
        child = os.fork()
        if child == 0:
            os.close(channel.fileno())  # else nobody would notice that the server is gone
            _become_kernel(**json.loads(line))
        handle = os.pidfd_open(child)
        socket.send_fds(channel, [str(child).encode()], [handle])
        os.close(handle)


def _has_threads() -> bool:
    return len(os.listdir("/proc/self/task")) > 1


def _become_kernel(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """In the forked process: what a fresh Python would have been given, then the kernel, and never back."""
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # else the server's, not TMPDIR
    sys.argv[1:] = arguments
    try:
        # it looks for its parent once a second, and ends with it
        IPKernelApp.launch_instance(arguments, parent_handle=os.getppid())
    finally:
        os._exit(0)


if __name__ == "__main__":
    if sys.path[0] == "" or Path(sys.path[0]) == Path.cwd():
        del sys.path[0]  # as ipykernel's own launcher does
    serve(socket.socket(fileno=int(sys.argv[1])))
