"""Networks by name, at the paper's settings or tiny: "lkm-unet/paper-2d", "plain-unet/3d", "swin-unetr/tiny-2d", ..."""

from __future__ import annotations

import inspect

from torch import nn

from lkm_kit.errors import one_of
from lkm_kit.networks.lkm_unet import PAPER_2D, PAPER_3D, PRESETS, TINY_2D, TINY_3D, LKMUNet
from lkm_kit.networks.monai_nets import UNETR, SegResNet, SwinUNETR
from lkm_kit.networks.nnformer import NNFormer
from lkm_kit.networks.umamba import UMamba
from lkm_kit.networks.unet import UNet

_SETTINGS = {"2d": PAPER_2D, "3d": PAPER_3D, "tiny-2d": TINY_2D, "tiny-3d": TINY_3D}
# UNETR, SwinUNETR and nnFormer halve the paper's 40 slices more often than it divides: pad=True makes them 48 or 64.
_UNETR = {"2d": {"image_size": (320, 320)}, "3d": {"image_size": (48, 224, 192), "pad": True}}
_TINY_UNETR = {"feature_size": 8, "hidden_size": 96, "mlp_dim": 192, "num_heads": 6}
_TINY_NNFORMER = {"features": 24, "num_heads": (2, 4, 8, 16)}
_OTHERS: dict[str, tuple[type[nn.Module], dict[str, dict]]] = {
    "umamba-bot": (UMamba, {size: {**arguments, "where": "bottleneck"} for size, arguments in _SETTINGS.items()}),
    "umamba-enc": (
        UMamba,
        {
            **_SETTINGS,
            "2d": {**PAPER_2D, "image_size": (320, 320)},
            "3d": {**PAPER_3D, "image_size": (40, 224, 192)},
        },
    ),
    "segresnet": (
        SegResNet,
        {
            "2d": {"dims": 2},
            "3d": {"dims": 3},
            "tiny-2d": {"dims": 2, "init_filters": 8},
            "tiny-3d": {"dims": 3, "init_filters": 8},
        },
    ),
    "unetr": (
        UNETR,
        {
            **_UNETR,
            "tiny-2d": {**_TINY_UNETR, "image_size": (96, 96)},
            "tiny-3d": {**_TINY_UNETR, "image_size": (32, 64, 64)},
        },
    ),
    "swin-unetr": (
        SwinUNETR,
        {
            "2d": {"dims": 2},
            "3d": {"dims": 3, "pad": True},
            "tiny-2d": {"dims": 2, "feature_size": 12},
            "tiny-3d": {"dims": 3, "feature_size": 12},
        },
    ),
    # The two coarsest stages see their whole map, as the paper's global attention does.
    "nnformer": (
        NNFormer,
        {
            "2d": {"patch": (4, 4), "windows": [8, 8, 20, 10]},
            "3d": {"patch": (2, 4, 4), "windows": [4, 4, (6, 14, 12), (3, 7, 6)], "pad": True},
            "tiny-2d": {**_TINY_NNFORMER, "patch": (4, 4), "windows": [6, 6, 6, 3]},
            "tiny-3d": {**_TINY_NNFORMER, "patch": (2, 4, 4), "windows": [4, 4, 4, 2]},
        },
    ),
}

# name → (class, arguments)
_NETWORKS: dict[str, tuple[type[nn.Module], dict]] = {
    **{f"lkm-unet/{preset}": (LKMUNet, arguments) for preset, arguments in PRESETS.items()},
    **{
        f"{block}-unet/{size}": (UNet, {**arguments, "block": block})
        for block in ("plain", "residual")
        for size, arguments in _SETTINGS.items()
    },
    **{
        f"{name}/{size}": (network_class, arguments)
        for name, (network_class, sizes) in _OTHERS.items()
        for size, arguments in sizes.items()
    },
    **{
        f"shuffled-lkm-unet/{preset}": (LKMUNet, {**arguments, "partition": "shuffled"})
        for preset, arguments in PRESETS.items()
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
    network_class, arguments = _NETWORKS[one_of(name, _NETWORKS, "network")]
    known = [p for p in inspect.signature(network_class).parameters if p not in ("input_channels", "num_classes")]
    for argument in overrides:
        message = f"{name} takes no argument {argument!r}"
        one_of(argument, known, "argument", message=message, remedy=f"it takes {', '.join(known)}")
    return network_class(input_channels, num_classes, **{**arguments, **overrides})
