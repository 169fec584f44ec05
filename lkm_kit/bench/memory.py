"""Peak memory of a scan's forward and backward pass, each contestant in a process of its own."""

from __future__ import annotations

import multiprocessing

import pandas as pd

from lkm_kit.bench.scan import SHAPES, contestants, operands


def _peak(name: str, shape: tuple[int, int, int, int], pipe) -> None:
    import resource
    import sys

    import torch

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    scan = contestants()[name]
    small = {k: v.detach().requires_grad_() for k, v in operands(1, 16, 20, 4).items()}
    scan(small).sum().backward()  # compiled code and libraries are not the scan's memory
    leaves = {k: v.detach().requires_grad_() for k, v in operands(*shape).items()}
    weight = torch.randn_like(leaves["u"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.autograd.grad(scan(leaves), list(leaves.values()), weight)
    pipe.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit / 2**20)


def table(shapes: tuple[str, ...] = ("s1", "s3")) -> pd.DataFrame:
    """MiB beyond the inputs at the worst moment of forward + backward, gradients of the inputs included.

    Not on Windows, which does not tell a process its peak in the same way.
    """
    context = multiprocessing.get_context("spawn")
    rows = []
    for shape in shapes:
        peaks = {}
        for name in contestants():
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_peak, args=(name, SHAPES[shape], sender))
            process.start()
            sender.close()
            peaks[name] = receiver.recv()
            process.join()
        row = {"shape": f"{shape} {SHAPES[shape]}"} | {f"{k} MiB": v for k, v in peaks.items()}
        rows.append(row | {f"{k} / cpu": v / peaks["cpu"] for k, v in peaks.items() if k != "cpu"})
    return pd.DataFrame(rows).round(1)
