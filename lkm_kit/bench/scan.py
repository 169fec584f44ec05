"""The selective scan against its peers and against the machine's floor.

Shapes are (batch, channels, tokens, states). ``s1`` is PiM of the first stage at 320×320 with windows of 40, ``s2`` of
the second with windows of 20, ``long`` a whole map of 160×160 as one sequence.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from lkm_kit.bench.floor import BACKWARD, FORWARD, Rates, measure
from lkm_kit.bench.plain import plain_scan
from lkm_kit.bench.timing import medians
from lkm_kit.ssm import selective_scan

FORWARD_ONLY = "plain numba"
SHAPES = {"s1": (64, 64, 1600, 16), "s2": (64, 128, 400, 16), "s3": (16, 256, 400, 16), "long": (1, 64, 25600, 16)}


def operands(batch: int, d: int, length: int, n: int) -> dict[str, Tensor]:
    """Inputs of a scan with values as in a network: Δ around 0.05 after softplus, A = -(1, ..., n)."""
    torch.manual_seed(0)

    def tokens(channels: int) -> Tensor:
        return torch.randn(batch, length, channels).transpose(1, 2)

    return {
        "u": tokens(d),
        "delta": tokens(d) - 3,
        "A": -torch.arange(1.0, n + 1).repeat(d, 1),
        "B": tokens(n),
        "C": tokens(n),
        "D": torch.ones(d),
    }


def mambapy_scan(u, delta, A, B, C, D) -> Tensor:
    """The same operator by mambapy's parallel scan, whose tensors are (batch, length, channels, state)."""
    from mambapy.pscan import pscan

    u, delta, B, C = (t.transpose(1, 2) for t in (u, delta, B, C))
    delta = torch.nn.functional.softplus(delta)
    states = pscan(torch.exp(delta[..., None] * A), (delta * u)[..., None] * B[:, :, None])
    return ((states @ C[..., None]).squeeze(-1) + D * u).transpose(1, 2)


def contestants(peers: bool = True) -> dict[str, Callable[[dict[str, Tensor]], Tensor]]:
    """The kit's scan first, then plain numba (forward alone), a loop of torch, and whatever else is installed."""
    import importlib.util

    scans = {"cpu": lambda p: selective_scan(**p, delta_softplus=True, backend="cpu")}
    if peers:
        scans[FORWARD_ONLY] = lambda p: plain_scan(**p)
        scans["torch loop"] = lambda p: selective_scan(**p, delta_softplus=True, backend="reference")
        if importlib.util.find_spec("mambapy"):
            scans["mambapy"] = lambda p: mambapy_scan(**p)
    return scans


def table(shapes: list[str] | None = None, *, repeats: int = 3, peers: bool = True) -> pd.DataFrame:
    """Milliseconds of every contestant, how many times slower than ``cpu`` they are, and ``cpu`` over the floor.

    The contestants' values are compared before they are timed.

    >>> frame = table(["tiny"], repeats=1, peers=False)
    >>> list(frame["pass"])
    ['forward', 'forward+backward']
    """
    sizes = {**SHAPES, "tiny": (2, 16, 32, 4)}
    scans = contestants(peers)
    rates = measure()
    rows = []
    for name in shapes or SHAPES:
        p = operands(*sizes[name])
        updates = torch.Size(sizes[name]).numel()
        leaves = {k: v.detach().requires_grad_() for k, v in p.items()}
        weight = torch.randn_like(p["u"])

        def forward(scan, p=p):
            with torch.no_grad():
                return scan(p)

        def both(scan, leaves=leaves, weight=weight):
            return torch.autograd.grad(scan(leaves), list(leaves.values()), weight)

        values = {k: forward(scan) for k, scan in scans.items()}
        for peer in values:
            torch.testing.assert_close(values["cpu"], values[peer], atol=1e-3, rtol=1e-3)
        for what, run in (("forward", forward), ("forward+backward", both)):
            able = {k: scan for k, scan in scans.items() if k != FORWARD_ONLY or run is forward}
            seconds = medians({k: (lambda s=scan, r=run: r(s)) for k, scan in able.items()}, repeats)
            floor = _floor(rates, updates, what)
            rows.append(
                {"shape": f"{name} {sizes[name]}", "pass": what}
                | {f"{k} ms": 1e3 * v for k, v in seconds.items()}
                | {f"{k} / cpu": seconds[k] / seconds["cpu"] for k in seconds if k != "cpu"}
                | {"floor ms": 1e3 * floor, "cpu / floor": seconds["cpu"] / floor}
            )
    frame = pd.DataFrame(rows).round(1)
    exponentials, fmas = rates.exponentials / 1e9, rates.fmas / 1e9
    frame.attrs["note"] = f"floor: {exponentials:.1f} G exponentials/s, {fmas:.0f} G multiply-adds/s, measured now"
    return frame


def _floor(rates: Rates, updates: int, what: str) -> float:
    forward = rates.scan_seconds(updates, **FORWARD)
    return forward if what == "forward" else forward + rates.scan_seconds(updates, **BACKWARD)
