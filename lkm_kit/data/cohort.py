"""The cohort: the kit's controlled benchmark, endless seeded deformed copies of one real patient.

Image and label of ct_a are deformed together (smooth deformation, rotation, scale). The image gets other intensities, a
bias field and noise. Every second copy is mirrored left to right. Mirroring keeps the names: the right kidney of a
mirrored scan is still the one beside the liver, so that which kidney is which can only be told from context. All splits
come from one anatomy: they show learning, not generalisation to other people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch.utils.data import Dataset

from lkm_kit.data.case import Case
from lkm_kit.data.geometry import PLAUSIBLE_MM
from lkm_kit.data.labels import LabelTable
from lkm_kit.data.preprocess import normalizer
from lkm_kit.data.source import Source
from lkm_kit.errors import KitError, one_of
from lkm_kit.files import digest_of

SPLITS = ("train", "validation", "test")
GAP_MM = 9.0
"""Slabs keep this distance: neighbouring slices of a scan look nearly the same."""
SLABS = ("all", "train", "held-out")

_AIR_HU, _BODY_HU = -1000.0, -300.0


class _Cohort(Dataset):
    """What slices and patches share: the case, its organ range and the deformation."""

    dims: int

    def __init__(
        self,
        split: str,
        *,
        size: Sequence[int],
        spacing_mm: float,
        table: LabelTable,
        length: int,
        seed: int = 0,
        case: Case | None = None,
        slab: str = "all",
    ):
        one_of(split, SPLITS, "split")
        one_of(slab, SLABS, "slab")
        if len(size) != self.dims or min(size) < 1:
            raise KitError(
                f"size {tuple(size)} for {type(self).__name__}", remedy=f"give {self.dims} numbers of pixels"
            )
        if not 0 < spacing_mm <= PLAUSIBLE_MM[1] or length < 1:
            remedy = f"give mm above 0 and up to {PLAUSIBLE_MM[1]:g}, and a length from 1 on"
            raise KitError(f"spacing_mm {spacing_mm}, length {length}", remedy=remedy)
        if case is None:
            from lkm_kit.data.sample import training_case

            case = training_case("CT")
        if case.label is None:
            raise KitError(f"case {case.name} has no labels: no cohort can be made of it")
        self.split, self.size, self.spacing_mm = split, tuple(map(int, size)), float(spacing_mm)
        self.table, self.length, self.seed, self.slab = table, length, seed, slab
        self.case = case
        self._classes = table.to_classes(case.label).astype(np.uint8)
        self._heights = self._allowed_heights()
        if case.modality == "CT":
            self._outside, from_body_on = _AIR_HU, _BODY_HU
        else:  # MR: air is the darkest there is, and the body whatever is brighter than the volume's mean
            self._outside, from_body_on = float(case.image.min()), float(case.image.mean())
        self._normalize = normalizer(case.image, case.modality)
        body = np.argwhere(case.image[:, :, self._heights].max(axis=2) > from_body_on)
        self._centre = (body.min(0) + body.max(0)) / 2

    def __len__(self) -> int:
        return self.length

    @property
    def source(self) -> Source:
        """Whose deformed copies these are."""
        return self.case.source

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm, one number for each axis of an item: (x, y) or (z, x, y)."""
        plane = (self.spacing_mm, self.spacing_mm)
        return plane if self.dims == 2 else (self.case.spacing[2], *plane)

    @property
    def digest(self) -> str:
        """sha256 over all that decides the items: same digest, same items."""
        made_of = {
            "case": self.case.digest,
            "organs": self.table.names,
            "spacing": self.spacing,
            **{name: getattr(self, name) for name in ("split", "size", "length", "seed", "slab")},
        }
        return digest_of(made_of)

    def _allowed_heights(self) -> np.ndarray:
        """Axial slices that show at least three organs of the table (or as many as any slice does)."""
        organs = range(1, self.table.num_classes)
        count = sum((self._classes == k).any(axis=(0, 1)).astype(int) for k in organs)
        used = np.flatnonzero(count >= min(3, max(1, count.max())))
        if not len(used):
            raise KitError(f"case {self.case.name} holds none of {', '.join(self.table.names)}")
        heights = np.arange(used[0], used[-1] + 1)
        if self.slab == "all":
            return heights
        low, high = np.quantile(heights, [0.5, 0.75])  # the third of four quarters is held out
        if self.slab == "held-out":
            return heights[(heights >= low) & (heights <= high)]
        gap = GAP_MM / self.case.spacing[2]
        return heights[(heights < low - gap) | (heights > high + gap)]

    def _rng(self, index: int) -> np.random.Generator:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return np.random.default_rng([self.seed, SPLITS.index(self.split), index])

    def _warp(self, rng: np.random.Generator, depth_mm: np.ndarray | None) -> np.ndarray:
        """Where in the case, in voxels, each pixel of the item lies: (3, *size), x, y, z."""
        plane = self.size[-2:]
        grids = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * self.spacing_mm for n in plane), indexing="ij")
        x, y = (g + rng.normal(0, 6.0) for g in grids)  # the patient does not lie in the middle
        angle, scale = np.deg2rad(rng.uniform(-12, 12)), np.exp(rng.normal(0, 0.08, 2))
        x, y = (np.cos(angle) * x - np.sin(angle) * y) * scale[0], (np.sin(angle) * x + np.cos(angle) * y) * scale[1]
        shifts = [_smooth_field(rng, plane, sd=s) for s in (5.0, 5.0, 3.0)]  # mm
        x, y = x + shifts[0], y + shifts[1]
        if rng.random() < 0.5:
            x = -x  # mirrored, labels keep their names
        spacing = self.case.spacing
        middle = self._middle(rng)
        height = middle + shifts[2] / spacing[2]
        x, y = self._centre[0] + x / spacing[0], self._centre[1] + y / spacing[1]
        if depth_mm is None:
            return np.stack([x, y, self._within_slab(height, middle)])
        z = self._within_slab(height[None] + depth_mm[:, None, None] / spacing[2], middle)
        return np.stack([np.broadcast_to(x, z.shape), np.broadcast_to(y, z.shape), z])

    def _middle(self, rng: np.random.Generator) -> float:
        """Height that an item lies at, in slices of the case."""
        return rng.choice(self._heights)

    def _within_slab(self, z: np.ndarray, middle: float) -> np.ndarray:
        """Keep heights inside the slab of ``middle``: a deformed slice must not read from the other side of the gap."""
        if self.slab == "all":
            return z
        runs = np.split(self._heights, np.flatnonzero(np.diff(self._heights) > 1) + 1)
        slab = next(run for run in runs if middle in run)
        return np.clip(z, slab[0], slab[-1])  # beyond the slab its last slice is repeated

    def _item(self, rng: np.random.Generator, points: np.ndarray) -> dict[str, torch.Tensor]:
        image = ndimage.map_coordinates(self.case.image, points, order=1, mode="constant", cval=self._outside)
        label = ndimage.map_coordinates(self._classes, points, order=0, mode="constant", cval=0)
        if self.case.modality == "CT":
            contrast, shift = np.exp(rng.normal(0, 0.1)), rng.normal(0, 10.0)
            image = 40 + contrast * (image - 40) + shift  # about soft tissue, so that air stays below the window
            image = image + _smooth_field(rng, self.size[-2:], sd=12.0)  # bias
            image = self._normalize(image + rng.normal(0, rng.uniform(5, 25), image.shape))
        else:
            # the coil's field is a factor; one scale for the whole scan, as in prediction
            image = self._normalize(image * np.exp(_smooth_field(rng, self.size[-2:], sd=0.15)))
            image = image + rng.normal(0, 0.1, image.shape)
        return {
            "image": torch.from_numpy(image[None].astype(np.float32)),
            "label": torch.from_numpy(label.astype(np.int64)),
        }


