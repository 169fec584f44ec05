"""Checks of the exercises on scans in two directions (chapter ``03_bidirectional_mamba``)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lkm_kit.blocks import BiM
from lkm_kit.course.check import CheckResult, check_function


def decaying_sum(x: Tensor) -> Tensor:
    """A forward scan to test with: y_t = y_{t-1} / 2 + x_t over the second axis of (batch, length, channels)."""
    ys = [torch.zeros_like(x[:, 0])]
    for t in range(x.shape[1]):
        ys.append(ys[-1] / 2 + x[:, t])
    return torch.stack(ys[1:], dim=1)


def check_both_directions(fn: Callable) -> CheckResult:
    """``fn(scan, x)``: forward plus backward, with a forward ``scan`` of (batch, length, channels)."""

    def target(scan: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return scan(x) + scan(x.flip(1)).flip(1)

    random = torch.Generator().manual_seed(0)
    cases = [(decaying_sum, torch.randn(shape, generator=random)) for shape in ((1, 5, 1), (2, 7, 3))]
    return check_function(
        fn,
        target,
        cases,
        hints=(
            "what does the scan see when the tokens come in reversed order, and in which order does it answer?",
            "reverse the tokens (axis 1), scan, reverse the result, and add it to the forward scan",
        ),
        mistakes=[
            (lambda scan, x: scan(x), "this is the forward scan alone: add the backward one"),
            (lambda scan, x: scan(x.flip(1)).flip(1), "this is the backward scan alone: add the forward one"),
            (
                lambda scan, x: scan(x) + scan(x.flip(1)),
                "the backward result is still in reversed order: flip it back before you add",
            ),
            (
                lambda scan, x: 2 * scan(x),
                "wrong axis, or none: tokens are axis 1 (0 is the batch, 2 the channels)",
            ),
        ],
    )


def check_already_read(fn: Callable) -> CheckResult:
    """``fn(side, row, column)``: boolean (side, side), the pixels a forward scan row by row has read so far."""

    def target(side: int, row: int, column: int) -> Tensor:
        return (torch.arange(side * side) <= row * side + column).reshape(side, side)

    def itself_missing(side: int, row: int, column: int) -> Tensor:
        return (torch.arange(side * side) < row * side + column).reshape(side, side)

    return check_function(
        fn,
        target,
        [(3, 1, 1), (5, 1, 3), (4, 3, 0)],
        hints=(
            "number the pixels in the order in which they are read: what is the number of (row, column)?",
            "pixel (i, j) is token number i * side + j; a forward scan has read all tokens up to its own",
        ),
        mistakes=[
            (itself_missing, "off by one: the output of a token depends on the token itself as well"),
            (lambda s, r, c: target(s, c, r).T, "wrong axis: the scan goes along a row first, then to the next row"),
            (
                lambda s, r, c: target(s, r, c).logical_not(),
                "these are the pixels still to come: that is what a backward scan has read (without the pixel itself)",
            ),
            (lambda s, r, c: itself_missing(s, r, c).logical_not(), "this is the backward scan: turn it round"),
            (
                lambda s, r, c: (torch.arange(s)[:, None] <= r) & (torch.arange(s) <= c),
                "earlier rows have been read to their ends, also to the right of the pixel",
            ),
        ],
        draw=True,
    )


def check_heard(fn: Callable) -> CheckResult:
    """``fn(norms)``: (length, length), rows = outputs → (length,), what the other outputs take from a token."""

    def target(influence: Tensor) -> Tensor:
        return (influence - torch.diag(influence.diag())).sum(0)

    random = torch.Generator().manual_seed(0)
    cases = [(torch.rand(length, length, generator=random).tril(),) for length in (3, 8)]
    return check_function(
        fn,
        target,
        cases,
        hints=(
            "which index of the matrix is the output, and which the token?",
            "row t is an output, column s a token: add up column s, without the diagonal",
        ),
        mistakes=[
            (lambda m: target(m.T), "wrong axis: a row says what one output hears; sum over the outputs instead"),
            (lambda m: m.sum(0), "leave out the diagonal: a token's effect on itself is not what others hear"),
            (lambda m: m.sum(1), "wrong axis, and the diagonal counts: sum over the outputs, without t = s"),
            (lambda m: target(m) / (len(m) - 1), "the sum, not the mean"),
        ],
        draw=True,
    )


def check_reversal_gap(fn: Callable) -> CheckResult:
    """``fn(layer, tokens)``: ‖f(rev x) − rev f(x)‖ / ‖f(x)‖ for tokens (batch, length, channels)."""

    def gap(layer: Callable[[Tensor], Tensor], tokens: Tensor) -> float:
        straight = layer(tokens)
        return float((layer(tokens.flip(1)) - straight.flip(1)).norm() / straight.norm())

    def not_turned(layer: Callable[[Tensor], Tensor], tokens: Tensor) -> float:
        straight = layer(tokens)
        return float((layer(tokens.flip(1)) - straight).norm() / straight.norm())

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        cases = [
            (decaying_sum, torch.randn(1, 6, 2)),
            (BiM(4), torch.randn(2, 9, 4)),
            (torch.abs, torch.randn(1, 5, 2)),
        ]
        return check_function(
            fn,
            gap,
            cases,
            hints=(
                "two ways: reverse before the layer, or behind it; how far apart are the results?",
                "compare layer(reversed tokens) with layer(tokens) reversed, relative to the norm of layer(tokens)",
            ),
            mistakes=[
                (not_turned, "reverse layer(tokens) too: a layer without a direction gives the reversed output"),
                (
                    lambda layer, x: float((layer(x.flip(2)) - layer(x).flip(2)).norm() / layer(x).norm()),
                    "wrong axis: tokens are axis 1",
                ),
                (
                    lambda layer, x: gap(layer, x) * float(layer(x).norm()),
                    "relative: divide by the norm of layer(tokens)",
                ),
                (lambda layer, x: gap(layer, x) ** 2, "this is the square: take the ratio of the norms"),
            ],
        )
