"""Slices and patches of a data set's cases, drawn and augmented; item i depends on the seed and i alone."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from lkm_kit.data.dataset import DataSet
from lkm_kit.data.labels import LabelTable
from lkm_kit.data.persons import Split
from lkm_kit.data.prepared import Prepared, Recipe
from lkm_kit.errors import KitError
from lkm_kit.files import digest_of
from lkm_kit.monai_parts import monai_part

FOREGROUND_SHARE = {"train": 1 / 3, "validation": 1 / 2}
"""Share of the items that are placed on a labelled voxel, each label as often as the others (nnU-Net's third)."""

ROTATION_RAD, SCALE = 0.26, 0.15
"""Largest turn (15 degrees) and largest share by which an item grows or shrinks."""

MARGIN = 1.4
"""An item is cut this much larger and trimmed after turning and scaling, so that no corner is empty."""


class DataSetItems(Dataset):
    """Training or validation items of a data set.

    Args:
        data: where the cases are.
        side: ``"train"`` (augmented) or ``"validation"`` (not).
        split: which cases are on which side.
        recipe: how they are prepared; two spacings make slices, three make patches.
        table: the labels to learn, of the data set's.
        size: pixels of an item: two numbers or three, in the recipe's order of axes.
        length: number of items.
        seed: of where they are cut and how they are augmented.

    Items: ``{"image": float32 (c, *size), "label": int64 (*size)}``, classes of ``table``.

    Augmentation, by MONAI: rotation and scaling; mirroring left to right, where partners exchange their names and
    which is left out when a partner is not learnt; gamma; noise.

    Raises:
        KitError: no training case has one of the labels; a size of another number of axes; see :class:`Prepared`.

    >>> items = DataSetItems(data, "train", split, recipe, data.table, (48, 64), 1000)  # doctest: +SKIP
    >>> items[0]["image"].shape  # doctest: +SKIP
    torch.Size([1, 48, 64])
    """

    def __init__(
        self,
        data: DataSet,
        side: str,
        split: Split,
        recipe: Recipe,
        table: LabelTable,
        size: Sequence[int],
        length: int,
        seed: int = 0,
    ):
        self.side, self.recipe, self.table, self.length, self.seed = side, recipe, table, length, seed
        self.size, self.spacing, self.source = tuple(map(int, size)), recipe.spacing_mm, data.source
        if len(self.size) != len(recipe.spacing_mm):
            raise KitError(
                f"a size of {self.size} and a spacing of {recipe.spacing_mm} mm", remedy="give one for each axis"
            )
        self.names = split.names(side)
        self.prepared = Prepared(data, recipe, self.names)
        self._require_labels()
        made_of = {
            "cases": [(name, data.checksums[name]) for name in self.names],
            "recipe": recipe.to_json(),
            "table": table.to_json(),
            **{name: getattr(self, name) for name in ("side", "size", "length", "seed")},
        }
        self.record = {
            "name": data.name,
            "digest": data.digest,
            "split": {each: list(split.names(each)) for each in ("train", "validation", "test")},
            "how": split.how,
        }
        """What a checkpoint says of the data it was trained on."""
        self.digest = digest_of(made_of)
        """sha256 over all that decides the items: same digest, same items."""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, list(FOREGROUND_SHARE).index(self.side), index])
        name = self.names[int(rng.integers(len(self.names)))]
        centre = self._centre(name, rng)
        train = self.side == "train"
        wanted = [int(np.ceil(n * MARGIN)) for n in self.size] if train else self.size
        image, label = self._cut(name, centre, wanted)
        item = {"image": torch.from_numpy(image), "label": torch.from_numpy(self.table.to_classes(label))[None]}
        if train:
            item = self._augmented(item, rng)
        return {"image": item["image"].float(), "label": item["label"][0].long()}

    @property
    def _dims(self) -> int:
        return len(self.size)

    def _centre(self, name: str, rng: np.random.Generator) -> np.ndarray:
        """Voxel in the middle of the item: on a label, or anywhere; the item stays inside the case where it can."""
        shape = np.array(self.prepared.about[name]["shape"])
        half = np.array([0] * (3 - self._dims) + list(self.size)) // 2
        low, high = np.minimum(half, shape // 2), np.maximum(shape - half, (shape + 1) // 2)
        places = {number: there for number, there in self._places(name).items() if number in self.table.labels}
        if places and rng.random() < FOREGROUND_SHARE[self.side]:
            there = places[sorted(places)[int(rng.integers(len(places)))]]
            return np.clip(there[int(rng.integers(len(there)))], low, np.maximum(high - 1, low))
        return rng.integers(low, np.maximum(high, low + 1))

    def _cut(self, name: str, centre: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Image and label around a voxel; outside the case there is background."""
        image, label = self._arrays(name)
        size = (*[1] * (3 - self._dims), *size)
        low = [int(c) - n // 2 for c, n in zip(centre, size)]
        inner = tuple(slice(max(0, a), max(0, min(a + n, m))) for a, n, m in zip(low, size, label.shape))
        place = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inner, low))
        fill = np.array(self.prepared.about[name]["background"], dtype=np.float32)
        pixels = np.empty((len(image), *size), dtype=np.float32)
        pixels[:] = fill.reshape(-1, 1, 1, 1)
        ids = np.zeros(size, dtype=label.dtype)
        pixels[(slice(None), *place)], ids[place] = image[(slice(None), *inner)], label[inner]
        drop = 3 - self._dims
        return pixels.reshape(len(image), *size[drop:]), ids.reshape(size[drop:])

    def _augmented(self, item: dict[str, torch.Tensor], rng: np.random.Generator) -> dict[str, torch.Tensor]:
        transforms = self._transforms.set_random_state(seed=int(rng.integers(2**31)))
        with _plain_tensors():
            item = dict(transforms(item))
        exchange = self.table.mirrored_classes()
        x = self.recipe.order.index(0) - (3 - self._dims)  # below 0: slices that are cut across the left-right axis
        if x >= 0 and exchange is not None and rng.random() < 0.5:
            label = item["label"].flip(1 + x)
            item = {"image": item["image"].flip(1 + x), "label": torch.from_numpy(exchange)[label.long()]}
        return item

    @functools.cached_property
    def _transforms(self):
        transforms = monai_part("transforms")
        thick = self._dims == 3 and self.spacing[0] > 2 * min(self.spacing[1:])
        turn = ROTATION_RAD if self._dims == 2 else (ROTATION_RAD, *((0.0,) * 2 if thick else (ROTATION_RAD,) * 2))
        moved = transforms.RandAffined(
            ("image", "label"),
            prob=0.7,
            spatial_size=self.size,
            rotate_range=turn,
            scale_range=SCALE,
            mode=("bilinear", "nearest"),
            padding_mode="border",
        )
        gamma = transforms.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True)
        noise = transforms.RandGaussianNoised("image", prob=0.3, std=0.1)
        return transforms.Compose([moved, gamma, noise])

    @functools.lru_cache(maxsize=128)  # noqa: B019  two open files a case; the arrays are maps of them, not memory
    def _arrays(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self.prepared.image(name), self.prepared.label(name)

    @functools.cache  # noqa: B019
    def _places(self, name: str) -> dict[int, np.ndarray]:
        return self.prepared.places(name)

    def _require_labels(self) -> None:
        counts = [self.prepared.about[name]["voxels"] for name in self.names]
        absent = [each.name for each in self.table if not any(row.get(str(each.id)) for row in counts)]
        if absent and self.side == "train":
            raise KitError(
                f"none of the {len(self.names)} training cases of this split has a voxel of {', '.join(absent)}",
                remedy="take another fold or another holdout, or leave the label out (--set organs=...)",
            )
        if absent:
            print(f"note: no {self.side} case of this split shows {', '.join(absent)}: it is learnt, and not watched")


@contextlib.contextmanager
def _plain_tensors() -> Iterator[None]:
    """MONAI without its record of what was done to an image, which takes half the time of a small item."""
    monai = monai_part("data")
    before = monai.get_track_meta()
    monai.set_track_meta(False)
    try:
        yield
    finally:
        monai.set_track_meta(before)
