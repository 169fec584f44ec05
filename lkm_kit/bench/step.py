"""Where a training step's time goes: batch, Mamba, convolutions, normalisation, loss, optimiser, and the rest.

The step is the training loop's own, at the laptop profile: a batch of the cohort, forward, loss, backward, clipping,
AdamW. torch's profiler counts every operation once, under the first part that an operation above it belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from lkm_kit.bench.block import least_bytes, products
from lkm_kit.bench.floor import BACKWARD, FORWARD, measure
from lkm_kit.bench.timing import medians
from lkm_kit.blocks import BiM
from lkm_kit.memory import keep_memory
from lkm_kit.profiles import profile as profile_of
from lkm_kit.training import TrainConfig, initial_network, make_datasets, make_loss, make_optimizer
from lkm_kit.training.batches import train_loader

ARMS = {"no Mamba": {"pim": False, "pam": False}, "LKM-UNet": {}}
PARTS = {  # in this order: a part's name -> what the names of its operations match
    "making the batch": r"^step: batch",
    "clipping and AdamW": r"^step: update",
    "loss, forward": r"^step: loss",
    "Mamba (fused mixer)": r"lkm_kit",
    "convolutions": r"(?i)convolution",
    "normalisation": r"(?i)norm",
}
REST = "the rest"


def table(*, repeats: int = 5, config: TrainConfig | None = None) -> pd.DataFrame:
    """Milliseconds a step by part, of the control and of LKM-UNet, and LKM-UNet's shares.

    Args:
        repeats: profiled steps of each.
        config: default the laptop profile's.
    """
    keep_memory()  # as in training
    config = config or TrainConfig.from_profile(profile_of("laptop"))
    found = {}
    for arm, overrides in ARMS.items():
        ready = steps(TrainConfig.from_json({**config.to_dict(), "network_overrides": overrides}), repeats)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for step in ready:
                step()
        found[f"{arm} ms"] = by_part(profiler.events()) / repeats
    rows = pd.DataFrame(found).fillna(0.0)
    rows["share of LKM-UNet %"] = 100 * rows["LKM-UNet ms"] / rows["LKM-UNet ms"].sum()
    rows.loc["sum"] = rows.sum()
    shown = rows.round(1).rename_axis("part").reset_index()
    ratio = rows.loc["sum", "LKM-UNet ms"] / rows.loc["sum", "no Mamba ms"]
    alone = rows.loc["sum", "no Mamba ms"] / rows.loc["convolutions", "no Mamba ms"]
    least = floor(config, repeats)
    at_best = 1 + sum(least.values()) / rows.loc["sum", "no Mamba ms"]
    shown.attrs["note"] = (
        f"LKM-UNet / no Mamba {ratio:.2f}; no Mamba / its convolutions alone {alone:.2f}\n"
        f"Mamba at best: {', '.join(f'{part} {ms:.1f} ms' for part, ms in least.items())}; with that {at_best:.2f}"
    )
    return shown


def floor(config: TrainConfig, repeats: int = 5) -> dict[str, float]:
    """The least that a step's BiMs could cost here, in milliseconds: no kernel, however good, takes less.

    Args:
        config: of the training.
        repeats: of the measurements.

    Returns:
        ``scans``: their exponentials and multiply-adds at this machine's peak rates (:mod:`lkm_kit.bench.floor`);
        ``products``: their matrix products, timed alone; ``bytes``: what lies between the steps, written and read once.
    """
    network, rates, found = (
        initial_network(config),
        measure(repeats),
        dict.fromkeys(("scans", "products", "bytes"), 0.0),
    )
    seen: list[tuple[BiM, torch.Size]] = []
    for block in network.modules():
        if isinstance(block, BiM):
            block.register_forward_pre_hook(lambda block, tokens: seen.append((block, tokens[0].shape)))
    with torch.no_grad():
        network(torch.zeros(config.batch_size, config.input_channels, *config.image_size))
    for block, (sequences, length, channels) in seen:
        updates = sum(sequences * length * mamba.d_inner * mamba.d_state for mamba in block.mambas)
        found["scans"] += 1000 * sum(rates.scan_seconds(updates, **way) for way in (FORWARD, BACKWARD))
        found["products"] += 1000 * medians({"": products(sequences, length, channels)}, repeats)[""]
        found["bytes"] += 1000 * least_bytes(sequences, length, channels) / rates.bytes
    return found


def steps(config: TrainConfig, repeats: int) -> Iterable[Callable[[], None]]:
    """Training steps after two that compile and allocate, each a function of no arguments."""
    network, loss_function = initial_network(config).train(), make_loss(config.batch_dice)
    optimizer = make_optimizer(config, network)
    batches = iter(train_loader(config, make_datasets(config)["train"], 0))

    def step() -> None:
        with record_function("step: batch"):
            batch = next(batches)
        logits = network(batch["image"])
        with record_function("step: loss"):
            loss = loss_function(logits, batch["label"])
        loss.backward()
        with record_function("step: update"):
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()

    for _ in range(2):
        step()
    return [step] * repeats


def by_part(events: Iterable[Any]) -> pd.Series:
    """Milliseconds of operations' own time by part.

    Args:
        events: of torch's profiler: with name, self_cpu_time_total (in microseconds) and cpu_parent.
    """
    found = dict.fromkeys([*PARTS, REST], 0.0)
    for event in events:
        names, above = [], event
        while above is not None:
            names.append(above.name)
            above = above.cpu_parent
        part = next((part for part, form in PARTS.items() if any(re.search(form, name) for name in names)), REST)
        found[part] += event.self_cpu_time_total / 1000
    return pd.Series(found)
