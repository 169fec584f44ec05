"""In the style of the paper's Fig. 3: its four kinds of network, trained alike, asked at 25 places.

The paper's figure shows one map a network and does not say what was trained, on what, and how it was asked. Here all of
that is fixed: Table 1's arms at the profile, the same deformed copies of one patient, one probe, one colour scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from lkm_kit.erf import ErfMap, Probe, erf, measures
from lkm_kit.figures.built import Built
from lkm_kit.figures.erf_maps import mean_map
from lkm_kit.figures.pair import test_warps
from lkm_kit.plots.erf import erf_grid
from lkm_kit.profiles import profile

SEEDS = 1
"""Trainings of each network. With one, intervals are over places alone."""
IMAGES = 4
"""Held-out deformed copies in a mean."""
PLACES = 5
"""Along each axis."""
STATISTICS = ("frozen", "live")
MEASURES = ("own_pixel", "locality", "area_50", "area_90")
LOCAL = "U-Mamba_Enc, January", "CNN: residual U-Net"
"""The paper concludes (in our words) that the first attends less to what is near; the second has no Mamba."""
_ARMS = {
    "CNN: residual U-Net": "residual-unet",
    "Transformer: SwinUNETR": "swin-unetr",
    "U-Mamba_Enc, January": "umamba-enc-january",
    "LKM-UNet": "lkm-unet",
}
"""Arms of Table 1. The CNN is LKM-UNet without Mamba: the plain U-Net ends at a validation DSC of
57 where it ends at 92 (laptop, seed 0)."""


def erf_four_trained() -> Built:
    """In the style of the paper's Fig. 3: its four kinds of network after the same training."""
    networks, config = trained_four()
    warps = test_warps()
    images = torch.stack([warps[k]["image"] for k in range(min(IMAGES, len(warps)))])
    window = min(24, min(images.shape[-2:]) // 2)
    found = pd.concat({stats: at_places(networks, images, window, stats) for stats in STATISTICS}, names=["statistics"])
    table = summary(found)
    rows = {f"{stats} statistics": middle(networks, images, window, stats) for stats in STATISTICS}
    seeds, copies = len(next(iter(networks.values()))), len(images)
    each = "one training each" if seeds == 1 else f"{seeds} trainings each"
    over = "places, which says nothing about other trainings" if seeds == 1 else "seeds and places"
    text = (
        "In the style of the paper's Fig. 3: small networks of its four kinds, trained alike on deformed copies of one "
        f"patient, {each}. All logits at the middle of a window (red ring), mean over {copies} held-out copies. Above, "
        "statistics of normalisation layers frozen: direct paths only. Below, live, as the networks are used. "
        f"At {PLACES**2} places {'. '.join(_said(table, stats) for stats in STATISTICS)}. In brackets Student's 95 % "
        f"interval over {over}."
    )
    about = {**config, "networks": list(_ARMS.values()), "places": PLACES**2, "seeds": seeds}
    tables = {"erf_four_trained": table, "erf_four_trained_places": found.reset_index("statistics")}
    return Built(erf_grid(rows), text, about, profile().name, None, warps.source.text, tables)


def trained_four(seeds: int = SEEDS) -> tuple[dict[str, list[nn.Module]], dict[str, object]]:
    """Table 1's arms of the four kinds, found in ``runs/`` or trained now, and the protocol they share.

    Args:
        seeds: trainings of each.

    Returns:
        title → networks, one a seed; the study's protocol.
    """
    from lkm_kit.studies.runner import make_plan, run_study
    from lkm_kit.training import load_result

    plan = make_plan("table1", profile(), seeds, list(_ARMS.values()))
    run_study(plan, log=lambda line: None)
    by_arm: dict[str, list[nn.Module]] = {arm: [] for arm in _ARMS.values()}
    for job in plan.jobs():
        by_arm[job.arm].append(load_result(job.run(plan.root).folder).network.eval())
    return {title: by_arm[arm] for title, arm in _ARMS.items()}, plan.protocol()


def at_places(
    networks: Mapping[str, Sequence[nn.Module]], images: Tensor, window: int, norm_stats: str, per_axis: int = PLACES
) -> pd.DataFrame:
    """What each network sees from places all over the middle of the images.

    Args:
        networks: title → one network a seed.
        images: (images, channels, H, W).
        window: of ``locality``, in pixels of the image.
        norm_stats: "frozen" or "live".
        per_axis: places along each axis, between an eighth and seven eighths of it.

    Returns:
        a row a network, seed and place: network, seed, row, column and :data:`MEASURES`.
    """
    height, width = images.shape[-2:]
    shares = [(1 + 6 * k / max(1, per_axis - 1)) / 8 for k in range(per_axis)]
    at = [(round(height * r), round(width * c)) for r in shares for c in shares]
    probes = [Probe(position=place, window=window, rule="rademacher") for place in at]
    rows = []
    for title, trained in networks.items():
        for seed, network in enumerate(trained):
            found = measures(erf(network, images, probes, draws=2, norm_stats=norm_stats))[list(MEASURES)]
            where = pd.DataFrame(at, columns=["row", "column"])
            rows.append(pd.concat([where, found.reset_index(drop=True)], axis=1).assign(network=title, seed=seed))
    table = pd.concat(rows, ignore_index=True)
    return table[["network", "seed", "row", "column", *MEASURES]]


def middle(
    networks: Mapping[str, Sequence[nn.Module]], images: Tensor, window: int, norm_stats: str
) -> dict[str, ErfMap]:
    """The map of each network at the middle of a window, mean over its seeds."""
    probe = Probe(position="window:center", window=window, rule="rademacher")
    return {
        title: mean_map([erf(network, images, probe, draws=4, norm_stats=norm_stats) for network in trained])
        for title, trained in networks.items()
    }


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Mean and Student's 95 % interval over seeds and places, of every network and of the pair of :data:`LOCAL`.

    Args:
        found: of :func:`at_places`, with statistics as the first level of its index.

    Returns:
        index statistics, network; for each measure its mean, low and high. With one seed the interval is over places
        alone and says nothing about other trainings.
    """
    from lkm_kit.studies.intervals import student_interval

    rows = {}
    for stats in found.index.unique("statistics"):
        mine = found.loc[stats]
        cells = {
            (title, name): mine[mine["network"] == title].pivot(index="seed", columns=["row", "column"], values=name)
            for title in mine["network"].unique()
            for name in MEASURES
        }
        first, second = LOCAL
        if (first, MEASURES[0]) in cells and (second, MEASURES[0]) in cells:
            for name in MEASURES:
                cells[f"{first} − {second}", name] = cells[first, name] - cells[second, name]
        for (title, name), values in cells.items():
            low, high = student_interval(values)
            numbers = {name: float(values.to_numpy().mean()), f"{name} low": low, f"{name} high": high}
            rows.setdefault((stats, title), {}).update(numbers)
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.set_axis(pd.MultiIndex.from_tuples(table.index, names=["statistics", "network"]))


def _said(table: pd.DataFrame, stats: str) -> str:
    """The figure in numbers: where 90 % of the mass lie, and how local U-Mamba is beside the CNN."""
    wide = ", ".join(f"{100 * table.loc[(stats, title), 'area_90']:.0f} % ({title})" for title in _ARMS)
    row = table.loc[(stats, " − ".join(LOCAL))]
    points = [100 * row[f"locality{end}"] for end in ("", " low", " high")]
    local = "{:+.1f} points [{:+.1f}, {:+.1f}]".format(*points).replace("-", "−")
    return f"({stats}) 90 % of the mass lie on {wide}. Locality of U-Mamba less that of the CNN is {local}"
