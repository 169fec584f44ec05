"""What untrained networks see: by the probe's place in its window, by direction, order or window of a scan, in 3D.

Untrained networks are random, so every map is a mean over several of them and says what an architecture prefers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lkm_kit.blocks import ORDERS, BiM, LMBlock, PiM
from lkm_kit.erf import Change, ErfMap, Probe, erf
from lkm_kit.networks import build_network

SEEDS = 3
"""Networks in a mean."""


def mean_map(maps: Sequence[ErfMap]) -> ErfMap:
    """Mean of the masses of maps of one probe: every network counts alike, however large its output.

    >>> mean_map([ErfMap.at(torch.ones(2, 2)), ErfMap.at(torch.ones(2, 2))]).values.sum().item()
    1.0
    """
    first = maps[0]
    values = torch.stack([m.values / m.values.sum() for m in maps]).mean(0)
    return ErfMap(values, first.grid, first.place, first.probe, sum(m.images for m in maps))


def positions(partition: str = "contiguous", channels: int = 8, size: int = 96, window: int = 24) -> dict[str, ErfMap]:
    """One LM block, asked at the centre, the border and the corner of a window, and on the corner's other side.

    >>> list(positions(size=32, window=8))[:2]
    ['centre', 'border']
    """
    corner = size // 2 // window * window
    middle = corner + window // 2
    places = {
        "centre": (middle, middle),
        "border": (corner, middle),
        "corner": (corner, corner),
        "across the corner": (corner - 1, corner - 1),
    }
    probes = [Probe(position=place, window=window) for place in places.values()]

    def block():
        return LMBlock(channels, window, pool=window // 4, partition=partition)

    return dict(zip(places, _untrained(block, (channels, size, size), probes)))


def scan_directions(channels: int = 8, size: int = 24) -> dict[str, ErfMap]:
    """The change BiM makes at the middle of one window, with a forward scan alone and with both.

    >>> sorted(scan_directions(size=8))
    ['both directions', 'forward only']
    """

    class InWindow(nn.Module):
        def __init__(self, bidirectional: bool):
            super().__init__()
            self.bim = BiM(channels, bidirectional=bidirectional)

        def forward(self, x: Tensor) -> Tensor:
            return self.bim(x.flatten(2).mT).mT.reshape(x.shape)

    probe = Probe()
    found = {}
    for name, both in {"forward only": False, "both directions": True}.items():
        (found[name],) = _untrained(lambda both=both: InWindow(both), (channels, size, size), [probe])
    return found


def readings(size: int = 96, window: int = 24) -> dict[str, ErfMap]:
    """Whole untrained tiny LKM-UNets in the three readings of the window, and the control without Mamba.

    >>> list(readings(48, 12))[0]
    'no Mamba'
    """
    windows = {"windows": [window, window, window // 2, window // 2]}
    arms: dict[str, dict[str, Any]] = {
        "no Mamba": {"pim": False, "pam": False},
        "paper: windows": {"partition": "contiguous"},
        "released code: grid": {"partition": "dilated"},
        "authors' answer: count": {"partition": "count"},
    }
    found = {}
    for name, how in arms.items():

        def network(how: dict[str, Any] = how) -> nn.Module:
            return build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=7, **windows, **how)

        (found[name],) = _untrained(
            network, (1, size, size), [Probe(position="window:center", window=window, rule="rademacher")]
        )
    return found


def orders(size: int = 16, window: int = 8, channels: int = 8, seeds: int = SEEDS) -> dict[str, ErfMap]:
    """The change that one PiM makes at a pixel of its first window, in every order, and in four directions.

    Args:
        size, window: of map and window; what ``window`` means is up to the order.
        channels: of the map.
        seeds: layers in a mean.

    >>> list(orders(8, 4, 2, seeds=1))[-2:]
    ['local-first-axis', 'cross-scan']
    """
    probe = Probe(position=asked(window))

    def field(**how: Any) -> ErfMap:
        return _untrained(lambda: Change(PiM(channels, window, **how)), (channels, size, size), [probe], seeds)[0]

    return {**{name: field(partition=name) for name in ORDERS}, "cross-scan": field(directions="cross-scan")}


SETS_3D = ["both-ways", "tri-orientated", "three-axes"]
"""Sets of directions that read a volume, of :data:`lkm_kit.blocks.bim.DIRECTIONS`."""


def directions_3d(size: int = 16, window: int = 8, channels: int = 8, seeds: int = SEEDS) -> dict[str, ErfMap]:
    """The change that one PiM makes at a voxel of its first window, for sets of directions that read a volume.

    Args:
        size, window: sides of volume and window.
        channels: of the volume.
        seeds: layers in a mean.

    >>> list(directions_3d(4, 4, 2, seeds=1))
    ['both-ways', 'tri-orientated', 'three-axes']
    """
    probe, shape = Probe(position=asked(window, 3)), (channels, size, size, size)
    found = {}
    for name in SETS_3D:

        def layer(name: str = name) -> nn.Module:
            return Change(PiM(channels, window, directions=name))

        (found[name],) = _untrained(layer, shape, [probe], seeds)
    return found


def asked(window: int, dims: int = 2) -> tuple[int, ...]:
    """The pixel of :func:`orders`, the voxel of :func:`directions_3d`: on no axis of symmetry of its window.

    >>> asked(8), asked(8, 3)
    ((5, 3), (5, 3, 2))
    """
    return (window // 2 + 1, window // 2 - 1, window // 2 - 2)[:dims]


FOUR = {
    "CNN: plain U-Net": "plain-unet",
    "Transformer: SwinUNETR": "swin-unetr",
    "U-Mamba_Enc, January": "umamba-enc-january",
    "LKM-UNet": "lkm-unet",
}
"""The four kinds of network of the paper's Fig. 3, as tiny presets."""


def four_networks(seeds: int = SEEDS) -> dict[str, dict[str, ErfMap]]:
    """Untrained networks of the four kinds of Fig. 3, 96×96 pixels, asked at the middle of LKM-UNet's window.

    Args:
        seeds: networks of each kind.

    Returns:
        statistics (frozen, live) → network → map.

    >>> list(FOUR)[0]
    'CNN: plain U-Net'
    """
    probe = Probe(position="window:center", window=24, rule="rademacher")

    def maps(family: str, norm_stats: str) -> ErfMap:
        def network() -> nn.Module:
            return build_network(f"{family}/tiny-2d", input_channels=1, num_classes=7)

        return _untrained(network, (1, 96, 96), [probe], seeds, norm_stats)[0]

    return {
        f"{stats} statistics": {title: maps(family, stats) for title, family in FOUR.items()}
        for stats in ("frozen", "live")
    }


def volume(size: Sequence[int] = (16, 64, 64)) -> ErfMap:
    """The untrained tiny 3D network, asked at the middle of a window.

    >>> volume((16, 64, 64)).values.shape
    torch.Size([16, 64, 64])
    """

    def network() -> nn.Module:
        return build_network("lkm-unet/tiny-3d", input_channels=1, num_classes=7)

    return _untrained(network, (1, *size), [Probe(position="window:center", window=(8, 16, 16))], seeds=2)[0]


def _untrained(
    make: Any, shape: Sequence[int], probes: Sequence[Probe], seeds: int = SEEDS, norm_stats: str = "frozen"
) -> list[ErfMap]:
    found = []
    for seed in range(seeds):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found.append(erf(make().eval(), torch.randn(1, *shape), probes, draws=2, norm_stats=norm_stats))
    return [mean_map(maps) for maps in zip(*found)]
