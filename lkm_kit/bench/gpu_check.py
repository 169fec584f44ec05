"""The first minutes on a CUDA machine in one go: tests, parity, benchmarks, a training, whatever fails on the way.

What its steps are, :mod:`lkm_kit.bench.gpu_steps` says.

Each part runs in a process of its own and has its seconds: one that crashes, hangs or leaves the card in a bad state
does not touch the next. What it found, or why it failed, goes into one JSON file that can be attached to a report.
``dry_run`` goes the same way with tiny sizes in Triton's interpreter, so that the check itself is tested without a GPU.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lkm_kit.bench import gpu_steps
from lkm_kit.errors import KitError
from lkm_kit.ssm import scan_backends, selective_scan
from lkm_kit.ssm.selective_scan import choose_backend

SECONDS = {
    "tests": 100, "parity": 45, "small benchmark": 45, "large benchmark": 50, "training": 60, "paper": 70, "ways": 220
}  # fmt: skip
"""The parts and how long each may take: together less than ten minutes."""


def check(
    dry_run: bool = False,
    say: Callable[[str], None] = print,
    keep: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """Run all parts.

    Args:
        dry_run: tiny sizes on the CPU, Triton's kernels in its interpreter (``TRITON_INTERPRET=1``).
        say: gets a line for every part.
        keep: gets what has been found so far, after every part.

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
    found: dict[str, Any] = {"hardware": _hardware(), "dry run": dry_run, "parts": {}}
    for name, limit in SECONDS.items():
        begun = time.perf_counter()
        # the interpreter on a busy machine has time
        part = _apart(_command(name, "cpu" if dry_run else "cuda"), limit * (4 if dry_run else 1))
        part["seconds"] = round(time.perf_counter() - begun, 1)
        found["parts"][name] = part
        keep(found)
        last = part.get("error", "").strip().rpartition("\n")[2]
        say(f"{name:16s}{'ok' if part['ok'] else 'FAILED: ' + last} ({part['seconds']:.0f} s)")
    return found


def _command(name: str, device: str) -> list[str]:
    return [sys.executable, "-m", __spec__.name, name, device]


def _apart(command: list[str], limit: float) -> dict[str, Any]:
    """Run a part in a process: its result is the last line that it prints."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=limit
        )
    except subprocess.TimeoutExpired as error:
        found, said = ((text or b"").decode("utf-8", "replace")[-3000:] for text in (error.stdout, error.stderr))
        return {"ok": False, "error": f"{said}\nstopped after {limit:.0f} seconds", "so far": found}
    if done.returncode:
        return {"ok": False, "error": f"{done.stderr[-4000:].rstrip() or done.stdout[-4000:]} [exit {done.returncode}]"}
    return {"ok": True, "result": json.loads(done.stdout.strip().rpartition("\n")[2])}


def _hardware() -> dict[str, Any]:
    from lkm_kit import __version__
    from lkm_kit.commands.bench import machine

    found: dict[str, Any] = {"kit": __version__, "python": platform.python_version(), "machine": machine()}
    found |= {"system": platform.platform(), "cuda": torch.version.cuda, "backends": scan_backends()}
    found["packages"] = {
        each.name: each.version
        for each in map(metadata.distribution, filter(_installed, ("triton", "mamba-ssm", "causal-conv1d")))
    }
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        found["driver"] = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split("\n")
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(torch.cuda.current_device())
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
    done = subprocess.run([*command, *files], capture_output=True, text=True, cwd=folder.parent)
    if done.returncode:
        raise RuntimeError(done.stdout[-3000:] + done.stderr[-500:])
    return done.stdout.strip().rpartition("\n")[2]


def _parity(device: torch.device) -> dict[str, float]:
    """Largest differences of values and gradients between each backend and ``reference``, as a share of the largest:
    a few long sequences and many short ones, both directions; and a layer that walks over its map."""
    from lkm_kit.blocks import PiM

    torch.manual_seed(0)
    tiny = device.type == "cpu"
    found: dict[str, float] = {}
    for batch, d, length, n in [(1, 2, 12, 2)] if tiny else [(4, 64, 400, 16), (512, 64, 128, 16)]:
        made = {
            "u": torch.randn(batch, d, length), "delta": torch.rand(batch, d, length), "A": -torch.rand(d, n) - 0.5,
            "B": torch.randn(batch, n, length), "C": torch.randn(batch, n, length), "D": torch.randn(d),
            "z": torch.randn(batch, d, length), "delta_bias": torch.randn(d),
        }  # fmt: skip
        operands = {name: value.to(device).requires_grad_() for name, value in made.items()}
        for reverse in (False, True):
            wanted = None
            for backend in ("reference", "triton", "cuda"):
                try:
                    choose_backend(device, backend)
                except KitError:  # its reason stands in the hardware's record
                    continue
                y = selective_scan(**operands, delta_softplus=True, reverse=reverse, backend=backend)
                values = (y.detach(), *torch.autograd.grad(y.square().mean(), list(operands.values())))
                wanted = wanted or values
                found[backend] = max(found.get(backend, 0.0), _difference(values, wanted))
    channels, side, sizes = (2, 4, {"d_state": 2}) if tiny else (32, 80, {})
    layers = [PiM(channels, window=side // 2, backend=name, **sizes).to(device) for name in ("reference", "triton")]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(1, channels, side, side, device=device, requires_grad=True)
    wanted, values = (
        (y.detach(), *torch.autograd.grad(y.square().mean(), [x, *layer.parameters()]))
        for layer, y in ((layer, layer(x)) for layer in layers)
    )
    found["PiM over the map"] = _difference(values, wanted)
    if not max(found.values()) < 1e-3:
        raise RuntimeError(f"differences from reference: {found}")
    return found


def _difference(values: tuple[torch.Tensor, ...], wanted: tuple[torch.Tensor, ...]) -> float:
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(values, wanted))


def _benchmark(device: torch.device, large: bool) -> list[dict[str, Any]]:
    """One size of ``lkm bench gpu``; without a GPU only that its contestants agree."""
    from lkm_kit.bench import gpu
    from lkm_kit.blocks import PaM, PiM

    if device.type == "cpu":
        how = {"backend": "triton", "d_state": 2}
        layer = PaM(2, pool=2, **how) if large else PiM(2, window=2, **how)
        gpu.check(gpu.contestants(layer, "triton"), torch.randn(1, 2, 4, 4))
        return [{"stage": type(layer).__name__}]
    network, batch = ("paper-3d", 1) if large else ("paper-2d", 2)
    return gpu.table([network], repeats=5, batch=batch).to_dict("records")


def _installed(package: str) -> bool:
    return any(metadata.distributions(name=package))


_PARTS: dict[str, Callable[[torch.device], Any]] = {
    "tests": _tests,
    "parity": _parity,
    "small benchmark": lambda device: _benchmark(device, large=False),
    "large benchmark": lambda device: _benchmark(device, large=True),
    "training": gpu_steps.training,
    "paper": gpu_steps.paper,
    "ways": gpu_steps.ways,
}

if __name__ == "__main__":
    print("\n" + json.dumps(_PARTS[sys.argv[1]](torch.device(sys.argv[2]))))
