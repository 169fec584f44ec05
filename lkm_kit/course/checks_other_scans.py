"""Checks of the exercises on the field's scans (chapter ``17_other_scans``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lkm_kit.course.check import CheckResult, check_function


def halving_sum(tokens: Tensor) -> Tensor:
    """A forward scan to test with: y_t = y_{t-1} / 2 + x_t along the last axis of (channels, tokens)."""
    y = torch.zeros_like(tokens)
    for t in range(tokens.shape[-1]):
        y[..., t] = tokens[..., t] + (y[..., t - 1] / 2 if t else 0)
    return y


def _largest(tokens: Tensor) -> Tensor:
    """Another one, which is not linear: the largest value so far."""
    return tokens.cummax(-1).values


def check_snake(fn: Callable) -> CheckResult:
    """``fn(height, width)`` → (height * width) pixel numbers, row by row, every second row backwards."""

    def target(height: int, width: int) -> Tensor:
        rows = torch.arange(height * width).reshape(height, width)
        return torch.cat([row.flip(0) if i % 2 else row for i, row in enumerate(rows)])

    def first_too_early(height: int, width: int) -> Tensor:
        rows = torch.arange(height * width).reshape(height, width)
        return torch.cat([row if i % 2 else row.flip(0) for i, row in enumerate(rows)])

    def upside_down(height: int, width: int) -> Tensor:
        rows = torch.arange(height * width).reshape(height, width)
        rows[1::2] = rows[1::2].flip(0)
        return rows.flatten()

    def every_second_column(height: int, width: int) -> Tensor:
        rows = torch.arange(height * width).reshape(height, width)
        rows[:, 1::2] = rows[:, 1::2].flip(0)
        return rows.flatten()

    return check_function(
        fn,
        target,
        [(2, 3), (4, 3), (5, 2)],
        hints=(
            "which rows of the numbered map are read from right to left?",
            "numbers[1::2] are the rows 1, 3, ...: turn them along the columns, then flatten",
        ),
        mistakes=[
            (lambda h, w: torch.arange(h * w), "this is row by row: every second row runs backwards"),
            (first_too_early, "the first row runs forward; begin to turn with the second"),
            (lambda h, w: torch.arange(h * w).reshape(h, w).flip(1).flatten(), "only every second row is turned"),
            (lambda h, w: target(w, h).reshape(w, h).T.flatten(), "the walk goes along rows, not along columns"),
            (lambda h, w: target(h, w).reshape(h, w), "a walk is one row of numbers: flatten"),
            (lambda h, w: target(h, w) + 1, "pixels are numbered from 0"),
            (lambda h, w: target(h, w).flip(0), "the walk begins at pixel 0"),
            (lambda h, w: upside_down(h, w), "every second row is turned along its columns; the rows keep their order"),
            (lambda h, w: target(h, h), "a map has `width` columns, which need not be its height"),
            (lambda h, w: target(w, w), "a map has `height` rows, which need not be its width"),
            (lambda h, w: target(w, h), "rows first: the map has `height` rows of `width` pixels"),
            (lambda h, w: every_second_column(h, w), "every second *row*: numbers[1::2]"),
            (
                lambda h, w: torch.cat(
                    [r.flip(0) if i == 1 else r for i, r in enumerate(torch.arange(h * w).view(h, w))]
                ),
                "every second row, not the second alone",
            ),
            (
                lambda h, w: torch.argsort(target(h, w))[target(h, w)],
                "this is row by row: every second row runs backwards",
            ),
        ],
    )


def check_cross_scan(fn: Callable) -> CheckResult:
    """``fn(x, scan)``: (c, H, W) → same, the sum of a forward ``scan`` of (c, tokens) in VMamba's four directions."""
    Scan = Callable[[Tensor], Tensor]

    def rows(x: Tensor, scan: Scan, back: bool = True, forward: bool = True) -> Tensor:
        tokens = x.flatten(1)
        y = scan(tokens) if forward else torch.zeros_like(tokens)
        return (y + scan(tokens.flip(1)).flip(1) if back else y).reshape(x.shape)

    def target(x: Tensor, scan: Scan) -> Tensor:
        return rows(x, scan) + rows(x.mT, scan).mT

    def columns_not_put_back(x: Tensor, scan: Scan) -> Tensor:
        return rows(x, scan) + rows(x.mT, scan).reshape(x.shape)

    def not_turned_back(x: Tensor, scan: Scan) -> Tensor:
        def both(m: Tensor) -> Tensor:
            tokens = m.flatten(1)
            return (scan(tokens) + scan(tokens.flip(1))).reshape(m.shape)

        return both(x) + both(x.mT).mT

    def flips_rows_and_columns(x: Tensor, scan: Scan) -> Tensor:
        ways = ((), (1,), (2,), (1, 2))
        return sum(rows(x.flip(way), scan, back=False).flip(way) for way in ways)

    random = torch.Generator().manual_seed(0)
    return check_function(
        fn,
        target,
        [
            (torch.randn(shape, generator=random), scan)
            for shape, scan in (((1, 2, 3), halving_sum), ((2, 4, 3), _largest))
        ],
        hints=(
            "a scan of columns is a scan of rows of another map: which one?",
            "for m = x and m = x.mT: scan(tokens) + scan(tokens.flip(1)).flip(1) of tokens = m.flatten(1), back in m's "
            "shape; transpose the second result back and add",
        ),
        mistakes=[
            (rows, "two directions: the columns are missing"),
            (lambda x, scan: rows(x.mT, scan).mT, "two directions: the rows are missing"),
            (
                lambda x, scan: rows(x, scan, back=False) + rows(x.mT, scan, back=False).mT,
                "two directions: each order is read backwards, too",
            ),
            (not_turned_back, "turn the backward results round again before you add them"),
            (columns_not_put_back, "put the columns' results back by a transpose; a reshape alone mixes the pixels"),
            (flips_rows_and_columns, "flipped maps are read along rows all the same: columns need a transpose"),
            (lambda x, scan: target(x, scan) / 4, "the sum, not the mean"),
            (lambda x, scan: x + target(x, scan), "the four results alone: x is not added"),
            (
                lambda x, scan: 2 * rows(x, scan),
                "two of the four read columns: scan x.mT (a reshape to (c, W, H) leaves the rows as they are)",
            ),
            (lambda x, scan: target(x, scan).flatten(1), "(c, H, W): back in the shape of the map"),
            (
                lambda x, scan: sum(rows(m, scan, back=False) for m in (x, x.flip(2))) + rows(x.mT, scan).mT,
                "backwards through *all* pixels: turn the tokens round, not each row",
            ),
            (
                lambda x, scan: scan((x + x.flip((1, 2))).flatten(1)).reshape(x.shape) + rows(x.mT, scan).mT,
                "scan each order by itself, then add",
            ),
            (
                lambda x, scan: torch.stack([target(c[None], scan)[0] for c in x.flip(0)]),
                "channels keep their order: tokens run along the last axis",
            ),
        ],
    )


