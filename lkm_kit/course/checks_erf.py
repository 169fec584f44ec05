"""Checks of the exercises on effective receptive fields (chapter ``11_effective_receptive_field``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lkm_kit.course.check import CheckResult, check_function


def check_field_side(fn: Callable) -> CheckResult:
    """``fn(kernels, strides)`` → side in pixels of the theoretical receptive field of convolutions in a row."""

    def target(kernels: Sequence[int], strides: Sequence[int]) -> int:
        side, step = 1, 1
        for k, s in zip(kernels, strides):
            side += (k - 1) * step
            step *= s
        return side

    def own_stride_too(kernels: Sequence[int], strides: Sequence[int]) -> int:
        side, step = 1, 1
        for k, s in zip(kernels, strides):
            step *= s
            side += (k - 1) * step
        return side

    return check_function(
        fn,
        target,
        [((3,), (1,)), ((3, 3, 3), (1, 1, 1)), ((3, 5, 3), (2, 2, 1)), ((7, 3), (2, 1))],
        hints=(
            "add one layer at a time: by how many pixels does it widen the field?",
            "a kernel adds k - 1 steps; a step is as many pixels as the strides before it multiply to",
        ),
        mistakes=[
            (lambda k, s: sum(n - 1 for n in k) + 1, "right without strides: behind a stride of 2 a step is 2 pixels"),
            (lambda k, s: target(k, s) - 1, "off by one: the pixel itself counts"),
            (lambda k, s: sum(k), "kernels overlap: each adds k - 1, not k"),
            (own_stride_too, "a layer's own stride acts on the layers behind it, not on its own kernel"),
        ],
    )


def _layers() -> list[tuple[nn.Module, Tensor, int, int]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one = nn.Conv2d(1, 2, 3, padding=1)
        two = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 5, padding=2))
        return [(one, torch.randn(1, 1, 5, 5), 2, 2), (two, torch.randn(1, 2, 9, 8), 3, 6)]


def check_erf_by_hand(fn: Callable) -> CheckResult:
    """``fn(layer, x, row, column)``: Σ_channels |∂ (Σ_c y_c at the pixel) / ∂x| as (H, W)."""

    def gradient(layer: nn.Module, x: Tensor, row: int, column: int) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(layer(x)[0, :, row, column].sum(), x)[0][0]

    def target(*arguments) -> Tensor:
        return gradient(*arguments).abs().sum(0)

    def one_channel(layer: nn.Module, x: Tensor, row: int, column: int) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(layer(x)[0, 0, row, column], x)[0][0].abs().sum(0)

    def whole_output(layer: nn.Module, x: Tensor, row: int, column: int) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(layer(x).sum(), x)[0][0].abs().sum(0)

    return check_function(
        fn,
        target,
        _layers(),
        hints=(
            "which scalar do you differentiate, and with respect to what?",
            "sum the channels at the pixel, torch.autograd.grad of that with respect to x, absolute value, "
            "then sum the channels of x",
        ),
        mistakes=[
            (lambda *a: gradient(*a).sum(0), "take the absolute value: signs cancel"),
            (lambda *a: gradient(*a).sum(0).abs(), "the absolute value comes before the sum over the image's channels"),
            (lambda *a: gradient(*a).square().sum(0), "absolute values, not squares"),
            (one_channel, "all channels of the output, not the first alone"),
            (whole_output, "one pixel of the output is asked, not the whole of it"),
            (lambda layer, x, row, column: target(layer, x, column, row), "wrong axis: row and column are exchanged"),
        ],
        draw=True,
    )


def check_area_holding(fn: Callable) -> CheckResult:
    """``fn(values, share)`` → smallest share of the pixels, of any shape, that holds that share of the mass."""

    def order(values: Tensor, share: float, descending: bool, strict: bool = False) -> float:
        held = values.flatten().sort(descending=descending).values.cumsum(0) / values.sum()
        enough = held > share - 1e-9 if not strict else held < share
        count = int(enough.float().argmax()) + 1 if not strict else int(enough.sum())
        return count / values.numel()

    def target(values: Tensor, share: float) -> float:
        return order(values, share, True)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        random = torch.rand(6, 7)
    return check_function(
        fn,
        target,
        [(torch.tensor([[0.1, 0.4, 0.3], [0.2, 0.0, 0.0]]), 0.85), (random, 0.3), (1000 * random**4, 0.9)],
        hints=(
            "which pixels would you take first, to hold much with few?",
            "sort the pixels from the largest to the smallest, add them up until the share is reached, and count",
        ),
        mistakes=[
            (lambda v, t: order(v, t, False), "begin with the largest pixel, not with the smallest"),
            (lambda v, t: order(v, t, True, strict=True), "off by one: the pixel that reaches the share counts too"),
            (lambda v, t: target(v, t) * v.numel(), "that is a number of pixels: divide by all of them"),
            (
                lambda v, t: float((v >= t * v.max()).float().mean()),
                "that is a threshold on the height; asked is a share of the sum",
            ),
        ],
    )


def check_window_share(fn: Callable) -> CheckResult:
    """``fn(values, row, column, k)`` → share of the mass, without the probe's own pixel, in the probe's own window."""

    def window(values: Tensor, row: int, column: int, k: int) -> Tensor:
        top, left = row // k * k, column // k * k
        return values[top : top + k, left : left + k]

    def emptied(values: Tensor, row: int, column: int) -> Tensor:
        values = values.clone()
        values[row, column] = 0
        return values

    def target(values: Tensor, row: int, column: int, k: int) -> float:
        others = emptied(values, row, column)
        return float(window(others, row, column, k).sum() / others.sum())

    def with_own(values: Tensor, row: int, column: int, k: int) -> float:
        return float(window(values, row, column, k).sum() / values.sum())

    def not_renormalised(values: Tensor, row: int, column: int, k: int) -> float:
        return float(window(emptied(values, row, column), row, column, k).sum() / values.sum())

    def centred(values: Tensor, row: int, column: int, k: int) -> float:
        others, half = emptied(values, row, column), k // 2
        box = others[max(row - half, 0) : row - half + k, max(column - half, 0) : column - half + k]
        return float(box.sum() / others.sum())

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        random = torch.rand(12, 12)
    return check_function(
        fn,
        target,
        [(torch.ones(4, 4), 1, 1, 2), (random, 5, 9, 4), (random, 2, 0, 3)],
        hints=(
            "where does the window that holds the probe begin, and what does its own pixel do to the share?",
            "the window begins at row // k * k; set the probe's own pixel to 0 first, then divide by what is left",
        ),
        mistakes=[
            (with_own, "leave out the probe's own pixel: a residual path puts nearly everything there"),
            (not_renormalised, "divide by the mass that is left once the own pixel is gone"),
            (centred, "the window that holds the probe, not one centred on it: windows start at the map's origin"),
        ],
    )
