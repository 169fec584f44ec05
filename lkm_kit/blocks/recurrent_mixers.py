"""Other recurrences in BiM's place: Mamba-2, S4D and minGRU, read in both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd
from typing import Any

from torch import Tensor, nn

from lkm_kit.errors import KitError
from lkm_kit.ssm import S4D, Mamba2, MinGRU


class BothWays(nn.Module):
    """A causal layer forward and another one backward over the same tokens, added: LayerNorm comes first, once.

    Args:
        channels: of the tokens.
        layer: (channels) → module of tokens → tokens, of which no output sees later tokens.
        bidirectional: False leaves out the backward one.
        directions: must be None; orders of several directions belong to :class:`lkm_kit.blocks.BiM`.

    Shapes: tokens (batch, length, channels) → same. There is no residual connection here; PiM and PaM add it.

    Source: BiM (paper Section 3.2) with another layer. Deviation: each direction has its own projection back.

    >>> import torch
    >>> BothWays(8, MinGRU)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        channels: int,
        layer: Callable[[int], nn.Module],
        bidirectional: bool = True,
        directions: str | Sequence | None = None,
    ):
        super().__init__()
        if directions is not None:
            raise KitError(
                f"directions {directions!r}: this mixer reads one order forward and backward",
                remedy="leave directions out and choose the order by partition, or take mixer='bim'",
            )
        self.norm = nn.LayerNorm(channels)
        self.forward_layer = layer(channels)
        self.backward_layer = layer(channels) if bidirectional else None

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, length, channels) → same."""
        normed = self.norm(tokens)
        y = self.forward_layer(normed)
        return y if self.backward_layer is None else y + self.backward_layer(normed.flip(1)).flip(1)


def mamba2(
    channels: int, bidirectional: bool = True, directions: str | Sequence | None = None, *, d_state: int = 16,
    d_conv: int = 4, expand: int = 2, **_,
) -> BothWays:  # fmt: skip
    """Mamba-2 both ways, in heads of up to 64 channels; ``backend`` has no meaning: the chunked form is plain torch.

    >>> type(mamba2(8).forward_layer).__name__
    'Mamba2'
    """
    heads: dict[str, Any] = {"headdim": gcd(expand * channels, 64), "expand": expand}
    return BothWays(
        channels, lambda c: Mamba2(c, d_state=d_state, d_conv=d_conv, **heads), bidirectional, directions
    )  # fmt: skip


def s4d(
    channels: int, bidirectional: bool = True, directions: str | Sequence | None = None, *, d_state: int = 16,
    d_conv: int = 4, expand: int = 2, **_,
) -> BothWays:  # fmt: skip
    """S4D both ways; ``backend`` has no meaning: the convolution is torch's FFT.

    >>> type(s4d(8).forward_layer).__name__
    'S4D'
    """
    return BothWays(channels, lambda c: S4D(c, d_state, d_conv, expand), bidirectional, directions)


def mingru(
    channels: int, bidirectional: bool = True, directions: str | Sequence | None = None, *, expand: int = 2,
    backend: str = "auto", **_,
) -> BothWays:  # fmt: skip
    """minGRU both ways; ``d_state`` and ``d_conv`` have no meaning: there is one state and no convolution.

    >>> type(mingru(8).forward_layer).__name__
    'MinGRU'
    """
    return BothWays(channels, lambda c: MinGRU(c, expand, backend), bidirectional, directions)
