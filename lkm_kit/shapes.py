"""Sizes of maps: one number per axis, padding and cropping, and how a message writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index

import torch.nn.functional as F
from torch import SymInt, Tensor

from lkm_kit.errors import KitError


def per_axis(value: int | Sequence[int], dims: int, name: str) -> tuple[int, ...]:
    """One positive whole number per spatial axis; a single number serves all axes."""
    try:
        given = tuple(value) if isinstance(value, Iterable) else (value,) * dims
        values = tuple(v if isinstance(v, (int, SymInt)) else index(v) for v in given)  # a tracer's sizes stay unknown
    except TypeError:
        values = ()
    if len(values) != dims or min(values) < 1:
        raise KitError(f"{name} {value} does not suit {dims} spatial axes", remedy="give one whole number ≥ 1 per axis")
    return values


def spatial_size(x: Tensor) -> tuple[int, ...]:
    """(H, W) or (D, H, W) of a feature map; any other rank is an error."""
    if x.ndim not in (4, 5):
        raise KitError(
            f"feature map of shape {tuple(x.shape)}; needed are (batch, channels, H, W) or (batch, channels, D, H, W)",
            remedy="add the missing axes with x[None] or x.unsqueeze(1)",
        )
    return tuple(x.shape[2:])


def pad_to_multiple(x: Tensor, multiple: int | Sequence[int]) -> Tensor:
    """Append zeros at the far end of every spatial axis until ``multiple`` divides it; nothing to do returns ``x``.

    >>> import torch
    >>> pad_to_multiple(torch.ones(1, 1, 5, 8), 4).shape
    torch.Size([1, 1, 8, 8])
    """
    spatial = spatial_size(x)
    missing = [after - before for after, before in zip(padded_size(spatial, multiple), spatial)]
    if not any(missing):
        return x
    return F.pad(x, [n for after in reversed(missing) for n in (0, after)])


def padded_size(size: Sequence[int], multiple: int | Sequence[int]) -> tuple[int, ...]:
    """The smallest size from ``size`` on that ``multiple`` divides.

    >>> padded_size((5, 8), 4)
    (8, 8)
    """
    multiple = per_axis(multiple, len(size), "multiple")
    return tuple(-(-n // k) * k for n, k in zip(size, multiple))


def crop(x: Tensor, spatial: Sequence[int]) -> Tensor:
    """Undo :func:`pad_to_multiple`: keep the first ``spatial`` pixels of every axis."""
    return x[(..., *(slice(size) for size in spatial))]


def size_text(size: Sequence[int]) -> str:
    """``(40, 224, 192)`` as ``40×224×192``."""
    return "×".join(str(s) for s in size)


def nearest_text(size: Sequence[int], multiple: Sequence[int]) -> str:
    """The sizes just below and just above ``size`` that ``multiple`` divides, for messages.

    >>> nearest_text((100, 100), (40, 40))
    '80×80 or 120×120'
    """
    below = [s // k * k for s, k in zip(size, multiple)]
    above = [-(-s // k) * k for s, k in zip(size, multiple)]
    return size_text(above) if min(below) == 0 else f"{size_text(below)} or {size_text(above)}"
