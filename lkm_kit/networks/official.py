"""Weights of the released LKM-UNet: read its state dict into this kit's network, with the same outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from lkm_kit.errors import KitError
from lkm_kit.networks.lkm_unet import LKMUNet, released_pools, released_windows

# The released encoder keeps PiM and PaM in two lists, and so names them by what they are made of.
_RENAMED = (
    (re.compile(r"^encoder\.mamba_layers\.(\d+)\."), r"encoder.mixers.\1.pim.bim."),
    (re.compile(r"^encoder\.w_mamba_layers\.(\d+)\."), r"encoder.mixers.\1.pam.bim."),
    (re.compile(r"\.mamba_forw\."), ".mamba_forward."),
    (re.compile(r"\.mamba_backw\."), ".mamba_backward."),
)
_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile


def from_official(
    state_dict: Mapping[str, Tensor],
    strides: Sequence,
    kernel_sizes: int | Sequence,
    *,
    deep_supervision: bool = False,
    backend: str = "auto",
) -> LKMUNet:
    """Build the LKMUNet that a state dict of the released code belongs to, and load it.

    Features, classes, input channels, stages and numbers of blocks are read off the shapes; windows and pools follow
    the released formulas (:func:`released_windows`, :func:`released_pools`). Strides and kernel sizes are the plan's
    and are checked against the shapes as far as these show them (a first stride leaves no trace).

    Args:
        state_dict: the released network's ``state_dict()``, or ``network_weights`` of an nnU-Net checkpoint; prefixes
            of DistributedDataParallel and torch.compile, and entries that repeat a tensor under a second name, are
            understood.
        strides, kernel_sizes: one per stage, and per axis where they differ.
        deep_supervision, backend: of the network that is built.

    Returns:
        ``LKMUNet(partition="dilated", ...)`` in eval mode. Same input, same logits as the released network (float32,
        to 1e-4), for images whose maps the windows and pools divide. For others the released network silently takes
        the whole map as one sequence or drops the pooling; this one raises an error instead.

    Raises:
        KitError: not a state dict of the released network, or strides and kernel sizes of another one.

    Source: the released LKMUNet.py, ``BiPixelMambaLayer``, ``BiWindowMambaLayer``, ``ResidualBiMambaEncoder``.

    >>> from_official({"conv.weight": Tensor(4, 1, 3, 3)}, [(1, 1)], 3)
    Traceback (most recent call last):
        ...
    lkm_kit.errors.KitError: no state dict of the released LKM-UNet: 'encoder.stem.convs.0.conv.weight' is missing
      -> pass the network's state_dict(), or checkpoint['network_weights'] of an nnU-Net checkpoint
    """
    state = _kit_names(state_dict)
    stem = _need(state, "encoder.stem.convs.0.conv.weight")
    dims = stem.ndim - 2
    n_stages = _count(state, r"encoder\.stages\.(\d+)\.")
    features = [
        _need(state, f"encoder.stages.{s}.blocks.0.conv1.conv.weight").shape[0] for s in range(n_stages)
    ]  # fmt: skip
    if stem.shape[0] != features[0]:
        raise KitError(f"the stem has {stem.shape[0]} channels and stage 0 has {features[0]}; the released ones agree")
    network = LKMUNet(
        stem.shape[1],
        _need(state, "decoder.seg_layers.0.weight").shape[0],
        deep_supervision,
        features_per_stage=features,
        strides=_every_axis(strides, n_stages, dims),
        windows=released_windows(n_stages, dims),
        pools=released_pools(n_stages),
        kernel_sizes=kernel_sizes,
        n_blocks_per_stage=[_count(state, rf"encoder\.stages\.{s}\.blocks\.(\d+)\.") for s in range(n_stages)],
        n_blocks_decoder=[_count(state, rf"decoder\.stages\.{s}\.blocks\.(\d+)\.") for s in range(n_stages - 1)],
        partition="dilated",
        backend=backend,
    )
    _check_same(state, network.state_dict())
    network.load_state_dict(state)
    return network.eval()


def _kit_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = {}
    for name, tensor in state_dict.items():
        while name.startswith(_WRAPPERS):
            name = name.split(".", 1)[1]
        # nnU-Net's blocks list their layers twice, and its decoder holds the encoder: the same tensors again.
        if ".all_modules." in name or name.startswith("decoder.encoder."):
            continue
        for pattern, replacement in _RENAMED:
            name = pattern.sub(replacement, name)
        state[name] = tensor
    return state


def _need(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise KitError(
            f"no state dict of the released LKM-UNet: {name!r} is missing",
            remedy="pass the network's state_dict(), or checkpoint['network_weights'] of an nnU-Net checkpoint",
        )
    return state[name]


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    found = {int(match.group(1)) for match in (re.match(pattern, name) for name in state) if match}
    return max(found, default=-1) + 1


def _every_axis(strides: Sequence, n_stages: int, dims: int) -> list:
    if isinstance(strides, int) or len(strides) != n_stages:
        raise KitError(f"strides {strides} for the {n_stages} stages of this state dict", remedy="give one per stage")
    return [(stride,) * dims if isinstance(stride, int) else tuple(stride) for stride in strides]


def _check_same(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    for name in own:
        _need(state, name)
    for name, tensor in state.items():
        if name not in own:
            raise KitError(f"no state dict of the released LKM-UNet: {name!r} has no place in it")
        if tensor.shape != own[name].shape:
            raise KitError(
                f"{name} has shape {tuple(tensor.shape)}, with these strides and kernel sizes it would have "
                f"{tuple(own[name].shape)}",
                remedy="pass the strides and kernel sizes of the plan the network was trained with",
            )
