"""Constant B or C, one row for each channel, by kernels that know one row for all channels of a group.

Every pair of a channel and a state becomes a channel of its own with a single state. Its input is u times B, and what
it remembers is multiplied by C and summed outside. That takes n times the memory of u; a B and a C that change from
token to token, as Mamba has them, never come here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from lkm_kit.ssm.backends.operators import Scan, grouped, wide

_Run = Callable[[Scan], tuple[Tensor, Tensor]]


def with_constants(run: _Run) -> _Run:
    """A backend that also takes constant B and C (d, n), made of one that does not.

    >>> import torch
    >>> from lkm_kit.ssm.backends import reference
    >>> u, one = torch.ones(1, 1, 3), torch.ones(1, 1)
    >>> with_constants(reference.selective_scan)(Scan(u, u, -one, one, one, None, None, None, False, False))[0].shape
    torch.Size([1, 1, 3])
    """

    def scan_any(scan: Scan) -> tuple[Tensor, Tensor]:
        return _one_state_each(scan, run) if 2 in (scan.B.ndim, scan.C.ndim) else run(scan)

    return scan_any


def _one_state_each(scan: Scan, run: _Run) -> tuple[Tensor, Tensor]:
    dtype, (batch, d, length), n = wide(scan.u.dtype), scan.u.shape, scan.A.shape[1]
    u, delta = (t.to(dtype)[:, :, None].expand(batch, d, n, length) for t in (scan.u, scan.delta))
    B, C = (_for_pairs(t.to(dtype), d) for t in (scan.B, scan.C))
    one = u.new_ones(()).expand(batch, 1, length)
    bias = None if scan.delta_bias is None else scan.delta_bias.repeat_interleave(n)
    y, last = run(
        Scan(
            (u * B).flatten(1, 2), delta.flatten(1, 2), scan.A.reshape(-1, 1), one, one, None, None, bias,
            scan.softplus, scan.reverse,
        )
    )  # fmt: skip
    y = (y.unflatten(1, (d, n)) * C).sum(2)
    if scan.D is not None:
        y = y + scan.D.to(dtype)[:, None] * scan.u
    if scan.z is not None:
        y = y * F.silu(scan.z.to(dtype))
    return y.to(scan.u.dtype), last.reshape(batch, d, n)


def _for_pairs(t: Tensor, d: int) -> Tensor:
    """B or C in a shape that goes with (batch, d, n, length)."""
    if t.ndim == 2:
        return t[..., None]
    t = grouped(t)
    return t.repeat_interleave(d // t.shape[1], 1)
