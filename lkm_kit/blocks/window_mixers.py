"""Window mixers without a scan: depth-wise convolution, mean and attention over the tokens of one window.

All three are Mamba's block with another middle: LayerNorm, one projection to values and gate, the mixing of the values,
the gate, one projection back. What a study of them changes is how tokens of a window learn of each other, and nothing
else. The projection in has as many weights as the two of BiM have together; the numbers of all parameters stand in
every report.

None of them reads in a direction, so that ``bidirectional`` decides their width alone: as many inner channels as the
two Mambas of BiM have, or as its forward one has.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkm_kit.errors import KitError

KERNEL_SIZE = 7
"""Side of the depth-wise kernel: ConvNeXt's, whose authors found that larger ones brought nothing (Liu et al. 2022)."""

HEAD = 16
"""Channels of an attention head, where they divide the inner channels."""

BASE = 100.0
"""Of the rotary frequencies: with heads of 16 channels, wavelengths from 6 to 200 tokens along each of two axes."""


class GatedMixer(nn.Module):
    """y = W_out (mix(v) * SiLU(z)) with (v, z) = W_in LN(t): what the mixers of this file share.

    Args:
        channels: of the tokens.
        window: of PiM, or patch of PaM: a number for each spatial axis; one number counts for two axes.
        bidirectional: as many inner channels as BiM's two Mambas have, else as one has.
        expand: inner channels of one Mamba by channel.
        **options: of BiM; none of them means anything here.

    Shapes: tokens (batch, length, channels) and the sides of the grid that a sequence's tokens lie in → tokens.

    Source: Mamba (Gu and Dao 2023, Section 3.4) without its scan and its causal convolution.
    """

    needs_sides = True
    values = 1
    """Maps of inner channels that :meth:`mix` takes, beside the gate."""

    def __init__(
        self,
        channels: int,
        window: int | Sequence[int] = 7,
        bidirectional: bool = True,
        *,
        expand: int = 2,
        **options,
    ):
        super().__init__()
        self.dims = 2 if isinstance(window, int) else len(window)
        width = expand * channels * (2 if bidirectional else 1)
        self.inner = max(1, 2 * width // (self.values + 1))
        self.norm = nn.LayerNorm(channels)
        self.in_proj = nn.Linear(channels, (self.values + 1) * self.inner, bias=False)
        self.out_proj = nn.Linear(self.inner, channels, bias=False)

    def forward(self, tokens: Tensor, sides: Sequence[int] = ()) -> Tensor:
        """(batch, length, channels) → same; ``sides``: rows, columns (and before them planes) of a sequence."""
        if self.needs_sides and len(sides) != self.dims:
            raise KitError(
                f"tokens of a window with {len(sides)} axes; this {type(self).__name__} was made for {self.dims}",
                remedy="give PiM and PaM a window with one number for each axis",
            )
        *values, gate = self.in_proj(self.norm(tokens)).chunk(self.values + 1, dim=-1)
        return self.out_proj(self.mix(values, sides) * F.silu(gate))

    def mix(self, values: list[Tensor], sides: Sequence[int]) -> Tensor:
        """Maps (batch, length, inner) → one of them: the only step in which tokens learn of each other."""
        raise NotImplementedError


class WindowMean(GatedMixer):
    """Every token gets the mean over its window: context without any order or place.

    >>> WindowMean(8)(torch.zeros(2, 16, 8)).shape
    torch.Size([2, 16, 8])
    """

    needs_sides = False

    def mix(self, values: list[Tensor], sides: Sequence[int]) -> Tensor:
        return values[0].mean(1, keepdim=True)


class WindowConvolution(GatedMixer):
    """A depth-wise convolution over the window's grid, zeros beyond its border: a large kernel without a scan.

    Args:
        kernel_size: side of the kernel, odd.
        channels, window, bidirectional, expand: see :class:`GatedMixer`.

    >>> WindowConvolution(8, (2, 4, 4))(torch.zeros(1, 32, 8), (2, 4, 4)).shape
    torch.Size([1, 32, 8])
    """

    def __init__(
        self, channels: int, window: int | Sequence[int] = 7, *args, kernel_size: int = KERNEL_SIZE, **options
    ):
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise KitError(f"a kernel of {kernel_size} has no middle", remedy="give an odd side")
        super().__init__(channels, window, *args, **options)
        convolution = nn.Conv2d if self.dims == 2 else nn.Conv3d
        self.conv = convolution(self.inner, self.inner, kernel_size, padding=kernel_size // 2, groups=self.inner)

    def mix(self, values: list[Tensor], sides: Sequence[int]) -> Tensor:
        # (batch, length, inner) seen as a channels_last map: nothing is copied
        return self.conv(values[0].transpose(1, 2).unflatten(2, tuple(sides))).flatten(2).transpose(1, 2)


class WindowAttention(GatedMixer):
    """Softmax attention of every token to every other one of its window; products depend on distances (:func:`rotate`).

    >>> WindowAttention(8, (4, 4))(torch.zeros(2, 16, 8), (4, 4)).shape
    torch.Size([2, 16, 8])
    """

    values = 3

    def mix(self, values: list[Tensor], sides: Sequence[int]) -> Tensor:
        heads = self.inner // gcd(self.inner, HEAD)
        query, key, value = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in values)
        seen = F.scaled_dot_product_attention(rotate(query, sides), rotate(key, sides), value)
        return seen.transpose(1, 2).flatten(2)


def rotate(x: Tensor, sides: Sequence[int]) -> Tensor:
    """Turn pairs of channels by angles that grow with the token's place, so that products depend on distances alone.

    Args:
        x: (batch, heads, length, channels), tokens row by row.
        sides: of the grid that they lie in. The pairs take its axes in turn, each with falling frequencies.

    Source: rotary position embedding (Su et al. 2021, Section 3.2.2), along each axis of an image for itself.

    >>> x = torch.ones(1, 1, 6, 4)
    >>> products = (rotate(x, (2, 3)) @ rotate(x, (2, 3)).mT)[0, 0]
    >>> bool(torch.isclose(products[0, 4], products[1, 5]))  # both one row down and one column to the right
    True
    """
    pairs = x.shape[-1] // 2
    places = torch.stack(torch.meshgrid(*(torch.arange(n, device=x.device) for n in sides), indexing="ij"), -1)
    turn, exact = torch.arange(pairs, device=x.device), torch.promote_types(x.dtype, torch.float32)
    level = turn.div(len(sides), rounding_mode="floor").to(exact)
    frequencies = BASE ** (-level * len(sides) / max(pairs, 1))
    angles = places.flatten(0, -2)[:, turn % len(sides)] * frequencies  # (length, pairs)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return torch.cat([left * cos - right * sin, left * sin + right * cos, rest], dim=-1)
