"""Pad a map so that windows fit, and crop what comes out."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: Sequence[int]) -> Tensor:
    """Zeros at the end of every spatial axis up to the next multiple; ``x`` itself where nothing is missing.

    >>> import torch
    >>> pad_to_multiple(torch.ones(1, 1, 5, 6), (4, 3)).shape
    torch.Size([1, 1, 8, 6])
    """
    missing = [-s % m for s, m in zip(x.shape[2:], multiple)]
    if not any(missing):
        return x
    return F.pad(x, [p for m in reversed(missing) for p in (0, m)])


def crop_to(x: Tensor, spatial: Sequence[int]) -> Tensor:
    """The leading corner of size ``spatial``.

    >>> import torch
    >>> crop_to(torch.ones(1, 1, 8, 6), (5, 6)).shape
    torch.Size([1, 1, 5, 6])
    """
    for axis, size in enumerate(spatial, start=2):
        x = x.narrow(axis, 0, size)
    return x
