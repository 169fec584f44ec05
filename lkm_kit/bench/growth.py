"""Cost against sequence length: the selective scan grows with L, self-attention with L squared."""

from __future__ import annotations

import pandas as pd
import torch
from torch import nn

from lkm_kit.bench.timing import medians
from lkm_kit.blocks import BiM
from lkm_kit.studies.costs import kept_for_backward


class Attention(nn.Module):
    """Pre-norm self-attention with one output projection: what BiM would be replaced by. (b, l, c) → same."""

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.norm, self.heads = nn.LayerNorm(channels), heads
        self.qkv, self.out_proj = (
            nn.Linear(channels, 3 * channels, bias=False),
            nn.Linear(channels, channels, bias=False),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm(tokens)).chunk(3, -1))
        scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)  # as in the paper's comparison: all of it
        return self.out_proj((scores @ v).transpose(1, 2).flatten(2))


def table(lengths: tuple[int, ...] = (64, 256, 1024, 4096), *, channels: int = 32, repeats: int = 5) -> pd.DataFrame:
    """Milliseconds of forward + backward of one sequence, and the MiB that the backward pass has to keep.

    >>> list(table((16, 32), repeats=1).columns)
    ['tokens', 'BiM ms', 'self-attention ms', 'BiM MiB', 'self-attention MiB']
    """
    torch.manual_seed(0)
    blocks = {"BiM": BiM(channels, backend="auto"), "self-attention": Attention(channels)}
    rows = []
    for length in lengths:
        tokens = torch.randn(1, length, channels, requires_grad=True)
        weight = torch.randn_like(tokens)
        runs = {
            name: (lambda b=block, t=tokens, w=weight: torch.autograd.grad(b(t), [t, *b.parameters()], w))
            for name, block in blocks.items()
        }
        seconds = medians(runs, repeats)
        kept = {
            name: kept_for_backward(block, tokens, [tokens, *block.parameters()]) / 2**20
            for name, block in blocks.items()
        }
        rows.append(
            {"tokens": length}
            | {f"{name} ms": 1e3 * s for name, s in seconds.items()}
            | {f"{name} MiB": m for name, m in kept.items()}
        )
    return pd.DataFrame(rows).round(3)
