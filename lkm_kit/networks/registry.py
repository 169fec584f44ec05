"""Networks by name, at the paper's settings or tiny: "lkm-unet/paper-2d", "plain-unet/3d", "swin-unetr/tiny-2d", ..."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from lkm_kit.errors import KitError, one_of
from lkm_kit.networks.lkm_unet import LIKE, PAPER_2D, PAPER_3D, PRESETS, TINY_2D, TINY_3D, LKMUNet
from lkm_kit.networks.monai_nets import UNETR, SegResNet, SwinUNETR
from lkm_kit.networks.nnformer import NNFormer
from lkm_kit.networks.umamba import UMamba
from lkm_kit.networks.umamba_january import UMambaJanuary
from lkm_kit.networks.unet import UNet

Factory = Callable[..., nn.Module]

_SETTINGS = {"2d": PAPER_2D, "3d": PAPER_3D, "tiny-2d": TINY_2D, "tiny-3d": TINY_3D}
# UNETR, SwinUNETR and nnFormer halve the paper's 40 slices more often than it divides: pad=True makes them 48 or 64.
_TINY_UNETR = {"feature_size": 8, "hidden_size": 96, "mlp_dim": 192, "num_heads": 6}
_TINY_NNFORMER = {"features": 24, "num_heads": (2, 4, 8, 16)}


def _each(sizes: dict[str, dict], **more: Any) -> dict[str, dict]:
    """The arguments of every size, and further ones."""
    return {size: {**arguments, **more} for size, arguments in sizes.items()}


# family → class, and its arguments at each size
_FAMILIES: dict[str, tuple[type[nn.Module], dict[str, dict]]] = {
    "lkm-unet": (LKMUNet, PRESETS),
    "plain-unet": (UNet, _each(_SETTINGS, block="plain")),
    "residual-unet": (UNet, _each(_SETTINGS, block="residual")),
    "umamba-bot-january": (UMambaJanuary, _each(_SETTINGS, where="bottleneck")),
    "umamba-enc-january": (UMambaJanuary, _SETTINGS),
    "umamba-bot": (UMamba, _each(_SETTINGS, where="bottleneck")),
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
            "2d": {"image_size": (320, 320)},
            "3d": {"image_size": (48, 224, 192), "pad": True},
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
    "shuffled-lkm-unet": (LKMUNet, _each(PRESETS, partition="shuffled")),
    **{family: (LKMUNet, sizes) for family, sizes in LIKE.items()},
}

# name → (class or factory, arguments)
_NETWORKS: dict[str, tuple[Factory, dict[str, Any]]] = {
    f"{family}/{size}": (network_class, arguments)
    for family, (network_class, sizes) in _FAMILIES.items()
    for size, arguments in sizes.items()
}
_OWN = frozenset(_NETWORKS)


def register_network(name: str, **arguments: Any) -> Callable[[Factory], Factory]:
    """Make a network of your own known by name: to :func:`build_network`, to training, to commands and to studies.

    Args:
        name: for ``network=`` in a training's config and in a study's arms. Say ``my_file:name`` there where another
            process must find it (a command, several processes, Slurm, a resumed run): it imports ``my_file`` first,
            from the current folder or from what is installed.
        **arguments: given to the class or factory; overrides come on top.

    Returns:
        a decorator for a class or a function that takes ``(input_channels, num_classes, deep_supervision=False)`` and
        further arguments, and makes a module. It maps image (b, input_channels, *spatial) → logits (b, num_classes,
        *spatial), or a list of them, finest first. :class:`lkm_kit.networks.SegmentationNetwork` is a base with checks
        and padding. A name of your own may be given again (a notebook's cell runs twice): the last one counts.

    Raises:
        KitError: a name of the kit's own networks, or one with a colon.

    >>> @register_network("narrow-unet", features_per_stage=[4, 8], strides=[(1, 1), (2, 2)])
    ... def narrow(input_channels, num_classes, deep_supervision=False, **arguments):
    ...     return UNet(input_channels, num_classes, deep_supervision, **arguments)
    >>> build_network("narrow-unet", input_channels=1, num_classes=3, block="plain").features
    [4, 8]
    """
    if name in _OWN:
        raise KitError(f"{name!r} is one of the kit's own networks", remedy="give yours another name")
    if ":" in name:
        raise KitError(f"{name!r} has a colon, which stands between a file and a name", remedy="leave it out")

    def register(factory: Factory) -> Factory:
        _NETWORKS[name] = factory, arguments
        return factory

    return register


def network_names() -> list[str]:
    """All names :func:`build_network` knows.

    >>> "lkm-unet/tiny-2d" in network_names()
    True
    """
    return list(_NETWORKS)


def network_recipe(name: str) -> tuple[Factory, dict[str, Any]]:
    """The class or factory of a name, and the arguments it is called with.

    Raises:
        KitError: unknown name (the closest one is offered), or ``file:name`` of a file that cannot be imported.

    >>> network_recipe("plain-unet/tiny-2d")[0].__name__
    'UNet'
    """
    module, colon, name = name.rpartition(":")
    if colon:
        _import(module)
    return _NETWORKS[one_of(name, _NETWORKS, "network")]


def network_of(name: str, input_channels: int, num_classes: int) -> nn.Module:
    """The network that a command line names: any of :func:`build_network`, or what ``file:name`` is or makes.

    Args:
        name: a network's name; or ``file:name``, where ``name`` in ``file.py`` is registered, is a module, or is a
            function or class that makes one without arguments.
        input_channels: of a network that is built by name.
        num_classes: likewise.

    Raises:
        KitError: as :func:`build_network` does; or what ``file:name`` stands for is no network.

    >>> network_of("torch.nn:Identity", 1, 2)
    Identity()
    """
    file, colon, attribute = name.rpartition(":")
    found = getattr(_import(file), attribute, None) if colon else None
    if found is None or attribute in _NETWORKS:
        return build_network(name, input_channels=input_channels, num_classes=num_classes)
    try:
        made = found if isinstance(found, nn.Module) else found()
    except TypeError as error:
        raise KitError(
            f"{name} cannot be called without arguments ({error})",
            remedy=f"write a function without arguments into {file}.py that makes the network",
        ) from error
    if not isinstance(made, nn.Module):
        raise KitError(
            f"{name} is of the type {type(made).__name__}, no torch.nn.Module",
            remedy="name a module, or a function or class that makes one without arguments",
        )
    return made


def build_network(name: str, *, input_channels: int, num_classes: int, **overrides) -> nn.Module:
    """Build a network by name; any argument of its class can be overridden.

    Args:
        name: of :func:`network_names`: "lkm-unet/" and a preset, or a baseline and "/2d", "/3d" (the paper's settings)
            or "/tiny-2d", "/tiny-3d" (the sizes of the tiny presets); or of :func:`register_network`.
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
    factory, arguments = network_recipe(name)
    parameters = inspect.signature(factory).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = [p.name for p in parameters if p.name not in ("input_channels", "num_classes")]
        for argument in overrides:
            message = f"{name} takes no argument {argument!r}"
            one_of(argument, known, "argument", message=message, remedy=f"it takes {', '.join(known)}")
    try:
        return factory(input_channels, num_classes, **{**arguments, **overrides})
    except KitError:
        raise
    except Exception as error:  # of a wrong kind, deep inside; errors of a reader's own class keep their place
        if name not in _OWN:
            raise
        raise KitError(
            f"{name} cannot be built with {', '.join(f'{k}={v!r}' for k, v in overrides.items())} ({error})",
            remedy=f"help(lkm_kit.networks.{factory.__name__}) says what its arguments are",
        ) from error


def _import(module: str) -> ModuleType:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # the file is there, and imports what is not
        raise KitError(
            f"there is no file {module}.py in {here}, and no installed package of this name",
            remedy="leave .py out" if module.endswith(".py") else "run from the folder of the file, or install it",
        ) from error
    finally:
        sys.path.remove(here)
