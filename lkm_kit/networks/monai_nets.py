"""SegResNet, UNETR and SwinUNETR of Table 1: MONAI's networks behind the signature of this kit's own.

Settings as in U-Mamba's trainers for them. Those trainers also give each of the three an optimiser of its own
(SegResNet Adam 1e-4, UNETR AdamW 1e-4, SwinUNETR AdamW 8e-4) and no deep supervision. The paper does not say how it
trained them; the kit's studies train all arms alike.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lkm_kit.errors import KitError
from lkm_kit.monai_parts import monai_part
from lkm_kit.networks.segmentation import SegmentationNetwork
from lkm_kit.shapes import per_axis, size_text


class _Wrapped(SegmentationNetwork):
    """A MONAI network with one head."""

    net: nn.Module

    def heads(self, x: Tensor) -> list[Tensor]:
        return [self.net(x)]


class SegResNet(_Wrapped):
    """Residual convolutions with GroupNorm, deeper on the way down than up, additive skips (Myronenko 2018).

    Args:
        input_channels, num_classes, deep_supervision, pad: see :class:`lkm_kit.networks.SegmentationNetwork`.
        dims: 2 or 3.
        init_filters: channels of the first stage, a multiple of 8 (the groups); doubled at every stage.
        blocks_down, blocks_up: residual blocks of each stage.

    Source: ``monai.networks.nets.SegResNet``; arXiv 1810.11654, without its autoencoder branch.

    >>> SegResNet(1, 3, dims=2, init_filters=8)(torch.zeros(1, 1, 16, 24)).shape
    torch.Size([1, 3, 16, 24])
    """

    last_map_needs_two_pixels = False

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        dims: int,
        init_filters: int = 32,
        blocks_down: Sequence[int] = (1, 2, 2, 4),
        blocks_up: Sequence[int] = (1, 1, 1),
        pad: bool = False,
    ):
        strides = [(1,) * dims] + [(2,) * dims] * (len(blocks_down) - 1)
        super().__init__(input_channels, num_classes, deep_supervision, strides=strides, pad=pad)
        if init_filters % 8:
            raise KitError(f"init_filters is {init_filters}", remedy="give a multiple of 8, the groups of GroupNorm")
        self.net = monai_part("networks.nets").SegResNet(
            dims, init_filters, input_channels, num_classes, blocks_down=tuple(blocks_down), blocks_up=tuple(blocks_up)
        )


class UNETR(_Wrapped):
    """A vision transformer over patches of 16 pixels as encoder, convolutions as decoder (Hatamizadeh et al. 2022).

    Args:
        input_channels, num_classes, deep_supervision: see :class:`lkm_kit.networks.SegmentationNetwork`.
        image_size: the one size it takes, multiples of 16: its position embedding has one entry per patch.
        feature_size: channels of the decoder's finest stage.
        hidden_size, mlp_dim, num_heads: of the 12 transformer layers.
        pad: smaller images are padded up to ``image_size``, and the logits cropped.

    Raises:
        KitError: ``image_size`` is no multiple of 16; in ``forward``, another image size.

    Source: ``monai.networks.nets.UNETR``; arXiv 2103.10504. Deviation: MONAI's layers carry the LayerNorms of an
    unused cross-attention; they are taken out, because parameters without gradients stop multi-process training.

    >>> network = UNETR(1, 3, image_size=(32, 48), feature_size=4, hidden_size=24, mlp_dim=48, num_heads=2)
    >>> network(torch.zeros(1, 1, 32, 48)).shape
    torch.Size([1, 3, 32, 48])
    """

    last_map_needs_two_pixels = False

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        image_size: Sequence[int],
        feature_size: int = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_heads: int = 12,
        pad: bool = False,
    ):
        _needs_einops("UNETR")
        image_size = per_axis(image_size, len(tuple(image_size)), "image_size")
        dims = len(image_size)
        strides = [(1,) * dims, (16,) * dims]
        super().__init__(input_channels, num_classes, deep_supervision, strides=strides, pad=pad)
        if any(n % 16 for n in image_size):
            raise KitError(
                f"UNETR cannot be built for images of {size_text(image_size)}: its patches have 16 pixels a side",
                remedy=f"image_size={tuple(-(-n // 16) * 16 for n in image_size)} and pad=True",
            )
        self.image_size = image_size
        net = monai_part("networks.nets").UNETR(
            input_channels, num_classes, image_size, feature_size, hidden_size, mlp_dim, num_heads, spatial_dims=dims
        )
        for block in net.vit.blocks:
            block.norm_cross_attn = nn.Identity()
        self.net = net

    def check_input(self, x: Tensor) -> None:
        """As in the base class, and the size must be ``image_size`` (with ``pad``: not larger)."""
        size = tuple(x.shape[2:])
        if len(size) == self.dims and (
            any(s > n for s, n in zip(size, self.image_size)) if self.pad else size != self.image_size
        ):
            raise KitError(
                f"image of {size_text(size)}; this UNETR was built for {size_text(self.image_size)} and takes nothing "
                f"{'larger' if self.pad else 'else'} (one position embedding per patch)",
                remedy=f"build it with image_size={tuple(-(-s // 16) * 16 for s in size)}, or predict with a sliding "
                "window of its size" + ("" if self.pad else ", or pad=True for smaller images"),
            )
        super().check_input(x)

    def size_multiple(self) -> tuple[int, ...]:
        return self.image_size


class SwinUNETR(_Wrapped):
    """A Swin transformer (attention in shifted windows of 7) as encoder, convolutions as decoder (Hatamizadeh 2022).

    Args:
        input_channels, num_classes, deep_supervision, pad: see :class:`lkm_kit.networks.SegmentationNetwork`.
        dims: 2 or 3.
        feature_size: channels of the finest stage, a multiple of 12.
        depths, num_heads: of the four stages.
        window_size: pixels of an attention window's side.

    Source: ``monai.networks.nets.SwinUNETR``; arXiv 2201.01266. Maps that 7 does not divide are padded inside MONAI,
    under a mask.

    >>> SwinUNETR(1, 3, dims=2, feature_size=12)(torch.zeros(1, 1, 64, 32)).shape
    torch.Size([1, 3, 64, 32])
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        dims: int,
        feature_size: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        pad: bool = False,
    ):
        _needs_einops("SwinUNETR")
        strides = [(1,) * dims] + [(2,) * dims] * 5
        super().__init__(input_channels, num_classes, deep_supervision, strides=strides, pad=pad)
        if feature_size % 12:
            raise KitError(
                f"feature_size is {feature_size}", remedy="SwinUNETR's attention heads need a multiple of 12"
            )
        with _off_meta() as device:
            self.net = monai_part("networks.nets").SwinUNETR(
                input_channels,
                num_classes,
                depths=tuple(depths),
                num_heads=tuple(num_heads),
                window_size=per_axis(window_size, dims, "window_size"),
                feature_size=feature_size,
                spatial_dims=dims,
            )
        self.net.to(device)


@contextlib.contextmanager
def _off_meta():
    """MONAI's SwinUNETR reads numbers from tensors while it is built, which "meta" tensors do not have."""
    device = torch.get_default_device()
    if device.type != "meta":
        yield device
    else:
        with torch.device("cpu"):
            yield device


def _needs_einops(network: str) -> None:
    if importlib.util.find_spec("einops") is None:
        raise KitError(f"MONAI's {network} needs the package einops", remedy="pip install einops")
