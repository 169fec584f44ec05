"""PiM, the pixel-level SSM: bidirectional Mamba over the pixels of each window (paper Section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lkm_kit.blocks.bim import BiM, walks_over_maps
from lkm_kit.blocks.token_order import check_partition, pixel_order, to_map, to_tokens, window_sides
from lkm_kit.shapes import crop, pad_to_multiple, spatial_size


class PiM(nn.Module):
    """Cut the map into windows, let BiM read each window's pixels as one sequence, add the result to the map.

    Args:
        channels: of the feature map.
        window: side of a window in pixels, one number or one per axis (other meanings: ``partition``).
        partition: "contiguous" (paper), "dilated" (released code) or "count"; see
            :mod:`lkm_kit.blocks.token_order`.
        bidirectional: see :class:`BiM`.
        pad: append zeros where ``window`` does not divide the map and crop the result, instead of an error.
        where: how error messages call this layer.
        **mamba: d_state, d_conv, expand, backend of :class:`BiM`.

    Shapes: (batch, channels, *spatial) → same.

    Raises:
        KitError: in ``forward``, when the window does not divide the map and ``pad`` is off.

    Source: paper Section 3.2; ``BiPixelMambaLayer`` of the released LKMUNet.py, which is ``partition="dilated"``.
    Deviation: where the window does not divide, the released code silently reads the whole map as one sequence; here
    that is an error or padding. The paper draws no residual connection around PiM; the code has one, and so has this.

    >>> import torch
    >>> PiM(4, window=(4, 8))(torch.zeros(1, 4, 8, 16)).shape
    torch.Size([1, 4, 8, 16])
    """

    def __init__(
        self,
        channels: int,
        window: int | Sequence[int],
        partition: str = "contiguous",
        bidirectional: bool = True,
        pad: bool = False,
        *,
        where: str = "PiM",
        **mamba,
    ):
        super().__init__()
        check_partition(partition)
        self.window, self.partition, self.pad, self.where = window, partition, pad, where
        self.bim = BiM(channels, bidirectional, **mamba)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, *spatial) → same."""
        size = spatial_size(x)
        padded = pad_to_multiple(x, self.window) if self.pad else x
        window_sides(padded.shape[2:], self.window, self.partition, self.where)
        if walks_over_maps(self.bim, x):
            mixed = self.bim.over_map(padded, pixel_order(padded, self.window, self.partition))
        else:
            tokens = self.bim(to_tokens(padded, self.window, self.partition))
            mixed = to_map(tokens, padded.shape, self.window, self.partition)
        return x + crop(mixed, size)
