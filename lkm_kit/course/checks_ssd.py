"""Check of the exercise on Mamba-2 as attention (chapter ``17_other_scans``)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.ssm.ssd import ssd_recurrence


def check_ssd_attention(fn: Callable) -> CheckResult:
    """``fn(x, delta, A, B, C)``: one head of Mamba-2 as masked attention: x (l, p), delta (l,), A, B and C (l, n)."""

    def target(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        y, _ = ssd_recurrence(
            x[None, :, None], delta[None, :, None], A.reshape(1), B[None, :, None], C[None, :, None]
        )  # fmt: skip
        return y[0, :, 0]

    def weights(delta: Tensor, A: Tensor, B: Tensor, C: Tensor, masked: bool = True) -> Tensor:
        time = (A * delta).cumsum(0)
        decay = torch.exp(time[:, None] - time)
        return (decay.tril() if masked else decay) * (C @ B.T)

    def without_decay(x, delta, A, B, C):
        return (C @ B.T).tril() @ (delta[:, None] * x)

    def softmax(x, delta, A, B, C):
        past = torch.ones(len(x), len(x), dtype=torch.bool).tril()
        return (C @ B.T).masked_fill(~past, -torch.inf).softmax(-1) @ (delta[:, None] * x)

    def itself_missing(x, delta, A, B, C):
        return weights(delta, A, B, C).tril(-1) @ (delta[:, None] * x)

    def decays_itself(x, delta, A, B, C):
        time = (A * delta).cumsum(0)
        return (torch.exp(time[:, None] - time + (A * delta)).tril() * (C @ B.T)) @ (delta[:, None] * x)

    random = torch.Generator().manual_seed(0)

    def case(length: int, p: int, n: int) -> tuple[Tensor, ...]:
        x, B, C = (torch.randn(length, k, generator=random) for k in (p, n, n))
        return x, torch.rand(length, generator=random), -torch.rand((), generator=random) - 0.2, B, C

    return check_function(
        fn,
        target,
        [case(2, 1, 1), case(5, 3, 2), case(9, 2, 4)],
        hints=(
            "which number says how much of token s reaches output t, and what is it for s > t?",
            "y = (L * (C @ B.T)) @ (delta[:, None] * x), L[t, s] = exp(time[t] - time[s]) for s <= t and 0 above, "
            "time = (A * delta).cumsum(0)",
        ),
        mistakes=[
            (lambda x, d, A, B, C: weights(d, A, B, C, False) @ (d[:, None] * x), "no output hears later tokens: mask"),
            (lambda x, d, A, B, C: weights(d, A, B, C) @ x, "a token enters with its step: delta * x"),
            (lambda x, d, A, B, C: weights(d, A, C, B) @ (d[:, None] * x), "C asks (row t), B is asked (column s)"),
            (without_decay, "this forgets nothing: the mask holds the decay from s to t"),
            (softmax, "there is no softmax: the decay takes its place"),
            (itself_missing, "a token hears itself: the diagonal of the mask is 1"),
            (
                lambda x, d, A, B, C: (weights(d, A, B, C, False).T.tril().T) @ (d[:, None] * x),
                "the wrong half: an output hears *earlier* tokens, s <= t is tril",
            ),
            (
                lambda x, d, A, B, C: weights(-d, A, B, C) @ (d[:, None] * x),
                "A is negative: L[t, s] = exp(time[t] - time[s])",
            ),
            (
                lambda x, d, A, B, C: (torch.exp(A * (len(d) * d.mean())) * (C @ B.T)).tril() @ (d[:, None] * x),
                "the decay from s to t depends on s and t: add up the steps between",
            ),
            (
                lambda x, d, A, B, C: (
                    ((A * d).cumsum(0)[:, None] - (A * d).cumsum(0)).tril() * (C @ B.T) @ (d[:, None] * x)
                ),
                "the decay is the exponential of that difference",
            ),
            (
                lambda x, d, A, B, C: weights(torch.ones_like(d), A, B, C) @ (d[:, None] * x),
                "the steps differ: A * delta goes into the decay",
            ),
            (
                lambda x, d, A, B, C: (weights(d, A, B, C) / B.shape[1] ** 0.5) @ (d[:, None] * x),
                "no division by a root: this is not softmax attention",
            ),
            (
                lambda x, d, A, B, C: weights(d, A, B, C) @ (d[:, None] * x) + x,
                "no skip here: the recurrence alone",
            ),
            (
                lambda x, d, A, B, C: (weights(d, A, B, C) @ (d[:, None] * x)).cumsum(0),
                "the mask sums over earlier tokens already",
            ),
            (
                lambda x, d, A, B, C: (weights(d, A, B, C) * d[:, None]) @ x,
                "the step of the token that *enters*, s, and not of the output t",
            ),
            (decays_itself, "between s and t lie the steps s + 1 to t: a token's own step does not weaken it"),
        ],
    )
