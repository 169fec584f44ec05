"""Floating-point operations of the fused operators, for torch's ``FlopCounterMode``, which cannot see into them.

Two per multiply-add of a product or a convolution; 9 per token, channel and state of a selective scan: Δ·A and its
exponential, Δ·B·u, the recurrence, the sum with C. A backward pass counts as twice its forward pass. Importing
:mod:`lkm_kit.ssm` registers the formulas:

>>> from torch.utils.flop_counter import FlopCounterMode
>>> from lkm_kit.ssm import Mamba
>>> with FlopCounterMode(display=False) as counter:
...     _ = Mamba(8, backend="cpu")(torch.zeros(1, 4, 8))
>>> counter.get_total_flops() == 2 * 4 * (8 * 32 + 16 * 4 + 16 * 33 + 1 * 16 + 16 * 8) + 9 * 4 * 16 * 16
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch.utils.flop_counter import register_flop_formula

import lkm_kit.ssm.backends.triton_mixer
import lkm_kit.ssm.mamba  # noqa: F401  (these two define all operators)
from lkm_kit.ssm.backends.mixer import Direction

Shape = Sequence[int]


def _scan(u: Shape, delta: Shape, A: Shape, *_, **__) -> int:
    """u (batch, d, length), A (d, n)."""
    return 9 * prod(u) * A[1]


def _convolution(x: Shape, weight: Shape, *_, **__) -> int:
    """x (batch, d, length), weight (d, K)."""
    return 2 * prod(x) * weight[1]


def _mixer(tokens: Shape, weights: Sequence[Shape], *_, **__) -> int:
    """tokens (batch, length, c); the weights of one direction after the other."""
    names = Direction._fields
    numbers = [(names[i % len(names)], prod(shape)) for i, shape in enumerate(weights)]
    products = sum(n for name, n in numbers if name in ("in_proj", "conv_weight", "x_proj", "dt_weight"))
    return prod(tokens[:2]) * (2 * products + 9 * sum(n for name, n in numbers if name == "A"))


def _backward(formula: Callable[..., int], gradients: int) -> Callable[..., int]:
    """For an operator that takes ``gradients`` tensors, then what its forward pass took."""
    return lambda *shapes, **_: 2 * formula(*shapes[gradients:])


_FORMULAS: dict[str, tuple[Callable[..., int], int]] = {
    "selective_scan": (_scan, 2),
    "causal_conv_silu": (_convolution, 1),
    "mamba_mix": (_mixer, 1),
}
for _name, (_formula, _gradients) in _FORMULAS.items():
    for _backend in ("cpu", "triton"):
        _operator = f"{_name}_{_backend}"
        register_flop_formula(getattr(torch.ops.lkm_kit, _operator))(_formula)
        register_flop_formula(getattr(torch.ops.lkm_kit, f"{_operator}_backward"))(_backward(_formula, _gradients))
