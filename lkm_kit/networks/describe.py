"""What a network does to an image, stage by stage: maps, windows, tokens, parameters and operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from lkm_kit.blocks import BiM, LMBlock
from lkm_kit.errors import KitError
from lkm_kit.networks.convolutions import CONV, CONV_TRANSPOSE
from lkm_kit.networks.sizes import check_image_size, stage_maps, total_strides
from lkm_kit.networks.unet import UNet
from lkm_kit.shapes import per_axis

if TYPE_CHECKING:
    import pandas as pd


def describe(network: UNet, image_size: int | Sequence[int]) -> pd.DataFrame:
    """One row per stage of a U-Net or LKM-UNet, for one image of ``image_size``.

    Args:
        network: on any device, also "meta" (nothing is computed).
        image_size: (H, W) or (D, H, W) in pixels, or one number for all axes.

    Returns:
        DataFrame indexed by ``stage``. ``map`` (size of the stage's map) and ``channels``; for PiM ``window``,
        ``sequences`` (per image) and ``tokens`` (per sequence); for PaM ``pool`` (patch side in pixels),
        ``pam_sequences``, ``pam_tokens``; ``parameters`` of encoder and decoder at this resolution (they add up to the
        network's), of which ``pim_parameters`` and ``pam_parameters``; ``flops``, floating-point operations of one
        forward pass, of which ``mixer_flops`` in PiM and PaM. A part that is not there has ``None`` and 0.

    Operations counted: two per multiply-add of convolutions and linear layers, and 9 · tokens · inner channels · state
    size for a selective scan; normalisation, activations, pooling and additions are left out.

    Raises:
        KitError: an image size that does not fit, or a network that is no U-Net of this kit.

    >>> from lkm_kit.networks import build_network
    >>> network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=7)
    >>> describe(network, 96)[["map", "window", "sequences", "tokens", "pam_tokens"]].reset_index()
       stage       map    window  sequences  tokens  pam_tokens
    0      0  (96, 96)  (24, 24)         16     576          16
    1      1  (48, 48)  (24, 24)          4     576           4
    2      2  (24, 24)  (12, 12)          4     144           4
    3      3  (12, 12)  (12, 12)          1     144           1
    """
    import pandas as pd

    if not isinstance(network, UNet):
        raise KitError(f"describe reads UNet and LKMUNet, not {type(network).__name__}")
    image_size = per_axis(image_size, network.dims, "image_size")
    if network.pad:
        total = total_strides(network.strides)[-1]
        image_size = tuple(-(-size // t) * t for size, t in zip(image_size, total))
    else:
        check_image_size(image_size, network.strides, network.size_demands())
    maps = stage_maps(image_size, network.strides)
    encoder, decoder = network.encoder, network.decoder
    rows = []
    for stage, size in enumerate(maps):
        parts = [encoder.stages[stage]]
        flops = _conv_flops(encoder.stages[stage], size)
        if stage == 0:
            parts.append(encoder.stem)
            flops += _conv_flops(encoder.stem, image_size)
        if stage < len(maps) - 1:  # the decoder has no stage at the bottleneck
            level = len(decoder.stages) - 1 - stage
            parts += [decoder.transpconvs[level], decoder.stages[level], decoder.seg_layers[level]]
            flops += _conv_flops(decoder.transpconvs[level], maps[stage + 1])
            flops += _conv_flops(decoder.stages[level], size)
            if decoder.deep_supervision or stage == 0:
                flops += _conv_flops(decoder.seg_layers[level], size)
        row = {
            "stage": stage,
            "map": size,
            "channels": network.features[stage],
            **_mixer_row(encoder.mixers[stage], size),
        }
        row["parameters"] = sum(_parameters(part) for part in parts) + row["pim_parameters"] + row["pam_parameters"]
        row["flops"] = flops + row["mixer_flops"]
        rows.append(row)
    columns = (
        "stage", "map", "channels", "window", "sequences", "tokens", "pool", "pam_sequences", "pam_tokens",
        "parameters", "pim_parameters", "pam_parameters", "flops", "mixer_flops",
    )  # fmt: skip
    return pd.DataFrame(rows, columns=columns).set_index("stage")


def _mixer_row(mixer: nn.Module, size: tuple[int, ...]) -> dict:
    row = {
        "window": None, "sequences": 0, "tokens": 0, "pool": None, "pam_sequences": 0, "pam_tokens": 0,
        "pim_parameters": 0, "pam_parameters": 0, "mixer_flops": 0,
    }  # fmt: skip
    if not isinstance(mixer, LMBlock):
        return row
    if mixer.pim is not None:
        sides, sequences, tokens = mixer.pim.layout(size)
        row |= {"window": sides, "sequences": sequences, "tokens": tokens, "pim_parameters": _parameters(mixer.pim)}
        row["mixer_flops"] += _bim_flops(mixer.pim.bim, sequences * tokens)
    if mixer.pam is not None:
        sides, sequences, tokens = mixer.pam.layout(size)
        row |= {"pool": sides, "pam_sequences": 1, "pam_tokens": tokens, "pam_parameters": _parameters(mixer.pam)}
        row["mixer_flops"] += _bim_flops(mixer.pam.bim, tokens)
    return row


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _conv_flops(module: nn.Module, size: tuple[int, ...]) -> int:
    """Convolutions that write a map of ``size``; transposed ones (kernel = stride) that read one."""
    kinds = (*CONV.values(), *CONV_TRANSPOSE.values())
    return 2 * math.prod(size) * sum(m.weight.numel() for m in module.modules() if isinstance(m, kinds))


def _bim_flops(bim: BiM, tokens: int) -> int:
    flops = 2 * tokens * bim.out_proj.weight.numel()
    for mamba in bim.mambas:
        linear = (mamba.in_proj, mamba.conv1d, mamba.x_proj, mamba.dt_proj)
        flops += 2 * tokens * sum(layer.weight.numel() for layer in linear)
        flops += 9 * tokens * mamba.d_inner * mamba.d_state
    return flops
