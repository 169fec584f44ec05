"""U-Mamba (Ma, Li, Wang 2024; arXiv 2401.04722), its authors' rewrite of March 2024: Mamba reads whole feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkm_kit.devices import without_autocast
from lkm_kit.errors import KitError, one_of
from lkm_kit.networks.convolutions import CONV, ConvNorm, ResidualBlock, Size, initialize
from lkm_kit.networks.segmentation import SegmentationNetwork, Stage
from lkm_kit.networks.sizes import counts, per_stage, stage_maps
from lkm_kit.shapes import per_axis, size_text
from lkm_kit.ssm import Mamba

PLACES = ("bottleneck", "encoder")


class UMamba(SegmentationNetwork):
    """Residual U-Net with LayerNorm and one ordinary Mamba over all pixels of a map, as one sequence.

    Args:
        input_channels, num_classes, deep_supervision, strides, pad: see
            :class:`lkm_kit.networks.SegmentationNetwork`.
        features_per_stage, kernel_sizes: as in :class:`lkm_kit.networks.UNet`.
        n_blocks_per_stage, n_blocks_decoder: residual blocks of each stage (the decoder's coarsest first); ``None``
            takes the authors': 2 in the finer half of the stages, 1 in the coarser half of the encoder and in the
            finer half of the decoder.
        where: "bottleneck" (U-Mamba_Bot: one Mamba layer after the last encoder stage) or "encoder" (U-Mamba_Enc: one
            after every stage in 3D, after every second one in 2D, the last among them).
        image_size: the one size it takes. With it, "encoder" follows the released code: where a map has no more pixels
            than channels, the *channels* are the tokens and the pixels their features. ``None`` reads pixels at every
            stage, as the paper's text says, and takes any size.
        backend: of the scan, see :func:`lkm_kit.ssm.selective_scan`.

    Shapes and errors: see :class:`lkm_kit.networks.SegmentationNetwork`.

    Source: the paper's Section 2 and Fig. 1; UMambaBot and UMambaEnc of bowang-lab/U-Mamba since 530739b (27 March
    2024; they replaced :class:`UMambaJanuary`). Taken from them: shortcuts with a strided 1×1 convolution,
    nearest-neighbour upsampling followed by a 1×1 convolution, no residual connection around Mamba. In 2D there is no
    skip connection into the finest decoder stage.

    >>> network = UMamba(1, 3, features_per_stage=[4, 8], strides=[(1, 1), (2, 2)])
    >>> network(torch.zeros(1, 1, 16, 16)).shape
    torch.Size([1, 3, 16, 16])
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        where: str = "encoder",
        image_size: Sequence[int] | None = None,
        features_per_stage: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernel_sizes: int | Sequence = 3,
        n_blocks_per_stage: int | Sequence[int] | None = None,
        n_blocks_decoder: int | Sequence[int] | None = None,
        pad: bool = False,
        backend: str = "auto",
    ):
        one_of(where, PLACES, "place", message=f"there is no place {where!r} for Mamba")
        super().__init__(input_channels, num_classes, deep_supervision, strides=strides, pad=pad)
        strides, dims, n = self.strides, self.dims, len(self.strides)
        self.features = features = counts(features_per_stage, n, "features_per_stage")
        kernels = per_stage(kernel_sizes, n, dims, "kernel_sizes")
        down, up = authors_block_counts(n)
        down = counts(down if n_blocks_per_stage is None else n_blocks_per_stage, n, "n_blocks_per_stage")
        up = counts(up if n_blocks_decoder is None else n_blocks_decoder, n - 1, "n_blocks_decoder")
        self.image_size = None if image_size is None else per_axis(image_size, dims, "image_size")
        ones = (1,) * dims

        self.stem = _stage(down[0], input_channels, features[0], kernels[0], ones)
        self.stages = nn.ModuleList(
            _stage(blocks, before, after, kernel, stride)
            for blocks, before, after, kernel, stride in zip(down, [features[0], *features], features, kernels, strides)
        )
        self.upsamplings, self.decoder_stages, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for fine, blocks in zip(reversed(range(n - 1)), up):
            here = features[fine]
            self.upsamplings.append(CONV[dims](features[fine + 1], here, 1))
            inputs = 2 * here if self._has_skip(fine) else here
            self.decoder_stages.append(_stage(blocks, inputs, here, kernels[fine], ones))
            self.seg_layers.append(CONV[dims](here, num_classes, 1))
        self.apply(_he_normal)
        # After the convolutions, so that both variants start from the same ones. The last stage always has a Mamba.
        every = 2 if dims == 2 else 1
        has_mamba = [s == n - 1 or (where == "encoder" and (n - 1 - s) % every == 0) for s in range(n)]
        pixels = [None] * n
        if self.image_size is not None and where == "encoder":
            pixels = [prod(size) for size in stage_maps(self.image_size, strides)]
        self.mambas = nn.ModuleList(
            MambaLayer(channels, map_pixels, backend=backend) if here else nn.Identity()
            for channels, map_pixels, here in zip(features, pixels, has_mamba)
        )

    def check_input(self, x: Tensor) -> None:
        """As in the base class; with ``image_size``, that size alone."""
        size = tuple(x.shape[2:])
        if self.image_size is not None and len(size) == self.dims and size != self.image_size:
            raise KitError(
                f"image of {size_text(size)}; this UMamba was built for {size_text(self.image_size)}, because small "
                "maps are read channel by channel",
                remedy="build it with this image_size, or with image_size=None to read pixels at every stage",
            )
        super().check_input(x)

    def _has_skip(self, stage: int) -> bool:
        return stage > 0 or self.dims == 3

    def stage_parts(self) -> list[Stage]:
        up = [*zip(self.upsamplings, self.decoder_stages, self.seg_layers)][::-1]
        stages = []
        for stage, (channels, mamba) in enumerate(zip(self.features, self.mambas)):
            parts = [self.stages[stage], *([self.stem] if stage == 0 else []), *(up[stage] if stage < len(up) else ())]
            stages.append(Stage(channels, parts, mamba if isinstance(mamba, MambaLayer) else None))
        return stages

    def heads(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for stage, mamba in zip(self.stages, self.mambas):
            x = mamba(stage(x))
            maps.append(x)
        logits = []
        for level, fine in enumerate(reversed(range(len(maps) - 1))):
            # not "nearest": that multiplies by a rounded 1/stride, and some strides give it a neighbour's pixel
            x = self.upsamplings[level](F.interpolate(x, maps[fine].shape[2:], mode="nearest-exact"))
            x = self.decoder_stages[level](torch.cat((x, maps[fine]), dim=1) if self._has_skip(fine) else x)
            if self.deep_supervision or fine == 0:
                logits.append(self.seg_layers[level](x))
        return logits[::-1]


class MambaLayer(nn.Module):
    """LayerNorm and one Mamba over the whole map; a small map is read channel by channel.

    Args:
        channels: of the map.
        pixels: of the map, if they are fixed. Not more pixels than channels make each channel a token.

    Shapes: (batch, channels, *spatial) → same.

    >>> MambaLayer(8)(torch.zeros(1, 8, 4, 4)).shape, MambaLayer(8, pixels=4)(torch.zeros(1, 8, 2, 2)).shape
    (torch.Size([1, 8, 4, 4]), torch.Size([1, 8, 2, 2]))
    """

    def __init__(self, channels: int, pixels: int | None = None, *, backend: str = "auto"):
        super().__init__()
        self.channels = channels
        self.channel_tokens = pixels is not None and pixels <= channels
        width = channels if pixels is None else min(pixels, channels)
        self.norm = nn.LayerNorm(width)
        self.mamba = Mamba(width, backend=backend)

    def layout(self, size: Sequence[int]) -> tuple[tuple[int, ...], int, int]:
        """Sides of a window, sequences and tokens of each, as in :meth:`lkm_kit.blocks.PiM.layout`: one whole map."""
        return tuple(size), 1, self.channels if self.channel_tokens else prod(size)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, *spatial) → same."""
        with without_autocast(x.device):  # as in BiM: the scan is computed in float32
            rows = x.flatten(2).to(self.norm.weight.dtype)  # (batch, channels, pixels)
            tokens = rows if self.channel_tokens else rows.transpose(1, 2)
            mixed = self.mamba(self.norm(tokens))
            return (mixed if self.channel_tokens else mixed.transpose(1, 2)).reshape(x.shape)


class ProjectedResidualBlock(nn.Module):
    """Two convolutions, and a strided 1×1 convolution with bias as shortcut, always: U-Mamba's ``BasicResBlock``.

    >>> ProjectedResidualBlock(4, 8, (3, 3), (2, 2))(torch.zeros(1, 4, 8, 8)).shape
    torch.Size([1, 8, 4, 4])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Size, stride: Size):
        super().__init__()
        ones = (1,) * len(kernel)
        self.conv1 = ConvNorm(in_channels, out_channels, kernel, stride)
        self.conv2 = ConvNorm(out_channels, out_channels, kernel, ones, activation=False)
        self.skip = CONV[len(kernel)](in_channels, out_channels, 1, stride)
        self.nonlin = nn.LeakyReLU(0.01, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlin(self.conv2(self.conv1(x)) + self.skip(x))


def authors_block_counts(n_stages: int) -> tuple[list[int], list[int]]:
    """Residual blocks of each encoder and decoder stage in the released code.

    >>> authors_block_counts(7)
    ([2, 2, 2, 2, 1, 1, 1], [2, 2, 2, 2, 1, 1])
    """
    counts = [2] * ((n_stages + 1) // 2) + [1] * (n_stages // 2)
    return counts, counts[:-1]


def _he_normal(module: nn.Module) -> None:
    # The released code starts its convolutions as nnU-Net does, but not its residual blocks as their skip.
    if not isinstance(module, ResidualBlock):
        initialize(module)


def _stage(n_blocks: int, in_channels: int, out_channels: int, kernel: Size, stride: Size) -> nn.Sequential:
    ones = (1,) * len(kernel)
    further = (ResidualBlock(out_channels, out_channels, kernel, ones) for _ in range(n_blocks - 1))
    return nn.Sequential(ProjectedResidualBlock(in_channels, out_channels, kernel, stride), *further)
