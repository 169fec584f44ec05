"""Networks by name, at the paper's settings or tiny: "lkm-unet/paper-2d", "plain-unet/3d", ..."""

from __future__ import annotations

import difflib
import inspect

from torch import nn

from lkm_kit.errors import KitError
from lkm_kit.networks.lkm_unet import PAPER_2D, PAPER_3D, PRESETS, TINY_2D, TINY_3D, LKMUNet
from lkm_kit.networks.unet import UNet

_SETTINGS = {"2d": PAPER_2D, "3d": PAPER_3D, "tiny-2d": TINY_2D, "tiny-3d": TINY_3D}

# name → (class, arguments)
_NETWORKS: dict[str, tuple[type[nn.Module], dict]] = {
    **{f"lkm-unet/{preset}": (LKMUNet, arguments) for preset, arguments in PRESETS.items()},
    **{
        f"{block}-unet/{size}": (UNet, {**arguments, "block": block})
        for block in ("plain", "residual")
        for size, arguments in _SETTINGS.items()
    },
}


def network_names() -> list[str]:
    """All names :func:`build_network` knows.

    >>> "lkm-unet/tiny-2d" in network_names()
    True
    """
    return list(_NETWORKS)


def build_network(name: str, *, input_channels: int, num_classes: int, **overrides) -> nn.Module:
    """Build a network by name; any argument of its class can be overridden.

    Args:
        name: of :func:`network_names`: "lkm-unet/" and a preset, or a baseline and "/2d", "/3d" (the paper's settings)
            or "/tiny-2d", "/tiny-3d" (the sizes of the tiny presets).
        input_channels: channels of the image, 1 for CT and MR.
        num_classes: background included; 14 for the paper's 13 organs.
        **overrides: for instance ``deep_supervision=True``, ``windows=[...]``, ``pim=False, pam=False``.

    Returns:
        the network, with fresh weights, in training mode.

    Raises:
        KitError: unknown name (the closest one is offered) or unknown argument.

    >>> network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=7, pam=False)
    >>> sum(p.numel() for p in network.parameters()) > 100_000
    True
    """
    if name not in _NETWORKS:
        close = difflib.get_close_matches(name, _NETWORKS, n=1, cutoff=0.3)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise KitError(f"there is no network {name!r}", remedy=f"{hint}all names: {', '.join(_NETWORKS)}")
    network_class, arguments = _NETWORKS[name]
    known = [p for p in inspect.signature(network_class).parameters if p not in ("input_channels", "num_classes")]
    for argument in overrides:
        if argument not in known:
            close = difflib.get_close_matches(argument, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise KitError(f"{name} takes no argument {argument!r}", remedy=f"{hint}it takes {', '.join(known)}")
    return network_class(input_channels, num_classes, **{**arguments, **overrides})
