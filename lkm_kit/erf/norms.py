"""Normalisation layers whose statistics are constants: without that, every pixel "sees" the whole map.

InstanceNorm divides by a standard deviation over all pixels, so that the gradient of any output reaches every pixel of
the image. That is true, and hides what windows and kernels do. Frozen statistics are those of the given image, with
no gradient through them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import prod

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lkm_kit.errors import one_of

NORM_STATS = ("frozen", "live")


class FrozenNorms(TorchFunctionMode):
    """Inside this context InstanceNorm, GroupNorm and LayerNorm over space treat mean and variance as constants.

    Values stay what they are (up to rounding); only gradients change. It works on calls of ``torch.nn.functional``,
    hence for any network. LayerNorm over channels alone is left as it is: it couples no pixels. A normalisation that a
    network writes out by hand with ``mean`` and ``var`` is not recognised.

    >>> import torch
    >>> x = torch.randn(1, 1, 5, requires_grad=True)
    >>> with FrozenNorms():
    ...     y = torch.nn.InstanceNorm1d(1)(x)[0, 0, 2]
    >>> (torch.autograd.grad(y, x)[0] != 0).flatten().tolist()
    [False, False, True, False, False]
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return _FROZEN.get(func, func)(*args, **(kwargs or {}))


def norm_context(norm_stats: str) -> AbstractContextManager:
    """``"frozen"`` or ``"live"`` as a context.

    Raises:
        KitError: any other word.
    """
    one_of(norm_stats, NORM_STATS, "norm_stats")
    return FrozenNorms() if norm_stats == "frozen" else nullcontext()


def _standardize(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    values = x.detach()
    mean = values.mean(axes, keepdim=True)
    variance = values.var(axes, correction=0, keepdim=True)
    return (x - mean) * (variance + eps).rsqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Per-channel weight and bias, channels on axis 1."""
    shape = (1, -1, *[1] * (x.ndim - 2))
    x = x if weight is None else x * weight.view(shape)
    return x if bias is None else x + bias.view(shape)


def _instance_norm(
    input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    if not use_input_stats:  # running statistics are constants already
        return F.instance_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    return _affine(_standardize(input, tuple(range(2, input.ndim)), eps), weight, bias)


def _group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    grouped = input.reshape(input.shape[0], num_groups, -1)
    return _affine(_standardize(grouped, (2,), eps).view_as(input), weight, bias)


def _layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    if len(normalized_shape) == 1:
        return F.layer_norm(input, normalized_shape, weight, bias, eps)
    flat = input.reshape(*input.shape[: input.ndim - len(normalized_shape)], prod(normalized_shape))
    x = _standardize(flat, (-1,), eps).view_as(input)
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


_FROZEN = {F.instance_norm: _instance_norm, F.group_norm: _group_norm, F.layer_norm: _layer_norm}
