"""Items a second: how fast slices or patches are made, in this process and by DataLoader workers, beside a step's need.

A training waits for its data where the loader makes fewer items a second than the steps use.
"""

from __future__ import annotations

import time

import pandas as pd
import torch

from lkm_kit.memory import keep_memory
from lkm_kit.training import TrainConfig, initial_network, make_datasets, make_loss
from lkm_kit.training.batches import train_loader
from lkm_kit.training.optim import make_optimizer


def table(config: TrainConfig, *, workers: int = 2, steps: int = 8) -> pd.DataFrame:
    """One row a contestant: items a second, and how many times a training step's need that is.

    Args:
        config: data, batch and network; its items are prepared first, which is not timed.
        workers: DataLoader processes of the second contestant.
        steps: batches to time, after one that is not.
    """
    keep_memory()
    items = make_datasets(config)["train"]
    batch = config.batch_size
    need = batch / _step(config, items, steps)
    made = {"this process": 0, f"{workers} workers": workers} if workers else {"this process": 0}
    rows = [{"items": f"training step of {batch}", "a second": need, "of the need": 1.0}]
    for name, count in made.items():
        rate = batch / _loader(config, items, count, steps)
        rows.append({"items": name, "a second": rate, "of the need": rate / need})
    found = pd.DataFrame(rows).round(2)
    found.attrs["note"] = "below 1 the training waits for its data: take more workers"
    return found


def _loader(config: TrainConfig, items, workers: int, steps: int) -> float:
    """Seconds a batch."""
    batches = iter(train_loader(config, items, 0, workers=workers))
    next(batches)  # starts the workers
    started = time.perf_counter()
    count = sum(1 for _, _ in zip(range(steps), batches))
    return (time.perf_counter() - started) / max(count, 1)


def _step(config: TrainConfig, items, steps: int) -> float:
    """Seconds a training step of one batch, which is there already."""
    network, loss = initial_network(config), make_loss(config.batch_dice)
    optimizer = make_optimizer(config, network)
    drawn = [items[i % len(items)] for i in range(config.batch_size)]
    image, label = (torch.stack([item[key] for item in drawn]) for key in ("image", "label"))
    for step in range(steps + 1):
        if step == 1:  # the first one compiles kernels
            started = time.perf_counter()
        optimizer.zero_grad()
        loss(network(image), label).backward()
        optimizer.step()
    return (time.perf_counter() - started) / steps
