"""Which image sizes a network takes: map sizes per stage, what must divide them, and the message when it does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import NamedTuple

from lkm_kit.errors import KitError
from lkm_kit.shapes import nearest_text, per_axis, size_text


class Demand(NamedTuple):
    """``multiple`` must divide the map of ``stage``; ``what`` says why."""

    stage: int
    what: str
    multiple: tuple[int, ...]


def total_strides(strides: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Pixels of the image per pixel of each stage's map.

    >>> total_strides([(1, 1), (2, 2), (1, 2)])
    [(1, 1), (2, 2), (2, 4)]
    """
    totals, so_far = [], (1,) * len(strides[0])
    for stride in strides:
        so_far = tuple(a * b for a, b in zip(so_far, stride))
        totals.append(so_far)
    return totals


def stage_maps(image_size: Sequence[int], strides: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Map size of every stage, for an image that the total stride divides.

    >>> stage_maps((320, 320), [(1, 1), (2, 2), (2, 2)])
    [(320, 320), (160, 160), (80, 80)]
    """
    return [tuple(size // t for size, t in zip(image_size, total)) for total in total_strides(strides)]


def image_multiple(strides: Sequence[Sequence[int]], demands: Sequence[Demand]) -> tuple[int, ...]:
    """Smallest image size, per axis, whose multiples satisfy every demand.

    >>> image_multiple([(1, 1), (2, 2)], [Demand(0, "windows", (12, 12)), Demand(1, "windows", (8, 8))])
    (48, 48)
    """
    totals = total_strides(strides)
    multiple = totals[-1]
    for demand in demands:
        needed = (t * m for t, m in zip(totals[demand.stage], demand.multiple))
        multiple = tuple(math.lcm(a, b) for a, b in zip(multiple, needed))
    return multiple


def check_image_size(
    image_size: Sequence[int], strides: Sequence[Sequence[int]], demands: Sequence[Demand] = ()
) -> None:
    """Raise a KitError naming the first stage whose map does not come out whole, with the nearest sizes that fit.

    >>> check_image_size((96, 96), [(1, 1), (2, 2)], [Demand(1, "PiM windows", (24, 24))])
    >>> check_image_size((96, 100), [(1, 1), (2, 2)], [Demand(1, "PiM windows", (24, 24))])
    Traceback (most recent call last):
        ...
    lkm_kit.errors.KitError: stage 1: its map of 48×50 (image 96×100) is not divided by PiM windows of 24×24
      -> nearest map sizes that fit stage 1: 48×48 or 48×72; nearest image sizes that fit all stages: 96×96 or 96×144; \
or pad=True, which pads and crops
    """
    totals = total_strides(strides)
    if any(size % t for size, t in zip(image_size, totals[-1])):
        raise KitError(
            f"image {size_text(image_size)} does not come down to stage {len(strides) - 1} in whole pixels: "
            f"the strides multiply to {size_text(totals[-1])}",
            remedy=_image_remedy(image_size, strides, demands),
        )
    maps = stage_maps(image_size, strides)
    for stage, what, needed in demands:
        if any(size % m for size, m in zip(maps[stage], needed)):
            raise KitError(
                f"stage {stage}: its map of {size_text(maps[stage])} (image {size_text(image_size)}) is not divided by "
                f"{what} of {size_text(needed)}",
                remedy=f"nearest map sizes that fit stage {stage}: {nearest_text(maps[stage], needed)}; "
                + _image_remedy(image_size, strides, demands),
            )


# Texts are written only where they are needed: torch.compile cannot trace the text of a size that it holds as a symbol.
def _image_remedy(image_size: Sequence[int], strides: Sequence[Sequence[int]], demands: Sequence[Demand]) -> str:
    fits = nearest_text(image_size, image_multiple(strides, demands))
    return f"nearest image sizes that fit all stages: {fits}; or pad=True, which pads and crops"


def per_stage(values: int | Sequence, n_stages: int, dims: int, name: str) -> list[tuple[int, ...]]:
    """``3``, ``[3, 3]`` or ``[(1, 3, 3), (3, 3, 3)]`` as one tuple per stage.

    >>> per_stage([5, (3, 1)], 2, 2, "windows")
    [(5, 5), (3, 1)]
    """
    values = [values] * n_stages if isinstance(values, int) else list(values)
    if len(values) != n_stages:
        raise KitError(
            f"{name} has {len(values)} entries for {n_stages} stages: {values}",
            remedy="features_per_stage, strides and every other list need one entry per stage",
        )
    return [per_axis(value, dims, f"{name}, stage {stage},") for stage, value in enumerate(values)]


def stage_choices(value: object, n_stages: int, name: str) -> list:
    """One choice for all stages, or a list with one for each.

    >>> stage_choices("bim", 2, "mixer"), stage_choices(["mean", None], 2, "mixer")
    (['bim', 'bim'], ['mean', None])
    """
    values = list(value) if isinstance(value, (list, tuple)) else [value] * n_stages
    if len(values) != n_stages:
        raise KitError(f"{name} is {values}", remedy=f"give one, or a list of {n_stages}, one for each stage")
    return values


def counts(values: int | Sequence[int], n: int, name: str) -> list[int]:
    """One whole number from 1 on for each of ``n`` stages.

    >>> counts(2, 3, "n_blocks_per_stage")
    [2, 2, 2]
    """
    values = [values] * n if isinstance(values, int) else [index(v) for v in values]
    if len(values) != n or min(values, default=0) < 1:
        raise KitError(f"{name} is {values}", remedy=f"give one whole number ≥ 1, or {n} of them")
    return values