def _smooth_field(rng: np.random.Generator, size: tuple[int, int], sd: float, nodes: int = 5) -> np.ndarray:
    """A smooth random map: normal numbers on a coarse grid, cubic between them."""
    coarse = rng.normal(0, sd, (nodes, nodes))
    rows, columns = (_cubic(n, nodes) for n in size)
    return rows @ coarse @ columns.T


def _cubic(n: int, nodes: int) -> np.ndarray:
    """Matrix (n, nodes) that evaluates a uniform cubic B-spline, its ends clamped."""
    t = np.linspace(0, nodes - 1, n)
    left = np.minimum(t.astype(int), nodes - 2)
    f = t - left
    weights = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], axis=1) / 6
    matrix = np.zeros((n, nodes))
    for k in range(4):
        np.add.at(matrix, (np.arange(n), np.clip(left + k - 1, 0, nodes - 1)), weights[:, k])
    return matrix


class CohortSlices(_Cohort):
    """Axial slices (x, y) of warped patients, made on the fly; item i depends on (seed, split, i) alone.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``: disjoint seeds, one anatomy.
        size: pixels (x, y).
        spacing_mm: size of a pixel.
        table: the organs; labels are its classes.
        length: number of items.
        seed: of the whole cohort.
        case: another labelled case than ct_a.
        slab: ``"all"``; or ``"train"`` and ``"held-out"``: slices of different heights, at least 9 mm apart.

    Items: {"image": float32 (1, x, y), normalised; "label": int64 (x, y)}.

    Raises:
        KitError: unknown split or slab, a size that is not 2D, a case without the organs.

    >>> from lkm_kit.data.phantom import make_phantom
    >>> cohort = CohortSlices("train", size=(64, 64), spacing_mm=4.5, table=LabelTable(("liver",)), length=3,
    ...                       case=make_phantom())
    >>> cohort[0]["image"].shape, cohort[0]["label"].dtype
    (torch.Size([1, 64, 64]), torch.int64)
    """

    dims = 2

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = self._rng(index)
        return self._item(rng, self._warp(rng, None))


