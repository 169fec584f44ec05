"""Run a chapter from its first cell to its last in a fresh kernel of this very Python."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from lkm_kit.course.outputs import ANSI, clean
from lkm_kit.errors import KitError, Terminated
from lkm_kit.memory import peak_bytes
from lkm_kit.profiles import profile

PATIENCE_S = {"smoke": 240, "laptop": 3600}
"""Seconds a cell may take before it counts as hanging; at the larger profiles a training may take days."""


def execute(
    notebook: NotebookNode,
    folder: Path,
    *,
    name: str,
    lines: Sequence[int] = (),
    source: str = "",
    places: dict[str, str] | None = None,
    on_cell: Callable[[], None] = lambda: None,
    warm: bool = False,
) -> NotebookNode:
    """Execute ``notebook`` in place, with ``folder`` as its working folder, and clean its outputs.

    The kernel is the Python that runs this, whatever kernels are registered on the machine, and it reads no
    personal IPython configuration.

    Args:
        notebook: what to run.
        folder: working folder of the kernel.
        name: what messages call the chapter.
        lines: line of the source where each cell starts, to name the place of an error.
        source: what messages call the source.
        places: further folders to hide from the outputs, see :func:`lkm_kit.course.outputs.clean`.
        on_cell: called after each code cell.
        warm: this is one of several: fork the kernel from a process with the imports done, where that is safe
            (:mod:`lkm_kit.course.warm`).

    Returns:
        the same notebook, executed; ``metadata["lkm"]`` says the profile and the kernel's peak memory.

    Raises:
        KitError: a cell raised (names the cell and the line of the source), or the kernel died.
        KeyboardInterrupt: SIGINT, or as :class:`lkm_kit.errors.Terminated` SIGTERM; the kernel is gone by then.
    """
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    folder.mkdir(parents=True, exist_ok=True)
    manager = AsyncKernelManager(kernel_spec_manager=_this_python(warm), kernel_name="python3")
    peaks = [0.0]

    def after_cell(**_) -> None:
        peaks.append(peak_bytes(manager.provisioner.pid) / 1e9)
        on_cell()

    client = _client_class()(
        notebook,
        km=manager,
        timeout=PATIENCE_S.get(profile().name),
        record_timing=False,
        shutdown_kernel="immediate",  # asked politely, a Python with torch and numba in it takes three seconds to go
        store_widget_state=True,  # Output widgets need it while the notebook runs; clean() takes it out
        coalesce_streams=True,  # else chance decides how many pieces a cell prints
        resources={"metadata": {"path": str(folder)}},
        on_cell_executed=after_cell,
    )
    client.owns_km = True  # else the kernel would live on, with its memory, until this process ends
    with tempfile.TemporaryDirectory(prefix="lkm-kernel-") as private, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the messages of Jupyter's own packages, not of the chapter
        try:
            # a kernel that is killed leaves its temporary folders behind: they go with this one
            settings = {"IPYTHONDIR": private, "TMPDIR": private, "PYTHONHASHSEED": "0"}
            settings["LKM_UNWATCHED"] = "1"  # lkm_kit.widgets.live_curve draws once, at its end
            client.run(env={**os.environ, **settings})
        except CellExecutionError as error:
            position = next(
                (i for i, cell in enumerate(notebook.cells) if any(o.output_type == "error" for o in _outputs(cell))),
                -1,
            )
            place = f", {source} line {lines[position]}" if -1 < position < len(lines) else ""
            trace = "\n".join(ANSI.sub("", str(error)).strip().splitlines()[-25:])
            raise KitError(
                f"{name}: cell {position + 1}{place} raised {error.ename}: {ANSI.sub('', error.evalue)}\n{trace}",
                remedy="correct the cell in the source, then run the same command again",
            ) from None
        except DeadKernelError:
            raise KitError(
                f"{name}: the kernel died in the middle of the chapter",
                remedy="most often the memory ran out: close other programs, or take a smaller LKM_PROFILE",
            ) from None
        except CellTimeoutError as error:
            raise KitError(
                f"{name}: a cell did not end in {client.timeout} s: {str(error).splitlines()[-1]}",
                remedy="run the same command again; if it hangs at the same cell, choose a smaller LKM_PROFILE",
            ) from None
    notebook.metadata.language_info = {"name": "python"}  # without the version of the Python that ran it
    notebook.metadata["lkm"] = {"profile": profile().name, "peak_gb": round(max(peaks), 1)}
    return clean(notebook, places)


def _client_class() -> type:
    """nbclient's client, which SIGINT and SIGTERM stop as they stop any other program.

    Its own handlers take the kernel away under its feet; what it then raises says nothing of a signal.
    """
    import nbclient

    class Client(nbclient.NotebookClient):
        """A client of one chapter."""

        async def async_start_new_kernel(self, **how: Any) -> None:
            """After nbclient has put its handlers in place, put others there."""
            task, loop = asyncio.current_task(), asyncio.get_running_loop()

            def stop(number: int) -> None:
                if self.stopped is None:  # a second one would interrupt the clearing up
                    self.stopped = number
                    task.cancel()

            with contextlib.suppress(RuntimeError):  # in another thread, or on Windows
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, stop, number)
            await super().async_start_new_kernel(**how)

        def run(self, **how: Any) -> None:
            """Execute the notebook; raise what a signal means."""
            self.stopped = None
            before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                self.execute(**how)
            except BaseException:
                if self.stopped:
                    raise (Terminated if self.stopped == signal.SIGTERM else KeyboardInterrupt) from None
                raise
            finally:
                if threading.current_thread() is threading.main_thread():
                    for number, handler in before.items():
                        signal.signal(number, handler or signal.SIG_DFL)

    return Client


def _outputs(cell: NotebookNode) -> list[NotebookNode]:
    return cell.outputs if cell.cell_type == "code" else []


def _this_python(warm: bool):
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.provisioning.factory import KernelProvisionerFactory

    factory, name = KernelProvisionerFactory.instance(), "lkm-warm"
    factory.provisioners[name] = EntryPoint(name, "lkm_kit.course.warm:WarmProvisioner", factory.GROUP_NAME)
    metadata = {"kernel_provisioner": {"provisioner_name": name}} if warm else {}

    class ThisPython(KernelSpecManager):
        """Knows one kernel: the running interpreter with its packages."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            arguments = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
            return KernelSpec(argv=arguments, display_name="Python 3 (ipykernel)", language="python", metadata=metadata)

    return ThisPython()
