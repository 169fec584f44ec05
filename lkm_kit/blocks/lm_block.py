"""The LM block of Section 3.2: PiM, then PaM."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lkm_kit.blocks.pam import PaM
from lkm_kit.blocks.pim import PiM
from lkm_kit.blocks.token_order import per_axis


class LMBlock(nn.Module):
    """Pixel-level, then patch-level state-space model, each with its own residual.

    Args:
        channels: of the feature map.
        window: of PiM, see :func:`lkm_kit.blocks.to_tokens`.
        pool: patch side of PaM; None takes PiM's window, as in the paper (for ``partition="count"`` the side that the
            windows turn out to have).
        pim, pam: leave one or both out (both: the block is the identity).
        bidirectional, partition, pad, backend: see :class:`PiM`.
        name, downsampling: where the block stands, for error messages.

    Shapes: (batch, channels, *spatial) → same.

    >>> import torch
    >>> LMBlock(4, window=5)(torch.zeros(1, 4, 10, 10)).shape
    torch.Size([1, 4, 10, 10])
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
        backend: str = "auto",
        *,
        name: str = "LM block",
        downsampling: Sequence[int] | None = None,
    ):
        super().__init__()
        common = {"bidirectional": bidirectional, "pad": pad, "backend": backend, "downsampling": downsampling}
        self.window = window
        self.pool_from_map = pool is None and partition == "count"
        self.pim = PiM(channels, window, partition, name=f"{name}, PiM", **common) if pim else None
        self.pam = PaM(channels, window if pool is None else pool, name=f"{name}, PaM", **common) if pam else None

    def forward(self, x: Tensor) -> Tensor:
        if self.pim is not None:
            x = self.pim(x)
        if self.pam is not None:
            pool = None
            if self.pool_from_map:
                counts = per_axis(self.window, x.ndim - 2, "window")
                pool = [-(-s // n) for s, n in zip(x.shape[2:], counts)]
            x = self.pam(x, pool)
        return x
