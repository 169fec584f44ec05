"""Mixers: modules that take tokens to tokens, and how PiM and PaM bring a map to one. BiM is the default.

A mixer is any module (batch, length, channels) → same. Enter a factory ``(channels, **options) -> Module`` in
:data:`MIXERS`, or pass a callable ``(channels) -> Module`` as ``mixer=``; both reach from PiM to ``build_network``::

    MIXERS["convolution-13"] = partial(WindowConvolution, kernel_size=13)

A mixer that must know how its tokens lie says ``needs_sides = True``. It is then called with the tokens and the sides
of the grid that a sequence's tokens fill row by row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from math import prod

from torch import Tensor, nn

from lkm_kit.blocks.bim import BiM
from lkm_kit.blocks.orders import fitting, sequences_of, window_sides
from lkm_kit.blocks.recurrent_mixers import mamba2, mingru, s4d
from lkm_kit.blocks.token_order import to_map, to_tokens
from lkm_kit.blocks.window_mixers import WindowAttention, WindowConvolution, WindowMean
from lkm_kit.errors import KitError, one_of
from lkm_kit.shapes import size_text, spatial_size

MIXERS: dict[str, Callable[..., nn.Module]] = {
    "bim": BiM,
    "mamba2": mamba2,
    "s4d": s4d,
    "mingru": mingru,
    "depthwise": WindowConvolution,
    "mean": WindowMean,
    "attention": WindowAttention,
}
"""Factories by name: called with the channels, and with PiM's and PaM's options by their names (see :class:`BiM`).

One with an argument ``window`` is told PiM's window, or the patch of PaM, as given there.
"""


def build_mixer(
    mixer: str | Callable[[int], nn.Module], channels: int, window: int | Sequence[int], **options
) -> nn.Module:
    """The module that a name of :data:`MIXERS`, called with the options too, or a callable makes for these channels.

    >>> type(build_mixer("bim", 8, 4, bidirectional=False)).__name__, type(build_mixer(nn.LayerNorm, 8, 4)).__name__
    ('BiM', 'LayerNorm')
    """
    if callable(mixer):
        return mixer(channels)
    factory = MIXERS[one_of(mixer, MIXERS, "mixer")]
    told = {"window": window} if "window" in inspect.signature(factory).parameters else {}
    return factory(channels, **told, **options)


def mix_windows(mixer: nn.Module, x: Tensor, window: int | Sequence[int], partition: str) -> Tensor:
    """A map (batch, channels, *spatial) → same: each sequence of an order through a mixer of tokens.

    >>> import torch
    >>> x = torch.randn(1, 8, 4, 4)
    >>> torch.equal(mix_windows(nn.Identity(), x, 2, "dilated"), x)
    True
    """
    if isinstance(mixer, BiM) and mixer.reads_maps(x):
        return mixer(x, window, partition)
    tokens = to_tokens(x, window, partition)
    if getattr(mixer, "needs_sides", False):
        mixed = mixer(tokens, sequence_sides(spatial_size(x), window, partition))
    else:
        mixed = mixer(tokens)
    return to_map(mixed, x.shape, window, partition)


def sequence_sides(spatial: Sequence[int], window: int | Sequence[int], partition: str) -> tuple[int, ...]:
    """Sides of the grid that the tokens of one sequence fill, row by row.

    In an order that is no grid of the map ("shuffled", one of yours) they fill a window in the order's own sequence.

    Args:
        spatial: size of the map.
        window, partition: as given to :func:`lkm_kit.blocks.to_tokens`.

    Raises:
        KitError: the order's sequences are not as long as a window has pixels.

    >>> sequence_sides((8, 12), 4, "contiguous"), sequence_sides((8, 12), 4, "dilated")
    ((4, 4), (2, 3))
    """
    size = tuple(spatial)
    window = fitting(size, window, partition)
    sides = window_sides(size, window, partition)
    if partition == "dilated":
        sides = tuple(n // k for n, k in zip(size, sides))
    _, length = sequences_of(size, window, partition)
    if prod(sides) != length:
        raise KitError(
            f"sequences of order {partition!r} have {length} tokens, which are no grid of {size_text(sides)}",
            remedy="take a mixer that needs no grid, such as bim or mean",
        )
    return sides
