"""The convolution blocks of nnU-Net's U-Nets, named as there, so that weights move across."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
AVG_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}

Size = tuple[int, ...]


class ConvNorm(nn.Module):
    """Convolution, InstanceNorm and, unless ``activation=False``, LeakyReLU(0.01).

    Args:
        in_channels, out_channels: channels.
        kernel, stride: one number per spatial axis; the padding keeps the size at stride 1.
        bias: of the convolution.

    >>> ConvNorm(1, 4, (1, 3, 3), (1, 2, 2))(torch.zeros(1, 1, 4, 8, 8)).shape
    torch.Size([1, 4, 4, 4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Size,
        stride: Size,
        bias: bool = True,
        activation: bool = True,
    ):
        super().__init__()
        dims = len(kernel)
        padding = tuple((k - 1) // 2 for k in kernel)
        self.conv = CONV[dims](in_channels, out_channels, kernel, stride, padding, bias=bias)
        self.norm = INSTANCE_NORM[dims](out_channels, eps=1e-5, affine=True)
        self.nonlin = nn.LeakyReLU(0.01, inplace=True) if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlin(_own(self.norm(self.conv(x))))


def _own(x: Tensor) -> Tensor:
    """x as a tensor that is nobody's view: InstanceNorm gives a view, which the LeakyReLU then changes in place.

    The backward pass of that would fill a map with zeros and copy three more.
    """
    return torch.ops.aten._unsafe_view(x, x.shape)


class ConvStack(nn.Module):
    """``n_blocks`` ConvNorms after each other, the first one strided: a stage of the plain U-Net."""

    def __init__(self, n_blocks: int, in_channels: int, out_channels: int, kernel: Size, stride: Size):
        super().__init__()
        self.convs = _in_a_row(ConvNorm, n_blocks, in_channels, out_channels, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class ResidualBlock(nn.Module):
    """Two convolutions around which the input is added: LeakyReLU(conv2(conv1(x)) + skip(x)).

    The skip averages where the block is strided and projects (1×1 convolution, no bias, InstanceNorm) where the number
    of channels changes, in this order: the "D" variant of He et al. 2019 ("Bag of tricks", Section 4), nnU-Net's
    ``BasicBlockD``.

    >>> ResidualBlock(4, 8, (3, 3), (2, 2))(torch.zeros(1, 4, 8, 8)).shape
    torch.Size([1, 8, 4, 4])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Size, stride: Size):
        super().__init__()
        dims, ones = len(kernel), (1,) * len(kernel)
        self.conv1 = ConvNorm(in_channels, out_channels, kernel, stride)
        self.conv2 = ConvNorm(out_channels, out_channels, kernel, ones, activation=False)
        skip = []
        if stride != ones:
            skip.append(AVG_POOL[dims](stride, stride))
        if in_channels != out_channels:
            skip.append(ConvNorm(in_channels, out_channels, ones, ones, bias=False, activation=False))
        self.skip = nn.Sequential(*skip)
        self.nonlin = nn.LeakyReLU(0.01, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlin(self.conv2(self.conv1(x)) + self.skip(x))


class ResidualStack(nn.Module):
    """``n_blocks`` residual blocks after each other, the first one strided: a stage of the residual U-Net."""

    def __init__(self, n_blocks: int, in_channels: int, out_channels: int, kernel: Size, stride: Size):
        super().__init__()
        self.blocks = _in_a_row(ResidualBlock, n_blocks, in_channels, out_channels, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


def _in_a_row(
    layer: Callable[..., nn.Module], number: int, in_channels: int, out_channels: int, kernel: Size, stride: Size
) -> nn.Sequential:
    ones = (1,) * len(kernel)
    first = layer(in_channels, out_channels, kernel, stride)
    return nn.Sequential(first, *(layer(out_channels, out_channels, kernel, ones) for _ in range(number - 1)))


@torch.no_grad()
def initialize(module: nn.Module) -> None:
    """nnU-Net's start: He-normal convolutions (slope 0.01), zero biases, residual blocks that begin as their skip.

    For ``network.apply(initialize)``. The last InstanceNorm of a residual block starts at 0, so that the block adds
    nothing at first.
    """
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, a=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, ResidualBlock):
        nn.init.zeros_(module.conv2.norm.weight)
        nn.init.zeros_(module.conv2.norm.bias)
