"""What a token costs by mixer: tokens a second and memory, against the length of the sequence."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from lkm_kit.bench.timing import medians
from lkm_kit.blocks import MIXERS, PiM
from lkm_kit.studies.costs import kept_for_backward


def table(
    sides: Sequence[int] = (8, 16, 32, 64), *, mixers: Sequence[str] | None = None, channels: int = 32, repeats: int = 5
) -> pd.DataFrame:
    """Forward and backward pass of PiM over one window as large as the map, by mixer and by the window's side.

    Args:
        sides: of the square window, in pixels; a sequence has side² tokens.
        mixers: names of :data:`lkm_kit.blocks.MIXERS`; all by default.
        channels: of the map.
        repeats: timed repetitions, of which the median counts; the mixers take turns.

    Returns:
        one row per mixer and side: ``parameters``, ``tokens``, ``tokens/s`` and ``MiB``, which the backward pass keeps.

    >>> frame = table((4,), mixers=["bim", "mingru"], channels=8, repeats=1)
    >>> list(frame.columns), len(frame)
    (['mixer', 'parameters', 'tokens', 'tokens/s', 'MiB'], 2)
    """
    rows = []
    for side in sides:
        torch.manual_seed(0)
        layers = {name: PiM(channels, (side, side), mixer=name) for name in (MIXERS if mixers is None else mixers)}
        x = torch.randn(1, channels, side, side, requires_grad=True)
        weight = torch.randn_like(x)
        runs = {
            name: (lambda n=layer, t=x, w=weight: torch.autograd.grad(n(t), [t, *n.parameters()], w))
            for name, layer in layers.items()
        }
        seconds = medians(runs, repeats)
        for name, layer in layers.items():
            rows.append(
                {
                    "mixer": name,
                    "parameters": sum(p.numel() for p in layer.parameters()),
                    "tokens": side * side,
                    "tokens/s": round(side * side / seconds[name]),
                    "MiB": round(kept_for_backward(layer, x, [x, *layer.parameters()]) / 2**20, 3),
                }
            )
    return pd.DataFrame(rows).sort_values(["mixer", "tokens"], ignore_index=True)
