"""The U-Net, plain and residual: nnU-Net's networks, and what is left of LKM-UNet when its Mamba is taken out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lkm_kit.errors import KitError
from lkm_kit.networks.convolutions import CONV, CONV_TRANSPOSE, ConvStack, ResidualStack, Size, initialize
from lkm_kit.networks.sizes import Demand, check_image_size, total_strides
from lkm_kit.shapes import crop, pad_to_multiple, per_axis, size_text

BLOCKS = {"plain": ConvStack, "residual": ResidualStack}


class Encoder(nn.Module):
    """Stages from fine to coarse; each one's map becomes a skip connection.

    ``mixers`` has one module per stage, applied to the stage's map before it is handed on. Here they are identities;
    LKM-UNet puts its LM blocks there.
    """

    def __init__(
        self,
        input_channels: int,
        block: str,
        features: list[int],
        strides: list[Size],
        kernels: list[Size],
        n_blocks: list,
    ):
        super().__init__()
        ones = (1,) * len(strides[0])
        # The residual U-Net begins with one convolution of its own, because a residual block needs features to add to.
        self.stem = (
            ConvStack(1, input_channels, features[0], kernels[0], ones) if block == "residual" else nn.Identity()
        )
        inputs = [features[0] if block == "residual" else input_channels, *features[:-1]]
        self.stages = nn.ModuleList(
            BLOCKS[block](n, before, after, kernel, stride)
            for n, before, after, kernel, stride in zip(n_blocks, inputs, features, kernels, strides)
        )
        self.mixers = nn.ModuleList(nn.Identity() for _ in features)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(batch, input_channels, *spatial) → one map per stage, finest first."""
        x = self.stem(x)
        maps = []
        for stage, mixer in zip(self.stages, self.mixers):
            x = mixer(stage(x))
            maps.append(x)
        return maps


class Decoder(nn.Module):
    """Stages from coarse to fine: upsample, append the skip connection, convolve; logits from the finest, or from all.

    ``stages[0]`` is the coarsest. All segmentation layers exist whatever ``deep_supervision`` says, so that it can be
    switched at any time (nnU-Net does) and weights fit both ways.
    """

    def __init__(
        self,
        num_classes: int,
        deep_supervision: bool,
        block: str,
        features: list[int],
        strides: list[Size],
        kernels: list[Size],
        n_blocks: list[int],
    ):
        super().__init__()
        self.deep_supervision = deep_supervision
        dims, ones = len(strides[0]), (1,) * len(strides[0])
        self.transpconvs, self.stages, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for fine, n in zip(reversed(range(len(features) - 1)), n_blocks):
            below, here = features[fine + 1], features[fine]
            self.transpconvs.append(CONV_TRANSPOSE[dims](below, here, strides[fine + 1], strides[fine + 1]))
            self.stages.append(BLOCKS[block](n, 2 * here, here, kernels[fine], ones))
            self.seg_layers.append(CONV[dims](here, num_classes, 1))

    def forward(self, maps: list[Tensor]) -> Tensor | list[Tensor]:
        """One map per encoder stage, finest first → logits, or a list of logits with the finest first."""
        x = maps[-1]
        logits = []
        for up, stage, seg_layer, skip in zip(self.transpconvs, self.stages, self.seg_layers, reversed(maps[:-1])):
            x = stage(torch.cat((up(x), skip), dim=1))
            if self.deep_supervision or stage is self.stages[-1]:
                logits.append(seg_layer(x))
        return logits[::-1] if self.deep_supervision else logits[0]


