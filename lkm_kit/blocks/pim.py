"""PiM: the pixel-level state-space model of Section 3.2."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lkm_kit.blocks.bim import BiM
from lkm_kit.blocks.padding import crop_to, pad_to_multiple
from lkm_kit.blocks.token_order import check_fits, check_partition, per_axis, to_map, to_tokens


class PiM(nn.Module):
    """Cut the map into sequences of pixels, run BiM along each, put them back, add the input.

    Args:
        channels: of the feature map.
        window: see :func:`lkm_kit.blocks.to_tokens`; one number or one per axis.
        partition: ``"contiguous"`` (paper), ``"dilated"`` (released code) or ``"count"`` (authors' answer).
        bidirectional, backend: see :class:`BiM`.
        pad: pad maps that the window does not divide with zeros, and crop; without it they are an error.
        name, downsampling: who and where this is, for error messages.

    Shapes: (batch, channels, *spatial) → same.

    Source: Section 3.2; released ``LKMUNet.py``. The released code, where a size does not divide, silently scans the
    whole map as one sequence; the kit never does.

    >>> import torch
    >>> PiM(4, window=5)(torch.zeros(1, 4, 10, 20)).shape
    torch.Size([1, 4, 10, 20])
    """

    def __init__(
        self,
        channels: int,
        window: int | Sequence[int],
        partition: str = "contiguous",
        bidirectional: bool = True,
        pad: bool = False,
        backend: str = "auto",
        *,
        name: str = "PiM",
        downsampling: Sequence[int] | None = None,
    ):
        super().__init__()
        check_partition(partition)
        self.window, self.partition, self.pad = window, partition, pad
        self.name, self.downsampling = name, downsampling
        self.bim = BiM(channels, bidirectional, backend=backend)

    def forward(self, x: Tensor) -> Tensor:
        window = per_axis(self.window, x.ndim - 2, "window")
        if self.pad:
            padded = pad_to_multiple(x, window)
        else:
            check_fits(x.shape[2:], window, self.name, self.downsampling)
            padded = x
        tokens = to_tokens(padded, window, self.partition)
        y = to_map(self.bim(tokens), padded.shape, window, self.partition)
        return x + crop_to(y, x.shape[2:])
