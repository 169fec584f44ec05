"""PaM, the patch-level SSM: bidirectional Mamba over one representative per patch (paper Section 3.2, Eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lkm_kit.blocks.bim import BiM, walks_over_maps
from lkm_kit.blocks.token_order import check_partition, to_map, to_tokens, window_sides
from lkm_kit.shapes import crop, pad_to_multiple, spatial_size


class PaM(nn.Module):
    """Average every patch to one token, let BiM read all of them as one sequence, copy each result over its patch.

    F' = Unpool(BiM(Pool(F))) + F: what PiM cannot carry from window to window, PaM does, coarsely.

    Args:
        channels: of the feature map.
        pool: side of a patch in pixels, one number or one per axis.
        bidirectional: see :class:`BiM`.
        pad: append zeros where ``pool`` does not divide the map and crop the result, instead of an error.
        partition: "count" makes ``pool`` the number of patches per axis; otherwise it is their side.
        where: how error messages call this layer.
        **mamba: d_state, d_conv, expand, backend of :class:`BiM`.

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
        where: str = "PaM",
        **mamba,
    ):
        super().__init__()
        check_partition(partition)
        self.pool, self.partition, self.pad, self.where = pool, partition, pad, where
        self.bim = BiM(channels, bidirectional, **mamba)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, *spatial) → same."""
        size = spatial_size(x)
        padded = pad_to_multiple(x, self.pool) if self.pad else x
        sides = window_sides(padded.shape[2:], self.pool, self.partition, self.where)
        average_pool = F.avg_pool2d if len(size) == 2 else F.avg_pool3d
        pooled = average_pool(padded, sides)
        if walks_over_maps(self.bim, x):
            mixed = self.bim.over_map(pooled)
        else:
            whole = pooled.shape[2:]  # one window over all representatives
            mixed = to_map(self.bim(to_tokens(pooled, whole)), pooled.shape, whole)
        return x + crop(F.interpolate(mixed, size=padded.shape[2:], mode="nearest"), size)
