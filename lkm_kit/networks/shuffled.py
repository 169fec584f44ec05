"""A control: LKM-UNet whose PiM reads the pixels of each window in a random order instead of row by row."""

from __future__ import annotations

from functools import wraps

import torch
from torch import Tensor

from lkm_kit.blocks import BiM
from lkm_kit.networks.lkm_unet import LKMUNet


class ShuffledBiM(BiM):
    """BiM over tokens in one fixed random order per length; every result goes back to its token's place.

    >>> ShuffledBiM(8)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, length, channels) → same."""
        order, back = (index.to(tokens.device) for index in shuffled_order(tokens.shape[1]))
        return super().forward(tokens[:, order])[:, back]


class ShuffledLKMUNet(LKMUNet):
    """LKM-UNet, weight for weight, except for the order in which PiM reads its pixels.

    Neighbours in the sequence are no longer neighbours in the image. If PiM's gain comes from reading a window's
    pixels in their spatial order, this network must lose it; if it keeps the gain, the order did not matter.

    Args:
        as :class:`LKMUNet`.

    Source: none; a control of this kit. PaM is left as it is.

    >>> network = ShuffledLKMUNet(1, 3, features_per_stage=[4, 8], strides=[(1, 1), (2, 2)], windows=[8, 4])
    >>> network(torch.zeros(1, 1, 16, 16)).shape
    torch.Size([1, 3, 16, 16])
    """

    @wraps(LKMUNet.__init__)
    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        for mixer in self.encoder.mixers:
            if mixer.pim is not None:
                # the same parameters under the same names: only ``forward`` is another one
                mixer.pim.bim.__class__ = ShuffledBiM


def shuffled_order(length: int) -> tuple[Tensor, Tensor]:
    """A permutation of ``length`` tokens, always the same one, and its inverse.

    >>> order, back = shuffled_order(6)
    >>> torch.equal(order[back], torch.arange(6))
    True
    """
    order = torch.randperm(length, generator=torch.Generator().manual_seed(length), device="cpu")
    return order, torch.argsort(order)
