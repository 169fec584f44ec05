"""What to compute on: a device by name, or an error that says why not; and how many processors this process may use."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from lkm_kit.errors import KitError


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """A part of a network that is computed in its parameters' own precision, whatever mixed precision is on around it.

    >>> with torch.autocast("cpu"), without_autocast(torch.device("cpu")):
    ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
    torch.float32
    """
    if device.type == "meta":  # tensors that have a shape only; torch has no autocast for them
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def resolve_device(name: str = "auto") -> torch.device:
    """Turn ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"`` into a device that is really there.

    Where the process is allotted fewer processors than torch has threads, torch is held to them: more threads than
    processors wait for each other.

    Args:
        name: ``"auto"`` takes CUDA where torch sees it and the CPU elsewhere; a device that is asked for by name is
            never replaced by another one.

    Raises:
        KitError: CUDA is asked for and absent (the reason is named), or the name is no device.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if torch.get_num_threads() > allotted_cpus():
        torch.set_num_threads(allotted_cpus())
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise KitError(
            f"there is no device {name!r}", remedy="choose auto, cpu, cuda, or cuda:1 for a second GPU"
        ) from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise KitError(f"the kit does not run on {device.type!r}", remedy="choose auto, cpu or cuda")
    if not torch.cuda.is_available():
        why = (
            f"torch {torch.__version__} is a build without CUDA: install torch's CUDA build"
            if torch.version.cuda is None
            else "torch has CUDA but sees no GPU: check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES"
        )
        raise KitError(f"device {name!r} was asked for, but CUDA is not available", remedy=f"{why}; or use cpu")
    if device.index is not None and device.index >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise KitError(
            f"device {name!r} was asked for, but the last GPU is cuda:{last}", remedy=f"use cuda:0 to cuda:{last}"
        )
    return device


@contextlib.contextmanager
def use_threads(number: int | None, processes: int = 1) -> Iterator[None]:
    """Compute on the CPU with so many threads for a while; None leaves them as they are.

    Sums are divided among threads, so that another number of them changes the last digits of a training. It counts in
    no digest; a run records it.

    Args:
        number: of threads.
        processes: that share each batch; they are started anew and know nothing of this one's threads.

    Raises:
        KitError: no number of threads, more than this process may use, or several processes.

    >>> with use_threads(1):
    ...     torch.get_num_threads()
    1
    """
    if number is None:
        yield
        return
    if not 1 <= number <= allotted_cpus():
        raise KitError(f"{number} threads were asked for", remedy=f"this process may use 1 to {allotted_cpus()}")
    if processes > 1:
        raise KitError("threads were asked for, and several processes", remedy="OMP_NUM_THREADS holds for each of them")
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def hardware(device: torch.device) -> str:
    """What a device is, in words.

    >>> "threads" in hardware(torch.device("cpu"))
    True
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def available_cpus() -> int:
    """How many threads are worth having, at least 1: :func:`allotted_cpus`, or ``OMP_NUM_THREADS`` where it is less.

    >>> 1 <= available_cpus() <= allotted_cpus()
    True
    """
    return min([allotted_cpus(), *_whole_number("OMP_NUM_THREADS")])


def allotted_cpus() -> int:
    """How many processors this process may use, at least 1; ``os.cpu_count()`` counts those of the whole machine.

    The least of what says something: the affinity mask (taskset, Slurm with cgroups), the quota of the cgroup
    (containers, JupyterHub, Kubernetes), and Slurm's numbers: ``SLURM_CPUS_PER_TASK``, which is set only where a job
    asked for it, and ``SLURM_CPUS_ON_NODE``.

    Source: sched(7); cgroups(7) and the kernel's documentation of ``cpu.max`` and ``cpu.cfs_quota_us``; sbatch(1).

    >>> 1 <= allotted_cpus() <= os.cpu_count()
    True
    """
    mask = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [max(1, math.ceil(quota)) for quota in _cgroup_quotas()]
    slurm = [n for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE") for n in _whole_number(name)]
    return min([mask, *quotas, *slurm])


def _whole_number(variable: str) -> Iterator[int]:
    """The number in an environment variable; the first one of a list, OpenMP's "4,2" or Slurm's "2(x3)"; or nothing."""
    text = re.split(r"[,(]", os.environ.get(variable, ""))[0].strip()
    if text.isdecimal() and int(text) > 0:
        yield int(text)


def _cgroup_quotas(root: Path = Path("/")) -> Iterator[float]:
    """Processors' worth of time that this process's cgroups, versions 1 and 2, and those above them may use."""
    for line in _words(root / "proc/self/cgroup", "\n"):
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            mount, files = "sys/fs/cgroup", ("cpu.max",)
        elif "cpu" in controllers.split(","):
            mount, files = "sys/fs/cgroup/cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        # Inside a container the path may be the host's, of which only the mount's top is visible.
        inner = Path(group.lstrip("/"))
        for folder in (inner, *inner.parents):
            words = [word for file in files for word in _words(root / mount / folder / file)]
            if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):  # not "max", not -1
                yield int(words[0]) / int(words[1])


def _words(path: Path, separator: str | None = None) -> list[str]:
    try:
        return [word for word in path.read_text(errors="replace").split(separator) if word]
    except OSError:
        return []
