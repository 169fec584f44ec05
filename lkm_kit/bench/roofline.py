"""How fast a GPU could be at best: bytes and operations of every kernel, over the rates that its maker publishes.

A kernel takes no less time than its bytes at the memory's bandwidth, and no less than its operations at the peak rate
of float32. The larger of the two is its roofline time (Williams et al., Communications of the ACM 52(4), 2009). Counted
are the steps of :mod:`lkm_kit.ssm.backends.mixer` as they are written: each tensor that a step reads or writes moves
once between memory and kernel. Weights and the table of the token order are small and left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from lkm_kit.blocks import PaM, PiM
from lkm_kit.blocks.orders import window_sides
from lkm_kit.errors import one_of
from lkm_kit.networks import build_network
from lkm_kit.networks.sizes import stage_maps
from lkm_kit.shapes import size_text

PAPER = {"released-2d": ((320, 320), 24), "paper-2d": ((320, 320), 24), "paper-3d": ((40, 224, 192), 2)}
"""Networks with the paper's patch and batch (Section 4.2)."""

_FLOAT = 4
_UPDATE = {"forward": 7, "backward": 23}
"""Operations of a scan's state update: an exponential counts as one, a multiply-add as two (see ``bench.floor``)."""


class Card(NamedTuple):
    """A GPU as its maker publishes it.

    Args:
        bandwidth: of its memory, bytes a second.
        float32: operations a second outside tensor cores.
        memory: bytes.
    """

    bandwidth: float
    float32: float
    memory: float


CARDS = {
    "RTX 3090": Card(936e9, 35.6e12, 24e9),
    "A100": Card(1555e9, 19.5e12, 40e9),
    "H100": Card(3350e9, 66.9e12, 80e9),
    "H200": Card(4800e9, 66.9e12, 141e9),
}
"""Data sheets of NVIDIA: GeForce RTX 3090; A100 40 GB SXM; H100 SXM; H200 SXM."""


class Kernel(NamedTuple):
    """What one kernel moves and computes.

    Args:
        name: of the step.
        values: float32 numbers that it reads or writes.
        operations: additions and multiplications, a multiply-add being two.
    """

    name: str
    values: float
    operations: float

    def seconds(self, card: Card) -> float:
        """Its roofline time."""
        return max(_FLOAT * self.values / card.bandwidth, self.operations / card.float32)


def mixer_kernels(tokens: int, channels: int, directions: int = 2, d_state: int = 16) -> dict[str, list[Kernel]]:
    """The steps of BiM's Mamba layers without their norm and their last product, by pass.

    Args:
        tokens: of all sequences of the batch together.
        channels: of a token; the inner ones are twice as many.
        directions: scans.
        d_state: numbers of a state.

    >>> kernels = mixer_kernels(1000, 32)
    >>> [kernel.name for kernel in kernels["forward"]]
    ['in_proj', 'convolution', 'x_proj', 'dt_proj', 'scan']
    """
    inner, rank = 2 * channels, -(-channels // 16)
    projected = rank + 2 * d_state
    n, k = tokens, directions

    def product(name: str, rows: int, columns: int, times: int = 1) -> Kernel:
        return Kernel(name, times * n * (rows + columns), times * 2 * n * rows * columns)

    updates = k * n * inner * d_state
    return {
        "forward": [
            product("in_proj", channels, 2 * k * inner),
            Kernel("convolution", 2 * k * n * inner, k * n * inner * 12),
            product("x_proj", inner, projected, k),
            product("dt_proj", rank, inner, k),
            # reads x, Δ, z and the states' B and C; writes y once, and adds to it for every further direction
            Kernel("scan", k * n * (3 * inner + 2 * d_state) + (2 * k - 1) * n * inner, _UPDATE["forward"] * updates),
        ],
        "backward": [
            # reads x, Δ, z, B, C and y's gradient; writes those of x, Δ, z, B and C
            Kernel("scan", k * n * (7 * inner + 4 * d_state), _UPDATE["backward"] * updates),
            product("dt_proj", inner, rank, 2 * k),
            product("x_proj", projected, inner, 2 * k),
            Kernel("convolution", 3 * k * n * inner, k * n * inner * 24),
            product("in_proj", 2 * k * inner, channels, 2),
        ],
    }


def predict(networks: Sequence[str] = tuple(PAPER), cards: Sequence[str] = tuple(CARDS)) -> pd.DataFrame:
    """Every kernel of PiM and PaM at every stage of a network, and its least time on each card.

    Args:
        networks: names of :data:`PAPER`.
        cards: names of :data:`CARDS`.

    Returns:
        columns network, stage ("0 PiM"), map, pass, kernel, MB, GFLOP, ``<card> ms`` and ``bound`` (by memory or
        arithmetic, on the first card).

    Raises:
        KitError: a network or a card that is not there.

    >>> table = predict(["paper-2d"], ["A100"])
    >>> table.columns[-2:].tolist(), bool((table["A100 ms"] > 0).all())
    (['A100 ms', 'bound'], True)
    """
    chosen = {name: CARDS[one_of(name, CARDS, "card")] for name in cards}
    first = next(iter(chosen.values()))
    rows = []
    for network in networks:
        size, batch = PAPER[one_of(network, PAPER, "network")]
        for stage, layer, extent in mamba_layers(network, size):
            pooled = 1 if isinstance(layer, PiM) else math.prod(window_sides(extent, layer.pool, layer.partition))
            for name, kernels in mixer_kernels(batch * math.prod(extent) // pooled, layer.bim.channels).items():
                for kernel in kernels:
                    memory = _FLOAT * kernel.values / first.bandwidth >= kernel.operations / first.float32
                    rows.append(
                        {"network": network, "stage": stage, "map": size_text(extent), "pass": name}
                        | {"kernel": kernel.name, "MB": _FLOAT * kernel.values / 1e6, "GFLOP": kernel.operations / 1e9}
                        | {f"{card} ms": 1e3 * kernel.seconds(rate) for card, rate in chosen.items()}
                        | {"bound": "memory" if memory else "arithmetic"}
                    )
    return pd.DataFrame(rows)


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
    """Sums over the layers and kernels of each network and pass, the share of the scan, and operations a byte."""
    times = [column for column in table if column.endswith(" ms")]
    groups = table.groupby(["network", "pass"], sort=False)
    sums = groups[["MB", "GFLOP", *times]].sum()
    scans = table[table["kernel"] == "scan"].groupby(["network", "pass"], sort=False)[times[0]].sum()
    sums["operations a byte"] = 1e3 * sums["GFLOP"] / sums["MB"]
    return sums.assign(**{f"scan, % of {times[0]}": 100 * scans / sums[times[0]]}).reset_index()
