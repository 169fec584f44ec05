"""Checks of the exercises on the selective scan (chapter ``02_selective_scan``)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.ssm import Mamba, selective_scan


def check_mamba(cls: Callable) -> CheckResult:
    """``cls(channels)``: the learner's Mamba, in three stages: parameters, first values, outputs with given weights."""
    if cls is None or cls is ...:
        return CheckResult(False, "… your answer: not yet.")

    def parameters(make: Callable) -> Callable:
        @functools.wraps(make, updated=())
        def difference(channels: int) -> str | None:
            wanted, given = (
                {f"{name} {tuple(p.shape)}" for name, p in kind(channels).named_parameters()} for kind in (Mamba, make)
            )
            lacks, has = sorted(wanted - given), sorted(given - wanted)
            said = [f"lacks {', '.join(lacks)}"] * bool(lacks) + [f"has {', '.join(has)}"] * bool(has)
            return ("; ".join(said) or "the same parameters") if given else None

        return difference

    def first_values(make: Callable) -> Callable:
        @functools.wraps(make, updated=())
        def values(channels: int) -> tuple[Tensor, Tensor]:
            module = make(channels)
            return module.A_log, module.D

        return values

    def outputs(make: Callable) -> Callable:
        @functools.wraps(make, updated=())
        def output(tokens: Tensor, weights: dict[str, Tensor]) -> Tensor | None:
            module = make(tokens.shape[-1])
            module.load_state_dict(weights)
            return module(tokens)

        return output

    def slip(
        gate: bool = True, skip: bool = True, silu: bool = True, centred: bool = False, sign: float = -1.0
    ) -> Callable:
        def output(tokens: Tensor, weights: dict[str, Tensor]) -> Tensor:
            m = Mamba(tokens.shape[-1])
            m.load_state_dict(weights)
            x, z = m.in_proj(tokens).mT.chunk(2, dim=1)
            x = m.conv1d(x)[..., m.d_conv - 1 :] if centred else m.conv1d(x)[..., : tokens.shape[1]]
            x = F.silu(x) if silu else x
            narrow, B, C = m.x_proj(x.mT).split([m.dt_rank, m.d_state, m.d_state], dim=-1)
            y = selective_scan(x, F.softplus(m.dt_proj(narrow)).mT, sign * torch.exp(m.A_log), B.mT, C.mT)
            y = y + m.D[:, None] * x if skip else y
            return m.out_proj((y * F.silu(z) if gate else y).mT)

        return output

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        cases = [(torch.randn(1, 4, 8), Mamba(8).state_dict()), (torch.randn(2, 30, 24), Mamba(24).state_dict())]
        stages = (
            (
                (parameters(cls), parameters(Mamba), [(8,), (17,)]),
                {
                    "hints": (
                        "names and shapes are those of the table",
                        "dt_rank is channels / 16, rounded up, at least 1",
                    )
                },
            ),
            (
                (first_values(cls), first_values(Mamba), [(8,)]),
                {
                    "hints": ("A_log holds log(1), ..., log(n) for every inner channel", "D starts at 1"),
                    "mistakes": [
                        (
                            lambda channels: (Mamba(channels).A_log.exp(), Mamba(channels).D),
                            "the module stores the logarithm of 1, ..., n",
                        )
                    ],
                },
            ),
            (
                (outputs(cls), outputs(Mamba), cases),
                {
                    "hints": ("print the shape after every step of section 5", "follow mamba_by_hand, m becoming self"),
                    "mistakes": [
                        (slip(gate=False), "the gate is missing: multiply by SiLU(z)"),
                        (slip(skip=False), "the skip is missing: add D times the scan's input"),
                        (slip(silu=False), "SiLU is missing behind the convolution"),
                        (slip(centred=True), "this convolution looks ahead: cut off the surplus at the *end*"),
                        (slip(sign=1.0), "A is minus the exponential of A_log, or the state grows"),
                    ],
                    "atol": 1e-5,
                },
            ),
        )
        for arguments, options in stages:
            if not (result := check_function(*arguments, **options)):
                break
    return result


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
