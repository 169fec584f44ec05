"""The truth: the selective scan as a loop over tokens, in plain torch, differentiated by autograd.

Every other backend is tested against this file, so it is written to be read, not to be fast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lkm_kit.ssm.backends.operators import Scan, wide


def selective_scan(scan: Scan) -> tuple[Tensor, Tensor]:
    """Scan token by token: h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t, y_t = C_t h_t + D u_t, y_t ← y_t · SiLU(z_t).

    Args:
        scan: u, delta, z (batch, d, length); A (d, n); B, C (batch, n, length); D, delta_bias (d,). With ``softplus``
            Δ ← softplus(Δ + delta_bias); with ``reverse`` the last token is the first.

    Returns:
        y (batch, d, length) in u's dtype, and the state after the last step (batch, d, n). The state is float32, or
        float64 where u is float64.

    Source: Section 2 of the paper, Eq. 2-3, with the simplified B̄ = ΔB of Mamba (Gu & Dao 2023).

    >>> u = torch.ones(1, 1, 3)
    >>> y, h = selective_scan(Scan(u, u, torch.zeros(1, 1), u, u, None, None, None, False, False))
    >>> y.flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    u, delta, A, B, C, D, z, delta_bias, softplus, reverse = scan
    state_dtype, out_dtype = wide(u.dtype), u.dtype
    u, delta, A, B, C = (t.to(state_dtype) for t in (u, delta, A, B, C))
    if delta_bias is not None:
        delta = delta + delta_bias.to(state_dtype)[:, None]
    if softplus:
        delta = F.softplus(delta)

    # unbind once: indexing u[..., t] inside the loop would make the backward pass quadratic in the length.
    steps = list(zip(*(t.unbind(-1) for t in (u, delta, B, C)), strict=True))
    if reverse:
        steps.reverse()
    h = u.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    ys = []
    for u_t, delta_t, B_t, C_t in steps:
        A_bar = torch.exp(delta_t[..., None] * A)
        h = A_bar * h + (delta_t * u_t)[..., None] * B_t[:, None]
        ys.append((h * C_t[:, None]).sum(-1))
    if reverse:
        ys.reverse()
    y = torch.stack(ys, dim=-1)

    if D is not None:
        y = y + u * D.to(state_dtype)[:, None]
    if z is not None:
        y = y * F.silu(z.to(state_dtype))
    return y.to(out_dtype), h
