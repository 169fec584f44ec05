"""Checks of the exercises on linear state-space models (chapter ``01_state_space_models``)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.ssm import causal_convolution, convolution_kernel, discretize, recurrence


def _vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def check_discretize_diagonal(fn: Callable) -> CheckResult:
    """``fn(A, B, delta)`` → (A_bar, B_bar) of a diagonal system by zero-order hold."""
    cases = [(_vector(-1.0, -2.0), _vector(1.0, 0.5), 0.1), (_vector(-0.3, -4.0, -1.5), _vector(2.0, -1.0, 0.3), 1.5)]
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
            (
                lambda A, B, d: (torch.exp(d * A), (torch.exp(d * A) - 1) / A),
                "Ā is right; B is missing in B̄",
            ),
            (
                lambda A, B, d: (torch.exp(d * A), (torch.exp(d * A) - 1) / (d * A) * B),
                "Ā is right; B̄ is off by the factor Δ: Eq. 2 has ΔB at its end",
            ),
            (
                lambda A, B, d: (torch.exp(d * A), (1 - torch.exp(d * A)) / A * B),
                "Ā is right; B̄ has the wrong sign: A is negative, and so is exp(ΔA) - 1",
            ),
            (
                lambda A, B, d: (torch.exp(d * A), (torch.exp(d * A) - 1) * B),
                "Ā is right; in B̄ the division by A is missing",
            ),
            (
                lambda A, B, d: (torch.exp(-d * A), (torch.exp(-d * A) - 1) / -A * B),
                "A is negative already: exp(ΔA) is below 1, and a state fades",
            ),
            (
                lambda A, B, d: (torch.exp(A), (torch.exp(A) - 1) / A * B),
                "this is a step of 1: Δ multiplies A in the exponent",
            ),
            (lambda A, B, d: discretize(A, B, d, "bilinear"), "this is the bilinear rule, not zero-order hold"),
            (
                lambda A, B, d: discretize(A, B, d, "zoh")[::-1],
                "the two are exchanged: return A_bar, then B_bar",
            ),
        ],
    )


def check_scan(fn: Callable) -> CheckResult:
    """``fn(A_bar, B_bar, C, x)`` → y of Eq. 3 for a diagonal system."""

    def late(A_bar, B_bar, C, x):
        y = recurrence(A_bar, B_bar, C, x)
        return torch.cat([torch.zeros_like(y[:1]), y[:-1]])

    cases = [
        (_vector(0.5), _vector(1.0), _vector(1.0), _vector(1, 0, 0, 0)),
        (_vector(0.9, -0.4, 0.2), _vector(1.0, -0.3, 0.7), _vector(2.0, 0.5, -1.0), _vector(1, 2, -1, 0.5, 3)),
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
            (
                lambda A, B, C, x: recurrence(torch.zeros_like(A), B, C, x),
                "the state is forgotten at every token: what was in h must be kept, times A_bar",
            ),
            (
                lambda A, B, C, x: recurrence(torch.ones_like(A), B, C, x),
                "A_bar is not used: the state forgets a share at every token",
            ),
            (
                lambda A, B, C, x: recurrence(A, torch.ones_like(B), C, x),
                "B_bar is missing: it weighs x_t on its way in",
            ),
            (lambda A, B, C, x: recurrence(A, B, torch.ones_like(C), x), "C is missing in the read-out"),
            (
                lambda A, B, C, x: recurrence(A, B, C, x) / len(A),
                "y_t is the sum over the states, not their mean",
            ),
            (
                lambda A, B, C, x: recurrence(A, A * B, C, x),
                "x_t is weakened on its way in: A_bar multiplies the old state alone",
            ),
            (lambda A, B, C, x: recurrence(A, B, C, x)[-1], "one output for every token, not the last one alone"),
        ],
        draw=True,
    )


def check_kernel(fn: Callable) -> CheckResult:
    """``fn(A_bar, B_bar, C, length)`` → K̄ of Eq. 4."""

    def shifted(A_bar, B_bar, C, length):
        return convolution_kernel(A_bar, A_bar * B_bar, C, length)

    cases = [
        (_vector(0.5), _vector(1.0), _vector(1.0), 4),
        (_vector(0.9, 0.4, 0.2), _vector(1.0, -0.3, 0.7), _vector(2.0, 0.5, -1.0), 6),
    ]
    return check_function(
        fn,
        convolution_kernel,
        cases,
        hints=(
            "what does a single 1 at token 0 leave in the output, token after token?",
            "K̄_s = Σ_n C_n Ā_n^s B̄_n for s = 0, 1, ..., length - 1",
        ),
        mistakes=[
            (shifted, "off by one: the first entry is C B̄, with Ā to the power 0"),
            (
                lambda A, B, C, n: convolution_kernel(A, B, C, n).flip(0),
                "reversed: the first entry belongs to the newest token, with Ā to the power 0",
            ),
            (lambda A, B, C, n: convolution_kernel(A, B, C, n).cumsum(0), "these add up: each entry stands for itself"),
            (lambda A, B, C, n: convolution_kernel(A, B, C, n) / len(A), "the sum over the states, not their mean"),
            (lambda A, B, C, n: convolution_kernel(A, torch.ones_like(B), C, n), "B̄ is missing"),
            (lambda A, B, C, n: convolution_kernel(A, B, torch.ones_like(C), n), "C is missing"),
            (lambda A, B, C, n: convolution_kernel(A, B, C, n + 1), "one entry too many: s runs from 0 to length - 1"),
        ],
        draw=True,
    )


def check_half_life(fn: Callable) -> CheckResult:
    """``fn(A, delta)`` → tokens after which a state of decay A has halved."""

    def tokens(A: float, delta: float) -> float:
        return math.log(2) / (-A * delta)

    return check_function(
        fn,
        tokens,
        [(-1.0, 0.1), (-4.0, 0.001), (-0.3, 2.0)],
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
            (lambda A, d: math.floor(tokens(A, d)), "not rounded: a half-life may lie between two tokens"),
            (lambda A, d: tokens(A, d) / math.log(2) * math.log10(2), "exp needs the natural logarithm: math.log"),
            (lambda A, d: tokens(A, 1 / d), "a larger Δ forgets in fewer tokens: divide by it"),
            (
                lambda A, d: math.log(0.5) / math.log(1 + A * d) if A * d > -1 else 0,
                "that is Euler's step 1 + ΔA: exp(ΔA)",
            ),
        ],
    )


def check_causal(fn: Callable) -> CheckResult:
    """``fn(x, kernel)`` → y of the convolution form, from the definition."""

    def same(x, kernel):
        half = len(kernel) // 2
        padded = torch.cat([x, torch.zeros(half, dtype=x.dtype)])
        return causal_convolution(padded, kernel, "direct")[half:]

    cases = [(_vector(1, 0, 0, 2), _vector(1.0, 0.5)), (_vector(1.5, -2, 3, 4, -0.5), _vector(0.2, -0.3, 0.5))]
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
            (
                lambda x, k: causal_convolution(torch.cat([torch.zeros_like(x[:1]), x[:-1]]), k, "direct"),
                "off by one: K̄_0 multiplies the token itself, s starts at 0",
            ),
            (
                lambda x, k: causal_convolution(x, k[:-1], "direct"),
                "off by one: the last entry of the kernel counts, too",
            ),
            (
                lambda x, k: torch.nn.functional.conv1d(x[None, None], k.flip(0)[None, None])[0, 0],
                "there is an output for every token: before the first one stand zeros",
            ),
            (
                lambda x, k: torch.as_tensor(np.convolve(x.numpy(), k.numpy())),
                "as many outputs as tokens: what comes after the last token is cut off",
            ),
            (lambda x, k: x * k.sum(), "y_t weighs *earlier* tokens as well: x_{t-s}"),
        ],
    )
