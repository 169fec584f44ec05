"""PiM and PaM on a GPU, at every stage of the paper's networks: the walk over the map against the ways through tokens.

Contestants, with the same weights and checked to give the same values before they are timed:

* ``map``: the layer as it is on the ``triton`` backend, which looks pixels up in a table.
* ``tokens``: windows cut out as tokens and put back, the same Triton kernels between.
* ``released``: how the released code composes the layer: tokens cut out, flipped copies for the backward direction,
  each direction a mixer of its own. With mamba_ssm's and causal_conv1d's kernels where they are installed, else with
  the Triton scan and torch's convolution.

Milliseconds are medians over repeats that take turns. MiB: the most that a pass holds above its input and weights.
Beside them stands what :mod:`lkm_kit.bench.roofline` predicts for all kernels of ``map`` from the bandwidth that
copying a large tensor reaches in the same run, and the share of that prediction which ``map`` reaches. Needs a CUDA
device. Results of an H200 are in ``benchmarks/results/gpu-h200.txt``.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from lkm_kit.bench.kernels import kernels_of
from lkm_kit.bench.roofline import CARDS, PAPER, Card, mamba_layers
from lkm_kit.blocks import PaM, PiM, to_map, to_tokens
from lkm_kit.blocks.orders import window_sides
from lkm_kit.errors import KitError
from lkm_kit.shapes import size_text
from lkm_kit.ssm import Mamba, causal_conv_silu, scan_backends, selective_scan

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


def ahead(way: Callable[[Tensor], Tensor], leaves: Sequence[Tensor], weight: Tensor) -> None:
    """The forward pass alone."""
    with torch.no_grad():
        way(leaves[0])


def both(way: Callable[[Tensor], Tensor], leaves: Sequence[Tensor], weight: Tensor) -> None:
    """Forward and backward pass."""
    torch.autograd.grad(way(leaves[0]), leaves, weight)


PASSES = {"forward": ahead, "forward+backward": both}


def rows(
    network: str, image: Sequence[int], batch: int, kernels: str, repeats: int, card: Card
) -> Iterator[dict[str, object]]:
    """A row for each layer of a network and pass."""
    for stage, layer, size in mamba_layers(network, image, backend="triton"):
        layer.to(DEVICE)
        channels = layer.bim.channels
        x = torch.randn(batch, channels, *size, device=DEVICE, requires_grad=True)
        weight = torch.randn_like(x)
        leaves, twin = [x, *layer.parameters()], copy.deepcopy(layer).to("meta")
        shapes = [torch.empty_like(x, device="meta").requires_grad_(), *twin.parameters()]
        ways = contestants(layer, kernels)
        check(ways, x)
        for passes, run in PASSES.items():
            seconds = sum(map(card.seconds, kernels_of(partial(run, twin, shapes, shapes[0].detach()))))
            calls = {key: partial(run, way, leaves, weight) for key, way in ways.items()}
            time = milliseconds(calls, repeats)
            memory = {key: mebibytes(call) for key, call in calls.items()}
            yield (
                {"network": network, "stage": stage, "map": size_text(size), "channels": channels, "pass": passes}
                | {"batch": batch, "predicted ms": 1e3 * seconds}
                | {f"{key} ms": value for key, value in time.items()}
                | {f"{key} / map": time[key] / time["map"] for key in ("tokens", "released")}
                | {f"{key} MiB": value for key, value in memory.items()}
                | {"predicted / map, %": 100 * 1e3 * seconds / time["map"]}
            )
        layer.cpu()


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


def this_card(repeats: int = 20) -> Card:
    """The device at the bandwidth that it reaches here, and its published rates where the card is known."""
    name = torch.cuda.get_device_name()
    known = next((card for key, card in CARDS.items() if key in name), None)
    memory = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    rates = (known.float32, known.tensor_cores) if known else (math.inf, math.inf)
    return Card(bandwidth(repeats), *rates, memory)


def table(networks: Sequence[str] = tuple(PAPER), *, repeats: int = 20, batch: int | None = None) -> pd.DataFrame:
    """One row for each layer and pass of the networks.

    Args:
        networks: names of :data:`lkm_kit.bench.roofline.PAPER`.
        repeats: timed repetitions.
        batch: instead of the paper's.

    Raises:
        KitError: torch sees no CUDA device.
    """
    if not torch.cuda.is_available():
        raise KitError(
            "torch sees no CUDA device, and this benchmark times GPU kernels",
            remedy="lkm bench gpu --predict says what a GPU could reach; the other benchmarks are for CPUs",
        )
    kernels = "cuda" if scan_backends()["cuda"] == "ok" else "triton"
    card = this_card(repeats)
    found: list[dict[str, object]] = []
    for name in networks:
        image, own = PAPER[name]
        found += rows(name, image, batch or own, kernels, repeats, card)
    result = pd.DataFrame(found).round(4)
    result.attrs["note"] = (
        f"copies {card.bandwidth / 1e9:.0f} GB/s; released: scan of backend {kernels!r} ({scan_backends()['cuda']})\n"
        f"{whole_networks(result).round(2).to_string(index=False)}"
    )
    return result
