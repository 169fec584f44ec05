"""What every network here is: one signature, one set of checks and messages, padding, one deep-supervision switch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from lkm_kit.errors import KitError
from lkm_kit.networks.sizes import Demand, check_image_size, image_multiple, per_stage, total_strides
from lkm_kit.shapes import crop, pad_to_multiple, size_text


class Stage(NamedTuple):
    """What a network has at one resolution, for :func:`lkm_kit.networks.describe`.

    ``parts`` are all its modules but the two that mix tokens: ``pixels`` reads the map's pixels (PiM, U-Mamba's layer),
    ``patches`` one representative per patch (PaM).
    """

    channels: int | None
    parts: list[nn.Module]
    pixels: nn.Module | None = None
    patches: nn.Module | None = None


class SegmentationNetwork(nn.Module):
    """An image in, logits per pixel out: the base of all networks of the kit, and of your own.

    A subclass defines :meth:`heads`. One with lower heads computes them only where ``self.decoder.deep_supervision`` is
    on, so that no parameter is used in vain.

    Args:
        input_channels, num_classes: of image and logits, background included.
        deep_supervision: return a list [full, 1/2, ...] instead of the full-resolution logits; settable later as
            ``network.decoder.deep_supervision``. A network without lower heads returns a list of one. A subclass with a
            module ``decoder`` keeps the switch there and gives None here.
        strides: of each stage, one number per spatial axis; ``len(strides[0])`` decides between 2D and 3D.
        pad: append zeros to images that do not fit and crop the logits, instead of an error.

    Shapes: image (batch, input_channels, *spatial) → logits (batch, num_classes, *spatial), or a list of them.

    Raises:
        KitError: arguments that do not belong together; in ``forward``, an image of the wrong rank, channels or size.

    >>> import torch
    >>> class OneLayer(SegmentationNetwork):
    ...     def __init__(self, input_channels, num_classes, deep_supervision=False):
    ...         super().__init__(input_channels, num_classes, deep_supervision, strides=[(1, 1)])
    ...         self.layer = nn.Conv2d(input_channels, num_classes, 3, padding=1)
    ...     def heads(self, x):
    ...         return [self.layer(x)]
    >>> OneLayer(1, 3)(torch.zeros(1, 1, 16, 16)).shape
    torch.Size([1, 3, 16, 16])
    """

    last_map_needs_two_pixels = True
    """InstanceNorm cannot normalise one pixel; False for networks without it."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool | None = False,
        *,
        strides: Sequence[Sequence[int]],
        pad: bool = False,
    ):
        super().__init__()
        if input_channels < 1:
            raise KitError(f"input_channels is {input_channels}", remedy="CT and MR images have 1")
        if num_classes < 2:
            raise KitError(f"num_classes is {num_classes}", remedy="count the background: one organ makes 2 classes")
        self.dims = len(strides[0]) if len(strides) and isinstance(strides[0], Sequence) else 0
        if self.dims not in (2, 3):
            raise KitError(
                f"strides {strides} make no 2D or 3D network",
                remedy="one stride per stage and axis: [(1, 1), (2, 2), ...] for 2D",
            )
        self.input_channels, self.num_classes, self.pad = input_channels, num_classes, pad
        self.strides = per_stage(strides, len(strides), self.dims, "strides")
        if deep_supervision is not None:
            self.deep_supervision = deep_supervision

    @property
    def decoder(self) -> nn.Module:
        """What has the ``deep_supervision`` switch, under the name where nnU-Net looks for it."""
        decoder = self._modules.get("decoder")
        return self if decoder is None else decoder

    def heads(self, x: Tensor) -> list[Tensor]:
        """Logits of an image whose size fits, from full resolution down."""
        raise NotImplementedError(f"{type(self).__name__} defines no heads(x)")

    def size_demands(self) -> list[Demand]:
        """What must divide which stage's map, beside the strides themselves."""
        return []

    def stage_parts(self) -> list[Stage]:
        """The parts of each resolution, finest first; nothing where a network cannot be told apart so."""
        return []

    def size_multiple(self) -> tuple[int, ...]:
        """What divides the size of every image that fits; ``pad`` appends zeros up to the next multiple."""
        return image_multiple(self.strides, self.size_demands())

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
        total = total_strides(self.strides)[-1]
        if self.last_map_needs_two_pixels and all(size <= t for size, t in zip(x.shape[2:], total)):
            raise KitError(
                f"image {size_text(x.shape[2:])} shrinks to one pixel at the last stage, where InstanceNorm needs two",
                remedy=f"use an image larger than {size_text(total)}, or fewer stages",
            )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Image → logits, or a list of logits with the finest first."""
        self.check_input(x)
        padded = pad_to_multiple(x, self.size_multiple()) if self.pad else x
        logits = self.heads(padded)
        if padded is not x:
            logits = [
                crop(level, [-(-s * n // p) for s, n, p in zip(x.shape[2:], level.shape[2:], padded.shape[2:])])
                for level in logits
            ]
        return logits if self.decoder.deep_supervision else logits[0]
