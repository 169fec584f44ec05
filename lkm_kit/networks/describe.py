"""What a network does to an image, stage by stage: maps, windows, tokens, parameters and operations."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from lkm_kit.errors import KitError
from lkm_kit.networks.segmentation import SegmentationNetwork, Stage
from lkm_kit.networks.sizes import stage_maps
from lkm_kit.shapes import padded_size, per_axis
from lkm_kit.ssm import Mamba

if TYPE_CHECKING:
    import pandas as pd


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_, **__) -> int:
    return sdpa_flop_count(query, key, value)


_FORMULAS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
"""What torch's counter does not know: the CPU's own form of attention."""


def describe(network: nn.Module, image_size: int | Sequence[int], input_channels: int | None = None) -> pd.DataFrame:
    """One row per stage of a network, for one image of ``image_size``; a single row where it does not tell its stages.

    Args:
        network: on any device, also "meta" (nothing is computed, and the network stays as it is).
        image_size: (H, W) or (D, H, W) in pixels; one number for all axes of a network of the kit.
        input_channels: for networks that do not say it (``network.input_channels``).

    Returns:
        DataFrame indexed by ``stage``. ``map`` (size of the stage's map) and ``channels``. For PiM ``window``,
        ``sequences`` (per image) and ``tokens`` (per sequence); likewise for U-Mamba's layers, whose window is the map.
        For PaM ``pool`` (patch side in pixels), ``pam_sequences``, ``pam_tokens``. ``parameters`` of encoder and
        decoder at this resolution, which add up to the network's; of them ``pim_parameters`` and ``pam_parameters``.
        ``flops``, floating-point operations of one forward pass; of them ``mixer_flops`` in PiM and PaM. A part that is
        not there has ``None`` and 0.

    Operations are counted by torch's ``FlopCounterMode`` and the formulas of :mod:`lkm_kit.ssm.flops`: two per
    multiply-add of convolutions, products and attention, and 9 · tokens · inner channels · state size for a selective
    scan. Normalisation, activations, pooling and additions are left out.

    Raises:
        KitError: an image size that does not fit, or a network that cannot run on shapes alone.

    >>> from lkm_kit.networks import build_network
    >>> network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=7)
    >>> describe(network, 96)[["map", "window", "sequences", "tokens", "pam_tokens"]].reset_index()
       stage       map    window  sequences  tokens  pam_tokens
    0      0  (96, 96)  (24, 24)         16     576          16
    1      1  (48, 48)  (24, 24)          4     576           4
    2      2  (24, 24)  (12, 12)          4     144           4
    3      3  (12, 12)  (12, 12)          1     144           1
    >>> int(describe(network, 96)["flops"].sum())
    352967680
    """
    import pandas as pd

    dims = getattr(network, "dims", None) or (len(tuple(image_size)) if isinstance(image_size, Iterable) else 0)
    if not dims:
        raise KitError(
            f"{type(network).__name__} does not say its dimension", remedy="give image_size=(H, W) or (D, H, W)"
        )
    size = per_axis(image_size, dims, "image_size")
    counter = _count(network, size, input_channels or getattr(network, "input_channels", 1))
    paths = {module: f"{type(network).__name__}.{name}".rstrip(".") for name, module in network.named_modules()}

    def flops(*modules: nn.Module | None) -> int:
        total = 0
        for module in filter(None, modules):
            called = counter.get(paths[module])
            total += flops(*module.children()) if called is None else sum(called.values())
        return total

    stages, maps = [Stage(None, [network])], [size]
    if isinstance(network, SegmentationNetwork) and network.stage_parts():
        whole = padded_size(size, network.size_multiple()) if network.pad else size
        stages, maps = network.stage_parts(), stage_maps(whole, network.strides)
    rows = []
    for stage, (parts, map_size) in enumerate(zip(stages, maps)):
        mixers = {"pim": parts.pixels, "pam": parts.patches}
        (window, sequences, tokens), (pool, pam_sequences, pam_tokens) = (
            (None, 0, 0) if mixer is None else cast(Any, mixer).layout(map_size) for mixer in mixers.values()
        )
        row = {
            "stage": stage, "map": map_size, "channels": parts.channels,
            "window": window, "sequences": sequences, "tokens": tokens,
            "pool": pool, "pam_sequences": pam_sequences, "pam_tokens": pam_tokens,
            "parameters": _parameters(*parts.parts, *mixers.values()),
            **{f"{name}_parameters": _parameters(mixer) for name, mixer in mixers.items()},
            "flops": flops(*parts.parts, *mixers.values()),
            "mixer_flops": flops(*mixers.values()),
        }  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows).set_index("stage")


def _count(network: nn.Module, size: tuple[int, ...], input_channels: int) -> dict[str, dict]:
    """Operations of one image by path of module and kind of operation, from a copy that has shapes and no numbers."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        tensors = (*network.parameters(), *network.buffers())
        empty = {id(t): torch.empty(t.shape, dtype=t.dtype, device="cpu") for t in tensors}
    shapes = copy.deepcopy(network, empty).eval()
    for module in shapes.modules():
        if isinstance(module, Mamba) and module._is_plain():
            # one operator whatever the backend and the width, which some kernels round up
            module.backend, module._compose = "auto", partial(_as_one_operator, module)
    try:
        # on the copy's device, also where the caller's default is another one
        counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
        with torch.device("cpu"), mode, torch.no_grad(), counter:
            shapes(torch.empty(1, input_channels, *size))
    except (NotImplementedError, RuntimeError) as error:
        raise KitError(
            f"{type(network).__name__} does not run on shapes alone: {str(error).splitlines()[0]}",
            remedy="count a real image with torch.utils.flop_counter.FlopCounterMode",
        ) from error
    return counter.get_flop_counts()


def _as_one_operator(mamba: Mamba, tokens: torch.Tensor, reverse: bool, backend: str) -> torch.Tensor:
    return torch.ops.lkm_kit.mamba_mix_cpu(tokens, list(mamba._fused_parameters()), [reverse], False, None)[0]


def _parameters(*modules: nn.Module | None) -> int:
    return sum(p.numel() for module in filter(None, modules) for p in module.parameters())
