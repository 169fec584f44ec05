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


def table(
    *, repeats: int = 5, batch_sizes: tuple[int, ...] = (1, 8), busy: bool = True, reference: bool = True
) -> pd.DataFrame:
    """Milliseconds a step, how many times slower ``reference`` is than ``cpu``, and ``cpu`` against the control.

    Args:
        repeats: timed steps of each.
        batch_sizes: slices a step.
        busy: also beside a busy process.
        reference: also the slow backend, which takes most of the time.
    """
    keep_memory()  # as in training
    rows = []
    machines = {"alone": contextlib.nullcontext()}
    if busy:
        machines["beside a busy process"] = busy_core()
    for machine, context in machines.items():
        with context:
            for size in batch_sizes:
                steps = {"cpu": step("cpu", size), "no Mamba": step(None, size)}
                steps |= {"reference": step("reference", size)} if reference else {}
                seconds = medians(steps, repeats)
                row = {"machine": machine, "batch": size, **{f"{k} ms": round(1e3 * v, 1) for k, v in seconds.items()}}
                if reference:
                    row["reference / cpu"] = round(seconds["reference"] / seconds["cpu"], 1)
                row["cpu / no Mamba"] = round(seconds["cpu"] / seconds["no Mamba"], 1)
                row["no Mamba / cpu"] = round(seconds["no Mamba"] / seconds["cpu"], 2)
                rows.append(row)
    return pd.DataFrame(rows)
