"""PiM and PaM on a GPU, at every stage of the paper's networks: the walk over the map against the ways through tokens.

    python benchmarks/gpu.py --csv benchmarks/results/gpu.csv

Contestants, with the same weights and checked to give the same values before they are timed:

* ``map``: the layer as it is on the ``triton`` backend, which looks pixels up in a table.
* ``tokens``: windows cut out as tokens and put back, the same Triton kernels between.
* ``released``: how the released code composes the layer: tokens cut out, flipped copies for the backward direction,
  each direction a mixer of its own; with mamba_ssm's and causal_conv1d's kernels where they are installed, else with
  the Triton scan and torch's convolution.

Milliseconds are medians over repeats that take turns. MiB: the most that a pass holds above its input and weights.
Bandwidth: the bytes that the mixers of any implementation have to move (``lkm_kit.bench.block.least_bytes``) over the
time of ``map``, as a share of what copying a large tensor reaches in the same run. Needs a CUDA device. No results of
this script are committed so far: the kernels have been checked in Triton's interpreter only.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from lkm_kit.bench.block import least_bytes
from lkm_kit.blocks import PaM, PiM, to_map, to_tokens
from lkm_kit.blocks.orders import window_sides
from lkm_kit.errors import KitError
from lkm_kit.networks import build_network
from lkm_kit.networks.sizes import stage_maps
from lkm_kit.shapes import size_text
from lkm_kit.ssm import Mamba, causal_conv_silu, scan_backends, selective_scan

IMAGES = {"released-2d": (320, 320), "paper-2d": (320, 320), "paper-3d": (40, 224, 192)}
"""Networks and the patches that the paper trains them on."""
BATCH = {2: 24, 3: 2}
"""The paper's batch sizes in 2D and 3D."""
DEVICE = "cuda"


