"""Checks of the exercises on effective receptive fields (chapter ``11_effective_receptive_field``)."""

from __future__ import annotations

import math
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
        [((3,), (1,)), ((3, 3, 3), (1, 1, 1)), ((3, 5, 3), (2, 2, 1)), ((7, 3), (2, 1)), ((2, 5, 4, 3), (3, 1, 2, 2))],
        hints=(
            "add one layer at a time: by how many pixels does it widen the field?",
            "a kernel adds k - 1 steps; a step is as many pixels as the strides before it multiply to",
        ),
        mistakes=[
            (lambda k, s: sum(n - 1 for n in k) + 1, "right without strides: behind a stride of 2 a step is 2 pixels"),
            (lambda k, s: target(k, s) - 1, "off by one: the pixel itself counts"),
            (lambda k, s: sum(k), "kernels overlap: each adds k - 1, not k"),
            (own_stride_too, "a layer's own stride acts on the layers behind it, not on its own kernel"),
            (lambda k, s: math.prod(k), "kernels add k - 1 steps each; they do not multiply"),
            (lambda k, s: max(k), "every layer widens the field, not the largest kernel alone"),
            (
                lambda k, s: sum(n * t for n, t in zip(k, s)),
                "each adds k - 1, and a stride acts on the layers behind it",
            ),
            (
                lambda k, s: 1 + sum((n - 1) * t for n, t in zip(k, s)),
                "strides multiply up, and act on the layers behind",
            ),
            (
                lambda k, s: target(k[::-1], s[::-1]),
                "the first layer comes first: its kernel counts in pixels of the image",
            ),
            (
                lambda k, s: 1 + sum((n - 1) * t for n, t in zip(k, (1, *s))),
                "strides multiply up: behind two strides of 2 a step is 4 pixels",
            ),
            (lambda k, s: target(k, s) * math.prod(s), "the strides are in it already"),
            (lambda k, s: (target(k, s) - 1) // 2, "that is how far it sees to one side: asked is the whole width"),
            (lambda k, s: target(k, s) ** 2, "one side in pixels, not the area"),
            (lambda k, s: 1 + 2 * sum(math.prod(s[:i]) for i in range(len(k))), "not every kernel is 3 wide: k - 1"),
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

    def mean_of_output(layer: nn.Module, x: Tensor, row: int, column: int) -> Tensor:
        return target(layer, x, row, column) / layer(x).shape[1]

    def each_output(layer: nn.Module, x: Tensor, row: int, column: int) -> Tensor:
        x = x.clone().requires_grad_()
        channels = layer(x)[0, :, row, column]
        return sum(torch.autograd.grad(y, x, retain_graph=True)[0][0].abs().sum(0) for y in channels)

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
            (lambda *a: gradient(*a).abs().mean(0), "the sum over the image's channels, not their mean"),
            (lambda *a: gradient(*a).abs().amax(0), "the sum over the image's channels, not the largest"),
            (lambda *a: gradient(*a).abs()[0], "all channels of the image, not the first alone"),
            (lambda *a: gradient(*a).abs(), "one map: sum the image's channels"),
            (lambda *a: gradient(*a).abs().sum(0)[None], "(H, W), without the axis of the batch"),
            (lambda *a: gradient(*a).square().sum(0).sqrt(), "a sum of absolute values, not the root of squares"),
            (lambda *a: target(*a) / target(*a).sum(), "the magnitudes themselves: not divided by their sum"),
            (lambda *a: target(*a) / target(*a).max(), "the magnitudes themselves: not divided by the largest"),
            (mean_of_output, "the output's channels are summed, not averaged"),
            (each_output, "sum the output's channels first, then differentiate once: their gradients may cancel"),
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
            (lambda v, t: target(v, t) * v.numel() - 1, "off by one, and a number of pixels: divide by all of them"),
            (lambda v, t: 1 - target(v, t), "that is the share of the pixels that are left"),
            (lambda v, t: target(v, 1 - t), "the mass that is held, not the one that is left"),
            (lambda v, t: t, "that is the share of the mass: how many of the pixels hold it?"),
            (lambda v, t: target(v.square(), t), "the values themselves, not their squares"),
            (
                lambda v, t: target(v, t) * v.numel() / v.shape[0] ** 2,
                "a map need not be square: divide by all its pixels",
            ),
            (
                lambda v, t: target(v, t) * v.numel() / v.shape[1] ** 2,
                "a map need not be square: divide by all its pixels",
            ),
            (lambda v, t: target(v, t) * v.numel() / (v > 0).sum(), "of all pixels, those of value 0 included"),
            (lambda v, t: target(v, t) ** 0.5, "a share of the pixels, not of a side"),
            (
                lambda v, t: float((v.flatten().sort(descending=True).values.cumsum(0) <= t).float().mean()),
                "a share of the sum: divide by values.sum()",
            ),
            (
                lambda v, t: float((v >= v.flatten().quantile(t)).float().mean()),
                "a share of the sum, not of the pixels",
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
        [(torch.ones(4, 4), 1, 1, 2), (random, 5, 9, 4), (random, 2, 0, 3), (random[:8], 6, 3, 2)],
        hints=(
            "where does the window that holds the probe begin, and what does its own pixel do to the share?",
            "the window begins at row // k * k; set the probe's own pixel to 0 first, then divide by what is left",
        ),
        mistakes=[
            (with_own, "leave out the probe's own pixel: a residual path puts nearly everything there"),
            (not_renormalised, "divide by the mass that is left once the own pixel is gone"),
            (centred, "the window that holds the probe, not one centred on it: windows start at the map's origin"),
            (lambda v, r, c, k: target(v.T, r, c, k), "wrong axis: row and column are exchanged"),
            (lambda v, r, c, k: 1 - target(v, r, c, k), "that is the share outside the window"),
            (
                lambda v, r, c, k: float(window(emptied(v, r, c), r, c, k).sum()),
                "a share: divide by the mass of all other pixels",
            ),
            (
                lambda v, r, c, k: float(window(v, r, c, k).sum() / emptied(v, r, c).sum()),
                "the probe's own pixel is left out of both, above and below the line",
            ),
            (
                lambda v, r, c, k: float(window(emptied(v, r, c), r, c, k).mean() / emptied(v, r, c).mean()),
                "the share of the mass, not a ratio of means",
            ),
            (
                lambda v, r, c, k: float(emptied(v, r, c)[r : r + k, c : c + k].sum() / emptied(v, r, c).sum()),
                "a window starts at row // k * k, not at the probe",
            ),
            (
                lambda v, r, c, k: (
                    float(emptied(v, r, c)[r // k : r // k + k, c // k : c // k + k].sum())
                    / float(emptied(v, r, c).sum())
                ),
                "row // k is the window's number: times k it is where the window begins",
            ),
            (
                lambda v, r, c, k: float(emptied(v, r, c)[r % k :: k, c % k :: k].sum() / emptied(v, r, c).sum()),
                "that is a dilated grid: a window is a block of k×k neighbours",
            ),
            (
                lambda v, r, c, k: float(
                    window(emptied(v, r, c), r, c, k).sum() / (emptied(v, r, c).sum() - window(v, r, c, k).sum())
                ),
                "of all other pixels, the window's own included below the line",
            ),
        ],
    )