class UNet(nn.Module):
    """U-Net as nnU-Net builds it: InstanceNorm, LeakyReLU, strided convolutions down, transposed convolutions up.

    Args:
        input_channels: of the image (1 for CT and MR).
        num_classes: background included.
        deep_supervision: return logits of every decoder stage, [full, 1/2, ...]; settable later as
            ``network.decoder.deep_supervision``.
        features_per_stage: channels of each stage, finest first.
        strides: one per stage and axis; ``len(strides[0])`` decides between 2D and 3D.
        kernel_sizes: one number, one per stage, or one per stage and axis.
        n_blocks_per_stage: convolutions (plain) or residual blocks of each encoder stage.
        n_blocks_decoder: the same for the decoder, coarsest stage first, as nnU-Net counts.
        block: "plain" (nnU-Net's PlainConvUNet) or "residual" (stem and decoder as in the released LKM-UNet).
        pad: append zeros to images that the strides do not divide and crop the logits, instead of an error.

    Shapes: image (batch, input_channels, *spatial) → logits (batch, num_classes, *spatial), or a list of them.

    Raises:
        KitError: arguments that do not belong together; in ``forward`` an image of the wrong rank, channels or size.

    Source: dynamic_network_architectures' ``PlainConvUNet``; for "residual", the released LKMUNet.py without its Mamba
    layers (``ResidualUNet``: residual blocks in encoder *and* decoder). Weights start as nnU-Net's do.

    >>> network = UNet(1, 3, features_per_stage=[4, 8], strides=[(1, 1), (2, 2)])
    >>> network(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        features_per_stage: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernel_sizes: int | Sequence = 3,
        n_blocks_per_stage: int | Sequence[int] = 2,
        n_blocks_decoder: int | Sequence[int] = 2,
        block: str = "residual",
        pad: bool = False,
    ):
        super().__init__()
        if block not in BLOCKS:
            raise KitError(f"there is no block {block!r}", remedy=f"choose one of {', '.join(BLOCKS)}")
        if input_channels < 1:
            raise KitError(f"input_channels is {input_channels}", remedy="CT and MR images have 1")
        if num_classes < 2:
            raise KitError(f"num_classes is {num_classes}", remedy="count the background: one organ makes 2 classes")
        features = [int(f) for f in features_per_stage]
        n = len(features)
        dims = len(strides[0]) if len(strides) and isinstance(strides[0], Sequence) else 0
        if n < 2 or dims not in CONV:
            raise KitError(
                f"features_per_stage {features_per_stage} and strides {strides} make no 2D or 3D U-Net",
                remedy="at least 2 stages, and one stride per stage and axis: [(1, 1), (2, 2), ...] for 2D",
            )
        self.input_channels, self.num_classes, self.dims, self.pad = input_channels, num_classes, dims, pad
        self.features = features
        self.strides = per_stage(strides, n, dims, "strides")
        self.kernel_sizes = per_stage(kernel_sizes, n, dims, "kernel_sizes")
        encoder_blocks = _block_counts(n_blocks_per_stage, n, "n_blocks_per_stage")
        decoder_blocks = _block_counts(n_blocks_decoder, n - 1, "n_blocks_decoder")

        self.encoder = Encoder(input_channels, block, features, self.strides, self.kernel_sizes, encoder_blocks)
        self.decoder = Decoder(
            num_classes, deep_supervision, block, features, self.strides, self.kernel_sizes, decoder_blocks
        )
        self.apply(initialize)

    def size_demands(self) -> list[Demand]:
        """What must divide which stage's map, beside the strides themselves: nothing in a U-Net."""
        return []

    def check_input(self, x: Tensor) -> None:
        """Raise a KitError that names what is wrong with ``x``; return nothing for an image the network can take."""
        axes = "(batch, channels, H, W)" if self.dims == 2 else "(batch, channels, D, H, W)"
        if x.ndim != self.dims + 2:
            raise KitError(
                f"image of shape {tuple(x.shape)}; this is a {self.dims}D network and needs {axes}",
                remedy="add the batch and channel axes with image[None, None]"
                if x.ndim == self.dims
                else f"use a {x.ndim - 2}D network or pass {'slices' if self.dims == 2 else 'whole patches'}",
            )
        if x.shape[1] != self.input_channels:
            raise KitError(
                f"image of shape {tuple(x.shape)} has {x.shape[1]} channels; this network takes {self.input_channels}",
                remedy=f"axes are {axes}; build the network with input_channels={x.shape[1]} if that is meant",
            )
        if not x.is_floating_point():
            raise KitError(f"image has dtype {x.dtype}", remedy="normalise it and pass float32: image.float()")
        if not self.pad:
            check_image_size(x.shape[2:], self.strides, self.size_demands())
        if all(size <= total for size, total in zip(x.shape[2:], total_strides(self.strides)[-1])):
            raise KitError(
                f"image {size_text(x.shape[2:])} shrinks to one pixel at the last stage, where InstanceNorm needs two",
                remedy="use a larger image or fewer stages",
            )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Image → logits, or a list of logits with the finest first."""
        self.check_input(x)
        size = x.shape[2:]
        totals = total_strides(self.strides)
        padded = pad_to_multiple(x, totals[-1]) if self.pad else x
        logits = self.decoder(self.encoder(padded))
        if padded is x:
            return logits
        cropped = [
            crop(level, [-(-s // t) for s, t in zip(size, total)])
            for level, total in zip(logits if isinstance(logits, list) else [logits], totals)
        ]
        return cropped if isinstance(logits, list) else cropped[0]


def per_stage(values: int | Sequence, n_stages: int, dims: int, name: str) -> list[Size]:
    """``3``, ``[3, 3]`` or ``[(1, 3, 3), (3, 3, 3)]`` as one tuple per stage.

    >>> per_stage([5, (3, 1)], 2, 2, "windows")
    [(5, 5), (3, 1)]
    """
    values = [values] * n_stages if isinstance(values, int) else list(values)
    if len(values) != n_stages:
        raise KitError(
            f"{name} has {len(values)} entries for {n_stages} stages: {values}",
            remedy="features_per_stage, strides and every other list need one entry per stage",
        )
    return [per_axis(value, dims, f"{name}, stage {stage},") for stage, value in enumerate(values)]


def _block_counts(values: int | Sequence[int], n: int, name: str) -> list[int]:
    values = [values] * n if isinstance(values, int) else [int(v) for v in values]
    if len(values) != n or min(values) < 1:
        raise KitError(f"{name} is {values}", remedy=f"give one whole number ≥ 1, or {n} of them")
    return values
