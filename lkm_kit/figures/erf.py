"""Figures of effective receptive fields, among them our Fig. 3: networks before and after training."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch

from lkm_kit.erf import ErfMap, Probe, erf, measures
from lkm_kit.figures import erf_maps
from lkm_kit.figures.built import Built
from lkm_kit.figures.pair import of_the_runs, pair_config, test_warps, trained_pair
from lkm_kit.plots.erf import erf_grid, erf_slices
from lkm_kit.training import initial_network

IMAGES = 4
"""Held-out deformed copies in a mean."""


def erf_before_and_after() -> Built:
    """In the style of Fig. 3: LKM-UNet and its control before and after training, everything stated."""
    config, results = pair_config(), trained_pair()
    warps = test_warps()
    images = torch.stack([warps[k]["image"] for k in range(min(IMAGES, len(warps)))])
    window = min(24, min(config.image_size) // 2)
    probe = Probe(position="window:center", window=window, rule="rademacher")
    rows: dict[str, dict[str, ErfMap]] = {"before training": {}, "after training": {}}
    places = {}
    for arm, result in results.items():
        for row, network in zip(rows, (initial_network(result.config), result.network)):
            rows[row][arm] = erf(network.eval(), images, probe, draws=4)
        for stats in ("frozen", "live"):
            places[arm, stats] = _at_nine_places(result.network, images, window, stats)
    text = (
        f"Effective receptive field of all logits at the middle of a window (red ring; dashed: the window), mean over "
        f"{len(images)} held-out deformed copies; statistics of normalisation layers frozen, root of the sum of "
        "squares over classes. One colour scale; white is exactly zero. Below: the smallest share of the image that "
        "holds a share of the mass."
    )
    nine = pd.concat(places, names=["arm", "norm_stats", "place"]).reset_index(["arm", "norm_stats"])
    wide = 100 * nine.groupby(["norm_stats", "arm"], sort=False)["area_90"].mean()
    each = {stats: " and ".join(f"{wide[stats, arm]:.0f} % ({arm})" for arm in results) for stats in ("frozen", "live")}
    text += (
        f" Frozen, only direct paths count: after training, at nine places, 90 % of the mass lie on {each['frozen']} "
        f"of the image. With live statistics, which is how the networks are used, on {each['live']}."
    )
    return of_the_runs(erf_grid(rows), text, {"erf_before_and_after": _table(rows), "erf_at_nine_places": nine})


def _at_nine_places(network: torch.nn.Module, images: torch.Tensor, window: int, norm_stats: str) -> pd.DataFrame:
    """The same probe at nine places around the middle of the images: how much one place decides."""
    height, width = images.shape[-2:]
    at = [(height * r // 8, width * c // 8) for r in (3, 4, 5) for c in (3, 4, 5)]
    probes = [Probe(position=p, window=window, rule="rademacher") for p in at]
    found = measures(erf(network, images, probes, draws=4, norm_stats=norm_stats))
    found.insert(0, "row", [row for row, _ in at])
    found.insert(1, "column", [column for _, column in at])
    return found[["row", "column", "own_pixel", "n_eff", "area_50", "area_90"]]


def erf_positions() -> Built:
    """One LM block asked at the centre, the border and the corner of its window."""
    rows = {
        "paper: windows": erf_maps.positions("contiguous"),
        "released code: grid": erf_maps.positions("dilated"),
    }
    text = (
        "One untrained LM block (PiM, then PaM), asked at four places (dashed: the window). More than half of the mass "
        "is the probe's own pixel. Most of the rest lies on patches beside it in PaM's order, which goes on over the "
        "window's border. With the released code's grid the same row of patches shows again a stride above and below, "
        "where PiM has jumped to. Mean over three networks."
    )
    return Built(
        erf_grid(rows),
        text,
        {"window": 24, "image": 96, "seeds": erf_maps.SEEDS},
        tables={"erf_positions": _table(rows)},
    )


def erf_directions() -> Built:
    """BiM with a forward scan only, and with both directions."""
    rows = {"one BiM": erf_maps.scan_directions()}
    text = (
        "The change that one BiM makes at the middle of a window: a forward scan hears no later token (white: exactly "
        "zero), both directions hear all (dark: below the scale's end, not zero). Most comes from seven pixels of one "
        "row, the convolutions' taps."
    )
    return Built(erf_grid(rows), text, {"window": 24, "seeds": erf_maps.SEEDS}, tables={"erf_directions": _table(rows)})


def erf_readings() -> Built:
    """Whole untrained networks in the three readings of the window, and without Mamba."""
    rows = {"untrained": erf_maps.readings()}
    text = (
        "Small LKM-UNets before training, the same sizes in the three readings of the kernel size, and without Mamba "
        "blocks. All logits at the middle of a window; mean over three networks each. Statistics of normalisation "
        "layers frozen: direct paths only. With live ones every pixel has a path in all four."
    )
    config = {"network": "lkm-unet/tiny-2d", "window": 24, "image": 96, "seeds": erf_maps.SEEDS}
    return Built(erf_grid(rows), text, config, tables={"erf_readings": _table(rows)})


def erf_four_networks() -> Built:
    """In the style of the paper's Fig. 3: a CNN, a Transformer, U-Mamba and LKM-UNet, untrained, frozen and live."""
    rows = erf_maps.four_networks()
    text = (
        "In the style of the paper's Fig. 3: small networks of its four kinds before training, so initialisations and "
        "not results. All logits at the middle of a window (red ring), mean over three networks each, random images. "
        "Above, statistics of normalisation layers frozen: direct paths only. Below, live, as the networks are used: "
        "every pixel also changes means and variances."
    )
    config = {"networks": list(erf_maps.FOUR.values()), "size": "tiny-2d", "image": 96, "seeds": erf_maps.SEEDS}
    return Built(erf_grid(rows), text, config, tables={"erf_four_networks": _table(rows)})


def erf_volume() -> Built:
    """The tiny 3D network, in three orthogonal slices."""
    found, spacing = erf_maps.volume(), (3.0, 1.0, 1.0)
    text = (
        "The small 3D LKM-UNet before training, asked mid-window (dashed: 8×16×16 voxels of 3×1×1 mm); "
        "mean over two networks, statistics of normalisation layers frozen. Neighbouring windows show as blocks: PaM "
        "gives all voxels of one the same message."
    )
    config = {"network": "lkm-unet/tiny-3d", "image": [16, 64, 64], "spacing_mm": list(spacing), "seeds": 2}
    table = measures({"volume": found}, spacing=spacing)
    return Built(erf_slices(found, spacing), text, config, tables={"erf_volume": table})


def _table(rows: Mapping[str, Mapping[str, ErfMap]]) -> pd.DataFrame:
    named = {f"{row}, {column}": m for row, maps in rows.items() for column, m in maps.items()}
    return measures(named).dropna(axis="columns", how="all")
