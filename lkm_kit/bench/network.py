"""A training step of the tiny LKM-UNet: scan backends and the control, alone and beside a busy process.

The step is forward, Dice + cross-entropy, backward and AdamW, at the laptop profile's image size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pandas as pd
import torch

from lkm_kit.bench.timing import busy_core, medians
from lkm_kit.memory import keep_memory
from lkm_kit.networks import build_network
from lkm_kit.profiles import profile
from lkm_kit.training import TrainConfig, make_loss
from lkm_kit.training.optim import make_optimizer


def step(backend: str | None, batch_size: int) -> Callable[[], None]:
    """One training step as a function; ``backend`` None is the control without Mamba."""
    p = profile("laptop")
    torch.manual_seed(0)
    options = {"pim": False, "pam": False} if backend is None else {"backend": backend}
    network = build_network(f"lkm-unet/{p.network}", input_channels=1, num_classes=len(p.organs) + 1, **options)
    optimizer = make_optimizer(TrainConfig.from_profile(p), network)
    loss = make_loss()
    image = torch.randn(batch_size, 1, *p.image_size)
    label = torch.randint(0, len(p.organs) + 1, (batch_size, *p.image_size))

    def run() -> None:
        optimizer.zero_grad()
        loss([network(image)], label).backward()
        optimizer.step()

    return run


def table(*, repeats: int = 5, batch_sizes: tuple[int, ...] = (1, 8), busy: bool = True) -> pd.DataFrame:
    """Milliseconds a step, how many times slower ``reference`` is than ``cpu``, and ``cpu`` over the control."""
    keep_memory()  # as in training
    rows = []
    machines = {"alone": contextlib.nullcontext()}
    if busy:
        machines["beside a busy process"] = busy_core()
    for machine, context in machines.items():
        with context:
            for size in batch_sizes:
                steps = {"cpu": step("cpu", size), "reference": step("reference", size), "no Mamba": step(None, size)}
                seconds = medians(steps, repeats)
                rows.append(
                    {"machine": machine, "batch": size}
                    | {f"{k} ms": 1e3 * v for k, v in seconds.items()}
                    | {"reference / cpu": seconds["reference"] / seconds["cpu"]}
                    | {"cpu / no Mamba": seconds["cpu"] / seconds["no Mamba"]}
                )
    return pd.DataFrame(rows).round(1)
