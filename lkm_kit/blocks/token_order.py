"""From feature map to token sequences and back: in which order does the scan see the pixels?

Three readings of the paper's "kernel size" exist, and the kit has all of them:

* ``contiguous``: the paper's text. Non-overlapping windows of side ``window``; each window is one sequence.
* ``dilated``: what the released code computes. Sequence (i, j) holds the pixels (i, j), (i, j + p), ...: a grid of
  stride ``window``, so that neighbours in the sequence are ``window`` pixels apart in the image.
* ``count``: what the authors answered when asked. ``window`` windows per axis, each of side size / window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from lkm_kit.errors import KitError

PARTITIONS = ("contiguous", "dilated", "count")


def per_axis(value: int | Sequence[int], dims: int, name: str) -> tuple[int, ...]:
    """``value`` once per spatial axis.

    >>> per_axis(5, 2, "window")
    (5, 5)
    """
    values = (value,) * dims if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) != dims or min(values) < 1:
        raise KitError(f"{name} {value} does not fit a {dims}D map", remedy=f"give {dims} positive numbers, or one for all")
    return values


def check_partition(partition: str) -> None:
    if partition not in PARTITIONS:
        raise KitError(f"there is no partition {partition!r}", remedy=f"choose one of {', '.join(PARTITIONS)}")


def times(sizes: Sequence[int]) -> str:
    """(40, 28) as 40×28."""
    return "×".join(str(s) for s in sizes)


def check_fits(
    spatial: Sequence[int], window: Sequence[int], what: str = "the map", downsampling: Sequence[int] | None = None
) -> None:
    """Raise the error of the kit where ``window`` does not divide ``spatial``; offer the nearest sizes that do.

    Args:
        spatial, window: in pixels of this feature map.
        what: who asks, e.g. ``"stage 2, PiM"``.
        downsampling: image pixels per map pixel, to speak of image sizes.

    >>> check_fits((25, 40), (20, 20), "stage 0, PiM")
    Traceback (most recent call last):
        ...
    lkm_kit.errors.KitError: stage 0, PiM: a map of 25×40 does not divide by 20×20
      -> use an image of 20×40 or 40×40, or build with pad=True
    """
    if all(s % w == 0 for s, w in zip(spatial, window)):
        return
    scale = downsampling or (1,) * len(spatial)
    below = [max(w, s // w * w) * k for s, w, k in zip(spatial, window, scale)]
    above = [math.ceil(s / w) * w * k for s, w, k in zip(spatial, window, scale)]
    sizes = times(below) if below == above else f"{times(below)} or {times(above)}"
    raise KitError(
        f"{what}: a map of {times(spatial)} does not divide by {times(window)}",
        remedy=f"use an image of {sizes}, or build with pad=True",
    )


def _split(spatial: Sequence[int], window: tuple[int, ...], partition: str) -> tuple[list[int], int]:
    """Each axis as (outer, inner), and which of the two runs within a sequence (0 outer, 1 inner)."""
    check_partition(partition)
    check_fits(spatial, window)
    split: list[int] = []
    for s, w in zip(spatial, window):
        split += [w, s // w] if partition == "count" else [s // w, w]
    return split, 0 if partition == "dilated" else 1


def to_tokens(x: Tensor, window: int | Sequence[int], partition: str = "contiguous") -> Tensor:
    """Cut a feature map into token sequences; the scan then runs along each, row by row.

    Args:
        x: (batch, channels, *spatial), spatial (H, W) or (D, H, W).
        window: side of the window (``contiguous``), stride of the grid (``dilated``) or windows per axis (``count``);
            one number or one per axis.
        partition: see the module.

    Returns:
        tokens (batch · sequences, length, channels); sequences in raster order of windows (or grid offsets).

    Raises:
        KitError: a window that does not divide the map, an unknown partition.

    Source: Section 3.2 (PiM); released ``LKMUNet.py``, where ``dilated`` is the reshape + permute of its PiM.

    >>> import torch
    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> to_tokens(x, 2)[0].flatten().tolist()
    [0.0, 1.0, 4.0, 5.0]
    >>> to_tokens(x, 2, "dilated")[0].flatten().tolist()
    [0.0, 2.0, 8.0, 10.0]
    """
    dims = x.ndim - 2
    split, within = _split(x.shape[2:], per_axis(window, dims, "window"), partition)
    axes = [2 + 2 * i for i in range(dims)]
    outside, inside = [a + 1 - within for a in axes], [a + within for a in axes]
    y = x.reshape(*x.shape[:2], *split).permute(0, *outside, *inside, 1)
    return y.reshape(-1, math.prod(split[a - 2] for a in inside), x.shape[1])


def to_map(tokens: Tensor, shape: Sequence[int], window: int | Sequence[int], partition: str = "contiguous") -> Tensor:
    """Undo :func:`to_tokens`.

    Args:
        tokens: (batch · sequences, length, channels).
        shape: of the map, (batch, channels, *spatial); a channel count other than the tokens' is an error.
        window, partition: as they were given to :func:`to_tokens`.

    >>> import torch
    >>> x = torch.randn(2, 3, 4, 6)
    >>> torch.equal(to_map(to_tokens(x, (2, 3), "count"), x.shape, (2, 3), "count"), x)
    True
    """
    batch, channels, *spatial = shape
    dims = len(spatial)
    split, within = _split(spatial, per_axis(window, dims, "window"), partition)
    outside, inside = split[1 - within :: 2], split[within::2]
    if tokens.shape != (batch * math.prod(outside), math.prod(inside), channels):
        raise KitError(
            f"tokens of shape {tuple(tokens.shape)} do not make a map of {tuple(shape)} with window {window}, {partition}"
        )
    y = tokens.reshape(batch, *outside, *inside, channels)
    # After batch stand all outer, then all inner axes; interleave them again, channels to the front.
    pairs = []
    for i in range(dims):
        pair = [1 + i, 1 + dims + i]  # (outside, inside)
        pairs += pair if within == 1 else pair[::-1]
    return y.permute(0, 1 + 2 * dims, *pairs).reshape(batch, channels, *spatial)
