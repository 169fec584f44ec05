"""Volumes: ``lkm predict`` on a whole scan, end to end, and the 3D networks on the paper's patch. Time and peak memory.

Each row is a process of its own, so that its peak is the whole story: Python, libraries, the scan and the network.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lkm_kit.bench.timing import in_own_process
from lkm_kit.memory import peak_bytes

PATCH = (40, 224, 192)
"""Of the paper's 3D networks (z, x, y)."""

LAUNCHER = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(child.pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_maxrss)
"""
"""Starts a command and prints its exit code and peak. A program of its own, since Linux counts what the *starting*
process held as the started one's peak: nothing beside this little one, gigabytes beside a test session."""


def make_scan(path: Path, shape: Sequence[int], extent_mm: Sequence[float] = (360.0, 300.0, 330.0)) -> None:
    """A CT of any size as an int16 NIfTI file: the sample's training case, its voxels repeated."""
    import nibabel

    from lkm_kit.data import load_sample

    source = load_sample("ct_a").image
    nearest = [np.arange(n) * size // n for n, size in zip(shape, source.shape)]
    pixels = source.astype(np.int16)[np.ix_(*nearest)]
    nibabel.save(nibabel.Nifti1Image(pixels, np.diag([*(e / n for e, n in zip(extent_mm, shape)), 1.0])), path)


def predict_scan(shape: Sequence[int], checkpoint: str) -> tuple[float, float]:
    """Seconds and peak MiB of the command ``lkm predict`` on a scan of this shape."""
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.nii"
        in_own_process(make_scan, scan, tuple(shape))
        command = ["predict", str(scan), "-o", f"{folder}/seg.nii.gz", "--run", checkpoint, "--device", "cpu"]
        started = time.perf_counter()
        argv = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "lkm_kit.cli", *command]
        code, maxrss = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        if int(code):
            raise subprocess.CalledProcessError(int(code), command)
        return time.perf_counter() - started, _mib(int(maxrss))


def forward(network: str, size: Sequence[int]) -> tuple[float, float]:
    """Seconds of one forward pass (without building the network and compiling the scan) and peak MiB of its process."""
    return in_own_process(_forward, network, tuple(size))


def table(
    *,
    scan: Sequence[int] = (512, 512, 400),
    checkpoints: Sequence[str] = ("tiny-2d",),
    networks: Sequence[str] = ("lkm-unet/paper-3d", "lkm-unet/released-3d"),
    patch: Sequence[int] = PATCH,
) -> pd.DataFrame:
    """A row for each checkpoint on the scan and each network on the patch. Not on Windows, which has no ``wait4``."""
    rows = [("lkm predict, " + name, scan, *predict_scan(scan, name)) for name in checkpoints]
    rows += [("forward, " + name, patch, *forward(name, patch)) for name in networks]
    result = pd.DataFrame(rows, columns=["what", "voxels", "seconds", "peak MiB"]).round(1)
    return result.assign(voxels=[" x ".join(map(str, v)) for v in result["voxels"]])


def _forward(network: str, size: tuple[int, ...]) -> tuple[float, float]:
    import torch

    from lkm_kit.blocks import BiM
    from lkm_kit.networks import build_network

    torch.manual_seed(0)
    built = build_network(network, input_channels=1, num_classes=14).eval()
    with torch.no_grad():
        BiM(8)(torch.zeros(1, 4, 8))  # the first call compiles
        started = time.perf_counter()
        built(torch.randn(1, 1, *size))
    return time.perf_counter() - started, peak_bytes() / 2**20


def _mib(maxrss: int) -> float:
    return maxrss * (1 if sys.platform == "darwin" else 1024) / 2**20  # macOS counts bytes, Linux kibibytes
