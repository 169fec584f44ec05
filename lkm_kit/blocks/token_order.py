"""Feature map ↔ token sequences: which pixels become one sequence, and in which order the state-space model reads them.

A map is cut per axis into ``n`` groups of ``k`` pixels. Three readings of the paper's "kernel size" differ only in
which of the two numbers is fixed and which of the two indices runs inside a sequence:

=============  =======================  ==========================================================
partition      ``window`` is            one sequence is
=============  =======================  ==========================================================
"contiguous"   the side k of a window   a window of neighbouring pixels (the paper's text, Section 3.2)
"dilated"      the stride k of a grid   every k-th pixel, over the whole map (the released code)
"count"        the number n of windows  a window of side H/n (the authors' answer to a reader)
=============  =======================  ==========================================================

Inside a sequence the pixels follow row by row (last axis fastest); sequences are ordered the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from lkm_kit.errors import KitError
from lkm_kit.shapes import nearest_text, per_axis, size_text, spatial_size

PARTITIONS = ("contiguous", "dilated", "count")


def to_tokens(x: Tensor, window: int | Sequence[int], partition: str = "contiguous") -> Tensor:
    """Cut a feature map into token sequences.

    Args:
        x: feature map (batch, channels, H, W) or (batch, channels, D, H, W).
        window: one number for all axes, or one per axis, in pixels ("count": in windows); see the module's table.
        partition: "contiguous", "dilated" or "count".

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
    spatial = spatial_size(x)
    sides = window_sides(spatial, window, partition)
    length = _length(spatial, sides, partition)
    return _cut(x, sides).permute(_order(len(spatial), partition)).reshape(-1, length, x.shape[1])


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
    spatial = tuple(shape[2:]) if len(shape) > 3 else tuple(shape)
    sides = window_sides(spatial, window, partition)
    counts = [size // side for size, side in zip(spatial, sides)]
    length = _length(spatial, sides, partition)
    sequences = prod(spatial) // length
    if tokens.ndim != 3 or tokens.shape[1] != length or tokens.shape[0] % sequences:
        raise KitError(
            f"tokens have shape {tuple(tokens.shape)}; a map of {size_text(spatial)} cut by {size_text(sides)} "
            f"({partition}) gives (batch * {sequences}, {length}, channels)",
            remedy="pass the shape, window and partition that were given to to_tokens",
        )
    outer, inner = (sides, counts) if partition == "dilated" else (counts, sides)
    order = _order(len(spatial), partition)
    inverse = [order.index(axis) for axis in range(len(order))]
    cut = tokens.reshape(tokens.shape[0] // sequences, *outer, *inner, tokens.shape[-1]).permute(inverse)
    return cut.reshape(*cut.shape[:2], *spatial)


def pixel_order(x: Tensor, window: int | Sequence[int], partition: str = "contiguous") -> Tensor:
    """The order of :func:`to_tokens` as a table, for scans that look pixels up instead of having tokens cut out.

    Args:
        x: feature map, of which only size and device matter.
        window, partition: as in :func:`to_tokens`.

    Returns:
        (sequences, length) int32: the number of each token's pixel, counted row by row. Tables are kept for the next
        call and shared: do not write into them.

    Raises:
        KitError: as :func:`to_tokens`.

    >>> import torch
    >>> pixel_order(torch.zeros(1, 3, 4, 4), 2).tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    """
    spatial = spatial_size(x)
    arguments = (spatial, per_axis(window, len(spatial), "window"), partition, x.device)
    # A tracer must see the table being made, and a fake tensor must not be kept for the next, real call.
    if torch.compiler.is_compiling() or type(torch.empty(0)) is not Tensor:
        return _pixel_order(*arguments)
    return _kept_pixel_order(*arguments)


def _pixel_order(spatial: tuple[int, ...], window: tuple[int, ...], partition: str, device: torch.device) -> Tensor:
    numbers = torch.arange(prod(spatial), dtype=torch.int32, device=device).reshape(1, 1, *spatial)
    return to_tokens(numbers, window, partition)[..., 0].contiguous()


@lru_cache(maxsize=64)
def _kept_pixel_order(*arguments) -> Tensor:
    with torch.inference_mode(False):  # a table made in inference mode could not be saved for a backward pass later
        return _pixel_order(*arguments)


def window_sides(
    spatial: Sequence[int], window: int | Sequence[int], partition: str = "contiguous", where: str = ""
) -> tuple[int, ...]:
    """Side of a window (or stride of a dilated grid) per axis, in pixels, after checking that it divides the map.

    Args:
        spatial: size of the map.
        window, partition: as in :func:`to_tokens`.
        where: put before the message, to say which layer of which stage speaks.

    Raises:
        KitError: naming map, window and the nearest sizes that fit.

    >>> window_sides((320, 320), 40, "count")
    (8, 8)
    """
    check_partition(partition)
    window = per_axis(window, len(spatial), "window")
    if any(size % k for size, k in zip(spatial, window)):
        what = {
            "contiguous": f"into windows of {size_text(window)}",
            "dilated": f"into grids of stride {size_text(window)}",
            "count": f"into {size_text(window)} equal windows",
        }[partition]
        raise KitError(
            f"{where}{': ' if where else ''}a map of {size_text(spatial)} cannot be cut {what}",
            remedy=f"nearest map sizes that fit: {nearest_text(spatial, window)}; or pad=True, which pads and crops",
        )
    return tuple(size // k for size, k in zip(spatial, window)) if partition == "count" else window


def check_partition(partition: str) -> None:
    """Raise a KitError for a partition that is none of :data:`PARTITIONS`."""
    if partition not in PARTITIONS:
        raise KitError(f"there is no partition {partition!r}", remedy=f"choose one of {', '.join(PARTITIONS)}")


def _cut(x: Tensor, sides: Sequence[int]) -> Tensor:
    """(b, c, H, W) → (b, c, H/k, k, W/k, k)."""
    return x.reshape(*x.shape[:2], *(n for size, k in zip(x.shape[2:], sides) for n in (size // k, k)))


def _order(dims: int, partition: str) -> tuple[int, ...]:
    """Axes of :func:`_cut` in the order (batch, sequence, token, channel)."""
    window_index = tuple(range(2, 2 + 2 * dims, 2))
    inside_index = tuple(range(3, 3 + 2 * dims, 2))
    # The whole difference between the paper's text and the released code is which index comes first here.
    inner_last = (inside_index, window_index) if partition == "dilated" else (window_index, inside_index)
    return (0, *inner_last[0], *inner_last[1], 1)


def _length(spatial: Sequence[int], sides: Sequence[int], partition: str) -> int:
    window = prod(sides)
    return prod(spatial) // window if partition == "dilated" else window
