"""BiM, bidirectional Mamba: a forward and a backward scan over the same tokens, added (paper Section 3.2, Fig. 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lkm_kit.errors import KitError
from lkm_kit.ssm import Mamba, mix_sum
from lkm_kit.ssm.map_mixer import mix_map, reads_maps


class BiM(nn.Module):
    """Read the tokens in both directions, so that every token sees all others: LayerNorm, two Mambas, one projection.

    y = W_out (mix_forward(LN(t)) + mix_backward(LN(t))), where the backward Mamba has parameters of its own and runs
    from the last token to the first. With ``bidirectional=False`` the backward Mamba does not exist and
    y = W_out mix_forward(LN(t)), which is LayerNorm followed by one ordinary Mamba.

    Args:
        channels: of the tokens.
        bidirectional: see above.
        d_state, d_conv, expand: of both Mambas.
        backend: of the scan, see :func:`lkm_kit.ssm.selective_scan`.

    Shapes: tokens (batch, length, channels) → same. There is no residual connection here; PiM and PaM add it.

    Precision: computed in the parameters' dtype (float32 in practice) under any autocast, as the released layers are.

    Source: paper Section 3.2; ``BiPixelMambaLayer`` in the released LKMUNet.py. The paper only says that the two
    outputs are added; that they share one output projection, applied to the sum, is in the code. Deviation: the
    backward scan runs by index, without the code's two flipped copies; the result is the same.

    >>> BiM(8)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        channels: int,
        bidirectional: bool = True,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        backend: str = "auto",
    ):
        super().__init__()
        self.channels = channels
        mamba = {"d_state": d_state, "d_conv": d_conv, "expand": expand, "backend": backend, "out_proj": False}
        self.norm = nn.LayerNorm(channels)
        self.mamba_forward = Mamba(channels, **mamba)
        self.mamba_backward = Mamba(channels, **mamba) if bidirectional else None
        self.out_proj = nn.Linear(expand * channels, channels, bias=False)

    @property
    def bidirectional(self) -> bool:
        return self.mamba_backward is not None

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, length, channels) → same."""
        if tokens.ndim != 3 or tokens.shape[-1] != self.channels:
            raise KitError(
                f"tokens have shape {tuple(tokens.shape)}; this BiM needs (batch, length, {self.channels})",
                remedy="a feature map goes through lkm_kit.blocks.to_tokens first",
            )
        # fp16 activations overflow inside the scan; the released layers leave autocast for the same reason.
        with torch.autocast(tokens.device.type, enabled=False):
            normed = self.norm(tokens.to(self.norm.weight.dtype))
            mixers, reverse = self._mixers()
            return self.out_proj(mix_sum(mixers, normed, reverse))

    def over_map(self, x: Tensor, order: Tensor | None = None) -> Tensor:
        """A map (batch, channels, *spatial) → same, each window one sequence, without cutting tokens out of the map.

        Args:
            x: feature map.
            order: (windows, length) int32, see :func:`lkm_kit.blocks.token_order.pixel_order`; None reads the whole map
                as one sequence, row by row.

        Everything that concerns single pixels runs where they lie; convolution and scan look their neighbours up in
        ``order``. One copy can remain: LayerNorm brings a map that is not channels_last into rows of channels.
        """
        with torch.autocast(x.device.type, enabled=False):
            normed = self.norm(x.flatten(2).transpose(1, 2).to(self.norm.weight.dtype))
            mixers, reverse = self._mixers()
            y = self.out_proj(mix_map(mixers, normed, reverse, order))
        return y.transpose(1, 2).unflatten(2, x.shape[2:])

    def _mixers(self) -> tuple[list[Mamba], list[bool]]:
        """The mixers that there are, and whether each one runs backwards."""
        mixers = [m for m in (self.mamba_forward, self.mamba_backward) if m is not None]
        return mixers, [False, True][: len(mixers)]


def walks_over_maps(bim: nn.Module, x: Tensor) -> bool:
    """Whether :meth:`BiM.over_map` is the way for maps on this device: on the ``triton`` backend.

    Only for BiM itself: a subclass, something else in its place, or a hook is there to see the tokens.

    >>> walks_over_maps(BiM(8, backend="reference"), torch.zeros(1, 8, 4, 4))
    False
    """
    if type(bim) is not BiM or bim._forward_hooks or bim._forward_pre_hooks or bim._backward_hooks:
        return False
    return reads_maps(x.device, bim.mamba_forward.backend)
