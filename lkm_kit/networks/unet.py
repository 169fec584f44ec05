"""The U-Net, plain and residual: nnU-Net's networks, and what is left of LKM-UNet when its Mamba is taken out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lkm_kit.errors import KitError, one_of
from lkm_kit.networks.convolutions import CONV, CONV_TRANSPOSE, ConvStack, ResidualStack, Size, initialize
from lkm_kit.networks.segmentation import SegmentationNetwork, Stage
from lkm_kit.networks.sizes import counts, per_stage

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

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """One map per encoder stage, finest first → logits of the finest stage, or of all, finest first."""
        x = maps[-1]
        logits = []
        for up, stage, seg_layer, skip in zip(self.transpconvs, self.stages, self.seg_layers, reversed(maps[:-1])):
            x = stage(torch.cat((up(x), skip), dim=1))
            if self.deep_supervision or stage is self.stages[-1]:
                logits.append(seg_layer(x))
        return logits[::-1]


class UNet(SegmentationNetwork):
    """U-Net as nnU-Net builds it: InstanceNorm, LeakyReLU, strided convolutions down, transposed convolutions up.

    Args:
        input_channels, num_classes, deep_supervision, strides, pad: see
            :class:`lkm_kit.networks.SegmentationNetwork`.
        features_per_stage: channels of each stage, finest first.
        kernel_sizes: one number, one per stage, or one per stage and axis.
        n_blocks_per_stage: convolutions (plain) or residual blocks of each encoder stage.
        n_blocks_decoder: the same for the decoder, coarsest stage first, as nnU-Net counts.
        block: "plain" (nnU-Net's PlainConvUNet) or "residual" (stem and decoder as in the released LKM-UNet).

    Shapes and errors: see :class:`lkm_kit.networks.SegmentationNetwork`.

    Source: dynamic_network_architectures' ``PlainConvUNet``; for "residual", the released LKMUNet.py without its Mamba
    layers (``ResidualUNet``: residual blocks in encoder *and* decoder). Weights start as nnU-Net's do.

    >>> network = UNet(1, 3, features_per_stage=[4, 8], strides=[(1, 1), (2, 2)])
    >>> network(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 3, 16, 16])
    """

    decoder: Decoder  # a module hides the property of the base

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
        one_of(block, BLOCKS, "block")
        super().__init__(input_channels, num_classes, None, strides=strides, pad=pad)
        n = len(self.strides)
        if n < 2:
            raise KitError(f"strides {strides} make one stage", remedy="a U-Net has at least 2")
        self.features = counts(features_per_stage, n, "features_per_stage")
        self.kernel_sizes = per_stage(kernel_sizes, n, self.dims, "kernel_sizes")
        down = counts(n_blocks_per_stage, n, "n_blocks_per_stage")
        up = counts(n_blocks_decoder, n - 1, "n_blocks_decoder")

        layers = block, self.features, self.strides, self.kernel_sizes
        self.encoder = Encoder(input_channels, *layers, down)
        self.decoder = Decoder(num_classes, deep_supervision, *layers, up)  # pyright: ignore[reportIncompatibleMethodOverride]
        self.apply(initialize)

    def stage_parts(self) -> list[Stage]:
        encoder, decoder = self.encoder, self.decoder
        finest_first = [*zip(decoder.transpconvs, decoder.stages, decoder.seg_layers)][::-1]
        stages = []
        for stage, (channels, mixer) in enumerate(zip(self.features, encoder.mixers)):
            parts = [encoder.stages[stage], *([encoder.stem] if stage == 0 else [])]
            parts += finest_first[stage] if stage < len(finest_first) else []  # no decoder stage at the bottleneck
            stages.append(Stage(channels, parts, getattr(mixer, "pim", None), getattr(mixer, "pam", None)))
        return stages

    def heads(self, x: Tensor) -> list[Tensor]:
        return self.decoder(self.encoder(x))


def with_stages(init: Callable[..., None]) -> Callable[..., None]:
    """Let a subclass's ``__init__(..., **stages)`` show in its signature which arguments it hands on to :class:`UNet`.

    >>> class Deeper(UNet):
    ...     @with_stages
    ...     def __init__(self, input_channels, num_classes, *, depth, **stages):
    ...         super().__init__(input_channels, num_classes, n_blocks_per_stage=depth, **stages)
    >>> list(inspect.signature(Deeper).parameters)[2:5]
    ['depth', 'features_per_stage', 'strides']
    """
    own, whole = inspect.signature(init), inspect.signature(UNet.__init__).parameters
    parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    handed = [p for name, p in whole.items() if p.kind is p.KEYWORD_ONLY and name not in (*own.parameters, "block")]
    init.__signature__ = own.replace(parameters=[*parameters, *handed])  # pyright: ignore[reportFunctionMemberAccess]
    return init
