"""PaM, the patch-level SSM: bidirectional Mamba over one representative per patch (paper Section 3.2, Eq. 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from lkm_kit.blocks.mixers import build_mixer, mix_windows
from lkm_kit.blocks.orders import order_named, window_sides
from lkm_kit.shapes import crop, pad_to_multiple, padded_size, spatial_size


class PaM(nn.Module):
    """Average every patch to one token, let BiM read all of them as one sequence, copy each result over its patch.

    F' = Unpool(BiM(Pool(F))) + F: what PiM cannot carry from window to window, PaM does, coarsely.

    Args:
        channels: of the feature map.
        pool: side of a patch in pixels, one number or one per axis.
        bidirectional: see :class:`BiM`.
        pad: append zeros where ``pool`` does not divide the map and crop the result, instead of an error.
        partition: "count" makes ``pool`` the number of patches per axis; otherwise it is their side.
        mixer: see :class:`PiM`.
        where: how error messages call this layer.
        **options: directions, d_state, d_conv, expand, backend of :class:`BiM`. An order there reads the map of
            representatives as one window, whose own order is row by row.

    Shapes: (batch, channels, *spatial) → same.

    Raises:
        KitError: in ``forward``, when the pool does not divide the map and ``pad`` is off.

    Source: paper Section 3.2, Eq. 6; ``BiWindowMambaLayer`` of the released LKMUNet.py: average pooling, LayerNorm
    after it, nearest-neighbour unpooling. The paper names neither kind of pooling. Deviation: where the pool does not
    divide, the released code silently does not pool at all; here that is an error or padding.

    >>> import torch
    >>> PaM(4, pool=4)(torch.zeros(1, 4, 8, 16)).shape
    torch.Size([1, 4, 8, 16])
    """

    def __init__(
        self,
        channels: int,
        pool: int | Sequence[int],
        bidirectional: bool = True,
        pad: bool = False,
        *,
        partition: str = "contiguous",
        mixer: str | Callable[[int], nn.Module] = "bim",
        where: str = "PaM",
        **options,
    ):
        super().__init__()
        order_named(partition)
        self.pool, self.partition, self.pad, self.where = pool, partition, pad, where
        self.bim = build_mixer(mixer, channels, pool, bidirectional=bidirectional, **options)

    def layout(self, size: Sequence[int]) -> tuple[tuple[int, ...], int, int]:
        """Sides of a patch in pixels, sequences (one) and tokens in it, for a map of ``size``.

        >>> PaM(4, pool=40).layout((320, 320))
        ((40, 40), 1, 64)
        """
        size = padded_size(size, self.pool) if self.pad else tuple(size)
        sides = window_sides(size, self.pool, self.partition, self.where)
        return sides, 1, prod(size) // prod(sides)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, *spatial) → same."""
        size = spatial_size(x)
        padded = pad_to_multiple(x, self.pool) if self.pad else x
        sides = window_sides(padded.shape[2:], self.pool, self.partition, self.where)
        pooled = (F.avg_pool2d if len(size) == 2 else F.avg_pool3d)(padded, sides)
        mixed = mix_windows(self.bim, pooled, pooled.shape[2:], "contiguous")  # one window over all representatives
        # "nearest" multiplies by a rounded scale and takes the neighbour's value for some sides, 41 for one;
        # "nearest-exact" looks from the pixels' centres, which no rounding brings over a border.
        return x + crop(F.interpolate(mixed, size=padded.shape[2:], mode="nearest-exact"), size)
