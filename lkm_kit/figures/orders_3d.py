"""The figure of the orders that read a volume along its axes: drawing, table and receptive field of each."""

from __future__ import annotations

import pandas as pd

from lkm_kit.figures.built import Built

AXES = {"contiguous": "along rows", "first-axis": "through slices", "second-axis": "along columns"}
"""Orders that the sets of :data:`lkm_kit.figures.erf_maps.SETS_3D` are made of, and what each reads first."""


def scan_orders_3d() -> Built:
    """Three orders of a volume in three planes through one voxel, and what PiM sees by three sets of directions."""
    from lkm_kit.blocks.locality import places
    from lkm_kit.figures import erf_maps
    from lkm_kit.plots.orders_3d import plot_orders_3d

    size, window = 16, 8
    voxel, maps = erf_maps.asked(window, 3), erf_maps.directions_3d(size, window)
    drawn = {
        f"{name}:\n{what}": tuple(part.numpy() for part in places((size,) * 3, window, name))
        for name, what in AXES.items()
    }
    text = (
        f"A volume of {size}×{size}×{size} voxels, windows of {window}×{window}×{window}, in the three planes through "
        "one voxel (red ring). Left: its sequence in three orders, first token dark, last bright; other sequences are "
        "grey. Right: the change that one untrained PiM makes at that voxel, by gradient, for the sets made "
        f"of these orders' directions. It is a mean over {erf_maps.SEEDS} layers; white is exactly zero. "
        "Both-ways: the first order forward and backward. Tri-orientated (SegMamba): and the second forward. "
        "Three-axes: all three both ways."
    )
    config = {"volume": size, "window": window, "channels": 8, "voxel": list(voxel), "seeds": erf_maps.SEEDS}
    table = {"scan_orders_3d": order_facts_3d(size, window)}
    return Built(plot_orders_3d(drawn, voxel, {f"{name}:\nPiM's field": m for name, m in maps.items()}), text, config,
                 tables=table)  # fmt: skip


def order_facts_3d(size: int = 16, window: int = 8) -> pd.DataFrame:
    """A row per set of directions: its orders' table, what one PiM sees, and a stage of a network.

    Args:
        size, window: sides of volume and window.

    Returns:
        columns as of :func:`lkm_kit.figures.orders.order_facts`; ``forward`` takes only the directions that are not
        reversed, and the stage is the first of ``lkm-unet/tiny-3d``.

    >>> order_facts_3d(8, 4)[["tokens", "pixels"]].values.tolist()
    [[64, 64], [64, 64], [64, 64]]
    """
    import torch

    from lkm_kit.blocks import PiM, locality
    from lkm_kit.erf import Change, Probe, measures, support
    from lkm_kit.figures import erf_maps
    from lkm_kit.networks import build_network, describe

    probe, image = Probe(position=erf_maps.asked(window, 3)), torch.randn(1, 8, size, size, size)
    (table,) = locality.table((size,) * 3, window, AXES).drop_duplicates().to_dict("records")  # equal for all orders
    rows = []
    for name in erf_maps.SETS_3D:
        layers = {key: PiM(8, window, bidirectional=key == "pixels", directions=name) for key in ("pixels", "forward")}
        seen = {key: int(support(Change(layer), image, probe).sum()) for key, layer in layers.items()}
        with torch.device("meta"):
            network = build_network("lkm-unet/tiny-3d", input_channels=1, num_classes=3, directions=name)
        stage = describe(network, (16, 64, 64)).loc[0, ["sequences", "tokens", "pim_parameters"]]
        rows.append(
            {
                **table,
                **seen,
                **dict(zip(("stage_sequences", "stage_tokens", "stage_parameters"), stage)),
            }
        )
    found = pd.DataFrame(rows, index=erf_maps.SETS_3D).astype({"sequences": int, "tokens": int})
    field = measures(erf_maps.directions_3d(size, window)).loc[erf_maps.SETS_3D, ["n_eff", "area_90"]]
    return pd.concat([found.iloc[:, :6], field, found.iloc[:, 6:]], axis=1).rename_axis("directions")
