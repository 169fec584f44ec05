"""Checks of the exercises on token orders and windows (chapter ``04_pixel_level_ssm``)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lkm_kit.blocks import PiM, to_map, to_tokens
from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.course.check_class import check_class


def check_place_in_window(fn: Callable) -> CheckResult:
    """``fn(row, column, k, width)`` → (number of the window, number of the token in it), both from 0."""

    def target(row: int, column: int, k: int, width: int) -> tuple[int, int]:
        return row // k * (width // k) + column // k, row % k * k + column % k

    def dilated(row: int, column: int, k: int, width: int) -> tuple[int, int]:
        return row % k * k + column % k, row // k * (width // k) + column // k

    def columns_first(row: int, column: int, k: int, width: int) -> tuple[int, int]:
        return column // k * (width // k) + row // k, column % k * k + row % k

    def token_by_columns(row: int, column: int, k: int, width: int) -> tuple[int, int]:
        return target(row, column, k, width)[0], column % k * k + row % k

    def from_one(row: int, column: int, k: int, width: int) -> tuple[int, int]:
        return tuple(number + 1 for number in target(row, column, k, width))

    return check_function(
        fn,
        target,
        [(4, 7, 3, 12), (0, 5, 2, 6), (7, 1, 4, 8)],
        hints=(
            "take width 6 and k = 3, and number windows and tokens on paper",
            "// k: which window, % k: where in it; a row has k tokens in a window, width // k windows in a map",
        ),
        mistakes=[
            (from_one, "off by one: both are counted from 0"),
            (columns_first, "wrong axis: windows and tokens go along a row first"),
            (token_by_columns, "wrong axis: the tokens of a window go along a row first"),
            (dilated, "window and token are exchanged: that is the dilated grid of the released code"),
            (lambda r, c, k, w: (target(r, c, k, w)[0], r % k * w + c % k), "a row of the window has k tokens"),
            (lambda r, c, k, w: (r // k * w + c // k, r % k * k + c % k), "a row of the map has width // k windows"),
            (lambda r, c, k, w: (r // k * k + c // k, r % k * k + c % k), "a row of the map has width // k windows"),
            (
                lambda r, c, k, w: (r // k + c // k, r % k + c % k),
                "each earlier row is a whole row of windows or tokens",
            ),
            (
                lambda r, c, k, w: (target(r, c, k, w)[0], r * w + c),
                "the token's number starts anew in every window: % k",
            ),
            (
                lambda r, c, k, w: (r / k * (w / k) + c / k, r % k * k + c % k),
                "windows are counted in whole numbers: // instead of /",
            ),
            (lambda r, c, k, w: divmod(r * w + c, k * k), "that cuts the rows of the whole map, not squares of side k"),
        ],
    )


def check_cut_windows(fn: Callable) -> CheckResult:
    """``fn(x, k)``: (b, c, H, W) → (b * windows, k * k, c), as the library's contiguous ``to_tokens``."""

    def blocks(x: Tensor, k: int, order: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
        b, c, height, width = x.shape
        return x.reshape(b, c, height // k, k, width // k, k).permute(order).reshape(shape)

    def columns_first(x: Tensor, k: int) -> Tensor:
        return blocks(x, k, (0, 2, 4, 5, 3, 1), (-1, k * k, x.shape[1]))

    def windows_columns_first(x: Tensor, k: int) -> Tensor:
        return blocks(x, k, (0, 4, 2, 3, 5, 1), (-1, k * k, x.shape[1]))

    def channels_first(x: Tensor, k: int) -> Tensor:
        return blocks(x, k, (0, 2, 4, 1, 3, 5), (-1, k * k, x.shape[1]))

    def sides_exchanged(x: Tensor, k: int) -> Tensor:
        b, c, height, width = x.shape
        return blocks(x.reshape(b, c, width, height), k, (0, 2, 4, 3, 5, 1), (-1, k * k, c))

    def not_permuted(x: Tensor, k: int) -> Tensor:
        return x.reshape(-1, k * k, x.shape[1])

    cases = [(torch.arange(16.0).reshape(1, 1, 4, 4), 2), (torch.arange(216.0).reshape(2, 2, 6, 9), 3)]
    return check_function(
        fn,
        to_tokens,
        cases,
        hints=(
            "into which two axes does the height fall apart, and which of the two must stand beside the batch?",
            "reshape to (b, c, H/k, k, W/k, k), permute to (batch, window row, window column, row, column, channel), "
            "reshape again",
        ),
        mistakes=[
            (not_permuted, "reshape alone keeps the memory's order, row after row of the whole map: permute first"),
            (lambda x, k: to_tokens(x, k, "dilated"), "these are dilated grids: the window's number must come first"),
            (columns_first, "wrong axis: inside a window the column runs fastest, not the row"),
            (lambda x, k: to_tokens(x.mT, k), "wrong axis: rows and columns are exchanged"),
            (windows_columns_first, "wrong axis: windows follow each other along a row of the map first"),
            (sides_exchanged, "a map need not be square: axis 2 is its height, axis 3 its width"),
            (channels_first, "permute the channels to the very end before the last reshape"),
            (
                lambda x, k: to_tokens(x, k).reshape(-1, x.shape[1], k * k),
                "permute the channels to the very end before the last reshape",
            ),
            (
                lambda x, k: to_tokens(x, k).mT,
                "tokens are (windows, k · k, channels): the channels stand last",
            ),
            (lambda x, k: to_tokens(x[:1], k), "every image of the batch is cut, not the first one alone"),
            (
                lambda x, k: to_tokens(x, k).reshape(len(x), -1, k * k, x.shape[1]).transpose(0, 1).flatten(0, 1),
                "one image's windows follow each other: the batch stands before the windows",
            ),
            (
                lambda x, k: to_tokens(x, k).reshape(len(x), -1, k * k, x.shape[1]),
                "batch and windows share one axis, the first",
            ),
            (lambda x, k: to_tokens(x, k).flip(1), "the tokens of a window start at its upper left pixel"),
        ],
    )


def check_tokens_apart(fn: Callable) -> CheckResult:
    """``fn(window, axis)``: distance in the sequence of two neighbours along ``axis`` in one window (any rank)."""

    def target(window: tuple[int, ...], axis: int) -> int:
        return math.prod(window[axis + 1 :])

    return check_function(
        fn,
        target,
        [((8, 8), 0), ((4, 5, 6), 1), ((20, 28, 24), 0), ((20, 28, 24), 2)],
        hints=(
            "in which order are the voxels of a window read, and how many lie between two neighbours?",
            "one step along an axis passes over everything that the later, faster axes hold",
        ),
        mistakes=[
            (lambda w, axis: math.prod(w[axis:]), "off by one axis: the axis itself is not passed over"),
            (lambda w, axis: math.prod(w[:axis]), "wrong axis: the last axis runs fastest, so later axes count"),
            (lambda w, axis: target(w, axis) - 1, "off by one: count the steps, not the tokens in between"),
            (lambda w, axis: sum(w[axis + 1 :]), "each later side multiplies the step: a product, not a sum"),
            (lambda w, axis: w[-1] ** (len(w) - 1 - axis), "the sides may differ: multiply those of the later axes"),
            (lambda w, axis: w[0] ** (len(w) - 1 - axis), "the sides may differ: multiply those of the later axes"),
            (lambda w, axis: 1 if axis == len(w) - 1 else w[-1], "with three axes two sides may have to be multiplied"),
            (lambda w, axis: 1 if axis == len(w) - 1 else w[axis + 1], "all later axes count, not the next one alone"),
            (lambda w, axis: w[axis], "off by one axis: the axis itself is not passed over"),
            (lambda w, axis: 1, "that holds along the last axis only"),
            (lambda w, axis: math.prod(w), "that is the whole window: only the later axes lie in between"),
        ],
    )


def check_mates(fn: Callable) -> CheckResult:
    """``fn(size, row, column, k, partition)``: boolean (size, size), the pixels in one sequence with (row, column)."""

    def target(size: int, row: int, column: int, k: int, partition: str) -> Tensor:
        index = torch.arange(size)
        if partition == "dilated":
            return (index % k == row % k)[:, None] & (index % k == column % k)
        return (index // k == row // k)[:, None] & (index // k == column // k)

    def either_axis(size: int, row: int, column: int, k: int, partition: str) -> Tensor:
        whole = target(size, row, column, k, partition)
        return whole.any(1, keepdim=True) | whole.any(0, keepdim=True)

    def around(size: int, row: int, column: int, k: int, partition: str) -> Tensor:
        index = torch.arange(size)
        return ((index - row).abs() <= k // 2)[:, None] & ((index - column).abs() <= k // 2)

    def begins(size: int, row: int, column: int, k: int, partition: str, at: bool) -> Tensor:
        whole, grid = target(size, row, column, k, "contiguous"), torch.zeros(size, size, dtype=torch.bool)
        grid[row if at else 0 :: k, column if at else 0 :: k] = True
        return grid if partition == "dilated" else whole

    def alone(shared: Tensor, row: int, column: int) -> Tensor:
        shared[row, column] = False
        return shared

    def exchanged(size: int, row: int, column: int, k: int, partition: str) -> Tensor:
        return target(size, row, column, k, "contiguous" if partition == "dilated" else "dilated")

    return check_function(
        fn,
        target,
        [(6, 1, 4, 3, "contiguous"), (6, 1, 4, 3, "dilated"), (12, 6, 3, 4, "contiguous"), (12, 5, 10, 4, "dilated")],
        hints=(
            "what do two pixels of one window have in common, and what two pixels of one grid?",
            "contiguous: the same row // k and column // k; dilated: the same row % k and column % k",
        ),
        mistakes=[
            (
                lambda size, r, c, k, p: target(size, r, c, k, "contiguous"),
                "look at the partition: dilated is different",
            ),
            (exchanged, "contiguous and dilated are exchanged: // k names the window, % k the place in it"),
            (either_axis, "both must agree, row and column: use &, not |"),
            (lambda size, r, c, k, p: target(size, c, r, k, p), "wrong axis: the row is the first index of the map"),
            (around, "windows lie on a fixed grid that starts at 0; they are not centred on the pixel"),
            (partial(begins, at=True), "the grid has pixels before this one, too: it starts at row % k and column % k"),
            (
                partial(begins, at=False),
                "that is the grid of pixel (0, 0): this one's starts at row % k and column % k",
            ),
            (
                lambda size, r, c, k, p: target(size, r, c, k, p).logical_not(),
                "these are the pixels of the other sequences: True where they share one",
            ),
            (
                lambda size, r, c, k, p: target(size, r, r, k, p),
                "rows are compared with the pixel's row, columns with its column",
            ),
            (lambda size, r, c, k, p: target(size, r, c, k, "dilated"), "look at the partition: a window is different"),
            (
                lambda size, r, c, k, p: alone(target(size, r, c, k, p), r, c),
                "the pixel is in its own sequence, too",
            ),
            (
                lambda size, r, c, k, p: target(size, r % k, c % k, k, p),
                "this starts from the window in the corner: compare with the pixel's own row // k and column // k",
            ),
            (
                lambda size, r, c, k, p: target(size, r, c, size // k, p),
                "k is the side of a window, or the step of a grid; not how many there are",
            ),
            (
                lambda size, r, c, k, p: target(size, r, c, k, p).any(1, keepdim=True).expand(size, size),
                "both must agree, row and column: this asks for one of them",
            ),
        ],
        draw=True,
    )


def check_pim(cls: Callable) -> CheckResult:
    """``cls(channels, window)``: the learner's PiM for maps (b, c, H, W), parameters first, then outputs."""

    def slip(back: Callable[[Tensor, Tensor, int], Tensor], residual: bool = True, partition: str = "contiguous"):
        def output(pim: PiM, x: Tensor) -> Tensor:
            tokens = pim.bim(to_tokens(x, pim.window, partition))
            return back(tokens, x, pim.window) + (x if residual else 0)

        return output

    def by_hand(tokens: Tensor, x: Tensor, k: int) -> Tensor:
        return to_map(tokens, x.shape, k)

    random = torch.Generator().manual_seed(0)
    return check_class(
        cls,
        PiM,
        [((4, 2), torch.randn(1, 4, 4, 4, generator=random)), ((4, 3), torch.randn(2, 4, 6, 9, generator=random))],
        names=("the only part with weights is one bidirectional Mamba: self.bim",),
        hints=(
            "cut, read, put back, add: which of the four is wrong? With self.bim = nn.Identity() the output is 2x",
            "back is cut_windows in reverse: reshape to (b, H/k, W/k, k, k, c), permute, reshape to the shape of x",
        ),
        mistakes=[
            (slip(by_hand, residual=False), "the residual connection is missing: add x at the end"),
            (slip(lambda t, x, k: t.reshape(x.shape)), "reshape alone mixes pixels and channels: permute first"),
            (
                slip(lambda t, x, k: t.mT.reshape(x.shape)),
                "windows are laid one after the other here: their rows belong side by side, so permute",
            ),
            (
                slip(lambda t, x, k: to_map(t, x.shape, k, "dilated"), partition="dilated"),
                "these are dilated grids: // k names the window, % k the place in it",
            ),
            (
                lambda pim, x: x + to_map(pim.bim(to_tokens(x, x.shape[2:])), x.shape, x.shape[2:]),
                "that is the whole map as one sequence: every window is one of its own",
            ),
            (
                lambda pim, x: x - to_map(pim.bim(to_tokens(x, pim.window)), x.shape, pim.window),
                "x is added at the end, not subtracted from",
            ),
            (
                lambda pim, x: x + to_map(pim.bim(to_tokens(x.mT, pim.window)), x.mT.shape, pim.window).mT,
                "wrong axis: the tokens of a window go along a row first",
            ),
            (
                lambda pim, x: 2 * x + to_map(pim.bim(to_tokens(x, pim.window)), x.shape, pim.window),
                "x is added once",
            ),
            (
                lambda pim, x: (
                    to_map(pim.bim(to_tokens(x, pim.window)), x.shape, pim.window)
                    + to_map(pim.bim.norm(to_tokens(x, pim.window)), x.shape, pim.window)
                ),
                "what is added at the end is x itself, before LayerNorm",
            ),
            (lambda pim, x: 2 * x, "the Mamba is not called: self.bim(tokens)"),
            (lambda pim, x: x, "nothing is done to x: cut, read, put back, add"),
        ],
    )
