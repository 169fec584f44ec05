"""Networks for images of another size than a preset was made for: which sizes do, and windows that keep their share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lkm_kit.networks.registry import network_recipe
from lkm_kit.networks.sizes import total_strides

MADE_FOR = {"tiny-2d": (96, 96), "tiny-3d": (32, 64, 64), "2d": (320, 320), "3d": (40, 224, 192)}
"""Image size of the presets, by the end of their names; the tiny ones first, which end like the others."""


def fit_size(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Image size for a network and images of about ``shape`` pixels: whole where that is no more than it was made for.

    >>> fit_size("lkm-unet/tiny-2d", (35, 50)), fit_size("lkm-unet/tiny-2d", (512, 512))
    ((40, 56), (96, 96))
    """
    base, unit = _made_for(name), _unit(name)
    whole = tuple(u * math.ceil(n / u) for n, u in zip(shape, unit))
    if math.prod(whole) <= math.prod(base):
        return whole
    return tuple(min(n, b) for n, b in zip(whole, base))


def fit_overrides(name: str, size: Sequence[int]) -> dict[str, Any]:
    """Arguments that make a network of the registry take images of ``size``: windows (and pools) in their old share.

    >>> fit_overrides("lkm-unet/tiny-2d", (40, 56))["windows"]
    [[10, 14], [10, 14], [5, 7], [5, 7]]
    >>> fit_overrides("lkm-unet/tiny-2d", (96, 96))
    {}
    """
    base, arguments = _made_for(name), network_recipe(name)[1]
    size = tuple(size)
    if size == base or any(n % u for n, u in zip(size, _unit(name))):
        return {}  # a size that does not fit is an error of the network, which says what does
    if "image_size" in arguments:
        return {"image_size": list(size)}
    scaled = {}
    for key in ("windows", "pools"):
        if name.startswith(("lkm-unet/", "shuffled-lkm-unet/")) and key in arguments:
            sides = [_sides(each, len(base)) for each in arguments[key]]
            scaled[key] = [[max(1, side * n // b) for side, n, b in zip(each, size, base)] for each in sides]
    return scaled


def _made_for(name: str) -> tuple[int, ...]:
    """Of a network of the user's own, whose name may say nothing: the tiny presets' size."""
    found = [size for end, size in MADE_FOR.items() if name.endswith(end)]
    return found[0] if found else MADE_FOR["tiny-3d" if "3d" in name else "tiny-2d"]


def _sides(window: int | Sequence[int], dims: int) -> tuple[int, ...]:
    return (window,) * dims if isinstance(window, int) else tuple(window)


def _unit(name: str) -> tuple[int, ...]:
    """What a size must be a multiple of, per axis."""
    base, arguments = _made_for(name), network_recipe(name)[1]
    if "windows" in arguments and "strides" in arguments:
        sides = [_sides(each, len(base)) for each in arguments["windows"]]
        return tuple(n // math.gcd(*(each[axis] for each in sides)) for axis, n in enumerate(base))
    return total_strides(arguments["strides"])[-1] if "strides" in arguments else (32,) * len(base)
