"""mamba_ssm's functions of ``ops.selective_scan_interface`` under their own names and signatures."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lkm_kit.compat.convolution import causal_conv1d_fn
from lkm_kit.compat.refuse import refuse
from lkm_kit.errors import KitError
from lkm_kit.ssm import selective_scan


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The selective scan; arguments, results and errors of :func:`lkm_kit.ssm.selective_scan`, from left to right.

    >>> import torch
    >>> u = torch.ones(1, 1, 3)
    >>> selective_scan_fn(u, u, torch.zeros(1, 1), u, u).tolist()
    [[[1.0, 2.0, 3.0]]]
    """
    return selective_scan(
        u, delta, A, B, C, D, z, delta_bias, bool(delta_softplus), return_last_state=bool(return_last_state)
    )


selective_scan_ref = selective_scan_fn


def mamba_inner_fn_no_out_proj(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Tensor:
    """Mamba between its input and its output projection: convolution, Δ, B and C of the tokens, scan, gate.

    Args:
        xz: (batch, 2d, length), the input projection's result.
        conv1d_weight: (d, 1, K); conv1d_bias (d,) or None.
        x_proj_weight: (r + 2n, d), or without the n rows for a B or C that is given; delta_proj_weight (d, r).
        A: (d, n), real or complex (then x_proj makes 2n rows for B and C each, real and imaginary parts in turns).
        B, C: as of :func:`selective_scan_fn`; None makes them of the tokens.
        D, delta_bias: (d,).
        B_proj_bias, C_proj_bias: added to what x_proj makes for B and C.
        delta_softplus: as of :func:`selective_scan_fn`.
        b_rms_weight, c_rms_weight, dt_rms_weight: scales of an RMS norm of B (n,), C (n,) and Δ (d,), with
            ``b_c_dt_rms_eps``.

    Returns:
        (batch, d, length).

    Source: ``MambaInnerFnNoOutProj`` of Vim's and SegMamba's forks, with the RMS norms of mamba_ssm 2.

    >>> import torch
    >>> weights = torch.ones(4, 1, 2), torch.zeros(4), torch.ones(3, 4), torch.ones(4, 1)
    >>> mamba_inner_fn_no_out_proj(torch.ones(1, 8, 5), *weights, -torch.ones(4, 1)).shape
    torch.Size([1, 4, 5])
    """
    x, z = xz.chunk(2, dim=1)
    x = causal_conv1d_fn(x, conv1d_weight[:, 0], conv1d_bias, activation="silu")
    rank, n = delta_proj_weight.shape[1], A.shape[1] * (2 if A.is_complex() else 1)
    projected = F.linear(x.transpose(1, 2), x_proj_weight)
    own_B, own_C = projected[..., rank : rank + n], projected[..., -n:]
    delta = F.linear(projected[..., :rank], delta_proj_weight)
    if dt_rms_weight is not None:
        delta = F.rms_norm(delta, delta.shape[-1:], dt_rms_weight, b_c_dt_rms_eps)
    B = _of_tokens(own_B, B_proj_bias, b_rms_weight, b_c_dt_rms_eps, A) if B is None else B
    C = _of_tokens(own_C, C_proj_bias, c_rms_weight, b_c_dt_rms_eps, A) if C is None else C
    return selective_scan_fn(x, delta.transpose(1, 2), A, B, C, D, z, delta_bias, delta_softplus)


def _of_tokens(rows: Tensor, bias: Tensor | None, rms: Tensor | None, eps: float, A: Tensor) -> Tensor:
    """(batch, length, n) as B or C: (batch, n, length), or (batch, n, 2 length) for a complex A."""
    rows = rows if bias is None else rows + bias.to(rows.dtype)
    if A.is_complex():
        if rms is not None:
            refuse("mamba_inner_fn", "an RMS norm of B or C with a complex A", "normalise B and C before the call")
        return rows.unflatten(-1, (-1, 2)).transpose(1, 2).flatten(2)
    rows = rows if rms is None else F.rms_norm(rows, rows.shape[-1:], rms, eps)
    return rows.transpose(1, 2)


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Tensor:
    """Mamba after its input projection: :func:`mamba_inner_fn_no_out_proj`, then the output projection.

    Args:
        out_proj_weight, out_proj_bias: (c, d) and (c,) or None.
        checkpoint_lvl: 0 or 1; there it says what is computed twice to save memory, and no number depends on it. Here
            autograd keeps what it needs.
        xz and the others: see :func:`mamba_inner_fn_no_out_proj`.

    Returns:
        (batch, length, c).

    >>> import torch
    >>> weights = torch.ones(4, 1, 2), torch.zeros(4), torch.ones(3, 4), torch.ones(4, 1), torch.ones(2, 4), None
    >>> mamba_inner_fn(torch.ones(1, 8, 5), *weights, -torch.ones(4, 1)).shape
    torch.Size([1, 5, 2])
    """
    if checkpoint_lvl not in (0, 1):
        raise KitError(f"checkpoint_lvl is {checkpoint_lvl!r}", remedy="give 0 or 1")
    y = mamba_inner_fn_no_out_proj(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B, C, D, delta_bias, B_proj_bias,
        C_proj_bias, delta_softplus, b_rms_weight, c_rms_weight, dt_rms_weight, b_c_dt_rms_eps,
    )  # fmt: skip
    return F.linear(y.transpose(1, 2), out_proj_weight, out_proj_bias)


mamba_inner_ref = mamba_inner_fn


def bimamba_inner_fn(*_, **__) -> Tensor:
    """Vim's first bidirectional layer, which its released networks do not use: refused.

    Raises:
        KitError: always.

    >>> bimamba_inner_fn()
    Traceback (most recent call last):
        ...
    lkm_kit.errors.KitError: lkm_kit.compat.bimamba_inner_fn does not take bimamba_type='v1'
      -> take bimamba_type='v2', which has all parameters twice
    """
    refuse("bimamba_inner_fn", "bimamba_type='v1'", "take bimamba_type='v2', which has all parameters twice")
