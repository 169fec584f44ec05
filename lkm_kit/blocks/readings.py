"""Readings: in which order the pixels of one window follow each other.

A reading is a function of the window's sides that returns each of its pixels once, numbered row by row.
:data:`lkm_kit.blocks.ORDERS` applies it to every window of a map; a window as large as the map gives the scan of a
whole map that most papers mean.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

Sides = tuple[int, ...]


def _pixels(sides: Sides) -> Tensor:
    return torch.arange(prod(sides), device="cpu").reshape(sides)


def _coordinates(sides: Sides) -> Tensor:
    """(axes, pixels)."""
    axes = (torch.arange(side, device="cpu") for side in sides)
    return torch.stack([grid.flatten() for grid in torch.meshgrid(*axes, indexing="ij")])


def shuffled(sides: Sides) -> Tensor:
    """A random order, one and the same for all windows of a length: a control.

    Neighbours in the sequence are no longer neighbours in the image. If PiM's gain comes from reading a window's pixels
    in their spatial order, this order must lose it. If it keeps the gain, the order did not matter.

    >>> shuffled((2, 2)).sort().values.tolist()
    [0, 1, 2, 3]
    """
    length = prod(sides)
    return torch.randperm(length, generator=torch.Generator().manual_seed(length), device="cpu")


def first_axis(sides: Sides) -> Tensor:
    """Along the first axis: the columns of a slice, or every pixel of a plane through all slices of a volume.

    Source: the second path of VMamba's cross-scan (Liu et al. 2024, Section 4.2); in 3D SegMamba's inter-slice
    direction (Xing et al. 2024; ``nslices`` in its fork of ``mamba_simple.py``). Its code cuts the sequences of its
    four stages into 64, 32, 16 and 8 slices: those of 128×128×128 voxels. Here it is the slices that the volume has.

    >>> first_axis((2, 3)).tolist()
    [0, 3, 1, 4, 2, 5]
    """
    return _pixels(sides).movedim(0, -1).flatten()


def second_axis(sides: Sides) -> Tensor:
    """Along the second axis of a volume: with row by row and :func:`first_axis` all three axes. A slice: row by row.

    Source: the Tri-scan of *A Comprehensive Analysis of Mamba for 3D Volumetric Medical Image
    Segmentation* (arXiv 2503.19308).

    >>> second_axis((1, 2, 2)).tolist()
    [0, 2, 1, 3]
    """
    return _pixels(sides).movedim(1, -1).flatten()


def snake(sides: Sides) -> Tensor:
    """Row by row, every second row backwards (boustrophedon): each step goes to a neighbour, in volumes too.

    Source: PlainMamba's continuous 2D scanning (Yang et al. 2024; ``plain_mamba_layer.py``). Deviation: one path.
    Theirs are four with the same parameters: along rows and along columns, both ways. A vector for the direction of
    each step is added to B. In the released code Δ, B and C themselves stay in the order of rows. ``directions`` takes
    this path and its reverse.

    >>> snake((3, 3)).tolist()
    [0, 1, 2, 5, 4, 3, 6, 7, 8]
    """
    path = _pixels(sides[-1:])
    for axis in range(len(sides) - 2, -1, -1):
        step = prod(sides[axis + 1 :])
        path = torch.stack([(path if i % 2 == 0 else path.flip(0)) + i * step for i in range(sides[axis])]).flatten()
    return path


def diagonal(sides: Sides) -> Tensor:
    """Diagonal by diagonal from the first corner, every second one backwards (zigzag); in volumes plane by plane.

    Source: the diagonal paths of RS-Mamba (Zhao et al. 2024; ``rs_mamba_ss.py``). Deviation: in their code all
    diagonals run the same way and go on at the opposite edge of the map, so that all are equally long. Here they
    alternate, as in JPEG's zigzag, and end at the edge. In a volume the pixels of a plane of equal sums follow row
    by row.

    >>> diagonal((3, 3)).tolist()
    [0, 1, 3, 6, 4, 2, 5, 7, 8]
    """
    at = _coordinates(sides)
    total = at.sum(0)
    numbers = torch.arange(at.shape[1], device="cpu")
    return torch.argsort(2 * len(numbers) * total + torch.where(total % 2 == 1, numbers, -numbers))


def hilbert(sides: Sides) -> Tensor:
    """Along Hilbert's curve, on which pixels near in the sequence are near in the image.

    Source: the distance along the curve by Skilling's method (AIP Conf. Proc. 707, 2004); as a scan for Mamba in
    PointMamba (Liang et al. 2024, arXiv 2402.10739), for points in space. Deviation: for sides that are not one power
    of two, the curve of the next power without the pixels beyond the window. Where it leaves the window and comes back,
    a step is longer than one pixel.

    >>> hilbert((2, 2)).tolist()
    [0, 1, 3, 2]
    """
    x = list(_coordinates(sides))
    top = (1 << (max(sides) - 1).bit_length()) >> 1
    for bit in _powers_down(top, 2):  # undo the turns of all coarser squares, the coarsest first
        for axis in range(len(x)):
            high = (x[axis] & bit) > 0
            exchanged = torch.where(high, 0, (x[0] ^ x[axis]) & (bit - 1))
            x[0] = x[0] ^ torch.where(high, bit - 1, exchanged)
            x[axis] = x[axis] ^ exchanged
    for axis in range(1, len(x)):  # Gray code
        x[axis] = x[axis] ^ x[axis - 1]
    turn = torch.zeros_like(x[0])
    for bit in _powers_down(top, 2):
        turn = torch.where((x[-1] & bit) > 0, turn ^ (bit - 1), turn)
    distance = torch.zeros_like(x[0])
    for bit in _powers_down(top, 1):  # the bits of all axes in turns
        for axis in x:
            distance = 2 * distance + (((axis ^ turn) & bit) > 0)
    return torch.argsort(distance)


def _powers_down(top: int, last: int) -> list[int]:
    """Powers of two from ``top`` to ``last``.

    >>> _powers_down(8, 2)
    [8, 4, 2]
    """
    return [1 << k for k in range(top.bit_length() - 1, last.bit_length() - 2, -1)]
