"""Feature map ↔ token sequences, in any of the orders of :mod:`lkm_kit.blocks.orders`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from lkm_kit.blocks.orders import Rearranged, fitting, order_named, order_table, sequences_of
from lkm_kit.errors import KitError
from lkm_kit.shapes import size_text, spatial_size


def to_tokens(x: Tensor, window: int | Sequence[int], partition: str = "contiguous") -> Tensor:
    """Cut a feature map into token sequences.

    Args:
        x: feature map (batch, channels, H, W) or (batch, channels, D, H, W).
        window: one number for all axes, or one per axis, in pixels ("count": in windows).
        partition: a name of :data:`lkm_kit.blocks.ORDERS`.

    Returns:
        tokens (batch * sequences, length, channels); the sequences of one sample follow each other.

    Raises:
        KitError: wrong rank, unknown partition, or a map that ``window`` does not divide.

    Source: paper Section 3.2 (contiguous); ``BiPixelMambaLayer.forward`` of the released code (dilated).

    >>> import torch
    >>> x = torch.arange(16.).reshape(1, 1, 4, 4)
    >>> to_tokens(x, 2)[..., 0].int().tolist()  # four windows of four neighbours
    [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    >>> to_tokens(x, 2, "dilated")[..., 0].int().tolist()  # four grids with holes
    [[0, 2, 8, 10], [1, 3, 9, 11], [4, 6, 12, 14], [5, 7, 13, 15]]
    """
    spatial, order = spatial_size(x), order_named(partition)
    window = fitting(spatial, window, partition)
    if isinstance(order, Rearranged):
        return order.cut(x, window)
    table = order_table(spatial, window, partition, x.device)
    return x.flatten(2).transpose(1, 2).index_select(1, table.flatten()).reshape(-1, table.shape[1], x.shape[1])


def to_map(tokens: Tensor, shape: Sequence[int], window: int | Sequence[int], partition: str = "contiguous") -> Tensor:
    """Put token sequences back into the map they came from: the exact inverse of :func:`to_tokens`.

    Args:
        tokens: (batch * sequences, length, channels); the channels may differ from those that were cut.
        shape: shape of the map, (batch, channels, *spatial) or only (*spatial).
        window, partition: as given to :func:`to_tokens`.

    Returns:
        feature map (batch, channels of the tokens, *spatial).

    Raises:
        KitError: tokens that are not those of a map of this shape.

    >>> import torch
    >>> x = torch.randn(2, 3, 8, 6, 4)
    >>> torch.equal(to_map(to_tokens(x, (4, 3, 2)), x.shape, (4, 3, 2)), x)
    True
    """
    spatial, order = tuple(shape[2:]) if len(shape) > 3 else tuple(shape), order_named(partition)
    window = fitting(spatial, window, partition)
    sequences, length = sequences_of(spatial, window, partition)
    if tokens.ndim != 3 or tokens.shape[1] != length or tokens.shape[0] % sequences:
        raise KitError(
            f"tokens have shape {tuple(tokens.shape)}; a map of {size_text(spatial)} cut by {size_text(window)} "
            f"({partition}) gives (batch * {sequences}, {length}, channels)",
            remedy="pass the shape, window and partition that were given to to_tokens",
        )
    if isinstance(order, Rearranged):
        return order.put(tokens, spatial, window)
    pixels = order_table(spatial, window, partition, tokens.device).flatten().long()
    rows = tokens.reshape(-1, prod(spatial), tokens.shape[-1])
    rows = rows.new_empty(rows.shape).index_copy(1, pixels, rows)
    return rows.transpose(1, 2).unflatten(2, spatial)
