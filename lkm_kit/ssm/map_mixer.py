"""The Mamba mixer over feature maps whose pixels are read in any order, for backends that need no tokens cut out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from lkm_kit.errors import KitError
from lkm_kit.ssm.backends import cpu_mixer, triton_mixer
from lkm_kit.ssm.mamba import Mamba
from lkm_kit.ssm.selective_scan import choose_backend


def reads_maps(device: torch.device, backend: str) -> bool:
    """Whether the backend that serves tensors on this device can mix a map without cutting it into tokens.

    >>> reads_maps(torch.device("cpu"), "reference")
    False
    """
    return choose_backend(device, backend) == "triton"


def mix_map(mixers: Sequence[Mamba], pixels: Tensor, reverse: Sequence[bool], order: Tensor | None = None) -> Tensor:
    """:func:`lkm_kit.ssm.mix_sum` over the windows of a map, without permuted or flipped copies of the map.

    ``mix_map(mixers, pixels, reverse, order)[:, order[w]]`` is ``mix_sum(mixers, pixels[:, order[w]], reverse)`` for
    every window w.

    Args:
        mixers: of equal sizes, whose backend is ``triton``.
        pixels: (batch, pixels, d_model); a map (batch, d_model, *spatial) goes in as ``x.flatten(2).transpose(1, 2)``.
        reverse: one for each mixer.
        order: (windows, length) int32, which pixel is the t-th token of each window; windows · length = pixels.
            Without it the pixels as they lie are one sequence.

    Returns:
        (batch, pixels, d_inner).

    Raises:
        KitError: pixels of another shape, a table that does not name every pixel once, or a backend that needs tokens.

    Not yet timed on a GPU.
    """
    first = mixers[0]
    if pixels.ndim != 3 or pixels.shape[-1] != first.d_model:
        raise KitError(f"pixels have shape {tuple(pixels.shape)}; this mixer needs (batch, pixels, {first.d_model})")
    if not reads_maps(pixels.device, first.backend):
        raise KitError(
            f"scan backend {choose_backend(pixels.device, first.backend)!r} reads tokens, not maps",
            remedy="use backend='triton', or lkm_kit.ssm.mix_sum on tokens",
        )
    if order is not None:
        _check_order(order, pixels)
    directions = [cpu_mixer.Direction(*mixer._fused_parameters()) for mixer in mixers]
    return triton_mixer.mix(pixels, directions, reverse, order)


_checked = WeakTensorKeyDictionary()


def _check_order(order: Tensor, pixels: Tensor) -> None:
    """A wrong index would read or write foreign memory. The values are looked at once per table: a GPU has to wait."""
    number = pixels.shape[1]
    if order.ndim != 2 or order.dtype != torch.int32 or order.numel() != number or not order.is_contiguous():
        raise KitError(
            f"the token order is {order.dtype} of shape {tuple(order.shape)}; {number} pixels need contiguous "
            f"torch.int32 (windows, length) with windows * length = {number}"
        )
    if order.device != pixels.device:
        raise KitError(f"the token order is on {order.device}, the pixels on {pixels.device}")
    if torch.compiler.is_compiling() or order in _checked:
        return
    if not torch.equal(order.flatten().sort().values, torch.arange(number, device=order.device, dtype=torch.int32)):
        raise KitError(f"the token order does not name each of the pixels 0 to {number - 1} once")
    _checked[order] = True
