"""How fast a GPU could be at best: bytes and operations of every kernel, over the rates that its maker publishes.

A kernel takes no less time than its bytes at the memory's bandwidth, and no less than its operations at the peak rate
of its arithmetic. The larger of the two is its roofline time (Williams et al., Communications of the ACM 52(4), 2009).
Which kernels there are, :mod:`lkm_kit.bench.kernels` finds: of every PiM and PaM, and of a whole training step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import torch

from lkm_kit.bench.kernels import Kernel, kernels_of
from lkm_kit.blocks import PaM, PiM
from lkm_kit.errors import one_of
from lkm_kit.networks import build_network
from lkm_kit.networks.sizes import stage_maps
from lkm_kit.shapes import size_text

PAPER = {"released-2d": ((320, 320), 24), "paper-2d": ((320, 320), 24), "paper-3d": ((40, 224, 192), 2)}
"""Networks with the paper's patch and batch (Section 4.2)."""
STEP = "whole step"
"""Stage of the rows that count all of a training step: network, loss, clipping and optimiser."""
SHOWN = 0.01
"""Kernels with a smaller share of their pass's time stand together in one row."""


class Card(NamedTuple):
    """A GPU as its maker publishes it.

    Args:
        bandwidth: of its memory, bytes a second.
        float32: operations a second outside tensor cores.
        tensor_cores: operations a second in TF32 (dense), in which torch convolves float32 unasked.
        memory: bytes.
    """

    bandwidth: float
    float32: float
    tensor_cores: float
    memory: float

    def times(self, kernel: Kernel) -> tuple[float, float]:
        """Seconds that its bytes need, and its operations."""
        rate = self.tensor_cores if kernel.tensor_cores else self.float32
        return kernel.bytes / self.bandwidth, kernel.operations / rate

    def seconds(self, kernel: Kernel) -> float:
        """Roofline time of a kernel."""
        return max(self.times(kernel))


CARDS = {
    "RTX 3090": Card(936e9, 35.6e12, 35.6e12, 24e9),
    "A100": Card(1555e9, 19.5e12, 156e12, 40e9),
    "H100": Card(3350e9, 66.9e12, 494.7e12, 80e9),
    "H200": Card(4800e9, 66.9e12, 494.7e12, 141e9),
}
"""Data sheets of NVIDIA: GeForce RTX 3090 (and the GA102 white paper); A100 40 GB SXM; H100 SXM; H200 SXM."""


def layer_kernels(layer: PiM | PaM, size: Sequence[int]) -> dict[str, list[Kernel]]:
    """The kernels of PiM or PaM in training, by pass.

    Args:
        layer: on the ``triton`` backend.
        size: of its map, (batch, channels, *spatial).

    >>> kernels = layer_kernels(PiM(8, window=4, backend="triton"), (2, 8, 8, 8))
    >>> [kernel.name for kernel in kernels["forward"] if kernel.name.startswith("kernels")]
    ['kernels.forward', 'kernels.forward']
    """
    twin, made = copy.deepcopy(layer).to("meta"), []
    x = torch.empty(tuple(size), device="meta", requires_grad=True)
    weight = torch.empty_like(x)
    return {
        "forward": kernels_of(lambda: made.append(twin(x))),
        "backward": kernels_of(lambda: torch.autograd.grad(made[0], [x, *twin.parameters()], weight)),
    }


def step_kernels(network: str, size: Sequence[int], batch: int) -> dict[str, list[Kernel]]:
    """The kernels of a training step of an LKM-UNet, by pass: "forward" with the loss, "backward", "update".

    Args:
        network: name of a preset.
        size: of an image.
        batch: images.
    """
    from lkm_kit.training import TrainConfig, make_loss, make_optimizer

    config = TrainConfig.from_profile("paper")
    how = {"input_channels": 1, "num_classes": config.table.num_classes, "deep_supervision": True, "backend": "triton"}
    with torch.device("meta"):
        built = build_network(f"lkm-unet/{network}", **how).train()
        image, label = torch.empty(batch, 1, *size), torch.zeros(batch, *size, dtype=torch.int64)
    loss_function, optimizer, made = make_loss(config.batch_dice), make_optimizer(config, built), []

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(built.parameters(), config.clip_norm)
        optimizer.step()

    found = {
        "forward": kernels_of(lambda: made.append(loss_function(built(image), label))),
        "backward": kernels_of(lambda: made[0].backward()),
    }
    update()  # the first one makes the optimiser's moments
    return {**found, "update": kernels_of(update)}


