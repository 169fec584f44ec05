"""Training steps on a GPU, for :mod:`lkm_kit.bench.gpu_check`: on one batch, without loading data.

``training`` takes fifty at a small batch. ``paper`` takes eight at the paper's batch, beside the time and memory that
kernels and shapes predict. ``ways`` times a step with convolutions in bf16, a map in channels_last and torch.compile,
alone and together: whether these are worth having is decided by what it finds.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any

import torch


def training(device: torch.device) -> dict[str, float]:
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


def paper(device: torch.device) -> dict[str, dict[str, float]]:
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


def ways(device: torch.device) -> dict[str, dict[str, Any]]:
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
