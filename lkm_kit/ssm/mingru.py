"""minGRU: the smallest gated recurrence, which is a selective scan with one state."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkm_kit.devices import without_autocast
from lkm_kit.ssm.selective_scan import selective_scan


def gated_average(candidate: Tensor, gate: Tensor, backend: str = "auto") -> Tensor:
    """h_t = (1 - z_t) h_{t-1} + z_t c_t with z = σ(gate): what comes in replaces what was there, in shares.

    1 - σ(k) = exp(-softplus(k)), so this is the scan with Δ = softplus(k), A = -1, B = C = 1 and the input
    c σ(k) / softplus(k): on every backend of :func:`lkm_kit.ssm.selective_scan`, without a loop.

    Args:
        candidate: c, (batch, d, length).
        gate: k, the same shape.
        backend: of the scan.

    Returns:
        h, (batch, d, length).

    >>> gated_average(torch.ones(1, 1, 3), torch.zeros(1, 1, 3), "reference").flatten()
    tensor([0.5000, 0.7500, 0.8750])
    """
    batch, d, length = candidate.shape
    wide = torch.promote_types(gate.dtype, torch.float32)
    k = gate.to(wide)
    safe = k.clamp(min=-15.0)  # below, σ and softplus are both e^k to the last digit of float32
    share = torch.where(k > -15.0, torch.sigmoid(safe) / F.softplus(safe), torch.ones_like(k))
    one = k.new_ones(()).expand(batch, 1, length)
    u = candidate.to(wide) * share
    h = selective_scan(u, k, -k.new_ones(d, 1), one, one, delta_softplus=True, backend=backend)
    return h.to(candidate.dtype)


class MinGRU(nn.Module):
    """Candidate and gate from the token alone, :func:`gated_average`, a projection back.

    Args:
        d_model: channels of the tokens.
        expand: inner width is ``expand * d_model``.
        backend: see :func:`lkm_kit.ssm.selective_scan`.

    Shapes: tokens (batch, length, d_model) → same.

    Source: Feng et al. 2024, *Were RNNs All We Needed?* (arXiv 2410.01201). Deviation: the layer around it (inner
    width, projection back) is the kit's, without a convolution before it.

    >>> MinGRU(8)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, d_model: int, expand: int = 2, backend: str = "auto"):
        super().__init__()
        inner = int(expand * d_model)
        self.backend = backend
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.gate_bias = nn.Parameter(torch.zeros(inner))
        self.out_proj = nn.Linear(inner, d_model, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, length, d_model) → same."""
        candidate, gate = self.in_proj(tokens).transpose(1, 2).chunk(2, dim=1)
        with without_autocast(tokens.device):
            h = gated_average(candidate, gate + self.gate_bias[:, None], self.backend)
        return self.out_proj(h.to(tokens.dtype).transpose(1, 2))
