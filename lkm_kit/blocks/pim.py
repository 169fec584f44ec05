"""PiM, the pixel-level SSM: bidirectional Mamba over the pixels of each window (paper Section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from lkm_kit.blocks.mixers import build_mixer, mix_windows
from lkm_kit.blocks.orders import fitting, order_named, sequences_of, window_sides
from lkm_kit.shapes import crop, pad_to_multiple, padded_size, spatial_size


class PiM(nn.Module):
    """Cut the map into windows, let BiM read each window's pixels as one sequence, add the result to the map.

    Args:
        channels: of the feature map.
        window: side of a window in pixels, one number or one per axis (other meanings: ``partition``).
        partition: "contiguous" (paper), "dilated" (released code), "count" or another name of
            :data:`lkm_kit.blocks.ORDERS`.
        bidirectional: see :class:`BiM`.
        pad: append zeros where ``window`` does not divide the map and crop the result, instead of an error.
        mixer: a name of :data:`lkm_kit.blocks.MIXERS`, or a callable (channels) → module of tokens → tokens.
        where: how error messages call this layer.
        **options: directions, d_state, d_conv, expand, backend of :class:`BiM`; a mixer by name gets them all, and the
            window.

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
        mixer: str | Callable[[int], nn.Module] = "bim",
        where: str = "PiM",
        **options,
    ):
        super().__init__()
        order_named(partition)
        self.window, self.partition, self.pad, self.where = window, partition, pad, where
        self.bim = build_mixer(mixer, channels, window, bidirectional=bidirectional, **options)

    def layout(self, size: Sequence[int]) -> tuple[tuple[int, ...], int, int]:
        """Sides of a window (strides of a grid) in pixels, sequences and tokens in each, for a map of ``size``.

        >>> PiM(4, window=40, partition="dilated").layout((320, 320))
        ((40, 40), 1600, 64)
        """
        size = padded_size(size, self.window) if self.pad else tuple(size)
        window = fitting(size, self.window, self.partition, self.where)
        return window_sides(size, window, self.partition), *sequences_of(size, window, self.partition)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, *spatial) → same."""
        size = spatial_size(x)
        padded = pad_to_multiple(x, self.window) if self.pad else x
        window = fitting(padded.shape[2:], self.window, self.partition, self.where)
        return x + crop(mix_windows(self.bim, padded, window, self.partition), size)
