"""Study ``scans``: does the order matter, does selection matter, or the window?

PiM alone, so that nothing but the scan carries from pixel to pixel: one mixer in several orders, and several mixers in
one order, at the presets' windows. Orders that are read both ways have equal parameters. Four directions would have
twice as many; their Mambas have half the inner width instead, which makes them nearly equal; every report counts them.
"""

from __future__ import annotations

from lkm_kit.profiles import Profile
from lkm_kit.studies.arms import KERNEL_SIZES, Arm, Study, controls, depthwise_kernel

ORDERS = {  # arm: (title, partition, further arguments of the network)
    "rows": ("rows", "contiguous", {}),
    "one-way": ("rows, forward only", "contiguous", {"bidirectional": False}),
    "snake": ("snake", "snake", {}),
    "diagonal": ("diagonals", "diagonal", {}),
    "hilbert": ("Hilbert's curve", "hilbert", {}),
    "shuffled": ("random order", "shuffled", {}),
    "dilated": ("dilated grid", "dilated", {}),
    "local": ("windows in one sequence", "local", {}),
    "cross-scan": ("rows and columns", "contiguous", {"directions": "cross-scan", "expand": 1}),
}
VOLUMES = {
    "tri-orientated": ("forward, backward, slices", "contiguous", {"directions": "tri-orientated"}),
    "three-axes": ("three axes", "contiguous", {"directions": "three-axes", "expand": 1}),
}
"""Of 3D networks beside :data:`ORDERS`; their scans have half as many parameters again as BiM's."""
MIXERS = {
    "depthwise": "depth-wise {kernel}",
    "mean": "mean",
    "attention": "attention",
    "mamba2": "Mamba-2",
    "s4d": "S4D, no selection",
    "mingru": "minGRU",
}


def scans(size: Profile) -> Study:
    """The arms at the sizes of a profile: orders of BiM, other mixers in rows, and both controls.

    >>> from lkm_kit.profiles import profile
    >>> [arm.name for arm in scans(profile("smoke")).arms][-4:]
    ['s4d', 'mingru', 'residual-unet', 'wide-residual-unet']
    """
    network, windows = f"lkm-unet/{size.network}", list(KERNEL_SIZES[size.network]["large"])
    shared = {"windows": windows, "pam": False}
    orders = {**ORDERS, **(VOLUMES if "3d" in size.network else {})}
    arms = []
    for name, (title, order, more) in orders.items():
        partition = {} if order == "contiguous" else {"partition": order}
        part = "PiM+BiM" if more.get("bidirectional", True) else "PiM"
        arms.append(Arm(name, f"{part}, {title}", network, {**shared, **partition, **more}))
    kernel = depthwise_kernel(size)
    for name, title in MIXERS.items():
        arms.append(Arm(name, f"PiM, {title.format(kernel=kernel)}", network, {**shared, "mixer": name}))
    pairs = tuple((arm.name, "rows") for arm in arms if arm.name != "rows") + (("rows", "wide-residual-unet"),)
    question = "Does the order of a scan matter, does selection matter, or the window?"
    return Study("scans", question, (*arms, *controls(size)), comparisons=pairs)
