"""Which device to compute on: ask for one by name, get it or an error that says why not."""

from __future__ import annotations

import torch

from lkm_kit.errors import KitError


def resolve_device(name: str = "auto") -> torch.device:
    """Turn ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"`` into a device that is really there.

    Args:
        name: ``"auto"`` takes CUDA where torch sees it and the CPU elsewhere; a device that is asked for by name is
            never replaced by another one.

    Raises:
        KitError: CUDA is asked for and absent (the reason is named), or the name is no device.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise KitError(
            f"there is no device {name!r}", remedy="choose auto, cpu, cuda, or cuda:1 for a second GPU"
        ) from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise KitError(f"the kit does not run on {device.type!r}", remedy="choose auto, cpu or cuda")
    if not torch.cuda.is_available():
        why = (
            f"torch {torch.__version__} is a build without CUDA: install torch's CUDA build"
            if torch.version.cuda is None
            else "torch has CUDA but sees no GPU: check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES"
        )
        raise KitError(f"device {name!r} was asked for, but CUDA is not available", remedy=f"{why}; or use cpu")
    if device.index is not None and device.index >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise KitError(
            f"device {name!r} was asked for, but the last GPU is cuda:{last}", remedy=f"use cuda:0 to cuda:{last}"
        )
    return device
