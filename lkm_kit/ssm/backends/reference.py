"""The truth: the selective scan as a loop over tokens, in plain torch, differentiated by autograd.

Every other backend is tested against this file, so it is written to be read, not to be fast.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lkm_kit.ssm.backends.operators import Scan, wide


def selective_scan(scan: Scan) -> tuple[Tensor, Tensor]:
    """Scan token by token: h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t, y_t = C_t h_t + D u_t, y_t ← y_t · SiLU(z_t).

    Args:
        scan: u, delta, z (batch, d, length); A (d, n); B, C (batch, n, length), (batch, groups, n, length) or (d, n);
            D, delta_bias (d,). With ``softplus`` Δ ← softplus(Δ + delta_bias); with ``reverse`` the last token is the
            first. With a complex A the read-out is 2 Re(C_t h_t): the states stand for pairs of conjugates.

    Returns:
        y (batch, d, length) in u's dtype, and the state after the last step (batch, d, n). The state is float32, or
        float64 where u is float64; complex where A is.

    Source: Section 2 of the paper, Eq. 2-3, with the simplified B̄ = ΔB of Mamba (Gu & Dao 2023).

    >>> u = torch.ones(1, 1, 3)
    >>> y, h = selective_scan(Scan(u, u, torch.zeros(1, 1), u, u, None, None, None, False, False))
    >>> y.flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    u, delta, A, B, C, D, z, delta_bias, softplus, reverse = scan
    state_dtype, out_dtype = wide(u.dtype), u.dtype
    u, delta = u.to(state_dtype), delta.to(state_dtype)
    inside = torch.promote_types(A.dtype, state_dtype) if A.is_complex() else state_dtype
    A, B, C = (t.to(inside) for t in (A, B, C))
    if delta_bias is not None:
        delta = delta + delta_bias.to(state_dtype)[:, None]
    if softplus:
        delta = F.softplus(delta)

    # unbind once: indexing u[..., t] inside the loop would make the backward pass quadratic in the length.
    steps = list(zip(u.unbind(-1), delta.unbind(-1), _by_token(B, u), _by_token(C, u), strict=True))
    if reverse:
        steps.reverse()
    h = A.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    ys = []
    for u_t, delta_t, B_t, C_t in steps:
        A_bar = torch.exp(delta_t[..., None] * A)
        h = A_bar * h + (delta_t * u_t)[..., None] * B_t
        y_t = (h * C_t).sum(-1)
        ys.append(2 * y_t.real if A.is_complex() else y_t)
    if reverse:
        ys.reverse()
    y = torch.stack(ys, dim=-1)

    if D is not None:
        y = y + u * D.to(state_dtype)[:, None]
    if z is not None:
        y = y * F.silu(z.to(state_dtype))
    return y.to(out_dtype), h


def _by_token(t: Tensor, u: Tensor) -> Sequence[Tensor]:
    """B or C of every token, in a shape that goes with (batch, d, n)."""
    if t.ndim == 2:
        return [t] * u.shape[-1]
    rows = t[:, None] if t.ndim == 3 else t.repeat_interleave(u.shape[1] // t.shape[1], 1)
    return rows.unbind(-1)
