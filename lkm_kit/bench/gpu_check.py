"""The first minutes on a CUDA machine in one go: tests, parity, benchmarks, a training, whatever fails on the way.

"paper" takes steps at the paper's batch: time and memory beside what the kernels and shapes predict.
"ways" times a step with convolutions in bf16, a map in channels_last and torch.compile, alone and together: whether
these are worth having is decided by what it finds.

Each part runs in a process of its own and has its seconds: one that crashes, hangs or leaves the card in a bad state
does not touch the next. What it found, or why it failed, goes into one JSON file that can be attached to a report.
``dry_run`` goes the same way with tiny sizes in Triton's interpreter, so that the check itself is tested without a GPU.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

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


def _training(device: torch.device) -> dict[str, float]:
    """Fifty steps of paper-2d: milliseconds, memory, and what the kernels and shapes predicted of them."""
    from lkm_kit.bench import gpu, roofline
    from lkm_kit.studies import study
    from lkm_kit.studies.costs import training_memory
    from lkm_kit.training import TrainConfig

    dry = device.type == "cpu"
    size, preset, side, batch, steps = ("smoke", "tiny-2d", 96, 1, 2) if dry else ("paper", "paper-2d", 320, 4, 50)
    found = _steps(device, size, preset, (batch, 1, side, side), steps)
    if not found["last loss"] < found["first loss"]:
        raise RuntimeError(f"{steps} steps on one batch did not lower the loss: {found}")
    arm = study("table3", size).arm("pim-pam-bim")
    kept = training_memory(arm, (side, side), TrainConfig.from_profile(size).table.num_classes, batch)
    card = roofline.CARDS["A100"] if dry else gpu.this_card()
    kernels = roofline.step_kernels(preset, (side, side), batch).values()
    least = sum(card.seconds(kernel) for each in kernels for kernel in each)
    return {"batch": batch, **found, "predicted MiB": kept / 2**20, "predicted ms": 1e3 * least}


def _paper(device: torch.device) -> dict[str, dict[str, float]]:
    """Steps of the paper's networks at its patch and batch, in float32 and with convolutions in bf16."""
    from lkm_kit.bench import gpu, roofline
    from lkm_kit.studies import study
    from lkm_kit.studies.costs import training_memory
    from lkm_kit.training import TrainConfig

    dry = device.type == "cpu"
    found: dict[str, dict[str, float]] = {}
    of_paper = {"tiny-2d": ((96, 96), 1)} if dry else roofline.PAPER
    profile, steps, card = ("smoke", 1, roofline.CARDS["A100"]) if dry else ("paper", 8, gpu.this_card())
    classes, largest = TrainConfig.from_profile(profile).table.num_classes, study("table3", profile).arm("pim-pam-bim")
    for preset, (size, batch) in of_paper.items():
        arm = dataclasses.replace(largest, network=f"lkm-unet/{preset}", overrides={})
        kernels = roofline.step_kernels(preset, size, batch).values()
        predicted = {
            "batch": batch,
            "predicted MiB": training_memory(arm, size, classes, batch) / 2**20,
            "predicted ms": 1e3 * sum(card.seconds(kernel) for each in kernels for kernel in each),
        }
        for precision, bf16 in {"float32": False, "bf16": True}.items():
            taken = _steps(device, profile, preset, (batch, 1, *size), steps, bf16=bf16)
            found[f"{preset}, {precision}"] = taken | (predicted if precision == "float32" else {"batch": batch})
            print(json.dumps(found), flush=True)  # is kept if a later one takes too long
    return found


WAYS: dict[str, dict[str, bool]] = {
    "float32": {}, "float32, channels_last": {"channels_last": True}, "bf16": {"bf16": True},
    "bf16, channels_last": {"bf16": True, "channels_last": True}, "float32, compiled": {"compiled": True},
    "bf16, channels_last, compiled": {"bf16": True, "channels_last": True, "compiled": True},
}  # fmt: skip
"""Ways to take a step of the same network: what is worth an option, the first GPU says. BiM is float32 in all."""


def _ways(device: torch.device) -> dict[str, dict[str, Any]]:
    """Milliseconds, memory and losses of a step by way; one that fails says how."""
    found: dict[str, dict[str, Any]] = {}
    of_paper, small = ("paper", "paper-2d", (4, 1, 320, 320), 15), ("smoke", "tiny-2d", (1, 1, 16, 16), 1)
    stages = {"features_per_stage": [4, 8], "strides": [[1, 1], [2, 2]], "windows": [4, 4]}
    for name, way in WAYS.items():
        try:
            dry = device.type == "cpu"
            found[name] = _steps(device, *small, stages, **way) if dry else _steps(device, *of_paper, **way)
        except Exception as error:  # the other ways are still worth knowing
            found[name] = {"error": f"{type(error).__name__}: {str(error)[-500:]}"}
        print(json.dumps({name: found[name]}), flush=True)  # is kept if a later one takes too long
    if "error" in found["float32"]:
        raise RuntimeError(found["float32"]["error"])
    return found


def _steps(
    device: torch.device, profile: str, preset: str, size: tuple[int, ...], steps: int,
    overrides: Mapping[str, Any] | None = None, *, bf16: bool = False, channels_last: bool = False,
    compiled: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Train on one batch: milliseconds a step after the first fifth of them, peak memory, first and last loss."""
    from lkm_kit.networks import build_network
    from lkm_kit.training import TrainConfig, make_loss, make_optimizer

    config = TrainConfig.from_profile(profile)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    torch.manual_seed(0)
    how = {"input_channels": 1, "num_classes": config.table.num_classes, "deep_supervision": True}
    network = build_network(f"lkm-unet/{preset}", **how, **(overrides or {})).to(device, memory_format=layout)
    image = torch.randn(size, device=device).to(memory_format=layout)
    label = torch.randint(0, config.table.num_classes, (size[0], *size[2:]), device=device)
    if compiled:  # without a GPU it is traced alone, which needs no compiler of another language
        network.compile(backend="eager" if device.type == "cpu" else "inductor")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    optimizer, loss_function, losses, begun = make_optimizer(config, network), make_loss(), [], time.perf_counter()
    for step in range(steps):
        if step == steps // 5:  # kernels are compiled by now
            _wait(device)
            begun = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = loss_function(network(image), label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    _wait(device)
    seconds = (time.perf_counter() - begun) / (steps - steps // 5)
    values = torch.stack(losses).tolist()
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else float("nan")
    return {"ms a step": round(1e3 * seconds, 1), "first loss": values[0], "last loss": values[-1], "peak MiB": peak}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _installed(package: str) -> bool:
    return any(metadata.distributions(name=package))


_PARTS: dict[str, Callable[[torch.device], Any]] = {
    "tests": _tests,
    "parity": _parity,
    "small benchmark": lambda device: _benchmark(device, large=False),
    "large benchmark": lambda device: _benchmark(device, large=True),
    "training": _training,
    "paper": _paper,
    "ways": _ways,
}

if __name__ == "__main__":
    print("\n" + json.dumps(_PARTS[sys.argv[1]](torch.device(sys.argv[2]))))
