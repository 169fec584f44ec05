"""Peak memory of a scan's forward and backward pass, each contestant in a process of its own."""

from __future__ import annotations

import pandas as pd
import torch

from lkm_kit.bench.scan import FORWARD_ONLY, SHAPES, contestants, operands
from lkm_kit.bench.timing import in_own_process
from lkm_kit.memory import peak_bytes


def _peak(name: str, shape: tuple[int, int, int, int]) -> float:
    scan = contestants()[name]
    small = {k: v.detach().requires_grad_() for k, v in operands(1, 16, 20, 4).items()}
    scan(small).sum().backward()  # compiled code and libraries are not the scan's memory
    leaves = {k: v.detach().requires_grad_() for k, v in operands(*shape).items()}
    weight = torch.randn_like(leaves["u"])
    before = peak_bytes()
    torch.autograd.grad(scan(leaves), list(leaves.values()), weight)
    return (peak_bytes() - before) / 2**20


def table(shapes: tuple[str, ...] = ("s1", "s3")) -> pd.DataFrame:
    """MiB beyond the inputs at the worst moment of forward + backward, gradients of the inputs included."""
    rows = []
    for shape in shapes:
        peaks = {name: in_own_process(_peak, name, SHAPES[shape]) for name in contestants() if name != FORWARD_ONLY}
        row = {"shape": f"{shape} {SHAPES[shape]}"} | {f"{k} MiB": v for k, v in peaks.items()}
        rows.append(row | {f"{k} / cpu": v / peaks["cpu"] for k, v in peaks.items() if k != "cpu"})
    return pd.DataFrame(rows).round(1)
