"""The Mamba mixer: what turns tokens into the u, Δ, B, C and z of the selective scan, and back into tokens.

Parameter names, shapes and initial values are mamba_ssm's, so that weights move across in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from lkm_kit.errors import KitError
from lkm_kit.ssm.backends import cpu_mixer, triton_mixer
from lkm_kit.ssm.backends.mixer import Direction
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

    Shapes: tokens (batch, length, d_model) → same; without ``out_proj`` → (batch, length, expand * d_model).

    Its layers may be replaced, wrapped (LoRA, spectral norm) or watched by hooks: they are then called one by one,
    where otherwise one fused operator reads their weights.

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
        self.d_inner = int(expand * d_model)
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        self.backend = backend

        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, d_conv, groups=self.d_inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.empty(self.d_inner, d_state))
        self.D = nn.Parameter(torch.empty(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False) if out_proj else None
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

    def mix(self, tokens: Tensor, reverse: bool = False) -> Tensor:
        """Everything before the output projection: (batch, length, d_model) → (batch, length, d_inner).

        With ``reverse`` convolution and scan run from the last token to the first, which equals flipping the
        tokens, mixing, and flipping back, without the two copies.
        """
        return _mix([self], tokens, [reverse])

    def forward(self, tokens: Tensor, reverse: bool = False) -> Tensor:
        """Mix the tokens: (batch, length, d_model) → same, or d_inner channels without ``out_proj``."""
        mixed = self.mix(tokens, reverse)
        return mixed if self.out_proj is None else self.out_proj(mixed)

    def _compose(self, tokens: Tensor, reverse: bool, backend: str) -> Tensor:
        x, z = self.in_proj(tokens).chunk(2, dim=-1)
        x = self._convolve(x.transpose(1, 2), reverse, backend).transpose(1, 2)
        low_rank, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        # Its bias is added inside the scan, in float32; a layer in its place is called as a whole.
        plain = as_built(self.dt_proj, nn.Linear) and self.dt_proj.bias is not None
        delta = F.linear(low_rank, self.dt_proj.weight) if plain else self.dt_proj(low_rank)
        y = selective_scan(
            x.transpose(1, 2),
            delta.transpose(1, 2),
            self._A(),
            B.transpose(1, 2),
            C.transpose(1, 2),
            D=_wide(self.D),
            z=z.transpose(1, 2),
            delta_bias=_wide(self.dt_proj.bias) if plain else None,
            delta_softplus=True,
            reverse=reverse,
            backend=backend,
        )
        return y.transpose(1, 2)

    def _convolve(self, x: Tensor, reverse: bool, backend: str) -> Tensor:
        conv = self.conv1d
        if self._convolution_is_plain() and conv.bias is not None:
            return causal_conv_silu(x, conv.weight[:, 0], conv.bias, reverse, backend)
        x = x.flip(-1) if reverse else x
        y = F.silu(self.conv1d(x)[..., : x.shape[-1]])
        return y.flip(-1) if reverse else y

    def _convolution_is_plain(self) -> bool:
        conv = self.conv1d
        if not as_built(conv, nn.Conv1d) or conv.bias is None:
            return False
        built = ((1,), (1,), (conv.kernel_size[0] - 1,), self.d_inner, "zeros")
        return (conv.stride, conv.dilation, conv.padding, conv.groups, conv.padding_mode) == built

    def _is_plain(self) -> bool:
        """Whether every layer is the one that was built here, so that an operator may take their weights alone."""
        layers = (self.in_proj, self.x_proj, self.dt_proj)
        return (
            type(self)._compose is Mamba._compose
            and all(as_built(layer, nn.Linear) for layer in layers)
            and [layer.bias is not None for layer in layers] == [False, False, True]
            and self._convolution_is_plain()
        )

    def _A(self) -> Tensor:
        """In float32 at least: rounded to bf16, the slowest and the fastest states would decay alike."""
        return -torch.exp(_wide(self.A_log))

    def _fused_parameters(self) -> Direction:
        assert self.conv1d.bias is not None  # as built here, see _is_plain
        return Direction(
            self.in_proj.weight,
            self.conv1d.weight[:, 0],
            self.conv1d.bias,
            self.x_proj.weight,
            self.dt_proj.weight,
            self.dt_proj.bias,
            self._A(),
            self.D,
        )


def as_built(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is a ``kind`` as torch makes it: no subclass, wrapper, parametrization or hook of its own.

    >>> layer = nn.Linear(2, 2)
    >>> as_built(layer, nn.Linear), as_built(nn.utils.parametrizations.weight_norm(layer), nn.Linear)
    (True, False)
    """
    return type(module) is kind and "forward" not in module.__dict__ and not hooks_of(module)


def hooks_of(module: nn.Module) -> list:
    """Hooks that run when a module is called, or when its gradient comes by.

    >>> len(hooks_of(nn.Identity()))
    0
    """
    kinds = module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks
    return [hook for kind in kinds for hook in kind.values()]


