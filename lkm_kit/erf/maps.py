"""A map of Jacobian norms together with the probe it belongs to: what every measure and figure starts from."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lkm_kit.erf.probe import Probe, sides
from lkm_kit.errors import KitError
from lkm_kit.shapes import size_text


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ErfMap:
    """A(p) over the image's pixels, and where the probe is.

    Args:
        values: (*spatial) of the image, float64, on the CPU; not negative unless ``reduce="signed"``.
        grid: size of the probed layer's map.
        place: the probe on that map.
        probe: as it was asked for.
        images: how many were averaged.

    A layer with a coarser map than the image has *cells* instead of pixels: the pixels p with
    floor(p · grid / size) = place. Own pixel, window, lattice and scan order are meant in cells, for which
    :attr:`tokens` holds the sums of ``values``.

    >>> erf_map = ErfMap(torch.ones(4, 4, dtype=torch.float64), grid=(2, 2), place=(1, 0))
    >>> erf_map.cell, erf_map.tokens.tolist()
    ((slice(2, 4, None), slice(0, 2, None)), [[4.0, 4.0], [4.0, 4.0]])
    """

    values: Tensor
    grid: tuple[int, ...]
    place: tuple[int, ...]
    probe: Probe = dataclasses.field(default_factory=Probe)
    images: int = 1

    def __repr__(self) -> str:
        """One line: a notebook shows it.

        >>> ErfMap.at(np.eye(5))
        ErfMap(5×5 pixels, probe 'logit' at (2, 2) of 5×5, 1 image)
        """
        many = "1 image" if self.images == 1 else f"mean of {self.images} images"
        size, grid = size_text(self.values.shape), size_text(self.grid)
        return f"ErfMap({size} pixels, probe {self.probe.layer!r} at {self.place} of {grid}, {many})"

    @classmethod
    def at(cls, values, position="center", *, window=None, stride=None) -> ErfMap:
        """Wrap a map that was made elsewhere; the probe is a pixel of it.

        >>> ErfMap.at(np.eye(5)).place
        (2, 2)
        """
        values = torch.as_tensor(values, dtype=torch.float64)
        probe = Probe(position=position, window=window, stride=stride)
        return cls(values, tuple(values.shape), probe.locate(values.shape), probe)

    @property
    def array(self) -> np.ndarray:
        """The values as a numpy array."""
        return self.values.numpy()

    @cached_property
    def cell(self) -> tuple[slice, ...]:
        """The image's pixels under the probe; one pixel where layer and image have the same size."""
        return self.box(tuple((q, q + 1) for q in self.place))

    @property
    def center(self) -> tuple[float, ...]:
        """Middle of the cell, in pixel indices."""
        return tuple((s.start + s.stop - 1) / 2 for s in self.cell)

    @cached_property
    def window(self) -> tuple[tuple[int, int], ...] | None:
        """First and last-plus-one cell, per axis, of the probe's own window; None without a window."""
        window = self.probe.window_sides(self.grid)
        if window is None:
            return None
        return tuple((q // k * k, min(q // k * k + k, n)) for q, k, n in zip(self.place, window, self.grid))

    @property
    def stride(self) -> tuple[int, ...] | None:
        """Of the dilated grid, per axis, in cells."""
        return None if self.probe.stride is None else sides(self.probe.stride, len(self.grid), "stride")

    def box(self, cells: tuple[tuple[int, int], ...]) -> tuple[slice, ...]:
        """A box of cells as slices of the image."""
        edges = zip(cells, self.grid, self.values.shape)
        return tuple(
            slice(-(-a * size // n), max(-(-b * size // n), -(-a * size // n) + 1)) for (a, b), n, size in edges
        )

    @cached_property
    def tokens(self) -> np.ndarray:
        """Sums of ``values`` over cells: (*grid).

        Raises:
            KitError: a layer with a finer map than the image's.
        """
        image = tuple(self.values.shape)
        if any(n > size for n, size in zip(self.grid, image)):
            raise KitError(
                f"layer {self.probe.layer!r} has a map of {self.grid}, finer than the image's {image}",
                remedy="measures in cells need a layer that is not finer than the image",
            )
        sums = self.array
        for axis, (n, size) in enumerate(zip(self.grid, self.values.shape)):
            sums = np.add.reduceat(sums, [-(-q * size // n) for q in range(n)], axis=axis)
        return sums
