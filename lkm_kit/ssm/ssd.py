"""State-space duality: Mamba-2's scan as products of small matrices, in plain torch on any device.

Where Mamba has a decay for every state of every channel, Mamba-2 has one number for a head of p channels. Then the
scan is a masked attention: y = (L ∘ C Bᵀ) (Δ x), where L_ts is the decay from token s to token t. Inside chunks of
tokens that product is made as it stands; between chunks only the state is carried.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lkm_kit.errors import KitError


def ssd(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, chunk: int = 64,
    h0: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """h_t = exp(Δ_t A) h_{t-1} + Δ_t x_t B_tᵀ, y_t = h_t C_t + D x_t for every head, by chunks.

    Args:
        x: (batch, length, heads, p).
        delta: Δ ≥ 0, (batch, length, heads).
        A: (heads,), negative.
        B, C: (batch, length, groups, n); a group serves heads / groups heads that follow each other.
        D: (heads,) or (heads, p), optional.
        chunk: tokens of a chunk. The cost of a token grows with it, the number of steps falls; the result does not
            depend on it.
        h0: state before the first token (batch, heads, p, n); zero by default.

    Returns:
        y as x, and the state after the last token (batch, heads, p, n).

    Raises:
        KitError: shapes that do not belong together.

    Source: Dao & Gu 2024 (arXiv 2405.21060), Section 6 and Listing 1, which is mamba_ssm's
    ``modules/ssd_minimal.py``; ``mamba_chunk_scan_combined`` there.

    >>> one = torch.ones(1, 3, 1, 1)
    >>> y, h = ssd(one, one[..., 0], torch.zeros(1), one, one, chunk=2)
    >>> y.flatten().tolist(), h.item()
    ([1.0, 2.0, 3.0], 3.0)
    """
    batch, length, heads, p = _check(x, delta, A, B, C)
    groups, n = B.shape[2:]
    dtype = torch.promote_types(x.dtype, torch.float32)
    missing = -length % chunk  # Δ = 0 there: the state stays
    parts = (t.to(dtype) for t in (x, delta, B, C))
    x_, delta, B, C = (
        F.pad(t, [0, 0] * (t.ndim - 2) + [0, missing]).unflatten(1, (-1, chunk)) for t in parts
    )  # (batch, chunks, chunk, ...)
    x_, delta = x_.unflatten(3, (groups, -1)), delta.unflatten(3, (groups, -1))  # heads as (groups, heads of a group)
    time = (delta * A.to(dtype).unflatten(0, (groups, -1))).cumsum(2)  # log of the decay since the chunk began
    entering = x_ * delta[..., None]
    inside = time[:, :, :, None] - time[:, :, None]  # (batch, chunks, t, s, groups, heads of a group)
    past = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).tril()
    decay = inside.masked_fill(~past[..., None, None], -torch.inf).exp()
    scores = torch.einsum("bctgn,bcsgn->bctsg", C, B)
    y = torch.einsum("bctsg,bctsgh,bcsghp->bctghp", scores, decay, entering)

    effects = torch.einsum("bcsgn,bcsgh,bcsghp->bcghpn", B, (time[:, :, -1:] - time).exp(), entering)
    whole = time[:, :, -1].exp()
    zero = x_.new_zeros(batch, groups, heads // groups, p, n)
    h = zero if h0 is None else h0.to(dtype).unflatten(1, (groups, -1))
    before = []
    for k in range(effects.shape[1]):
        before.append(h)
        h = whole[:, k, ..., None, None] * h + effects[:, k]
    y = y + torch.einsum("bctgn,bctgh,bcghpn->bctghp", C, time.exp(), torch.stack(before, 1))
    y = y.reshape(batch, length + missing, heads, p)[:, :length]
    if D is not None:
        y = y + x * (D if D.ndim == 2 else D[:, None])
    return y.to(x.dtype), h.flatten(1, 2)


def ssd_recurrence(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, h0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """:func:`ssd` token by token, to be read and to test against; arguments and results are the same.

    >>> one = torch.ones(1, 3, 1, 1)
    >>> ssd_recurrence(one, one[..., 0], torch.zeros(1), one, one)[0].flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    batch, length, heads, p = _check(x, delta, A, B, C)
    B, C = (t.repeat_interleave(heads // t.shape[2], 2) for t in (B, C))
    h = x.new_zeros(batch, heads, p, B.shape[3]) if h0 is None else h0
    ys = []
    for t in range(length):
        h = torch.exp(delta[:, t] * A)[..., None, None] * h
        h = h + (delta[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None]
        ys.append((h * C[:, t, :, None]).sum(-1))
    y = torch.stack(ys, 1)
    return (y if D is None else y + x * (D if D.ndim == 2 else D[:, None])), h


def _check(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[int, int, int, int]:
    if x.ndim != 4 or x.shape[1] == 0:
        raise KitError(f"x has shape {tuple(x.shape)}; ssd needs (batch, length, heads, p) with at least one token")
    batch, length, heads, p = x.shape
    groups = B.shape[2] if B.ndim == 4 else 0
    fits = tuple(delta.shape) == (batch, length, heads) and tuple(A.shape) == (heads,) and B.shape == C.shape
    if not fits or groups == 0 or heads % groups or tuple(B.shape[:2]) != (batch, length):
        shapes = ", ".join(f"{k} {tuple(t.shape)}" for k, t in {"delta": delta, "A": A, "B": B, "C": C}.items())
        raise KitError(
            f"{shapes} do not belong to x {tuple(x.shape)}",
            remedy=f"needed are delta {(batch, length, heads)}, A ({heads},), B and C ({batch}, {length}, groups, n) "
            f"with a number of groups that divides {heads}",
        )
    return batch, length, heads, p
