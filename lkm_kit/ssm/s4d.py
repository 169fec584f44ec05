"""S4D: a diagonal state-space model that does not select, so that the scan is one long convolution (Eq. 4)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkm_kit.devices import without_autocast
from lkm_kit.errors import KitError
from lkm_kit.ssm.linear import causal_convolution


def s4d_kernel(delta: Tensor, A: Tensor, C: Tensor, length: int) -> Tensor:
    """K̄_l = 2 Re Σ_n C_n (exp(Δ A_n) - 1) / A_n · exp(Δ A_n)^l: the answer to a single 1, by zero-order hold.

    Args:
        delta: Δ > 0, (d,).
        A: (d, n) complex, each with a negative real part; they stand for pairs of conjugates.
        C: (d, n) complex; B is 1.
        length: L ≥ 1.

    Returns:
        (d, L), real.

    Source: Gu, Gupta, Goel, Ré 2022 (arXiv 2206.11893); ``models/s4/s4d.py`` of state-spaces/s4.

    >>> one = torch.ones(1, 1, dtype=torch.complex64)
    >>> s4d_kernel(torch.ones(1), -one * math.log(2), one, 3)
    tensor([[1.4427, 0.7213, 0.3607]])
    """
    step = delta[:, None] * A
    powers = step[..., None] * torch.arange(length, device=A.device)
    return 2 * torch.einsum("dn,dnl->dl", C * torch.expm1(step) / A, powers.exp()).real


class S4D(nn.Module):
    """Mamba's layer without selection: expand, convolve causally, a fixed linear system, gate, project back.

    What differs from :class:`lkm_kit.ssm.Mamba` is the system alone: Δ, B and C are parameters and no functions of the
    token, and A is complex.

    Args:
        d_model: channels of the tokens.
        d_state: real numbers in a channel's state: half as many complex ones.
        d_conv: taps of the causal depthwise convolution.
        expand: inner width is ``expand * d_model``.
        dt_min, dt_max: Δ starts log-uniform between these.

    Shapes: tokens (batch, length, d_model) → same.

    The convolution is done by FFT, which touches all tokens: a NaN in one reaches every other, and so does the exact
    support of :func:`lkm_kit.erf.support`; no finite number goes back in time.

    Source: Gu et al. 2022, S4D-Lin: A_n = -1/2 + iπn, C normal, Δ for each channel. Deviation: in Mamba's block.

    >>> S4D(8)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2, dt_min: float = 1e-3,
        dt_max: float = 0.1,
    ):  # fmt: skip
        super().__init__()
        if d_state < 2 or d_state % 2:
            raise KitError(f"d_state is {d_state}", remedy="S4D's states come in pairs: give an even number from 2 on")
        d, n = int(expand * d_model), d_state // 2
        self.in_proj = nn.Linear(d_model, 2 * d, bias=False)
        self.conv1d = nn.Conv1d(d, d, d_conv, groups=d, padding=d_conv - 1)
        self.log_dt = nn.Parameter(torch.empty(d).uniform_(math.log(dt_min), math.log(dt_max)))
        self.A_log = nn.Parameter(torch.full((d, n), math.log(0.5)))
        self.A_imag = nn.Parameter(math.pi * torch.arange(n, dtype=torch.float32).repeat(d, 1))
        self.C = nn.Parameter(torch.randn(d, n, 2) * 0.5**0.5)
        self.D = nn.Parameter(torch.ones(d))
        self.out_proj = nn.Linear(d, d_model, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, length, d_model) → same."""
        length = tokens.shape[1]
        x, z = self.in_proj(tokens).transpose(1, 2).chunk(2, dim=1)
        x = F.silu(self.conv1d(x)[..., :length])
        with without_autocast(tokens.device):  # there is no FFT of bf16
            wide = torch.promote_types(x.dtype, torch.float32)
            u = x.to(wide)
            y = causal_convolution(u, self.kernel(length).to(wide)) + self.D[:, None].to(wide) * u
        return self.out_proj((y.to(z.dtype) * F.silu(z)).transpose(1, 2))

    def kernel(self, length: int) -> Tensor:
        """K̄ of every inner channel, (d, length)."""
        wide = torch.promote_types(self.C.dtype, torch.float32)
        A = torch.complex(-self.A_log.to(wide).exp(), self.A_imag.to(wide))
        return s4d_kernel(self.log_dt.to(wide).exp(), A, torch.view_as_complex(self.C.to(wide).contiguous()), length)
