"""Figures of the method: token orders, tokens per stage, cost against length. They need no trained network."""

from __future__ import annotations

import pandas as pd

from lkm_kit.figures.built import Built
from lkm_kit.profiles import profile


def token_orders() -> Built:
    """The three readings of "a 4×4 kernel", pixel by pixel."""
    from lkm_kit.blocks.locality import places
    from lkm_kit.plots.networks import plot_token_orders

    size, window = 12, 4
    titles = {
        "contiguous": "paper: windows of 4×4",
        "dilated": "released code: a grid of stride 4",
        "count": "authors' answer: 4×4 windows",
    }
    orders = {
        title: tuple(part.numpy() for part in places((size, size), window, partition))
        for partition, title in titles.items()
    }
    text = (
        "One colour is one sequence of tokens; numbers follow the scan through the first one. The paper's text, its "
        "released code and its authors' answer to a reader give the same number three meanings."
    )
    return Built(plot_token_orders(orders), text, {"map": size, "window": window})


def tokens_per_stage() -> Built:
    """How long the sequences are at every stage of the paper's and of the released 2D network."""
    import torch

    from lkm_kit.networks import build_network, describe
    from lkm_kit.plots.networks import plot_tokens_per_stage

    tables = {}
    for reading in ("paper", "released"):
        with torch.device("meta"):  # counting needs no memory
            network = build_network(f"lkm-unet/{reading}-2d", input_channels=1, num_classes=14)
        tables[reading] = describe(network, (320, 320))
    text = (
        "Tokens in one sequence, stage by stage, for a 320×320 image: windows as the paper describes them, and the "
        "grid that the released code makes. At the last stage a sequence of the released network has one token."
    )
    return Built(
        plot_tokens_per_stage(tables), text, {"image_size": [320, 320]}, tables={"tokens_per_stage": pd.concat(tables)}
    )


def cost_against_length() -> Built:
    """Time and memory of BiM against self-attention as sequences grow (the argument of the paper's Fig. 2a)."""
    from lkm_kit.bench.growth import table
    from lkm_kit.commands.bench import machine
    from lkm_kit.plots.lines import MARKED, plot_lines

    measured = table(repeats=profile().repeats)
    text = (
        "One sequence, forward and backward, 32 channels: BiM's cost grows with the number of tokens, self-attention's "
        "with its square. Measured on the machine that built this figure; the slopes are the message."
    )
    config = {"channels": 32, "repeats": profile().repeats, "machine": machine()}
    units = {" ms": "time, forward + backward (ms)", " MiB": "kept for the backward pass (MiB)"}
    lengths = measured.set_index("tokens")
    by_unit = {
        label: {name.removesuffix(unit): lengths[name] for name in lengths if name.endswith(unit)}
        for unit, label in units.items()
    }
    how = {"looks": MARKED, "log": "xy", "ticks": measured["tokens"], "size": (7.5, 3.4), "sharey": False}
    figure = plot_lines(by_unit, "tokens in one sequence", "", **how)
    return Built(figure, text, config, profile().name, tables={"cost_against_length": measured})
