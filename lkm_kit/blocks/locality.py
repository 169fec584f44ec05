"""How much of an image's neighbourhood an order keeps: numbers of its table alone, before any network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from lkm_kit.blocks.orders import ORDERS, fitting, order_table

if TYPE_CHECKING:
    import pandas as pd


class Locality(NamedTuple):
    """Share of the pairs of neighbouring pixels that are in one sequence, and their mean distance there.

    ``distance`` is nan where no pair is together. It is 1 for pixels that follow each other.
    """

    together: float
    distance: float


def places(spatial: Sequence[int], window: int | Sequence[int], order: str) -> tuple[Tensor, Tensor]:
    """Per pixel of a map: the number of its sequence, and its place in that sequence, both from 0.

    Args:
        spatial: size of the map.
        window: as in :func:`lkm_kit.blocks.to_tokens`.
        order: a name of :data:`lkm_kit.blocks.ORDERS`.

    Returns:
        two integer tensors (*spatial).

    Raises:
        KitError: unknown order, or a map that the window does not divide.

    >>> sequence, place = places((2, 4), 2, "contiguous")
    >>> sequence.tolist(), place.tolist()
    ([[0, 0, 1, 1], [0, 0, 1, 1]], [[0, 1, 0, 1], [2, 3, 2, 3]])
    """
    size = tuple(spatial)
    table = order_table(size, fitting(size, window, order), order).long()
    sequence, place = (torch.empty(table.numel(), dtype=torch.long) for _ in range(2))
    sequence[table] = torch.arange(table.shape[0])[:, None].expand_as(table)
    place[table] = torch.arange(table.shape[1]).expand_as(table)
    return sequence.reshape(size), place.reshape(size)


def locality(spatial: Sequence[int], window: int | Sequence[int], order: str) -> Locality:
    """Count the pairs of pixels that lie side by side along an axis of the map.

    Args:
        spatial: size of the map.
        window: as in :func:`lkm_kit.blocks.to_tokens`.
        order: a name of :data:`lkm_kit.blocks.ORDERS`.

    Raises:
        KitError: unknown order, or a map that the window does not divide.

    >>> locality((4, 4), 4, "contiguous")
    Locality(together=1.0, distance=2.5)
    """
    size = tuple(spatial)
    sequence, place = places(size, window, order)
    same, distances, pairs = 0, 0, 0
    for axis in range(len(size)):
        together = sequence.diff(dim=axis) == 0
        pairs += together.numel()
        same += int(together.sum())
        distances += int(place.diff(dim=axis).abs()[together].sum())
    return Locality(same / pairs if pairs else 1.0, distances / same if same else float("nan"))


def table(spatial: Sequence[int], window: int | Sequence[int], orders: Iterable[str] | None = None) -> pd.DataFrame:
    """One row per order: its sequences, their tokens, and :class:`Locality`.

    Args:
        spatial, window: as of :func:`locality`.
        orders: names of :data:`lkm_kit.blocks.ORDERS`; all by default.

    >>> table((8, 8), 4, ["contiguous", "hilbert", "dilated"])
             sequences  tokens  together  distance
    order
    contiguous       4      16     0.857     2.500
    hilbert          4      16     0.857     2.667
    dilated         16       4     0.000       NaN
    """
    import pandas as pd

    rows = []
    for name in ORDERS if orders is None else orders:
        size = tuple(spatial)
        sequences, tokens = order_table(size, fitting(size, window, name), name).shape
        rows.append({"order": name, "sequences": sequences, "tokens": tokens, **locality(size, window, name)._asdict()})
    return pd.DataFrame(rows).set_index("order").round(3)
