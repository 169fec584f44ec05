"""What the other papers' networks of Table 1 have in common here: one signature, one set of messages, padding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from lkm_kit.errors import KitError
from lkm_kit.networks.sizes import Demand, check_image_size, image_multiple, total_strides
from lkm_kit.shapes import crop, pad_to_multiple, size_text


class Baseline(nn.Module):
    """A segmentation network that is built, fed and supervised as :class:`lkm_kit.networks.UNet` is.

    Args:
        input_channels, num_classes: of image and logits, background included.
        deep_supervision: return a list [full, 1/2, ...] instead of the full-resolution logits; settable later as
            ``network.decoder.deep_supervision``. A network without lower heads returns a list of one.
        strides: of each stage, one number per spatial axis; ``len(strides[0])`` decides between 2D and 3D.
        demands: what else must divide the map of which stage.
        pad: append zeros to images that do not fit and crop the logits, instead of an error.

    A subclass defines :meth:`heads`.
    """

    last_map_needs_two_pixels = True
    """InstanceNorm cannot normalise one pixel; False for networks without it."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool,
        strides: Sequence[Sequence[int]],
        demands: Sequence[Demand] = (),
        pad: bool = False,
    ):
        super().__init__()
        if input_channels < 1:
            raise KitError(f"input_channels is {input_channels}", remedy="CT and MR images have 1")
        if num_classes < 2:
            raise KitError(f"num_classes is {num_classes}", remedy="count the background: one organ makes 2 classes")
        self.input_channels, self.num_classes, self.pad = input_channels, num_classes, pad
        self.deep_supervision = deep_supervision
        self.strides = [tuple(stride) for stride in strides]
        self.dims = len(self.strides[0])
        self.demands = list(demands)

    @property
    def decoder(self) -> Baseline:
        """Where nnU-Net looks for the ``deep_supervision`` switch."""
        return self

    @abstractmethod
    def heads(self, x: Tensor) -> list[Tensor]:
        """Logits of an image whose size fits, from full resolution down."""

    def check_input(self, x: Tensor) -> None:
        """Raise a KitError that names what is wrong with ``x``; return nothing for an image the network can take."""
        axes = "(batch, channels, H, W)" if self.dims == 2 else "(batch, channels, D, H, W)"
        name = type(self).__name__
        if x.ndim != self.dims + 2 or x.shape[1] != self.input_channels:
            raise KitError(
                f"image of shape {tuple(x.shape)}; this {self.dims}D {name} takes {axes} with {self.input_channels} "
                "channels",
                remedy="add missing axes with image[None, None], or build the network for this image",
            )
        if not x.is_floating_point():
            raise KitError(f"image has dtype {x.dtype}", remedy="normalise it and pass float32: image.float()")
        size, total = x.shape[2:], total_strides(self.strides)[-1]
        if not self.pad:
            check_image_size(size, self.strides, self.demands)
        if self.last_map_needs_two_pixels and all(s <= t for s, t in zip(size, total)):
            raise KitError(
                f"image {size_text(size)} shrinks to one pixel at the last stage of {name}, where InstanceNorm needs "
                "two",
                remedy=f"use an image larger than {size_text(total)}",
            )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Image (batch, input_channels, *spatial) → logits, or a list of logits with the finest first."""
        self.check_input(x)
        size = x.shape[2:]
        padded = pad_to_multiple(x, image_multiple(self.strides, self.demands)) if self.pad else x
        logits = self.heads(padded)
        if padded is not x:
            logits = [
                crop(level, [-(-s * n // p) for s, n, p in zip(size, level.shape[2:], padded.shape[2:])])
                for level in logits
            ]
        return logits if self.deep_supervision else logits[0]
