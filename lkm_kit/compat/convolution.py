"""causal_conv1d's function under its own name and signature."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lkm_kit.compat.refuse import refuse
from lkm_kit.errors import KitError
from lkm_kit.ssm import causal_conv_silu


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | str | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Causal depthwise convolution: every token sees itself and the K - 1 before it.

    Args:
        x: (batch, d, length).
        weight: (d, K).
        bias: (d,), optional.
        seq_idx: refused, as several sequences in one row are; up to version 1.1 ``activation`` is the fourth argument,
            and a string or None here means that.
        initial_states: (batch, d, K - 1), the tokens before the first.
        return_final_states: also return the last K - 1 tokens.
        final_states_out: (batch, d, K - 1), where these are written.
        activation: None, "silu" or "swish".

    Returns:
        (batch, d, length) in x's dtype; with ``return_final_states`` also (batch, d, K - 1).

    Raises:
        KitError: an activation that there is not, or ``seq_idx``.

    Source: ``causal_conv1d.causal_conv1d_interface``.

    >>> causal_conv1d_fn(torch.ones(1, 1, 3), torch.ones(1, 2)).tolist()
    [[[1.0, 2.0, 2.0]]]
    """
    if isinstance(seq_idx, str):
        seq_idx, activation = None, seq_idx
    if seq_idx is not None:
        refuse("causal_conv1d_fn", "seq_idx", "run each sequence by itself")
    if activation not in (None, "silu", "swish"):
        raise KitError(f"there is no activation {activation!r}", remedy="choose None, 'silu' or 'swish'")
    K = weight.shape[1]
    before = x.new_zeros(*x.shape[:2], K - 1) if initial_states is None else initial_states.to(x.dtype)
    plain = initial_states is None and bias is not None
    if plain and activation is not None:
        y = causal_conv_silu(x, weight, bias, backend="auto")
    else:
        bias = None if bias is None else bias.to(x.dtype)
        y = F.conv1d(torch.cat([before, x], -1), weight[:, None].to(x.dtype), bias, groups=x.shape[1])
        y = y if activation is None else F.silu(y)
    if not return_final_states and final_states_out is None:
        return y
    last = torch.cat([before, x], -1)[..., x.shape[-1] :]
    if final_states_out is not None:
        last = final_states_out.copy_(last)
    return (y, last) if return_final_states else y


causal_conv1d_ref = causal_conv1d_fn
