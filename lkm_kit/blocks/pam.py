"""PaM: the patch-level state-space model of Section 3.2, Eq. 6."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lkm_kit.blocks.bim import BiM
from lkm_kit.blocks.padding import crop_to, pad_to_multiple
from lkm_kit.blocks.token_order import check_fits, per_axis


class PaM(nn.Module):
    """F' = Unpool(BiM(Pool(F))) + F: one token per patch, one sequence over the whole map.

    Args:
        channels: of the feature map.
        pool: side of a patch in pixels; one number or one per axis.
        bidirectional, backend: see :class:`BiM`.
        pad: pad maps that the pool does not divide with zeros, and crop; without it they are an error.
        name, downsampling: who and where this is, for error messages.

    Shapes: (batch, channels, *spatial) → same.

    Source: Section 3.2, Eq. 6. Average pooling, LayerNorm after pooling and nearest unpooling are the released code's;
    its pools are five times smaller than its windows, the paper's equal them.

    >>> import torch
    >>> PaM(4, pool=5)(torch.zeros(1, 4, 10, 20)).shape
    torch.Size([1, 4, 10, 20])
    """

    def __init__(
        self,
        channels: int,
        pool: int | Sequence[int],
        bidirectional: bool = True,
        pad: bool = False,
        backend: str = "auto",
        *,
        name: str = "PaM",
        downsampling: Sequence[int] | None = None,
    ):
        super().__init__()
        self.pool, self.pad, self.name, self.downsampling = pool, pad, name, downsampling
        self.bim = BiM(channels, bidirectional, backend=backend)

    def forward(self, x: Tensor, pool: Sequence[int] | None = None) -> Tensor:
        """``pool`` replaces the one of the constructor (windows by count have no size before the map is seen)."""
        dims = x.ndim - 2
        pool = per_axis(pool or self.pool, dims, "pool")
        if self.pad:
            padded = pad_to_multiple(x, pool)
        else:
            check_fits(x.shape[2:], pool, self.name, self.downsampling)
            padded = x
        average = F.avg_pool2d if dims == 2 else F.avg_pool3d
        pooled = average(padded, pool) if max(pool) > 1 else padded
        tokens = self.bim(pooled.flatten(2).transpose(1, 2))
        y = tokens.transpose(1, 2).reshape(pooled.shape)
        for axis, size in enumerate(pool, start=2):
            if size > 1:
                y = y.repeat_interleave(size, dim=axis)
        return x + crop_to(y, x.shape[2:])
