"""The LM block: PiM, then PaM (paper Section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lkm_kit.blocks.pam import PaM
from lkm_kit.blocks.pim import PiM


class LMBlock(nn.Module):
    """Detail inside each window (PiM), then exchange between windows (PaM).

    Args:
        channels: of the feature map.
        window: of PiM, in pixels, one number or one per axis.
        pool: patch side of PaM; ``None`` takes PiM's windows, one representative each, as the paper has it. (The
            released code pools by a fifth of ``window`` or less; give it here to reproduce that.)
        pim, pam: leave either part out, for the ablation of Table 3; without both the block returns its input.
        bidirectional, partition, pad: see :class:`PiM`.
        activation_checkpointing: keep only the block's input for the backward pass, which computes the block once more:
            the same numbers with less memory and more time.
        where: how error messages call this block, for instance "stage 2".
        **options: mixer of :class:`PiM`; directions, d_state, d_conv, expand, backend of :class:`BiM`.

    Shapes: (batch, channels, *spatial) → same.

    Source: paper Section 3.2 and Eq. 6; the released encoder calls ``mamba_layers[s]`` (PiM), then
    ``w_mamba_layers[s]`` (PaM). There is no feed-forward layer and no position encoding in either.

    >>> block = LMBlock(8, window=4)
    >>> block(torch.zeros(1, 8, 8, 8)).shape
    torch.Size([1, 8, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        window: int | Sequence[int],
        pool: int | Sequence[int] | None = None,
        pim: bool = True,
        pam: bool = True,
        bidirectional: bool = True,
        partition: str = "contiguous",
        pad: bool = False,
        *,
        activation_checkpointing: bool = False,
        where: str = "",
        **options,
    ):
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        shared = {"bidirectional": bidirectional, "pad": pad, **options}
        # A pool taken over from PiM keeps the meaning "count" gives it; a pool of its own is always a side in pixels.
        pool_partition = "count" if partition == "count" and pool is None else "contiguous"
        name = f"{where} " if where else ""
        self.pim = PiM(channels, window, partition, where=f"{name}PiM", **shared) if pim else None
        self.pam = (
            PaM(channels, window if pool is None else pool, partition=pool_partition, where=f"{name}PaM", **shared)
            if pam
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, *spatial) → same."""
        if self.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(self._mix, x, use_reentrant=False)
        return self._mix(x)

    def _mix(self, x: Tensor) -> Tensor:
        if self.pim is not None:
            x = self.pim(x)
        if self.pam is not None:
            x = self.pam(x)
        return x