def through_tokens(layer: PiM | PaM, mixed: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The layer with ``mixed`` (tokens → tokens) in BiM's place and tokens cut out of the map."""

    def pim(x: Tensor) -> Tensor:
        cut = (layer.window, layer.partition)
        return x + to_map(mixed(to_tokens(x, *cut)), x.shape, *cut)

    def pam(x: Tensor) -> Tensor:
        sides = window_sides(x.shape[2:], layer.pool, layer.partition)
        pooled = (F.avg_pool2d if x.ndim == 4 else F.avg_pool3d)(x, sides)
        whole = pooled.shape[2:]
        return x + F.interpolate(to_map(mixed(to_tokens(pooled, whole)), whole, whole), size=x.shape[2:])

    return pim if isinstance(layer, PiM) else pam


def released_mix(mixer: Mamba, tokens: Tensor, kernels: str) -> Tensor:
    """One forward-running mixer in the released code's order of operations, with the scan of backend ``kernels``."""
    x, z = mixer.in_proj(tokens).transpose(1, 2).chunk(2, dim=1)
    convolution = "cuda" if kernels == "cuda" else "reference"  # reference: torch's conv1d and SiLU
    x = causal_conv_silu(x, mixer.conv1d.weight[:, 0], mixer.conv1d.bias, backend=convolution)
    sizes = [mixer.dt_rank, mixer.d_state, mixer.d_state]
    low_rank, B, C = mixer.x_proj(x.transpose(1, 2)).split(sizes, dim=-1)
    delta = F.linear(low_rank, mixer.dt_proj.weight).transpose(1, 2)
    B, C = (t.transpose(1, 2).contiguous() for t in (B, C))
    bias, A = mixer.dt_proj.bias, -torch.exp(mixer.A_log)
    y = selective_scan(x, delta, A, B, C, mixer.D, z, bias, delta_softplus=True, backend=kernels)
    return y.transpose(1, 2)


def contestants(layer: PiM | PaM, kernels: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """The three ways through one layer; ``kernels`` is the backend of the released composition's scan."""
    bim = layer.bim

    def released(tokens: Tensor) -> Tensor:
        normed = bim.norm(tokens)
        total = released_mix(bim.mamba_forward, normed, kernels)
        if bim.bidirectional:
            total = total + released_mix(bim.mamba_backward, normed.flip(1), kernels).flip(1)
        return bim.out_proj(total)

    return {"map": layer, "tokens": through_tokens(layer, bim), "released": through_tokens(layer, released)}


def layers(name: str, image: tuple[int, ...]) -> Iterator[tuple[str, PiM | PaM, tuple[int, ...]]]:
    """PiM and PaM of every stage of a network on the ``triton`` backend, each with the size of its map."""
    network = build_network(f"lkm-unet/{name}", input_channels=1, num_classes=14, backend="triton")
    for stage, size in enumerate(stage_maps(image, network.strides)):
        block = network.encoder.mixers[stage]
        for part in (block.pim, block.pam):
            yield f"{stage} {type(part).__name__}", part.to(DEVICE), size
            part.cpu()


def milliseconds(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Medians by CUDA events; the contestants take turns."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 2):  # two to compile and to warm up
        for name, run in runs.items():
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            stop.record()
            stop.synchronize()
            if turn > 1:
                taken[name].append(start.elapsed_time(stop))
    return {name: statistics.median(values) for name, values in taken.items()}


def mebibytes(run: Callable[[], object]) -> float:
    """The most memory that ``run`` holds above what is there before it."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def bandwidth(repeats: int) -> float:
    """Bytes per second of copying 1 GiB: each is read and written."""
    source = torch.empty(2**28, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * 2**30 / (milliseconds({"copy": lambda: target.copy_(source)}, repeats)["copy"] / 1e3)


def rows(
    name: str, image: tuple[int, ...], batch: int, kernels: str, repeats: int, copied: float
) -> Iterator[dict[str, object]]:
    """A row for each layer of a network and pass."""
    for what, layer, size in layers(name, image):
        channels = layer.bim.channels
        x = torch.randn(batch, channels, *size, device=DEVICE, requires_grad=True)
        weight = torch.randn_like(x)
        leaves = [x, *layer.parameters()]
        ways = contestants(layer, kernels)
        check(ways, x)

        def forward(way, x=x):
            with torch.no_grad():
                way(x)

        def both(way, x=x, leaves=leaves, weight=weight):
            torch.autograd.grad(way(x), leaves, weight)

        pooled = 1 if isinstance(layer, PiM) else math.prod(window_sides(size, layer.pool, layer.partition))
        tokens = math.prod(size) // pooled
        for passes, run, share in (("forward", forward, 0.5), ("forward+backward", both, 1.0)):
            calls = {key: (lambda way=way, run=run: run(way)) for key, way in ways.items()}
            time = milliseconds(calls, repeats)
            memory = {key: mebibytes(call) for key, call in calls.items()}
            least = share * least_bytes(batch, tokens, channels) / copied
            yield (
                {"network": name, "stage": what, "map": size_text(size), "channels": channels, "pass": passes}
                | {f"{key} ms": value for key, value in time.items()}
                | {f"{key} / map": time[key] / time["map"] for key in ("tokens", "released")}
                | {f"{key} MiB": value for key, value in memory.items()}
                | {"bandwidth %": 100 * 1e3 * least / time["map"]}
            )


@torch.no_grad()
def check(ways: dict[str, Callable[[Tensor], Tensor]], x: Tensor) -> None:
    """Raise an AssertionError if two ways give different values."""
    values = {key: way(x) for key, way in ways.items()}
    for key in ("tokens", "released"):
        torch.testing.assert_close(
            values["map"], values[key], atol=2e-3, rtol=2e-3, msg=lambda m, key=key: f"{key}: {m}"
        )


def whole_networks(table: pd.DataFrame) -> pd.DataFrame:
    """Sums of the times over each network's layers, and the largest memory."""
    groups = table.groupby(["network", "pass"], sort=False)
    sums = groups[["map ms", "tokens ms", "released ms"]].sum()
    largest = groups[["map MiB", "tokens MiB", "released MiB"]].max()
    ratios = {f"{key} / map": sums[f"{key} ms"] / sums["map ms"] for key in ("tokens", "released")}
    return sums.assign(**ratios).join(largest).reset_index()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=IMAGES, default=list(IMAGES))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batch", type=int, help="instead of the paper's 24 (2D) and 2 (3D)")
    parser.add_argument("--csv", type=Path, help="also write the table of all layers here")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise KitError(
            "torch sees no CUDA device, and this benchmark times GPU kernels",
            remedy="run it with an NVIDIA GPU and torch's CUDA wheel (environment-gpu.yml); `lkm bench` is for CPUs",
        )
    import triton

    kernels = "cuda" if scan_backends()["cuda"] == "ok" else "triton"
    copied = bandwidth(given.repeats)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, triton {triton.__version__}")
    print(f"copies {copied / 1e9:.0f} GB/s; released: scan of backend {kernels!r} ({scan_backends()['cuda']})")
    collected: list[dict[str, object]] = []
    for name in given.networks:
        image = IMAGES[name]
        batch = given.batch or BATCH[len(image)]
        collected += [{"batch": batch, **row} for row in rows(name, image, batch, kernels, given.repeats, copied)]
    table = pd.DataFrame(collected)
    with pd.option_context("display.width", 250, "display.max_columns", None, "display.precision", 2):
        print(table.to_string(index=False), whole_networks(table).to_string(index=False), sep="\n\n")
    if given.csv is not None:
        from lkm_kit.files import write_text

        write_text(given.csv, table.round(4).to_csv(index=False))


if __name__ == "__main__":
    try:
        main()
    except KitError as error:
        sys.exit(f"error: {error}")
