"""The whole BiM block against the least it could cost: its matrix products, and its bytes at the memory's speed.

The scan's own arithmetic is left out of that floor on purpose: it says how far everything else has been pushed down.
"""

from __future__ import annotations

import pandas as pd
import torch

from lkm_kit.bench.floor import BACKWARD, FORWARD, measure
from lkm_kit.bench.timing import medians
from lkm_kit.blocks import BiM
from lkm_kit.memory import keep_memory


def products(sequences: int, length: int, channels: int, d_state: int = 16):
    """BiM's matrix products, forward and backward, on random matrices of their sizes; nothing else."""
    rows, inner = sequences * length, 2 * channels
    rank = -(-channels // 16)
    sizes = [(4 * inner, channels), *[(rank + 2 * d_state, inner), (inner, rank)] * 2, (channels, inner)]
    torch.manual_seed(0)
    work = [(torch.randn(rows, k), torch.randn(m, k), torch.randn(rows, m)) for m, k in sizes]

    def run() -> None:
        for x, w, dy in work:
            x @ w.t()  # forward
            dy @ w  # gradient of the input
            parts = torch.bmm(dy.view(sequences, length, -1).transpose(1, 2), x.view(sequences, length, -1))
            parts.sum(0)  # gradient of the weight

    return run


def least_bytes(sequences: int, length: int, channels: int) -> int:
    """Bytes of the tensors between the steps, each written once and read once in both passes.

    Per token: the input c, x and z of both directions 8c, x after the convolution 4c, Δ 4c, the sum 2c, the output c;
    as many gradients again.
    """
    return 2 * 2 * 4 * sequences * length * 20 * channels


def table(*, repeats: int = 5, sequences: int = 64, length: int = 1600, channels: int = 32) -> pd.DataFrame:
    """One row: BiM forward + backward at 64 windows of 40×40, its floor, and their ratio.

    >>> list(table(repeats=1, sequences=2, length=8, channels=8)["BiM / floor"] > 0)
    [True]
    """
    keep_memory()  # as in training
    torch.manual_seed(0)
    block = BiM(channels, backend="cpu")
    tokens = torch.randn(sequences, length, channels, requires_grad=True)
    weight = torch.randn_like(tokens)
    parameters = [tokens, *block.parameters()]
    run = {
        "BiM": lambda: torch.autograd.grad(block(tokens), parameters, weight),
        "products": products(sequences, length, channels),
    }
    seconds = medians(run, repeats)
    rates = measure()
    updates = 2 * sequences * length * 2 * channels * 16
    scan = rates.scan_seconds(updates, **FORWARD) + rates.scan_seconds(updates, **BACKWARD)
    moved = least_bytes(sequences, length, channels) / rates.bytes
    floor = seconds["products"] + moved
    row = {
        "block": f"BiM, {sequences} sequences of {length}, {channels} channels",
        "BiM ms": 1e3 * seconds["BiM"],
        "products ms": 1e3 * seconds["products"],
        "bytes ms": 1e3 * moved,
        "scans' floor ms": 1e3 * scan,
        "BiM / floor": seconds["BiM"] / floor,
        "BiM / (floor + scans)": seconds["BiM"] / (floor + scan),
    }
    return pd.DataFrame([row]).round(2)
