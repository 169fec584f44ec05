"""The first minutes on a CUDA machine in one go: tests, parity, benchmarks and a training, whatever fails on the way.

Each part ends by itself; what it found, or why it failed, goes into one JSON file that can be attached to a report.
``dry_run`` goes the same way with tiny sizes in Triton's interpreter, so that the check itself is tested without a GPU.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lkm_kit.errors import KitError
from lkm_kit.ssm import scan_backends, selective_scan
from lkm_kit.ssm.selective_scan import choose_backend

MINUTES = 10
"""A part does not begin after these."""


def check(dry_run: bool = False, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run all parts.

    Args:
        dry_run: tiny sizes on the CPU, Triton's kernels in its interpreter (``TRITON_INTERPRET=1``).
        say: gets a line for every part.

    Returns:
        ``hardware`` and ``parts``: name → ok, seconds, and result or error.

    Raises:
        KitError: no CUDA device and no dry run.

    >>> check(dry_run=True)["parts"]["parity"]["ok"]  # doctest: +SKIP
    True
    """
    if not dry_run and not torch.cuda.is_available():
        raise KitError(
            "torch sees no CUDA device",
            remedy="nvidia-smi shows whether the driver does, `lkm doctor` which build torch is; --dry-run needs none",
        )
    device = torch.device("cpu" if dry_run else "cuda")
    steps = {"tests": _tests, "parity": _parity, "benchmarks": _benchmarks, "training": _training}
    started, parts = time.perf_counter(), {}
    for name, part in steps.items():
        begun = time.perf_counter()
        if begun - started > 60 * MINUTES:
            parts[name] = {"ok": False, "seconds": 0.0, "error": f"not begun: {MINUTES} minutes were over"}
        else:
            try:
                parts[name] = {"ok": True, "result": part(device)}
            except Exception as error:  # the next part says something all the same
                parts[name] = {"ok": False, "error": "".join(traceback.format_exception(error))[-4000:]}
            parts[name]["seconds"] = round(time.perf_counter() - begun, 1)
        last = parts[name].get("error", "").strip().rpartition("\n")[2]
        say(f"{name:12s}{'ok' if parts[name]['ok'] else 'FAILED: ' + last} ({parts[name]['seconds']:.0f} s)")
    return {"hardware": _hardware(), "dry run": dry_run, "parts": parts}


def _hardware() -> dict[str, Any]:
    from lkm_kit import __version__
    from lkm_kit.commands.bench import machine

    found: dict[str, Any] = {"kit": __version__, "python": platform.python_version(), "machine": machine()}
    found |= {"cuda": torch.version.cuda, "backends": scan_backends()}
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        found |= {"capability": f"{about.major}.{about.minor}", "memory GB": round(about.total_memory / 1e9, 1)}
    return found


def _tests(device: torch.device) -> str:
    """Those marked ``gpu``; the last line of pytest."""
    folder = Path(__file__).parents[2] / "tests"
    if not folder.is_dir():
        return "no tests here: the kit is installed without its repository"
    marks = ["--collect-only"] if device.type == "cpu" else []
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *marks]
    files = [str(path) for path in sorted(folder.glob("test_*.py")) if "mark.gpu" in path.read_text(encoding="utf-8")]
    done = subprocess.run([*command, *files], capture_output=True, text=True, timeout=300, cwd=folder.parent)
    if done.returncode:
        raise RuntimeError(done.stdout[-3000:] + done.stderr[-500:])
    return done.stdout.strip().rpartition("\n")[2]


def _parity(device: torch.device) -> dict[str, float]:
    """Largest differences of values and gradients between each backend and ``reference``, as a share of the largest."""
    torch.manual_seed(0)
    batch, d, length, n = (1, 2, 12, 2) if device.type == "cpu" else (4, 64, 400, 16)
    made = {
        "u": torch.randn(batch, d, length), "delta": torch.rand(batch, d, length), "A": -torch.rand(d, n) - 0.5,
        "B": torch.randn(batch, n, length), "C": torch.randn(batch, n, length), "D": torch.randn(d),
        "z": torch.randn(batch, d, length), "delta_bias": torch.randn(d),
    }  # fmt: skip
    operands = {name: value.to(device).requires_grad_() for name, value in made.items()}
    found, wanted = {}, None
    for backend in ("reference", "triton", "cuda"):
        try:
            choose_backend(device, backend)
        except KitError:  # its reason stands in the hardware's record
            continue
        y = selective_scan(**operands, delta_softplus=True, backend=backend)
        values = (y.detach(), *torch.autograd.grad(y.square().mean(), list(operands.values())))
        wanted = wanted or values
        found[backend] = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(values, wanted))
    if len(found) < 2 or not max(found.values()) < 1e-3:
        raise RuntimeError(f"differences from reference: {found}")
    return found


def _benchmarks(device: torch.device) -> list[dict[str, Any]]:
    """Two sizes of ``lkm bench gpu``; without a GPU only that its contestants agree."""
    from lkm_kit.bench import gpu
    from lkm_kit.blocks import PaM, PiM

    if device.type == "cpu":
        how = {"backend": "triton", "d_state": 2}
        layers = {"PiM": PiM(2, window=2, **how), "PaM": PaM(2, pool=2, **how)}
        for layer in layers.values():
            gpu.check(gpu.contestants(layer, "triton"), torch.randn(1, 2, 4, 4))
        return [{"stage": name} for name in layers]
    small, large = gpu.table(["paper-2d"], repeats=5, batch=2), gpu.table(["paper-3d"], repeats=5, batch=1)
    return [*small.to_dict("records"), *large.to_dict("records")]


def _training(device: torch.device) -> dict[str, float]:
    """Fifty steps of paper-2d: milliseconds, memory, and what the shapes predicted of it."""
    from lkm_kit.networks import build_network
    from lkm_kit.studies import study
    from lkm_kit.studies.costs import training_memory
    from lkm_kit.training import TrainConfig, make_loss, make_optimizer

    size, preset, side, batch, steps = ("smoke", "tiny-2d", 96, 1, 2) if device.type == "cpu" else (
        "paper", "paper-2d", 320, 4, 50)  # fmt: skip
    config = TrainConfig.from_profile(size)
    torch.manual_seed(0)
    network = build_network(
        f"lkm-unet/{preset}", input_channels=1, num_classes=config.table.num_classes, deep_supervision=True
    ).to(device)
    image = torch.randn(batch, 1, side, side, device=device)
    label = torch.randint(0, config.table.num_classes, (batch, side, side), device=device)
    optimizer, loss_function, losses = make_optimizer(config, network), make_loss(), []
    for step in range(steps):
        if step == steps // 5 and device.type == "cuda":  # kernels are compiled by now
            torch.cuda.synchronize()
        if step == steps // 5:
            begun = time.perf_counter()
        loss = loss_function(network(image), label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    values = torch.stack(losses).tolist()  # waits for the device
    seconds = (time.perf_counter() - begun) / (steps - steps // 5)
    if not values[-1] < values[0]:
        raise RuntimeError(f"{steps} steps on one batch brought the loss from {values[0]:.3f} to {values[-1]:.3f}")
    arm = study("table3", size).arm("pim-pam-bim")
    kept = training_memory(arm, (side, side), config.table.num_classes, batch)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else float("nan")
    return {
        "batch": batch, "ms a step": round(1e3 * seconds, 1), "first loss": values[0], "last loss": values[-1],
        "peak MiB": peak / 2**20, "predicted MiB": kept / 2**20,
    }  # fmt: skip
