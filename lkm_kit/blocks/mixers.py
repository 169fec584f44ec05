"""Mixers: modules that take tokens to tokens, and how PiM and PaM bring a map to one. BiM is the default.

A mixer is any module (batch, length, channels) → same. Enter a factory ``(channels, **options) -> Module`` in
:data:`MIXERS`, or pass a callable ``(channels) -> Module`` as ``mixer=``; both reach from PiM to ``build_network``::

    MIXERS["attention"] = lambda channels, **options: SelfAttention(channels)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from lkm_kit.blocks.bim import BiM
from lkm_kit.blocks.recurrent_mixers import mamba2, mingru, s4d
from lkm_kit.blocks.token_order import to_map, to_tokens
from lkm_kit.errors import one_of

MIXERS: dict[str, Callable[..., nn.Module]] = {"bim": BiM, "mamba2": mamba2, "s4d": s4d, "mingru": mingru}
"""Factories by name: called with the channels, and with PiM's and PaM's options by their names (see :class:`BiM`)."""


def build_mixer(mixer: str | Callable[[int], nn.Module], channels: int, **options) -> nn.Module:
    """The module that a name of :data:`MIXERS`, called with the options too, or a callable makes for these channels.

    >>> type(build_mixer("bim", 8, bidirectional=False)).__name__, type(build_mixer(nn.LayerNorm, 8)).__name__
    ('BiM', 'LayerNorm')
    """
    if callable(mixer):
        return mixer(channels)
    return MIXERS[one_of(mixer, MIXERS, "mixer")](channels, **options)


def mix_windows(mixer: nn.Module, x: Tensor, window: int | Sequence[int], partition: str) -> Tensor:
    """A map (batch, channels, *spatial) → same: each sequence of an order through a mixer of tokens.

    >>> import torch
    >>> x = torch.randn(1, 8, 4, 4)
    >>> torch.equal(mix_windows(nn.Identity(), x, 2, "dilated"), x)
    True
    """
    if isinstance(mixer, BiM) and mixer.reads_maps(x):
        return mixer(x, window, partition)
    return to_map(mixer(to_tokens(x, window, partition)), x.shape, window, partition)
