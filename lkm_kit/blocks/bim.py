"""BiM: the bidirectional Mamba layer of Section 3.2, on token sequences."""

from __future__ import annotations

from torch import Tensor, nn

from lkm_kit.ssm import Mamba


class BiM(nn.Module):
    """Normalise, scan forward and backward with two Mambas of their own, add, project: tokens → tokens, no residual.

    With ``bidirectional=False`` the backward Mamba is left out and everything else stays: one forward scan and the
    same output projection. That is the kit's definition of the ablation's arms without BiM; the paper gives none.

    Args:
        channels: of the tokens.
        bidirectional: scan in both directions.
        d_state, d_conv, expand: see :class:`lkm_kit.ssm.Mamba`.
        backend: see :func:`lkm_kit.ssm.selective_scan`.

    Shapes: (sequences, length, channels) → same.

    Source: Section 3.2, BiM; released code: two Mambas without their ``out_proj``, one shared ``out_proj`` on the sum,
    the backward one fed the flipped sequence (here: scanned in reverse, without flipped copies).

    >>> import torch
    >>> BiM(4)(torch.zeros(2, 9, 4)).shape
    torch.Size([2, 9, 4])
    """

    def __init__(
        self,
        channels: int,
        bidirectional: bool = True,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        backend: str = "auto",
    ):
        super().__init__()
        options = {"d_state": d_state, "d_conv": d_conv, "expand": expand, "backend": backend, "out_proj": False}
        self.norm = nn.LayerNorm(channels)
        self.mamba_forward = Mamba(channels, **options)
        self.mamba_backward = Mamba(channels, **options) if bidirectional else None
        self.out_proj = nn.Linear(self.mamba_forward.d_inner, channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.norm(tokens)
        y = self.mamba_forward.mix(tokens)
        if self.mamba_backward is not None:
            y = y + self.mamba_backward.mix(tokens, reverse=True)
        return self.out_proj(y)
