"""The figure of the field's orders: drawing, table and receptive field of each."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lkm_kit.figures.built import Built


def scan_orders() -> Built:
    """Every order as a drawing, and below it what one untrained PiM sees through it."""
    from lkm_kit.blocks.locality import places
    from lkm_kit.figures import erf_maps
    from lkm_kit.plots.orders import plot_orders

    size, window = 16, 8
    maps = erf_maps.orders(size, window)
    reads = {name: ["contiguous", "first-axis"] if name == "cross-scan" else [name] for name in maps}
    drawn = {
        name: [tuple(part.numpy() for part in places((size, size), window, order)) for order in several]
        for name, several in reads.items()
    }
    text = (
        f'Rows "order": the sequence that holds one pixel (red ring) of a {size}×{size} map for window {window}, and '
        "the path through it. Its first token is dark, its last bright; other sequences are grey. Rows "
        '"field": the change that one untrained PiM makes at that pixel, by gradient, mean over '
        f"{erf_maps.SEEDS} layers; white is exactly zero. Cross-scan reads rows (white) and columns (orange), both "
        "ways."
    )
    config = {"map": size, "window": window, "channels": 8, "pixel": list(erf_maps.asked(window))}
    return Built(
        plot_orders(drawn, erf_maps.asked(window), maps), text, {**config, "seeds": erf_maps.SEEDS},
        tables={"scan_orders": order_facts(size, window)},
    )  # fmt: skip


def order_facts(size: int = 16, window: int = 8, orders: Sequence[str] | None = None) -> pd.DataFrame:
    """A row per order, and one for cross-scan: its table, what one PiM sees, and a stage of a network.

    Args:
        size, window: of map and window.
        orders: some of them; all by default.

    Returns:
        ``sequences``, ``tokens``, ``together``, ``distance`` of :func:`lkm_kit.blocks.locality.table`; ``pixels``
        that have a path to one output pixel, both ways and ``forward`` alone; ``n_eff`` and ``area_90`` of the change
        that PiM makes there; ``stage_sequences``, ``stage_tokens``, ``stage_parameters`` of the first stage of
        ``lkm-unet/tiny-2d``, from :func:`lkm_kit.networks.describe`.

    >>> order_facts(8, 4, ["hilbert", "dilated"])[["tokens", "pixels", "forward"]].values.tolist()
    [[16, 16, 13], [4, 4, 1]]
    """
    import torch

    from lkm_kit.blocks import PiM, locality
    from lkm_kit.erf import Change, Probe, measures, support
    from lkm_kit.figures import erf_maps
    from lkm_kit.networks import build_network, describe

    probe, image = Probe(position=erf_maps.asked(window)), torch.randn(1, 8, size, size)
    table = locality.table((size, size), window)
    table.loc["cross-scan"] = table.loc["contiguous"]  # the rows' table; its columns have the same numbers
    table = table.astype({"sequences": int, "tokens": int})
    table = table if orders is None else table.loc[list(orders)]
    rows = []
    for name in table.index:
        how = {"directions": name} if name == "cross-scan" else {"partition": name}
        layers = {key: PiM(8, window, bidirectional=key == "pixels", **how) for key in ("pixels", "forward")}
        seen = {key: int(support(Change(layer), image, probe).sum()) for key, layer in layers.items()}
        with torch.device("meta"):
            network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3, **how)
        stage = describe(network, 96).loc[0, ["sequences", "tokens", "pim_parameters"]]
        rows.append({**seen, **dict(zip(("stage_sequences", "stage_tokens", "stage_parameters"), stage))})
    seen = pd.DataFrame(rows, index=table.index)
    field = measures(erf_maps.orders(size, window)).loc[table.index, ["n_eff", "area_90"]]
    return pd.concat([table, seen[["pixels", "forward"]], field, seen.iloc[:, 2:]], axis=1).rename_axis("order")
