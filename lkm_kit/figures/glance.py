"""The first picture of README: an order, a receptive field and a study side by side."""

from __future__ import annotations

from lkm_kit.figures.built import Built

ARMS = ("plain-unet", "pim", "pim-bim", "pim-pam-bim", "pim-pam-depthwise", "wide-residual-unet")
"""Of Table 3, with the paper's full network among them."""


def at_a_glance() -> Built:
    """What the kit is for: choose how pixels are read, see what a network sees, and ask what it is worth."""
    import torch

    from lkm_kit.blocks.locality import places
    from lkm_kit.erf import ErfMap, Probe, erf
    from lkm_kit.figures.pair import test_warps
    from lkm_kit.plots.glance import plot_glance
    from lkm_kit.studies.reference import reference_results
    from lkm_kit.training import load_checkpoint

    order = tuple(part.numpy() for part in places((16, 16), 16, "hilbert"))
    network, record = load_checkpoint("tiny-2d")
    warps = test_warps()
    image, at = warps[0]["image"], (56, 60)
    field = erf(network, image[None], Probe(position=at, rule="rademacher"), draws=8)
    upright = torch.from_numpy(field.array.copy()).flip(0, 1).T
    shown = ErfMap.at(upright, (image.shape[2] - 1 - at[1], image.shape[1] - 1 - at[0]))
    study = reference_results("table3", data="hippocampus").table.loc[list(ARMS)]
    text = (
        "Left: Hilbert's curve, one of the kit's orders, in a window of 16×16 pixels; first pixel dark, last "
        "bright. Middle: what the packaged LKM-UNet, tiny-2d, uses for the ringed pixel of a deformed copy of the "
        "patient it was trained on: the gradient of all logits, statistics of normalisation layers frozen, logarithmic "
        "over four powers of ten. Right: arms of Table 3 on MSD Task04 Hippocampus, 80 test cases, five or ten seeds: "
        "difference from the network without Mamba and its 95 % interval, each for itself."
    )
    config = {"order": "hilbert", "network": "tiny-2d", "pixel": list(at), "study": "table3-laptop-hippocampus"}
    picture = image[0].flip(0, 1).T.numpy()
    seed = record["training"]["config"]["seed"]
    return Built(plot_glance(order, picture, shown, study), text, config, "laptop", seed, warps.source.text)