def predict(
    networks: Sequence[str] = tuple(PAPER), cards: Mapping[str, Card] = CARDS, batch: int | None = None
) -> pd.DataFrame:
    """Every kernel of PiM and PaM at every stage of a network and of its training step, and its least time on cards.

    Args:
        networks: names of :data:`PAPER`.
        cards: by name.
        batch: instead of the paper's.

    Returns:
        columns network, stage ("0 PiM", ..., or :data:`STEP`), map, pass, kernel, number (of such kernels), MB, GFLOP,
        ``<card> ms`` and ``bound`` (by memory or arithmetic, on the first card).

    Raises:
        KitError: a network that is not there.

    >>> table = predict(["paper-2d"], {"A100": CARDS["A100"]})  # doctest: +SKIP
    """
    rows: list[dict[str, object]] = []
    for network in networks:
        size, own = PAPER[one_of(network, PAPER, "network")]
        images = batch or own
        with torch.device("meta"):
            layers = mamba_layers(network, size, backend="triton")
        for stage, layer, extent in layers:
            about = {"network": network, "stage": stage, "map": size_text(extent)}
            rows += _rows(about, layer_kernels(layer, (images, layer.bim.channels, *extent)), cards)
        about = {"network": network, "stage": STEP, "map": size_text(size)}
        rows += _rows(about, step_kernels(network, size, images), cards)
    return pd.DataFrame(rows)


def _rows(
    about: dict[str, str], passes: dict[str, list[Kernel]], cards: Mapping[str, Card]
) -> Iterator[dict[str, object]]:
    first = next(iter(cards.values()))
    for name, kernels in passes.items():
        least = SHOWN * sum(map(first.seconds, kernels))
        groups: dict[str, list[Kernel]] = {}
        for kernel in kernels:
            groups.setdefault(kernel.name, []).append(kernel)
        small = [key for key, group in groups.items() if sum(map(first.seconds, group)) < least]
        if small:
            groups["smaller ones"] = [kernel for key in small for kernel in groups.pop(key)]
        for key, group in groups.items():
            moving, computing = (sum(times) for times in zip(*map(first.times, group)))
            yield (
                {**about, "pass": name, "kernel": key, "number": len(group)}
                | {"MB": sum(k.bytes for k in group) / 1e6, "GFLOP": sum(k.operations for k in group) / 1e9}
                | {f"{card} ms": 1e3 * sum(map(rate.seconds, group)) for card, rate in cards.items()}
                | {"bound": "memory" if moving >= computing else "arithmetic"}
            )


def mamba_layers(network: str, size: Sequence[int], backend: str = "auto") -> list[tuple[str, PiM | PaM, tuple]]:
    """("0 PiM", layer, size of its map) for every PiM and PaM of an LKM-UNet.

    >>> [name for name, layer, extent in mamba_layers("tiny-2d", (96, 96))][:2]
    ['0 PiM', '0 PaM']
    """
    built = build_network(f"lkm-unet/{network}", input_channels=1, num_classes=14, backend=backend)
    found = []
    for stage, extent in enumerate(stage_maps(size, built.strides)):
        block = built.encoder.mixers[stage]
        found += [(f"{stage} {type(part).__name__}", part, tuple(extent)) for part in (block.pim, block.pam)]
    return found


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Sums by pass over all PiM and PaM of a network and over its whole step; the scan's share on the first card;
    operations a byte."""
    times = [column for column in table if column.endswith(" ms")]
    part = table["stage"].where(table["stage"] == STEP, "PiM and PaM").rename("of")
    sums = table.groupby(["network", part, "pass"], sort=False)[["MB", "GFLOP", *times]].sum()
    scans = table[table["kernel"].str.match(r"kernels\.(forward|backward)$")]
    shares = scans.groupby(["network", part, "pass"], sort=False)[times[0]].sum() / sums[times[0]]
    sums["operations a byte"] = 1e3 * sums["GFLOP"] / sums["MB"]
    return sums.assign(**{f"scan, % of {times[0]}": 100 * shares.reindex(sums.index).fillna(0.0)}).reset_index()
