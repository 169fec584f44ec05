"""Checks of the exercises on scans in two directions (chapter ``03_bidirectional_mamba``)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lkm_kit.blocks import BiM
from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.course.check_class import check_class


def check_bim(cls: Callable) -> CheckResult:
    """``cls(channels)``: the learner's BiM, first its parameters, then its outputs with given weights."""

    def slip(backward: Callable[[BiM, Tensor], Tensor], norm: bool = True) -> Callable:
        def output(bim: BiM, tokens: Tensor) -> Tensor:
            x = bim.norm(tokens) if norm else tokens
            return bim.out_proj(bim.mamba_forward.mix(x) + backward(bim, x))

        return output

    def turned(bim: BiM, x: Tensor) -> Tensor:
        return bim.mamba_backward.mix(x.flip(1)).flip(1)

    random = torch.Generator().manual_seed(0)
    return check_class(
        cls,
        BiM,
        [((4,), torch.randn(1, 5, 4, generator=random)), ((8,), torch.randn(2, 9, 8, generator=random))],
        names=(
            "norm, mamba_forward, mamba_backward, out_proj: and no projection out inside the two Mambas",
            "nn.Identity() in the place of a Mamba's out_proj; your own out_proj maps 2 · channels to channels",
        ),
        hints=(
            "in which order does the backward Mamba read and answer, and how do the two answers become one?",
            "norm first; the backward Mamba gets x.flip(1), its answer is flipped back; add; project once",
        ),
        mistakes=[
            (slip(lambda bim, x: 0), "this is the forward scan alone: add the backward one"),
            (
                slip(lambda bim, x: bim.mamba_backward.mix(x.flip(1))),
                "the backward answer is still in reversed order: flip it back before you add",
            ),
            (slip(lambda bim, x: bim.mamba_backward.mix(x)), "the backward Mamba reads forward: flip its tokens"),
            (
                slip(lambda bim, x: bim.mamba_backward.mix(x.flip(2)).flip(2)),
                "wrong axis: tokens are axis 1 (0 is the batch, 2 the channels)",
            ),
            (slip(lambda bim, x: bim.mamba_forward.mix(x.flip(1)).flip(1)), "the backward Mamba has its own weights"),
            (slip(turned, norm=False), "both Mambas read the tokens after LayerNorm"),
            (
                lambda bim, x: bim.out_proj(bim.mamba_forward.mix(bim.norm(x)) - turned(bim, bim.norm(x))),
                "the two answers are added, not subtracted",
            ),
            (
                lambda bim, x: bim.out_proj((bim.mamba_forward.mix(bim.norm(x)) + turned(bim, bim.norm(x))) / 2),
                "the sum of the two answers, not their mean",
            ),
            (
                lambda bim, x: bim.out_proj(turned(bim, bim.norm(x))),
                "this is the backward scan alone: add the forward one",
            ),
            (
                lambda bim, x: x + bim.out_proj(bim.mamba_forward.mix(bim.norm(x)) + turned(bim, bim.norm(x))),
                "BiM adds no residual: PiM and PaM do that around it",
            ),
            (
                lambda bim, x: bim.out_proj(bim.mamba_forward.mix(bim.norm(x)) + turned(bim, x)),
                "both Mambas read the tokens after LayerNorm",
            ),
            (
                lambda bim, x: bim.out_proj(bim.mamba_forward.mix(bim.norm(x)) * turned(bim, bim.norm(x))),
                "the two answers are added, not multiplied",
            ),
            (
                lambda bim, x: bim.norm(bim.out_proj(bim.mamba_forward.mix(x) + turned(bim, x))),
                "LayerNorm comes first, before the two Mambas",
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
            (
                lambda s, r, c: (torch.arange(s)[:, None] <= r) & (torch.arange(s) < s),
                "the pixel's own row has been read up to the pixel only",
            ),
            (
                lambda s, r, c: (torch.arange(s)[:, None] == r) & (torch.arange(s) <= c),
                "earlier rows have been read as well, to their ends",
            ),
            (
                lambda s, r, c: (torch.arange(s)[:, None] == r) & (torch.arange(s) == c),
                "this is the pixel itself: the scan has been at all that came before, too",
            ),
            (lambda s, r, c: torch.ones(s, s).bool(), "that is what BiM knows: a forward scan has not come to the end"),
            (
                lambda s, r, c: (torch.arange(s * s) <= r * s + c + 1).reshape(s, s),
                "off by one: the token after the pixel has not been read",
            ),
        ],
        draw=True,
    )


def check_heard_pairs(fn: Callable) -> CheckResult:
    """``fn(n)`` → pairs (output, token) with an effect among n² of them: one forward scan, two in a row, a forward and
    then a backward one, BiM."""

    def target(n: int) -> tuple[int, int, int, int]:
        half = n * (n + 1) // 2
        return half, half, n * n, n * n

    def with_half(half: Callable[[int], float], both: Callable[[int], float] | None = None) -> Callable:
        def counts(n: int) -> tuple[float, ...]:
            return half(n), half(n), (both or (lambda m: m * m))(n), n * n

        return counts

    return check_function(
        fn,
        target,
        [(3,), (36,)],
        hints=(
            "draw the 3×3 matrix of each (row: output, column: token) and mark what can have an effect",
            "forward: token s has an effect on t for s ≤ t. A second layer adds all tokens that its own tokens knew.",
        ),
        mistakes=[
            (with_half(lambda n: n * (n - 1) // 2), "an output depends on its own token as well: the diagonal counts"),
            (with_half(lambda n: n * n // 2), "a triangle with its diagonal is a little more than half of the square"),
            (
                lambda n: (n * (n + 1) // 2, n * (n + 1), n * n, n * n),
                "a second forward scan sees what the first one saw, and no token that comes later",
            ),
            (
                with_half(lambda n: n * (n + 1) // 2, lambda n: n * (n + 1) // 2),
                "behind a forward scan, even the last token's answer holds the first token: follow one of them",
            ),
            (
                with_half(lambda n: n * (n + 1) // 2, lambda n: n),
                "backward does not undo forward: follow the last token through both layers",
            ),
            (
                lambda n: (n * (n + 1) // 2, n * n, n * n, n * n),
                "a second forward scan sees what the first one saw, and no token that comes later",
            ),
            (
                lambda n: (n * (n + 1) // 2, n * (n + 1) // 2, n * n, n * (n + 1)),
                "a pair that both directions hear counts once: there are only n² pairs",
            ),
            (
                lambda n: (n * (n + 1) // 2, n * (n + 1) // 2, n * n, n * n - n),
                "an output depends on its own token as well: the diagonal counts",
            ),
            (lambda n: (n, n, n, n), "that is the tokens of one output, or the outputs: count pairs"),
            (lambda n: (n * n,) * 4, "an output of a forward scan hears no token behind it"),
            (
                lambda n: (n * (n + 1) // 2, n * (n + 1) // 2, n * n, n * (n + 1) // 2),
                "BiM's backward Mamba brings the tokens behind: which pairs are left out?",
            ),
            (
                lambda n: (n * n, n * n, n * n, n * (n + 1) // 2),
                "an output of a forward scan hears no token behind it",
            ),
        ],
    )


class _Broken(BiM):
    """BiM with a slip of its own: ``how`` makes the two mixed sequences of the two Mambas and both kinds of tokens."""

    def __init__(self, channels: int, how: Callable[[BiM, Tensor, Tensor], Tensor]):
        super().__init__(channels)
        self.how = how

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out_proj(self.how(self, self.norm(tokens), tokens))


SLIPS: dict[str, Callable[[BiM, Tensor, Tensor], Tensor]] = {
    "answers not turned back": lambda m, x, raw: m.mamba_forward.mix(x) + m.mamba_backward.mix(x.flip(1)),
    "both forward": lambda m, x, raw: m.mamba_forward.mix(x) + m.mamba_backward.mix(x),
    "turned over the batch": lambda m, x, raw: m.mamba_forward.mix(x) + m.mamba_backward.mix(x.flip(0)).flip(0),
    "turned over the channels": lambda m, x, raw: m.mamba_forward.mix(x) + m.mamba_backward.mix(x.flip(2)).flip(2),
    "backward without LayerNorm": lambda m, x, raw: m.mamba_forward.mix(x) + m.mamba_backward.mix(raw, reverse=True),
    "the last token left out": lambda m, x, raw: (
        m.mamba_forward.mix(x) + F.pad(m.mamba_backward.mix(x[:, :-1], reverse=True), (0, 0, 0, 1))
    ),
}
"""What was forgotten -> how the layer then reads (BiM, tokens after LayerNorm, tokens)."""


def check_bim_test(fn: Callable) -> CheckResult:
    """``fn(bim)`` → whether a layer with BiM's parts is put together rightly; tried on right and on broken ones."""

    def right(bim: BiM) -> bool:
        return type(bim) is BiM

    def symmetric(bim: BiM, x: Tensor) -> float:
        bim.mamba_backward.load_state_dict(bim.mamba_forward.state_dict())
        return float((bim(x.flip(1)) - bim(x).flip(1)).abs().max())

    def hears_all(bim: BiM) -> bool:
        x = torch.randn(1, 6, bim.norm.normalized_shape[0], requires_grad=True)
        with torch.enable_grad():
            grads = [torch.autograd.grad(bim(x)[0, t].sum(), x)[0][0].abs().sum(-1) for t in range(6)]
        return bool((torch.stack(grads) > 0).all())

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        layers = [BiM(4), BiM(8), *(_Broken(4, how) for how in SLIPS.values()), BiM(4)]
        for layer in layers:  # a D of ones, and LayerNorm that does nothing, would hide slips
            for parameter in layer.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        return check_function(
            fn,
            right,
            [(layer,) for layer in layers],
            hints=(
                "what must a BiM do with the reversed tokens when its two Mambas have the same weights?",
                "load mamba_forward's weights into mamba_backward; then bim(rev x) must equal rev bim(x)",
            ),
            mistakes=[
                (lambda bim: True, "a test that everything passes: which property does a broken layer lack?"),
                (lambda bim: False, "this test fails the right layer, too"),
                (hears_all, "every output hears every token there, and yet a Mamba reads the wrong tokens"),
                (
                    lambda bim: not bool(symmetric(bim, torch.randn(2, 9, bim.channels)) < 1e-4),
                    "true and false are exchanged",
                ),
            ],
        )
