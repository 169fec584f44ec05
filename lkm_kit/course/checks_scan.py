"""Checks of the exercises on the selective scan (chapter ``02_selective_scan``)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.ssm import selective_scan


def _scan(u, delta, A, B, C, reverse: bool = False):
    return selective_scan(u[None, None], delta[None, None], A[None], B[None], C[None], reverse=reverse)[0, 0]


def check_selective_scan(fn: Callable) -> CheckResult:
    """``fn(u, delta, A, B, C)`` → y of one channel: u, delta (length,), A (n,), B and C (n, length)."""

    def late(u, delta, A, B, C):
        y = _scan(u, delta, A, B, C.roll(-1, dims=1))
        return torch.cat([torch.zeros_like(y[:1]), y[:-1]])

    def case(length: int, n: int):
        random = torch.Generator().manual_seed(length)
        u, delta = torch.randn(2, length, generator=random)
        B, C = torch.randn(2, n, length, generator=random)
        return u, F.softplus(delta), -torch.arange(1.0, n + 1), B, C

    return check_function(
        fn,
        _scan,
        [case(3, 1), case(9, 4)],
        hints=(
            "write the update of one token first: what is kept, and what comes in?",
            "h ← exp(Δ_t A) h + Δ_t u_t B_t, then y_t = C_t·h; h starts at zero",
        ),
        mistakes=[
            (late, "y_t is read before token t has entered the state: update h first"),
            (lambda *a: _scan(*a, reverse=True), "this scans from the last token: start at the first"),
            (lambda u, d, A, B, C: _scan(u / d, d, A, B, C), "the input enters with its step: Δ_t u_t B_t"),
        ],
        draw=True,
    )


def check_combine(fn: Callable) -> CheckResult:
    """``fn((a1, b1), (a2, b2))`` → the pair of first-then-second."""

    def after(first, second):
        (a1, b1), (a2, b2) = first, second
        return a2 * a1, a2 * b1 + b2

    return check_function(
        fn,
        after,
        [((0.5, 1.0), (0.25, 3.0)), ((0.9, -2.0), (0.1, 0.5))],
        hints=(
            "start with h, do the first step, then the second",
            "put a1 h + b1 in for h in a2 h + b2, and sort",
        ),
        mistakes=[
            (lambda first, second: after(second, first), "this is second-then-first: the older step is inside"),
            (lambda p, q: (p[0] * q[0], p[1] + q[1]), "the older b decays as well: a2 b1 + b2"),
        ],
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
        ],
        rtol=1e-5,
    )
