"""The Mamba mixer: what turns tokens into the u, Δ, B, C and z of the selective scan, and back into tokens.

Parameter names, shapes and initial values are mamba_ssm's, so that weights move across in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkm_kit.errors import KitError
from lkm_kit.ssm.backends import cpu_mixer
from lkm_kit.ssm.causal_conv import causal_conv_silu
from lkm_kit.ssm.selective_scan import choose_backend, selective_scan


class Mamba(nn.Module):
    """Mamba's mixer (Gu & Dao 2023, Section 3.4): expand, convolve causally, scan selectively, gate, project back.

    Args:
        d_model: channels of the tokens.
        d_state: n, the state's size per channel.
        d_conv: taps of the causal depthwise convolution.
        expand: inner width is ``expand * d_model``.
        dt_rank: rank of Δ's projection; ``"auto"`` is ceil(d_model / 16).
        backend: see :func:`lkm_kit.ssm.selective_scan`.
        out_proj: False leaves the output projection out (the released BiM shares one between two mixers).

    Shapes: tokens (batch, length, d_model) → same.

    Source: ``mamba_ssm/modules/mamba_simple.py`` (names and initial values); without its inference cache.

    >>> mixer = Mamba(8)
    >>> mixer(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        backend: str = "auto",
        *,
        out_proj: bool = True,
    ):
        super().__init__()
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.d_inner = expand * d_model
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        self.backend = backend

        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, d_conv, groups=self.d_inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.empty(self.d_inner, d_state))
        self.D = nn.Parameter(torch.empty(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False) if out_proj else None
        # As in mamba_ssm: read by optimisers that exempt these from weight decay.
        self.A_log._no_weight_decay = True
        self.D._no_weight_decay = True
        self._init_state_space()

    @torch.no_grad()
    def _init_state_space(self, dt_min: float = 1e-3, dt_max: float = 0.1, dt_floor: float = 1e-4) -> None:
        """S4D-real A = -(1, ..., n) in every channel, D = 1, and Δ log-uniform in [dt_min, dt_max] after softplus."""
        self.A_log.copy_(torch.log(torch.arange(1, self.d_state + 1, dtype=torch.float32)).expand_as(self.A_log))
        self.D.fill_(1.0)
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        dt = torch.exp(torch.empty(self.d_inner).uniform_(math.log(dt_min), math.log(dt_max))).clamp(min=dt_floor)
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus of this is dt
        self.dt_proj.bias._no_reinit = True

    def mix(self, tokens: Tensor, reverse: bool = False) -> Tensor:
        """Everything before the output projection: (batch, length, d_model) → (batch, length, d_inner).

        With ``reverse`` convolution and scan run from the last token to the first, which equals flipping the
        tokens, mixing, and flipping back, without the two copies.
        """
        return mix_sum([self], tokens, [reverse])

    def _compose(self, tokens: Tensor, reverse: bool, backend: str) -> Tensor:
        x, z = F.linear(tokens, self.in_proj.weight).chunk(2, dim=-1)
        x = causal_conv_silu(x.transpose(1, 2), self.conv1d.weight[:, 0], self.conv1d.bias, reverse, backend)
        x = x.transpose(1, 2)
        low_rank, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        delta = F.linear(low_rank, self.dt_proj.weight)  # its bias is added inside the scan, in float32
        y = selective_scan(
            x.transpose(1, 2),
            delta.transpose(1, 2),
            -torch.exp(self.A_log.float()),
            B.transpose(1, 2),
            C.transpose(1, 2),
            D=self.D.float(),
            z=z.transpose(1, 2),
            delta_bias=self.dt_proj.bias.float(),
            delta_softplus=True,
            reverse=reverse,
            backend=backend,
        )
        return y.transpose(1, 2)

    def _fused_parameters(self) -> tuple[Tensor, ...]:
        """In the order of :class:`lkm_kit.ssm.backends.cpu_mixer.Direction`."""
        return (
            self.in_proj.weight,
            self.conv1d.weight[:, 0],
            self.conv1d.bias,
            self.x_proj.weight,
            self.dt_proj.weight,
            self.dt_proj.bias,
            -torch.exp(self.A_log),
            self.D,
        )

    def forward(self, tokens: Tensor, reverse: bool = False) -> Tensor:
        """Mix the tokens: (batch, length, d_model) → same."""
        if self.out_proj is None:
            raise KitError("this Mamba was built without out_proj", remedy="call .mix() and project the sum yourself")
        return self.out_proj(self.mix(tokens, reverse))


def mix_sum(mixers: Sequence[Mamba], tokens: Tensor, reverse: Sequence[bool]) -> Tensor:
    """Sum of ``mixer.mix(tokens, reverse)`` over mixers of one size, each in its direction; BiM's two Mambas.

    Args:
        mixers: of equal sizes.
        tokens: (batch, length, d_model).
        reverse: one for each mixer.

    Returns:
        (batch, length, d_inner).

    Raises:
        KitError: tokens of another shape.

    >>> mixer = Mamba(8, out_proj=False)
    >>> mix_sum([mixer, mixer], torch.zeros(2, 5, 8), [False, True]).shape
    torch.Size([2, 5, 16])
    """
    first = mixers[0]
    if tokens.ndim != 3 or tokens.shape[-1] != first.d_model:
        raise KitError(
            f"tokens have shape {tuple(tokens.shape)}; this mixer needs (batch, length, {first.d_model})",
            remedy="a feature map goes through lkm_kit.blocks.to_tokens first",
        )
    backend = choose_backend(tokens.device, first.backend)
    if backend == "cpu" and _can_fuse(mixers, tokens):
        return cpu_mixer.mix(tokens, [cpu_mixer.Direction(*m._fused_parameters()) for m in mixers], reverse)
    total = first._compose(tokens, reverse[0], backend)
    for mixer, backwards in zip(mixers[1:], reverse[1:], strict=True):
        total = total + mixer._compose(tokens, backwards, backend)
    return total


def _can_fuse(mixers: Sequence[Mamba], tokens: Tensor) -> bool:
    """The fused operator takes one dtype throughout, and channels sixteen at a time."""
    same = all(p.dtype == tokens.dtype for mixer in mixers for p in mixer.parameters())
    wide = tokens.dtype in (torch.float32, torch.float64)
    return same and wide and mixers[0].d_inner % 16 == 0 and tokens.numel() > 0 and not torch.is_autocast_enabled("cpu")
