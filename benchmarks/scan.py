"""The selective scan, forward and forward + backward, against the sequential torch loop and mambapy's parallel scan.

    python benchmarks/scan.py [--repeats 3] [--quick]

Shapes are (batch, channels, tokens, state). ``s1`` is PiM of the first stage at 320 x 320 with windows of 40. Peers
take seconds a call at these sizes, hence few repeats; --quick uses an eighth of the batch (of the channels for one
sequence).
"""

from __future__ import annotations

import argparse
import platform

import pandas as pd
import torch
from mambapy.pscan import pscan
from timing import medians

from lkm_kit.ssm import selective_scan

SHAPES = {"s1": (64, 64, 1600, 16), "s2": (64, 128, 400, 16), "s3": (16, 256, 400, 16), "long": (1, 64, 25600, 16)}


def operands(batch: int, d: int, length: int, n: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)

    def tokens(channels: int) -> torch.Tensor:
        return torch.randn(batch, length, channels).transpose(1, 2)

    return {
        "u": tokens(d),
        "delta": tokens(d) - 3,
        "A": -torch.arange(1.0, n + 1).repeat(d, 1),
        "B": tokens(n),
        "C": tokens(n),
        "D": torch.ones(d),
    }


def mambapy_scan(u, delta, A, B, C, D) -> torch.Tensor:
    """The same operator by mambapy's parallel scan, whose tensors are (batch, length, channels, state)."""
    u, delta, B, C = (t.transpose(1, 2) for t in (u, delta, B, C))
    delta = torch.nn.functional.softplus(delta)
    states = pscan(torch.exp(delta[..., None] * A), (delta * u)[..., None] * B[:, :, None])
    return ((states @ C[..., None]).squeeze(-1) + D * u).transpose(1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")

    scans = {
        "cpu": lambda p: selective_scan(**p, delta_softplus=True, backend="cpu"),
        "reference": lambda p: selective_scan(**p, delta_softplus=True, backend="reference"),
        "mambapy": lambda p: mambapy_scan(**p),
    }
    rows = []
    for name, (batch, d, length, n) in SHAPES.items():
        if args.quick:
            batch, d = (batch // 8, d) if batch > 8 else (batch, d // 4)
        p = operands(batch, d, length, n)
        leaves = {k: v.detach().requires_grad_() for k, v in p.items()}
        weight = torch.randn(batch, d, length)

        def forward(scan, p=p):
            with torch.no_grad():
                return scan(p)

        def both(scan, leaves=leaves, weight=weight):
            return torch.autograd.grad(scan(leaves), list(leaves.values()), weight)

        values = {k: forward(scan) for k, scan in scans.items()}
        for peer in ("reference", "mambapy"):
            torch.testing.assert_close(values["cpu"], values[peer], atol=1e-3, rtol=1e-3)
        for what, run in (("forward", forward), ("forward+backward", both)):
            seconds = medians({k: (lambda s=scan, r=run: r(s)) for k, scan in scans.items()}, args.repeats)
            rows.append(
                {"shape": f"{name} {(batch, d, length, n)}", "pass": what}
                | {f"{k} ms": round(1e3 * v, 1) for k, v in seconds.items()}
                | {f"x {k}": round(seconds[k] / seconds["cpu"], 1) for k in ("reference", "mambapy")}
            )
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