class CohortPatches(_Cohort):
    """Volumes (z, x, y) of warped patients; everything else as :class:`CohortSlices`.

    ``spacing_mm`` holds along x and y; along z the case's own spacing is kept, as the released 3D networks expect
    anisotropic patches.

    >>> from lkm_kit.data.phantom import make_phantom
    >>> cohort = CohortPatches("test", size=(8, 32, 32), spacing_mm=6, table=LabelTable(("liver",)), length=1,
    ...                        case=make_phantom())
    >>> cohort[0]["image"].shape
    torch.Size([1, 8, 32, 32])
    """

    dims = 3

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = self._rng(index)
        depth = (np.arange(self.size[0]) - (self.size[0] - 1) / 2) * self.case.spacing[2]
        return self._item(rng, self._warp(rng, depth))


class CohortVolumes(CohortPatches):
    """Warped patients (z, x, y) with every slice that items of the other two are drawn from: the cases of a study.

    Args:
        size: pixels (x, y); as many slices as there are.
        split, spacing_mm, table, length, seed, case, slab: see :class:`CohortSlices`.

    >>> from lkm_kit.data.phantom import make_phantom
    >>> cohort = CohortVolumes("test", size=(32, 32), spacing_mm=6, table=LabelTable(("liver",)), length=1,
    ...                        case=make_phantom())
    >>> len(cohort[0]["label"]) == len(range(*cohort.heights)) == cohort.size[0] > 8
    True
    """

    def __init__(self, split: str, *, size: Sequence[int], **how: Any):
        super().__init__(split, size=(1, *size), **how)
        self.size = (len(self._heights), *self.size[1:])

    @property
    def heights(self) -> tuple[int, int]:
        """First slice of the case that is there, and the one after the last."""
        return int(self._heights[0]), int(self._heights[-1]) + 1

    @property
    def digest(self) -> str:
        """sha256 over all that decides the items: same digest, same items."""
        return hashlib.sha256(f"volumes {super().digest}".encode()).hexdigest()

    def _middle(self, rng: np.random.Generator) -> float:
        return float(self._heights[0] + self._heights[-1]) / 2