def check_never_joined(fn: Callable) -> CheckResult:
    """``fn(size, strides, row, column)``: boolean (size, size), pixels that no number of such grids joins to it."""

    def by_step(size: int, step: int, row: int, column: int) -> Tensor:
        index = torch.arange(size)
        return ((index - row) % step != 0)[:, None] | ((index - column) % step != 0)

    def target(size: int, strides: Sequence[int], row: int, column: int) -> Tensor:
        joined = torch.zeros(size, size, dtype=torch.bool)
        joined[row, column] = True
        while True:  # let every layer pass on what it has, until nothing new is reached
            before = joined.clone()
            for k in strides:
                joined = joined.reshape(size // k, k, size // k, k).any((0, 2)).repeat(size // k, size // k)
            if torch.equal(joined, before):
                return ~joined

    def first_and_last(size: int, strides: Sequence[int], row: int, column: int) -> Tensor:
        return torch.stack([by_step(size, k, row, column) for k in strides]).all(0)

    def either(size: int, strides: Sequence[int], row: int, column: int) -> Tensor:
        index = torch.arange(size)
        step = math.gcd(*strides)
        return ((index - row) % step != 0)[:, None] & ((index - column) % step != 0)

    return check_function(
        fn,
        target,
        [
            (6, (3,), 1, 2),
            (12, (4, 6), 5, 0),
            (12, (2, 4), 3, 6),
            (12, (3, 4), 7, 1),
            (24, (12, 8, 6), 9, 23),
            (12, (6, 3), 2, 10),
            (12, (4, 12), 6, 3),
        ],
        hints=(
            "a layer steps by multiples of its stride, the next one goes on from there: which steps can both make?",
            "multiples of the greatest common divisor: a joined pixel differs by one in its row and one in its column",
        ),
        mistakes=[
            (lambda *a: ~target(*a), "these are the pixels that are joined: asked are the others"),
            (
                lambda size, s, r, c: by_step(size, s[0], r, c),
                "this is the first layer alone: the next one goes on from every pixel that it has joined",
            ),
            (
                lambda size, s, r, c: by_step(size, min(s), r, c),
                "the smallest stride alone does not decide: 6 forward and 4 back is a step of 2",
            ),
            (lambda size, s, r, c: by_step(size, max(s), r, c), "this is the largest stride alone: layers add up"),
            (
                lambda size, s, r, c: by_step(size, math.lcm(*s), r, c),
                "the least common multiple is where grids agree; together they reach every common divisor",
            ),
            (either, "a pixel is never joined if its row or its column does not fit: use |"),
            (
                lambda size, s, r, c: by_step(size, math.gcd(*s), 0, 0),
                "count from the pixel, not from the map's corner",
            ),
            (lambda size, s, r, c: target(size, s, c, r), "wrong axis: row and column are exchanged"),
            (
                lambda size, s, r, c: by_step(size, sum(s), r, c),
                "strides do not add up to one step: which steps can forward and backward make?",
            ),
            (lambda size, s, r, c: by_step(size, math.prod(s), r, c), "together grids join *more* pixels, not fewer"),
            (
                lambda size, s, r, c: first_and_last(size, s, r, c),
                "as often as you like: 6 forward and 4 back is a step of 2",
            ),
            (
                lambda size, s, r, c: by_step(size, math.gcd(*s), r, r),
                "count rows from the pixel's row, columns from its column",
            ),
            (
                lambda size, s, r, c: by_step(size, s[-1], r, c),
                "this is the last layer alone: it goes on from every pixel that was joined before",
            ),
        ],
        draw=True,
    )