def mix(mixers: Sequence[Mamba], tokens: Tensor, reverse: Sequence[bool], order: Tensor | None = None) -> Tensor:
    """Sum of ``mixer.mix(tokens, reverse)`` over mixers of one size, each in its direction; BiM's Mambas.

    This is where it is decided how: as one operator for all mixers (``cpu`` and ``triton`` backends, one dtype, no
    autocast, layers as they were built), else layer by layer.

    Args:
        mixers: of equal sizes.
        tokens: (batch, tokens, d_model). A map (batch, d_model, *spatial) goes in as
            ``x.flatten(2).transpose(1, 2)``, with an ``order``.
        reverse: one for each mixer.
        order: (windows, length) int32, which token is the t-th of each window; windows · length = tokens. On the
            ``triton`` backend nothing is cut out for it. Without it each batch item is one sequence as it lies.

    Returns:
        (batch, tokens, d_inner), each token where it was.

    Raises:
        KitError: tokens of another shape, or a table that does not name every token once.

    >>> mixer = Mamba(8, out_proj=False)
    >>> mix([mixer, mixer], torch.zeros(2, 5, 8), [False, True]).shape
    torch.Size([2, 5, 16])
    """
    own = any(hooks_of(m) or (type(m).mix, type(m).forward) != (Mamba.mix, Mamba.forward) for m in mixers)
    if order is not None:
        check_order(order, tokens.shape[1])
        if own or _operator(mixers, tokens) is not triton_mixer.mix:
            rows, channels = order.flatten().long(), tokens.shape[-1]
            cut = tokens.index_select(1, rows).reshape(-1, order.shape[1], channels)
            mixed = mix(mixers, cut, reverse).reshape(*tokens.shape[:2], -1)
            return mixed.new_empty(mixed.shape).index_copy(1, rows, mixed)
    if not own:
        return _mix(mixers, tokens, reverse, order)
    parts = [(m if m.out_proj is None else m.mix)(tokens, r) for m, r in zip(mixers, reverse, strict=True)]
    return sum(parts[1:], parts[0])


def _mix(mixers: Sequence[Mamba], tokens: Tensor, reverse: Sequence[bool], order: Tensor | None = None) -> Tensor:
    first = mixers[0]
    if tokens.ndim != 3 or tokens.shape[-1] != first.d_model:
        raise KitError(
            f"tokens have shape {tuple(tokens.shape)}; this mixer needs (batch, length, {first.d_model})",
            remedy="a feature map goes through lkm_kit.blocks.to_tokens first",
        )
    operator = _operator(mixers, tokens)
    if operator is not None:
        return operator(tokens, [mixer._fused_parameters() for mixer in mixers], reverse, order)
    backend = choose_backend(tokens.device, first.backend, tokens.dtype)
    parts = [mixer._compose(tokens, r, backend) for mixer, r in zip(mixers, reverse, strict=True)]
    return sum(parts[1:], parts[0])


_OPERATORS = {"cpu": cpu_mixer.mix, "triton": triton_mixer.mix}


def _operator(mixers: Sequence[Mamba], tokens: Tensor) -> Callable | None:
    """The fused operator that can serve these mixers, if any."""
    backend = choose_backend(tokens.device, mixers[0].backend, tokens.dtype)
    same = all(p.dtype == tokens.dtype for mixer in mixers for p in mixer.parameters())
    mixed_precision = not tokens.is_meta and torch.is_autocast_enabled(tokens.device.type)
    if not same or tokens.numel() == 0 or mixed_precision:
        return None
    # the CPU's takes channels sixteen at a time
    wide = tokens.dtype in (torch.float32, torch.float64) and mixers[0].d_inner % 16 == 0
    suits = wide or backend != "cpu"
    return _OPERATORS.get(backend) if suits and all(mixer._is_plain() for mixer in mixers) else None


def _wide(t: Tensor) -> Tensor:
    return t.to(torch.promote_types(t.dtype, torch.float32))


_checked = WeakTensorKeyDictionary()


def check_order(order: Tensor, number: int, what: str = "the token order") -> None:
    """Raise a KitError for a table that does not name each of ``number`` tokens once.

    A wrong index would read or write foreign memory. The values are looked at once per table: a GPU has to wait.
    """
    if order.ndim != 2 or order.dtype != torch.int32 or order.numel() != number or not order.is_contiguous():
        raise KitError(
            f"{what} is {order.dtype} of shape {tuple(order.shape)}; {number} pixels need contiguous "
            f"torch.int32 (windows, length) with windows * length = {number}"
        )
    shape_only = order.is_meta or type(order) is not Tensor  # what a tracer passes around
    if torch.compiler.is_compiling() or shape_only or order in _checked:
        return
    if not torch.equal(order.flatten().sort().values, torch.arange(number, device=order.device, dtype=torch.int32)):
        raise KitError(f"{what} does not name each of the pixels 0 to {number - 1} once")
    _checked[order] = True
