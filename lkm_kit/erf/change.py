"""What a layer changes: a residual layer without the input that it adds to."""

from __future__ import annotations

from torch import Tensor, nn


class Change(nn.Module):
    """layer(x) - x. The field of a residual layer is one bright pixel, its own; that of the change shows the rest.

    Args:
        layer: feature map → feature map of the same shape.

    >>> import torch
    >>> from lkm_kit.erf import erf
    >>> float(erf(Change(nn.Identity()), torch.ones(1, 1, 3, 3)).values.sum())
    0.0
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, *spatial) → same."""
        return self.layer(x) - x
