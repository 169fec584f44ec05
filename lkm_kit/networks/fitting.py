"""Networks for images of another size or voxel than a preset was made for: sizes that do, windows, strides, kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lkm_kit.networks.lkm_unet import LIKE
from lkm_kit.networks.registry import network_recipe
from lkm_kit.networks.sizes import total_strides

MADE_FOR = {"tiny-2d": (96, 96), "tiny-3d": (32, 64, 64), "2d": (320, 320), "3d": (40, 224, 192)}
"""Image size of the presets, by the end of their names; the tiny ones first, which end like the others."""
GEOMETRY = {"strides", "kernel_sizes"}
"""Arguments of U-Nets that follow the voxels."""
_WINDOWED = tuple(f"{family}/" for family in ("lkm-unet", "shuffled-lkm-unet", *LIKE))


def fit_size(name: str, shape: Sequence[int], unit: Sequence[int] | None = None) -> tuple[int, ...]:
    """Image size for a network and images of about ``shape`` pixels: whole where that is no more than it was made for.

    Args:
        name: of the network.
        shape: pixels of a typical image.
        unit: what each side must be a multiple of; default :func:`size_unit` of the network.

    >>> fit_size("lkm-unet/tiny-2d", (35, 50)), fit_size("lkm-unet/tiny-2d", (512, 512))
    ((40, 56), (96, 96))
    """
    base, unit = _made_for(name), unit or size_unit(name)
    whole = tuple(u * math.ceil(n / u) for n, u in zip(shape, unit))
    if math.prod(whole) <= math.prod(base):
        return whole
    return tuple(min(n, b) for n, b in zip(whole, base))


def fit_overrides(
    name: str,
    size: Sequence[int],
    overrides: Mapping[str, Any] | None = None,
    spacing_mm: float | Sequence[float] | None = None,
) -> dict[str, Any]:
    """Arguments that make a network of the registry take images of ``size``: windows (and pools) in their old share.

    Args:
        name: of the network.
        size: pixels of an image.
        overrides: the network's own arguments, for the size it was made for; default the registry's.
        spacing_mm: of its voxels: then the strides and kernels of a tiny U-Net in 3D follow them
            (:func:`fit_geometry`). The larger presets keep the paper's.

    >>> fit_overrides("lkm-unet/tiny-2d", (40, 56))["windows"]
    [[10, 14], [10, 14], [5, 7], [5, 7]]
    >>> fit_overrides("nnformer/tiny-2d", (64, 64))["windows"]  # of tokens; its last stages see their whole map
    [[4, 4], [4, 4], [4, 4], [2, 2]]
    >>> fit_overrides("lkm-unet/tiny-2d", (96, 96))
    {}
    >>> fit_overrides("lkm-unet/tiny-3d", (32, 64, 64), spacing_mm=(1.0, 1.0, 1.0))["strides"]
    [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    """
    base, arguments = _made_for(name), {**network_recipe(name)[1], **(overrides or {})}
    size = tuple(size)
    if any(n % u for n, u in zip(size, size_unit(name, overrides))):
        return {}  # a size that does not fit is an error of the network, which says what does
    scaled: dict[str, Any] = {}
    follows = name.endswith("/tiny-3d") and not name.startswith(tuple(LIKE)) and set(arguments) >= GEOMETRY
    if spacing_mm is not None and follows and not GEOMETRY & set(overrides or {}):
        scaled = fit_geometry(size, spacing_mm, len(arguments["strides"]))
    if size == base:
        return scaled
    if "image_size" in arguments:
        return {"image_size": list(size)}
    if name.startswith("nnformer/"):
        return {"windows": _attention_windows(size, base, arguments)}
    for key in ("windows", "pools"):
        if name.startswith(_WINDOWED) and key in arguments:
            sides = [_sides(each, len(base)) for each in arguments[key]]
            scaled[key] = [[max(1, side * n // b) for side, n, b in zip(each, size, base)] for each in sides]
    if "pools" in scaled:  # what divides a window divides its map
        both = zip(scaled["pools"], scaled["windows"])
        scaled["pools"] = [[_divisor(p, w) for p, w in zip(pool, window)] for pool, window in both]
    return scaled


def fit_geometry(size: Sequence[int], spacing_mm: float | Sequence[float], stages: int) -> dict[str, list]:
    """Strides and kernels of a U-Net whose voxels become cubes on the way down, as nnU-Net plans them.

    Args:
        size: pixels of an image.
        spacing_mm: of its voxels, mm; one number, or one for each axis.
        stages: of the encoder.

    Returns:
        ``strides``: an axis is halved where its voxels are less than twice as long as the shortest, and the map has an
        even number of them, at least 8. ``kernel_sizes``: 3 along an axis as soon as that holds for its voxels, else 1.

    Source: Isensee et al. 2021 (nnU-Net), Supplementary Note 2.

    >>> fit_geometry((16, 64, 64), (5.0, 1.0, 1.0), 4)["strides"]
    [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]]
    >>> fit_geometry((16, 64, 64), (5.0, 1.0, 1.0), 4)["kernel_sizes"]
    [[1, 3, 3], [1, 3, 3], [3, 3, 3], [3, 3, 3]]
    """
    sides = list(size)
    spacing = [float(spacing_mm)] * len(sides) if isinstance(spacing_mm, (int, float)) else list(spacing_mm)
    strides, kernels = [], [1] * len(sides)
    found: dict[str, list] = {"strides": strides, "kernel_sizes": []}
    for stage in range(stages):
        near = [step < 2 * min(spacing) for step in spacing]
        halved = [stage > 0 and fits and n % 2 == 0 and n >= 8 for fits, n in zip(near, sides)]
        strides.append([2 if yes else 1 for yes in halved])
        sides = [n // stride for n, stride in zip(sides, strides[-1])]
        spacing = [step * stride for step, stride in zip(spacing, strides[-1])]
        near = [step < 2 * min(spacing) for step in spacing]
        kernels = [3 if fits else kernel for fits, kernel in zip(near, kernels)]
        found["kernel_sizes"].append(kernels)
    return found


def _attention_windows(size: Sequence[int], base: Sequence[int], arguments: Mapping[str, Any]) -> list[list[int]]:
    """nnFormer's windows in their old share of the image, or the next smaller ones that divide their map of tokens."""
    windows = [_sides(each, len(base)) for each in arguments["windows"]]
    maps = [[n // (p * 2**stage) for n, p in zip(size, arguments["patch"])] for stage in range(len(windows))]
    share = [[max(1, side * n // b) for side, n, b in zip(each, size, base)] for each in windows]
    return [[_divisor(most, tokens) for most, tokens in zip(*both)] for both in zip(share, maps)]


def _divisor(most: int, number: int) -> int:
    return next(n for n in range(most, 0, -1) if number % n == 0)


def _made_for(name: str) -> tuple[int, ...]:
    """Of a network of the user's own, whose name may say nothing: the tiny presets' size."""
    found = [size for end, size in MADE_FOR.items() if name.endswith(end)]
    return found[0] if found else MADE_FOR["tiny-3d" if "3d" in name else "tiny-2d"]


def _sides(window: int | Sequence[int], dims: int) -> tuple[int, ...]:
    return (window,) * dims if isinstance(window, int) else tuple(window)


def size_unit(name: str, overrides: Mapping[str, Any] | None = None) -> tuple[int, ...]:
    """What an image size must be a multiple of, per axis; arguments as in :func:`fit_overrides`.

    >>> size_unit("lkm-unet/tiny-2d"), size_unit("lkm-unet/tiny-2d", {"windows": [6, 6, 3, 3]})
    ((8, 8), (32, 32))
    """
    base, arguments = _made_for(name), {**network_recipe(name)[1], **(overrides or {})}
    if "windows" in arguments and "strides" in arguments:
        sides = [_sides(each, len(base)) for each in arguments["windows"]]
        return tuple(n // math.gcd(*(each[axis] for each in sides)) for axis, n in enumerate(base))
    return total_strides(arguments["strides"])[-1] if "strides" in arguments else (32,) * len(base)
