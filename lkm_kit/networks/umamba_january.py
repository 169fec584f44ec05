"""U-Mamba as its authors published it first, in January 2024: the residual U-Net and Mamba over whole maps."""

from __future__ import annotations

from typing import Any

from torch import nn

from lkm_kit.errors import one_of
from lkm_kit.networks.convolutions import ResidualBlock
from lkm_kit.networks.segmentation import Stage
from lkm_kit.networks.umamba import PLACES, MambaLayer
from lkm_kit.networks.unet import UNet, with_stages


class UMambaJanuary(UNet):
    """The residual U-Net (:class:`UNet`), whose stages end in LayerNorm and one Mamba over all pixels of the map.

    The published U-Mamba row of Table 1 (76.25 / 83.27 on MR) is of this code: Swin-UMamba's repository printed it in
    February 2024 with 67 million parameters for Enc and 63 million for Bot. :class:`UMamba` is the authors' rewrite of
    27 March 2024, with other convolutions and, in 2D, a Mamba at every second stage.

    Args:
        input_channels, num_classes, deep_supervision, pad: see :class:`UNet`.
        features_per_stage, strides, kernel_sizes, n_blocks_per_stage, n_blocks_decoder: see :class:`UNet`.
        where: "bottleneck" (U-Mamba_Bot: after the last encoder stage) or "encoder" (U-Mamba_Enc: after every stage).
        backend: of the scan, see :func:`lkm_kit.ssm.selective_scan`.

    Shapes and errors: see :class:`lkm_kit.networks.SegmentationNetwork`. Without its Mamba layers it is LKM-UNet's
    control: the same convolutions, initialised before them.

    Source: bowang-lab/U-Mamba at 92a741a (9 January 2024), ``UMambaEnc.py`` and ``UMambaBot.py``: no residual
    connection around Mamba; in Enc residual blocks begin as their skip, in Bot they do not.

    >>> network = UMambaJanuary(1, 3, features_per_stage=[4, 8], strides=[(1, 1), (2, 2)], where="bottleneck")
    >>> [type(mixer).__name__ for mixer in network.encoder.mixers]
    ['Identity', 'MambaLayer']
    """

    @with_stages
    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        where: str = "encoder",
        backend: str = "auto",
        **stages: Any,
    ):
        one_of(where, PLACES, "place", message=f"there is no place {where!r} for Mamba")
        super().__init__(input_channels, num_classes, deep_supervision, block="residual", **stages)
        if where == "bottleneck":
            for block in self.modules():
                if isinstance(block, ResidualBlock):
                    block.conv2.norm.reset_parameters()
        last = len(self.features) - 1
        self.encoder.mixers = nn.ModuleList(
            MambaLayer(channels, backend=backend) if where == "encoder" or stage == last else nn.Identity()
            for stage, channels in enumerate(self.features)
        )

    def stage_parts(self) -> list[Stage]:
        mixers = [mixer if isinstance(mixer, MambaLayer) else None for mixer in self.encoder.mixers]
        return [stage._replace(pixels=mixer) for stage, mixer in zip(super().stage_parts(), mixers)]
