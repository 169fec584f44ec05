"""The functional receptive field, drawn from the committed results of its study."""

from __future__ import annotations

import pandas as pd

from lkm_kit.errors import KitError
from lkm_kit.figures.built import Built
from lkm_kit.profiles import profile

PROFILE = "laptop"
PANELS = {
    "Which pixels share a sequence": [
        ("residual U-Net", "residual-unet", "anywhere"),
        ("PiM, windows", "pim-bim", "anywhere"),
        ("PiM, grids", "pim-bim-dilated", "anywhere"),
        ("PaM", "pam-bim", "anywhere"),
        ("PiM+PaM", "pim-pam-bim", "anywhere"),
    ],
    "One direction: cue before or after the pixel": [
        ("PiM, before", "pim", "before"),
        ("PiM, after", "pim", "after"),
        ("PaM, before", "pam", "before"),
        ("PaM, after", "pam", "after"),
    ],
    "Depth and normalisation": [
        ("residual, 2 stages", "residual-unet", "anywhere"),
        ("residual, 4 stages", "deep-residual-unet", "anywhere"),
        ("LKM-UNet, 4 stages", "deep-lkm-unet", "anywhere"),
        ("InstanceNorm, 2 stages", "residual-unet-instance", "anywhere"),
    ],
}
MAPS = {
    "residual-unet": "residual U-Net",
    "pim": "PiM, one direction",
    "pim-bim": "PiM, windows",
    "pim-bim-dilated": "PiM, grids",
    "pam": "PaM, one direction",
    "pim-pam-bim": "PiM+PaM",
}


def functional_receptive_field() -> Built:
    """Who can tell the sign of a cue, by its distance: how far trained networks look."""
    from lkm_kit.data.cue_task import CueTask
    from lkm_kit.plots.reach import plot_reach
    from lkm_kit.studies.functional import protocol
    from lkm_kit.studies.reference import FOLDER

    folder, reach = FOLDER / f"functional-{PROFILE}", profile(PROFILE).reach
    if not (folder / "by_distance.csv").is_file():
        raise KitError(
            f"there are no results of the functional receptive field in {folder}",
            remedy=f"lkm reach --profile {PROFILE} --out {folder}",
        )
    table, offsets = (pd.read_csv(folder / f"{name}.csv") for name in ("by_distance", "by_offset"))
    seeds = sorted(table["seed"].unique().tolist())
    text = (
        "How far trained networks look. Every pixel has to tell the sign of the one cue in its image, and nothing else "
        "in the image tells it: half of the answers of a network that does not see the cue are right. Above, by "
        f"distance: mean of {len(seeds)} seeds, bands from the worst to the best (lines at 1.0 lie on each other). "
        "Dotted is what the theoretical receptive field allows, estimated from "
        f"{len(seeds) * reach.probes} random pixels. Below, by the steps from the pixel to the cue; the square is as "
        f"large as a window. Images of {'×'.join(map(str, reach.size))}, a square of {CueTask.cue} pixels a side, "
        f"±{CueTask.amplitude:g}; networks of two stages where the panel says no other number. All arms have "
        "BatchNorm, but for the one that keeps InstanceNorm: that one answers everywhere, because the mean of a "
        "feature over the whole map tells the sign to every pixel."
    )
    config = {**protocol(reach), "seeds": seeds, "results": f"studies/{folder.name}"}
    figure = plot_reach(table, offsets, PANELS, MAPS, min(reach.size) // 4)
    return Built(figure, text, config, PROFILE)
