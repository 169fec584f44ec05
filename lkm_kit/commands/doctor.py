"""``lkm doctor``: what this machine has, what is missing and why, and how fast it trains."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Examples:  lkm doctor  |  lkm doctor --no-speed"
PACKAGES = ("monai", "lightning-fabric", "numba", "nibabel", "safetensors")
BRINGING = {
    "triton": "pip install triton  (on Linux; torch's builds with CUDA bring it)",
    "cuda": "MAMBA_KEEP_CUDA_BUILD=TRUE pip install --no-build-isolation 'causal-conv1d==1.6.*' mamba-ssm"
    "  (docs/install.md: which torch)",
}
"""Backends that need a GPU, and what brings them to a machine that has one."""
OPTIONAL = ("jupyterlab", "mamba-ssm", "causal-conv1d", "nnunetv2")


def doctor(
    speed: Annotated[
        bool, typer.Option(help="Train the tiny network for two seconds to see how fast this machine is.")
    ] = True,
) -> None:
    """Say what this machine offers: Python, torch, devices, scan backends with reasons, threads, disk, speed."""
    import torch

    from lkm_kit.devices import allotted_cpus
    from lkm_kit.profiles import profile
    from lkm_kit.ssm import scan_backends
    from lkm_kit.ssm.selective_scan import choose_backend
    from lkm_kit.training import runs_root

    chosen = profile()
    told = f"profile {chosen.name} (LKM_PROFILE {_variable('LKM_PROFILE')})"
    _line("lkm-kit", f"{version().removeprefix('lkm-kit ')}, {told}")
    _line("python", f"{platform.python_version()} ({sys.executable}), {platform.system()} {platform.machine()}")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    _line("torch", f"{torch.__version__} ({build})")
    _line("device", _devices(torch))
    for number, (name, state) in enumerate(scan_backends().items()):
        _line("scan backends" if number == 0 else "", f"{name}: {state}")
        if not state.startswith("ok") and (command := _bringing(name, torch, state)):
            _line("", f"  -> {command}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _line("scan", f"{choose_backend(device)}, on {device.type}")
    given = f"{allotted_cpus()} of {os.cpu_count()} processors are this process's"
    _line("threads", f"{torch.get_num_threads()}; {given} (OMP_NUM_THREADS {_variable('OMP_NUM_THREADS')})")
    _line("packages", ", ".join(f"{name} {_version(name) or 'MISSING'}" for name in PACKAGES))
    _line("optional", ", ".join(f"{name} {_version(name) or 'not installed'}" for name in OPTIONAL))
    for what, folder in (("runs", runs_root()), ("home", Path.home())):
        _line(f"disk: {what}", f"{_free_gb(folder):.1f} GB free at {folder}")
    if speed:
        milliseconds, batch = training_step_ms(chosen, seconds=2.0)
        minutes = chosen.iterations * milliseconds / 60_000
        # one network is timed at the tiny preset: at gpu and paper sizes that says nothing about the whole training
        told = f"; {chosen.iterations} steps: about {minutes:.1f} min" if chosen.network == "tiny-2d" else ""
        _line("speed", f"{milliseconds:.0f} ms a training step of tiny-2d, {batch} slices of 96x96{told}")


def version() -> str:
    """Version and, of a checkout, its commit; ``+`` where files differ from it.

    >>> version().startswith("lkm-kit ")
    True
    """
    from lkm_kit import __version__

    root, found = Path(__file__).resolve().parents[2], f"lkm-kit {__version__}"
    if not (root / ".git").exists():
        return found
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("git") else None
    return f"{found}, commit {done.stdout.strip()}" if done is not None and done.returncode == 0 else found


def training_step_ms(chosen, *, seconds: float) -> tuple[float, int]:
    """Time training steps of LKM-UNet tiny-2d for a while; returns the median in ms and the batch size."""
    import torch

    from lkm_kit.networks import build_network
    from lkm_kit.training import TrainConfig, make_loss, make_optimizer

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = TrainConfig.from_profile("laptop")
    batch = config.batch_size if chosen.name != "smoke" else 2
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=7, deep_supervision=True).to(device)
        image = torch.randn(batch, 1, 96, 96, device=device)
        label = torch.randint(0, 7, (batch, 96, 96), device=device)
    optimizer, loss_function, times = make_optimizer(config, network), make_loss(), []
    stop = None
    while stop is None or time.perf_counter() < stop or len(times) < 3:
        start = time.perf_counter()
        loss_function(network(image), label).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if stop is None:  # the first step compiles
            stop = time.perf_counter() + seconds
        else:
            times.append(time.perf_counter() - start)
    return 1e3 * sorted(times)[len(times) // 2], batch


def _line(what: str, text: str) -> None:
    print(f"{what:15s}{text}", flush=True)


def _devices(torch) -> str:
    if not torch.cuda.is_available():
        return "cpu (no CUDA device)"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(f"cuda:{i} {name}" for i, name in enumerate(names))


def _bringing(backend: str, torch, state: str = "") -> str | None:
    """The command that would bring a scan backend; None where this machine has no card to run it on."""
    if backend == "cpu":
        return "pip install numba"
    if torch.cuda.is_available():
        anew = "install --force-reinstall --no-deps" if "does not load" in state else "install"
        return BRINGING[backend].replace("install", anew, 1)
    if shutil.which("nvidia-smi") is None:
        return None
    if torch.version.cuda is None:
        return "pip install --force-reinstall torch  (on Linux that is the build with CUDA)"
    return "nvidia-smi must list the card: mend the driver, and see CUDA_VISIBLE_DEVICES"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _variable(name: str) -> str:
    return os.environ.get(name) or "not set"


def _free_gb(folder: Path) -> float:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e9
