"""Mamba's causal depthwise convolution followed by SiLU, in either direction."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lkm_kit.ssm.backends import cpu_conv, cuda, triton_conv
from lkm_kit.ssm.selective_scan import choose_backend


def causal_conv_silu(
    x: Tensor, weight: Tensor, bias: Tensor, reverse: bool = False, backend: str = "reference"
) -> Tensor:
    """y_t = SiLU(bias + Σ_i weight_{K-1-i} x_{t-i}): every token sees itself and the K-1 before it.

    Args:
        x: (batch, d, length); on the ``cpu`` backend ``(b, l, d).transpose(1, 2)`` costs no copy.
        weight: (d, K) as in ``nn.Conv1d(d, d, K, groups=d)`` without its middle axis.
        bias: (d,).
        reverse: run from the last token to the first, which looks ahead instead of back.
        backend: as of :func:`lkm_kit.ssm.selective_scan`; ``"cpu"`` and ``"triton"`` have a fused kernel, ``"cuda"``
            takes causal_conv1d if installed, else torch's.

    Returns:
        (batch, d, length) in x's dtype.

    Source: Gu & Dao 2023, Section 3.4; ``causal_conv1d_fn(..., activation="silu")``.

    >>> import torch
    >>> causal_conv_silu(torch.ones(1, 1, 3), torch.ones(1, 2), torch.zeros(1)).shape
    torch.Size([1, 1, 3])
    """
    backend = choose_backend(x.device, backend, x.dtype)
    if backend == "cpu":
        return cpu_conv.causal_conv_silu(x, weight, bias, reverse)
    if backend == "triton":
        return triton_conv.causal_conv_silu(x, weight, bias, reverse)
    if backend == "cuda" and cuda.has_convolution():
        return cuda.causal_conv_silu(x, weight, bias, reverse)
    K, length = weight.shape[1], x.shape[2]
    weight = (weight.flip(-1) if reverse else weight).to(x.dtype)
    y = F.conv1d(x, weight[:, None], bias.to(x.dtype), groups=x.shape[1], padding=K - 1)
    return F.silu(y[..., K - 1 :] if reverse else y[..., :length])
