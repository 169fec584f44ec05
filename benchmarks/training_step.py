"""A training step of tiny LKM-UNet: cpu backend against reference, alone and beside a process that keeps a core busy.

    python benchmarks/training_step.py [--repeats 3]

The step is forward, Dice + cross-entropy, backward and AdamW, at the laptop profile's size and batch.
"""

from __future__ import annotations

import argparse
import contextlib

import pandas as pd
import torch
from monai.losses import DiceCELoss
from timing import busy_core, medians

from lkm_kit.networks import build_network
from lkm_kit.profiles import profile


def step(backend: str | None):
    """One training step; None is the control without Mamba."""
    p = profile("laptop")
    torch.manual_seed(0)
    options = {"pim": False, "pam": False} if backend is None else {"backend": backend}
    network = build_network(f"lkm-unet/{p.network}", input_channels=1, num_classes=len(p.organs) + 1, **options)
    optimizer = torch.optim.AdamW(network.parameters())
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    image = torch.randn(p.batch_size, 1, *p.image_size)
    label = torch.randint(0, len(p.organs) + 1, (p.batch_size, 1, *p.image_size))

    def run() -> None:
        optimizer.zero_grad()
        loss(network(image), label).backward()
        optimizer.step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    steps = {"cpu": step("cpu"), "reference": step("reference"), "no Mamba": step(None)}
    rows = []
    for machine, context in (("alone", contextlib.nullcontext()), ("beside a busy process", busy_core())):
        with context:
            seconds = medians(steps, repeats)
        rows.append(
            {"machine": machine}
            | {f"{k} ms": round(1e3 * v) for k, v in seconds.items()}
            | {"reference / cpu": round(seconds["reference"] / seconds["cpu"], 1)}
            | {"cpu / no Mamba": round(seconds["cpu"] / seconds["no Mamba"], 1)}
        )
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
