"""The Mamba-2 layer: one projection makes z, x, B, C and Δ at once; heads share a decay; an RMS norm before the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkm_kit.devices import without_autocast
from lkm_kit.errors import KitError
from lkm_kit.ssm.causal_conv import causal_conv_silu
from lkm_kit.ssm.ssd import ssd


class GatedRMSNorm(nn.Module):
    """RMS norm over groups of channels of y · SiLU(z), or with ``norm_before_gate`` of y, times SiLU(z) afterwards.

    Source: ``mamba_ssm/ops/triton/layernorm_gated.py``.

    >>> GatedRMSNorm(4, groups=2)(torch.ones(1, 4), torch.ones(1, 4)).shape
    torch.Size([1, 4])
    """

    def __init__(self, channels: int, groups: int = 1, norm_before_gate: bool = False, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.groups, self.norm_before_gate, self.eps = groups, norm_before_gate, eps

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """y, z (..., channels) → same."""
        wide = torch.promote_types(y.dtype, torch.float32)
        gate, out = F.silu(z.to(wide)), y.to(wide)
        out = out if self.norm_before_gate else out * gate
        apart = out.unflatten(-1, (self.groups, -1))
        out = F.rms_norm(apart, apart.shape[-1:], eps=self.eps).flatten(-2) * self.weight
        return (out * gate if self.norm_before_gate else out).to(y.dtype)


class Mamba2(nn.Module):
    """Mamba-2's mixer (Dao & Gu 2024, Section 7): project once, convolve x, B and C, scan by heads, gate, project back.

    Args:
        d_model: channels of the tokens.
        d_state: n, the state's size per channel.
        d_conv: taps of the causal depthwise convolution.
        expand: inner width is ``expand * d_model``.
        headdim: p, channels that share one decay.
        d_ssm: inner channels that are scanned; the others go through a gated linear unit. None: all.
        ngroups: B and C for as many groups of heads.
        A_init_range: A starts uniformly between these, negated.
        D_has_hdim: D for every channel, not for every head.
        rmsnorm, norm_before_gate: of :class:`GatedRMSNorm`; without it y · SiLU(z).
        dt_min, dt_max, dt_init_floor: Δ starts log-uniform between the first two, and not below the third.
        dt_limit: Δ after softplus is kept between these.
        bias, conv_bias: of the projections, of the convolution.
        conv_init: the convolution's weights start uniformly within ± this.
        chunk_size: of :func:`lkm_kit.ssm.ssd`; no number depends on it but by rounding.

    Shapes: tokens (batch, length, d_model) → same.

    Raises:
        KitError: widths that heads or groups do not divide; tokens of another width.

    Source: ``mamba_ssm/modules/mamba2.py`` (names and initial values); without its inference cache.

    >>> Mamba2(16, d_state=8, headdim=8)(torch.zeros(2, 5, 16)).shape
    torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        conv_init: float | None = None,
        expand: float = 2,
        headdim: int = 64,
        d_ssm: int | None = None,
        ngroups: int = 1,
        A_init_range: Sequence[float] = (1, 16),
        D_has_hdim: bool = False,
        rmsnorm: bool = True,
        norm_before_gate: bool = False,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        dt_limit: Sequence[float] = (0.0, math.inf),
        bias: bool = False,
        conv_bias: bool = True,
        chunk_size: int = 64,
    ):
        super().__init__()
        self.d_model, self.d_state, self.d_conv, self.expand = d_model, d_state, d_conv, expand
        self.d_inner = int(expand * d_model)
        self.d_ssm = self.d_inner if d_ssm is None else d_ssm
        self.headdim, self.ngroups, self.chunk_size = headdim, ngroups, chunk_size
        self.nheads = self.d_ssm // headdim
        if self.d_ssm % headdim or self.nheads % ngroups or not 0 < self.d_ssm <= self.d_inner:
            raise KitError(
                f"{self.d_ssm} of {self.d_inner} inner channels cannot be {ngroups} groups of heads of {headdim}",
                remedy=f"headdim must divide d_ssm, ngroups the number of heads, and d_ssm be at most {self.d_inner}",
            )
        self.dt_limit, self.D_has_hdim = tuple(dt_limit), D_has_hdim
        scanned = self.d_ssm + 2 * ngroups * d_state
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner + 2 * ngroups * d_state + self.nheads, bias=bias)
        self.conv1d = nn.Conv1d(scanned, scanned, d_conv, groups=scanned, padding=d_conv - 1, bias=conv_bias)
        if conv_init is not None:
            nn.init.uniform_(self.conv1d.weight, -conv_init, conv_init)
        dt = torch.exp(torch.empty(self.nheads).uniform_(math.log(dt_min), math.log(dt_max))).clamp(min=dt_init_floor)
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # softplus of this is dt
        self.A_log = nn.Parameter(torch.empty(self.nheads).uniform_(*A_init_range).log())
        self.D = nn.Parameter(torch.ones(self.d_ssm if D_has_hdim else self.nheads))
        self.norm = GatedRMSNorm(self.d_ssm, ngroups, norm_before_gate) if rmsnorm else None
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, length, d_model) → same."""
        if tokens.ndim != 3 or tokens.shape[-1] != self.d_model:
            raise KitError(
                f"tokens have shape {tuple(tokens.shape)}; this mixer needs (batch, length, {self.d_model})",
                remedy="a feature map goes through lkm_kit.blocks.to_tokens first",
            )
        own, shared = self.d_inner - self.d_ssm, self.ngroups * self.d_state
        sizes = [own, own, self.d_ssm, self.d_ssm + 2 * shared, self.nheads]
        gate, linear, z, xBC, dt = self.in_proj(tokens).split(sizes, -1)
        x, B, C = self._convolve(xBC).split([self.d_ssm, shared, shared], -1)
        # The state must not be rounded to bf16 or fp16.
        with without_autocast(tokens.device):
            wide = torch.promote_types(dt.dtype, torch.float32)
            delta = F.softplus(dt.to(wide) + self.dt_bias.to(wide)).clamp(*self.dt_limit)
            A, D = -torch.exp(self.A_log.to(wide)), self.D.to(wide)
            y, _ = ssd(
                x.unflatten(-1, (self.nheads, -1)),
                delta,
                A,
                B.unflatten(-1, (self.ngroups, -1)),
                C.unflatten(-1, (self.ngroups, -1)),
                D.unflatten(0, (self.nheads, -1)) if self.D_has_hdim else D,
                chunk=min(self.chunk_size, tokens.shape[1]),
            )
        y = y.flatten(2)
        y = y * F.silu(z) if self.norm is None else self.norm(y, z)
        if own:
            y = torch.cat([F.silu(gate) * linear, y], -1)
        return self.out_proj(y)

    def _convolve(self, xBC: Tensor) -> Tensor:
        rows = xBC.transpose(1, 2)
        if self.conv1d.bias is None:
            return F.silu(self.conv1d(rows)[..., : rows.shape[-1]]).transpose(1, 2)
        return causal_conv_silu(rows, self.conv1d.weight[:, 0], self.conv1d.bias, backend="auto").transpose(1, 2)
