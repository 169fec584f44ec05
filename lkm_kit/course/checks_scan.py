"""Checks of the exercises on the selective scan (chapter ``02_selective_scan``)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.course.check_class import check_class
from lkm_kit.ssm import Mamba, selective_scan


def check_mamba(cls: Callable) -> CheckResult:
    """``cls(channels)``: the learner's Mamba, in three stages: parameters, first values, outputs with given weights."""

    def first_values(cls: Callable) -> CheckResult:
        @functools.wraps(cls, updated=())
        def values(channels: int) -> tuple[Tensor, Tensor]:
            module = cls(channels)
            return module.A_log, module.D

        right = Mamba(8)
        return check_function(
            values,
            lambda channels: (right.A_log, right.D),
            [(8,)],
            hints=("A_log holds log(1), ..., log(n) for every inner channel", "D starts at 1"),
            mistakes=[
                (lambda channels: (right.A_log.exp(), right.D), "the module stores the logarithm of 1, ..., n"),
            ],
        )

    def slip(
        gate: Callable = F.silu,
        skip: bool = True,
        silu: bool = True,
        taps: str = "past",
        sign: float = -1.0,
        step: Callable = F.softplus,
        exchanged: bool = False,
        skips: str = "x",
        read_by_B: bool = False,
        delta_last: bool = False,
    ) -> Callable:
        def output(m: Mamba, tokens: Tensor) -> Tensor:
            x, z = m.in_proj(tokens).mT.chunk(2, dim=1)
            x, z = (z, x) if exchanged else (x, z)
            before, length = x, tokens.shape[1]
            if taps != "none":
                first = {"past": 0, "centred": (m.d_conv - 1) // 2, "future": m.d_conv - 1}[taps]
                x = m.conv1d(x)[..., first : first + length]
            x = F.silu(x) if silu else x
            narrow, B, C = m.x_proj(x.mT).split([m.dt_rank, m.d_state, m.d_state], dim=-1)
            B, C = (C, B) if read_by_B else (B, C)
            if delta_last:
                B, C, narrow = m.x_proj(x.mT).split([m.d_state, m.d_state, m.dt_rank], dim=-1)
            y = selective_scan(x, step(m.dt_proj(narrow)).mT, sign * torch.exp(m.A_log), B.mT, C.mT)
            y = y + m.D[:, None] * (x if skips == "x" else before) if skip else y
            return m.out_proj((y * gate(z)).mT)

        return output

    random = torch.Generator().manual_seed(0)
    return check_class(
        cls,
        Mamba,
        [((8,), torch.randn(1, 4, 8, generator=random)), ((17,), torch.randn(2, 30, 17, generator=random))],
        names=("names and shapes are those of the table", "dt_rank is channels / 16, rounded up, at least 1"),
        between=[first_values],
        hints=("print the shape after every step of section 5", "follow mamba_by_hand, m becoming self"),
        mistakes=[
            (slip(gate=torch.ones_like), "the gate is missing: multiply by SiLU(z)"),
            (slip(skip=False), "the skip is missing: add D times the scan's input"),
            (slip(silu=False), "SiLU is missing behind the convolution"),
            (slip(taps="future"), "this convolution looks ahead: cut off the surplus at the *end*"),
            (slip(taps="centred"), "this convolution looks ahead: cut off the surplus at the *end*"),
            (slip(taps="none"), "the convolution is missing: x goes through conv1d before SiLU"),
            (slip(sign=1.0), "A is minus the exponential of A_log, or the state grows"),
            (slip(gate=nn.Identity()), "the gate is SiLU(z), not z itself"),
            (slip(gate=torch.sigmoid), "the gate is SiLU(z), z times its sigmoid"),
            (slip(step=nn.Identity()), "Δ is positive: softplus of dt_proj's result"),
            (slip(step=torch.exp), "Δ is softplus of dt_proj's result, not its exponential"),
            (slip(step=lambda wide: F.softplus(wide + 1)), "dt_proj has its bias inside: add nothing to it"),
            (slip(exchanged=True), "x is the first half of in_proj's result, z the second"),
            (slip(read_by_B=True), "x_proj's result is Δ's part, then B, then C"),
            (slip(delta_last=True), "x_proj's result is Δ's part, then B, then C"),
            (slip(skips="before"), "D weighs what enters the scan, not what enters the convolution"),
        ],
    )


def check_tree(fn: Callable) -> CheckResult:
    """``fn(a, b)`` → all states of h_t = a_t h_{t-1} + b_t from h = 0, by doubling; both (..., length)."""

    def states(a: Tensor, b: Tensor) -> Tensor:
        h, found = torch.zeros_like(b[..., 0]), []
        for t in range(a.shape[-1]):
            h = a[..., t] * h + b[..., t]
            found.append(h)
        return torch.stack(found, -1)

    def tree(a: Tensor, b: Tensor, *, a_first: bool = False, grow: bool = True, rounds: int = 99) -> Tensor:
        a, b, reach = a.clone(), b.clone(), 1
        while reach < a.shape[-1] and rounds > 0:
            older_a, older_b = a[..., :-reach].clone(), b[..., :-reach].clone()
            if a_first:
                a[..., reach:] *= older_a
                b[..., reach:] += a[..., reach:] * older_b
            else:
                b[..., reach:] += a[..., reach:] * older_b
                a[..., reach:] *= older_a
            reach, rounds = 2 * reach if grow else reach + 1, rounds - 1
        return b

    random = torch.Generator().manual_seed(0)
    cases = [
        (torch.rand(shape, generator=random) + 0.2, torch.randn(shape, generator=random))
        for shape in ((3,), (4,), (2, 13))
    ]
    cases[2][0][:, ::3] *= -1  # any a: also a negative one
    cases.append((torch.zeros(1), torch.ones(1)))
    return check_function(
        fn,
        states,
        cases,
        hints=(
            "take three tokens, with letters for numbers: what is the third state, and what does the code make of it?",
            "b needs the a of *before* this round; the line above has replaced it already",
        ),
        mistakes=[
            (functools.partial(tree, a_first=True), "that is the colleague's: which a does the line of b use?"),
            (functools.partial(tree, rounds=1), "one round knows two steps; go on until the reach is the length"),
            (functools.partial(tree, grow=False), "after k rounds every token knows 2^k steps: the reach doubles"),
            (lambda a, b: b.cumsum(-1), "that is right for a = 1 only"),
            (lambda a, b: states(a, b)[..., -1], "all states are asked, not the last one alone"),
            (
                lambda a, b: torch.cat([torch.zeros_like(b[..., :1]), states(a, b)[..., :-1]], -1),
                "these are the states *before* each token: h_t holds b_t already",
            ),
            (
                lambda a, b: states(torch.cat([torch.ones_like(a[..., :1]), a[..., :-1]], -1), b),
                "a_t stands before h_{t-1}: token t brings its own a",
            ),
            (lambda a, b: states(a, a * b), "a_t multiplies the old state, not b_t"),
            (lambda a, b: states(a.flip(-1), b.flip(-1)).flip(-1), "this runs from the last token to the first"),
        ],
        draw=True,
    )


def check_memory_length(fn: Callable) -> CheckResult:
    """``fn(delta, A)`` → tokens after which a state of rate A has fallen to 1/e, at most len(delta)."""

    def tokens(delta, A):
        below = torch.nonzero(-A * delta.cumsum(0) >= 1)
        return int(below[0]) + 1 if len(below) else len(delta)

    return check_function(
        fn,
        tokens,
        [
            (torch.full((50,), 0.1), -1.7),  # 6 tokens; not on the edge, where rounding would decide
            (torch.tensor([0.0, 0.0, 2.0, 0.1]), -1.0),
            (torch.full((8,), 0.01), -1.0),
            (torch.tensor([0.2, 0.3, 0.1, 0.4, 0.1, 0.2]), -2.5),
            (torch.tensor([5.0, 0.1, 0.1]), -0.9),
        ],
        hints=(
            "what is left of the state after two tokens, and after k?",
            "decays multiply, so exponents add: when does |A| (Δ_1 + ... + Δ_k) reach 1?",
        ),
        mistakes=[
            (
                lambda d, A: max(0, tokens(d, A) - 1),
                "off by one: a position counts from 0, the number of tokens from 1",
            ),
            (
                lambda d, A: int(1 / (-A * d[0])) if d[0] else 0,
                "the steps differ: add them up instead of taking the first",
            ),
            (lambda d, A: int((-A * d.cumsum(0) < 1).sum()) + 1, "a sequence that is too short: return its length"),
            (
                lambda d, A: int((-A * d.cumsum(0) >= 1).int().argmax()) + 1,
                "argmax says 0 where there is nothing to find: a sequence that is too short returns its length",
            ),
            (
                lambda d, A: int((-A * d.cumsum(0) < 1).sum()),
                "off by one: these tokens leave more than 1/e, it takes the next one as well",
            ),
            (
                lambda d, A: min(len(d), int((-A * d.cumsum(0) < math.log(2)).sum()) + 1),
                "that is the half-life: asked is when 1/e is left",
            ),
            (
                lambda d, A: min(len(d), math.ceil(1 / float(-A * d.mean()))),
                "the steps differ: add them up instead of taking their mean",
            ),
            (
                lambda d, A: min(len(d), int((d.cumsum(0) < 1).sum()) + 1),
                "A is not used: it says how fast time goes for the state",
            ),
            (
                lambda d, A: float(d.cumsum(0)[min(len(d), int((-A * d.cumsum(0) < 1).sum()) + 1) - 1]),
                "that is a time: count the tokens",
            ),
            (
                lambda d, A: min(len(d), int((-A * d < 1).sum()) + 1),
                "one step at a time decays little: what counts is all steps so far together",
            ),
        ],
    )


def check_time_step(fn: Callable) -> CheckResult:
    """``fn(delta)`` → bias whose softplus is delta, in float32."""
    return check_function(
        fn,
        lambda delta: torch.log(torch.expm1(delta.double())).float(),
        [(torch.tensor([0.1, 1.0, 3.0]),), (torch.tensor([1e-4, 1e-5, 0.01]),)],
        hints=(
            "softplus of what is Δ?",
            "solve log(1 + e^b) = Δ for b; torch.expm1 keeps the digits of small numbers",
        ),
        mistakes=[
            (lambda d: torch.log(torch.exp(d) - 1), "right on paper; for small Δ, exp(Δ) - 1 loses its digits"),
            (lambda d: torch.log(d), "softplus is the exponential only far below zero: solve it exactly"),
            (F.softplus, "that is softplus itself: asked is what must go in for Δ to come out"),
            (
                lambda d: torch.log1p(torch.exp(d)),
                "that is softplus itself: asked is what must go in for Δ to come out",
            ),
            (lambda d: torch.expm1(d), "the logarithm is missing: log(1 + e^b) = Δ"),
            (lambda d: d, "softplus changes it: solve log(1 + e^b) = Δ for b"),
            (lambda d: torch.log(torch.exp(d) + 1e-6 - 1), "no small number added: torch.expm1 keeps the digits"),
            (lambda d: -torch.log(torch.expm1(d)), "the sign is turned round"),
        ],
        rtol=1e-5,
    )
