"""Checks of the exercises on linear state-space models (chapter ``01_state_space_models``)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.ssm import causal_convolution, convolution_kernel, discretize, recurrence


def _vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def check_discretize_diagonal(fn: Callable) -> CheckResult:
    """``fn(A, B, delta)`` → (A_bar, B_bar) of a diagonal system by zero-order hold."""
    cases = [(_vector(-1.0, -2.0), _vector(1.0, 0.5), 0.1), (_vector(-0.3), _vector(2.0), 1.5)]
    return check_function(
        fn,
        lambda A, B, delta: discretize(A, B, delta, "zoh"),
        cases,
        hints=(
            "a diagonal system is n systems with one number each: what is Eq. 2 for one number?",
            "Eq. 2, number by number: Ā = exp(ΔA), B̄ = (exp(ΔA) - 1) / (ΔA) · ΔB",
        ),
        mistakes=[
            (
                lambda A, B, d: discretize(A, B, d, "euler"),
                "this is Euler's step: zero-order hold takes the exponential",
            ),
            (lambda A, B, d: (torch.exp(d * A), d * B), "Ā is right; this B̄ = ΔB is Mamba's short cut, not Eq. 2"),
        ],
    )


def check_scan(fn: Callable) -> CheckResult:
    """``fn(A_bar, B_bar, C, x)`` → y of Eq. 3 for a diagonal system."""

    def late(A_bar, B_bar, C, x):
        y = recurrence(A_bar, B_bar, C, x)
        return torch.cat([torch.zeros_like(y[:1]), y[:-1]])

    cases = [
        (_vector(0.5), _vector(1.0), _vector(1.0), _vector(1, 0, 0, 0)),
        (_vector(0.9, -0.4), _vector(1.0, 0.3), _vector(0.5, 2.0), _vector(1, 2, -1, 0.5)),
    ]
    return check_function(
        fn,
        recurrence,
        cases,
        hints=(
            "what happens to h at a token, and when is y read?",
            "update h first, then read y_t = C·h out of it; h starts at zero",
        ),
        mistakes=[
            (late, "y_t is read before x_t has entered the state: update h first"),
            (
                lambda A, B, C, x: recurrence(A, B, C, x.flip(0)).flip(0),
                "this scans from the last token: start at the first",
            ),
        ],
        draw=True,
    )


def check_kernel(fn: Callable) -> CheckResult:
    """``fn(A_bar, B_bar, C, length)`` → K̄ of Eq. 4."""

    def shifted(A_bar, B_bar, C, length):
        return convolution_kernel(A_bar, A_bar * B_bar, C, length)

    cases = [
        (_vector(0.5), _vector(1.0), _vector(1.0), 4),
        (_vector(0.9, -0.4), _vector(1.0, 0.3), _vector(0.5, 2.0), 6),
    ]
    return check_function(
        fn,
        convolution_kernel,
        cases,
        hints=(
            "what does a single 1 at token 0 leave in the output, token after token?",
            "K̄_s = Σ_n C_n Ā_n^s B̄_n for s = 0, 1, ..., length - 1",
        ),
        mistakes=[(shifted, "off by one: the first entry is C B̄, with Ā to the power 0")],
        draw=True,
    )


def check_half_life(fn: Callable) -> CheckResult:
    """``fn(A, delta)`` → tokens after which a state of decay A has halved."""

    def tokens(A: float, delta: float) -> float:
        return math.log(2) / (-A * delta)

    return check_function(
        fn,
        tokens,
        [(-1.0, 0.1), (-4.0, 0.001)],
        hints=(
            "which share is left after one token, and which after t of them?",
            "solve exp(ΔA)^t = 1/2 for t",
        ),
        mistakes=[
            (lambda A, d: -tokens(A, d), "A is negative: the half-life comes out positive"),
            (lambda A, d: tokens(A, 1.0), "that is the time; a token takes Δ of it"),
            (lambda A, d: round(tokens(A, d)), "not rounded: a half-life may lie between two tokens"),
            (lambda A, d: math.ceil(tokens(A, d)), "not rounded: a half-life may lie between two tokens"),
            (lambda A, d: 1 / (-A * d), "that is when 1/e is left; half is left earlier: log 2"),
        ],
    )


def check_causal(fn: Callable) -> CheckResult:
    """``fn(x, kernel)`` → y of the convolution form, from the definition."""

    def same(x, kernel):
        half = len(kernel) // 2
        padded = torch.cat([x, torch.zeros(half, dtype=x.dtype)])
        return causal_convolution(padded, kernel, "direct")[half:]

    cases = [(_vector(1, 0, 0, 2), _vector(1.0, 0.5)), (_vector(1, 2, 3, 4, 5), _vector(0.2, 0.3, 0.5))]
    return check_function(
        fn,
        lambda x, kernel: causal_convolution(x, kernel, "direct"),
        cases,
        hints=(
            "which tokens does y_t weigh, and with which entry of the kernel?",
            "y_t = Σ_s K̄_s x_{t-s} over 0 ≤ s ≤ t",
        ),
        mistakes=[
            (
                lambda x, k: causal_convolution(x, k.flip(0), "direct"),
                "the kernel is reversed: K̄_0 multiplies the newest token",
            ),
            (same, "this sees the future: the kernel must not be centred on the token"),
            (
                lambda x, k: sum(weight * x.roll(s) for s, weight in enumerate(k)),
                "before the first token there is nothing: x[t - s] with s > t counts from the end, and so does an FFT",
            ),
        ],
    )
