"""Prepared cases: normalised, cropped, resampled once, kept on disk and memory-mapped, so that they need no memory.

They lie under ``LKM_DATA/prepared``, in a folder for each data set and setting. A case whose files have changed since
is noticed by its checksum and prepared anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lkm_kit.data.case import Case
from lkm_kit.data.dataset import SPACING_LIMIT, CaseFiles, DataSet
from lkm_kit.data.preprocess import normalizer
from lkm_kit.data.sample import data_folder
from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, locked, read_json, write_json
from lkm_kit.monai_parts import monai_part

FORMAT = 1
"""Of the prepared files: a change of what is done to a case raises it."""

VOXELS_KEPT = 2000
"""Places of each label that are remembered, to draw patches around: drawn evenly where there are more."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """One channel and how its intensities are normalised.

    Args:
        name: from ``channel_names``.
        statistics: of CT: low and high end, mean and standard deviation of the training cases' labelled voxels.
    """

    name: str
    statistics: tuple[float, float, float, float] | None = None

    @property
    def modality(self) -> str:
        """``"CT"``, ``"noNorm"``, or ``"MR"`` for everything that gets a z-score."""
        return {"CT": "CT", "NONORM": "noNorm"}.get(self.name.upper(), "MR")

    def normalizer(self, image: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """What brings ``image`` or parts of it to about zero mean and unit spread."""
        return normalizer(image, self.modality, self.statistics)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is done to a case before a network sees it, in training and in prediction.

    Args:
        channels: in the order of the files.
        axis: 0, 1 or 2 = x, y or z; comes first in a prepared array; slices lie along it.
        spacing_mm: mm of an item's axes, two numbers (slices keep their distance) or three (the first is ``axis``'s).
    """

    channels: tuple[Channel, ...]
    axis: int
    spacing_mm: tuple[float, ...]

    @property
    def order(self) -> tuple[int, int, int]:
        """Axes of x, y, z in the order of a prepared array.

        >>> Recipe((Channel("T1"),), 2, (1.0, 1.0)).order
        (2, 0, 1)
        """
        return (self.axis, *(a for a in range(3) if a != self.axis))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Recipe:
        """Undo :meth:`to_json`.

        >>> recipe = Recipe((Channel("CT", (-160.0, 240.0, 40.0, 90.0)),), 2, (1.5, 0.8, 0.8))
        >>> Recipe.from_json(recipe.to_json()) == recipe
        True
        """
        channels = tuple(
            Channel(each["name"], tuple(each["statistics"]) if each["statistics"] else None)
            for each in value["channels"]
        )
        return cls(channels, int(value["axis"]), tuple(map(float, value["spacing_mm"])))

    def apply(self, case: Case) -> tuple[np.ndarray, np.ndarray | None]:
        """Normalise, crop to what is not background, resample.

        Returns:
            image (c, *order) float32 and label (*order) in the case's type, or None.

        Raises:
            KitError: a channel holds one single value.
        """
        transforms = monai_part("transforms")
        image = case.image if case.image.ndim == 4 else case.image[None]
        for channel, own in zip(self.channels, image):
            if own.min() == own.max():
                raise KitError(
                    f"case {case.name}: every voxel of channel {channel.name} is {own.flat[0]:g}",
                    remedy="check that the export was complete, or leave the case out",
                )
        inside = (image > image.min(axis=(1, 2, 3), keepdims=True)).any(axis=0, keepdims=True)
        if case.label is not None:
            inside |= case.label[None] > 0
        image = np.stack([channel.normalizer(own)(own) for channel, own in zip(self.channels, image)])
        low, high = transforms.CropForeground(allow_smaller=True).compute_bounding_box(inside)
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high))
        image, label = image[(slice(None), *box)], None if case.label is None else case.label[box]
        target = dict(zip(self.order[-len(self.spacing_mm) :], self.spacing_mm))
        size = [
            max(1, round(n * s / target[axis])) if axis in target else n
            for axis, (n, s) in enumerate(zip(image.shape[1:], case.spacing))
        ]
        if size != list(image.shape[1:]):
            coarser = any(new < old for new, old in zip(size, image.shape[1:]))
            smooth = transforms.Resize(size, mode="trilinear", align_corners=False, anti_aliasing=coarser)
            image = smooth(image.astype(np.float32)).numpy()
            if label is not None:
                ids = transforms.Resize(size, mode="nearest-exact")(label[None].astype(np.float32)).numpy()[0]
                label = ids.astype(case.label.dtype)
        image = np.ascontiguousarray(image.transpose(0, *(1 + a for a in self.order)), dtype=np.float32)
        return image, None if label is None else np.ascontiguousarray(label.transpose(self.order))


def make_recipe(
    data: DataSet,
    train: Sequence[str],
    *,
    dims: int,
    axis: int | None = None,
    spacing_mm: float | Sequence[float] | None = None,
) -> Recipe:
    """The recipe that a data set's training cases call for.

    Args:
        train: names of the cases that intensity statistics may be taken from.
        dims: 2 or 3, axes of an item.
        axis: slices along x (0), y (1) or z (2); default the axis of the largest spacing. Among equals slices lie along
            the axis with the fewest voxels, so that they are as large as can be, and patches begin with z.
        spacing_mm: as in :class:`Recipe`; one number holds for all axes; default the training cases' median.

    Raises:
        KitError: an axis or a spacing that makes no sense; spacings that differ by a factor of ten.
    """
    axis, spacing, _ = grid_of(data, dims, axis, spacing_mm)
    channels = tuple(Channel(name) for name in data.channels)
    if any(channel.modality == "CT" for channel in channels):
        found = _fingerprint(data, train)
        channels = tuple(
            dataclasses.replace(channel, statistics=tuple(own)) if channel.modality == "CT" else channel
            for channel, own in zip(channels, found)
        )
    return Recipe(channels, axis, spacing)


def grid_of(
    data: DataSet, dims: int, axis: int | None = None, spacing_mm: float | Sequence[float] | None = None
) -> tuple[int, tuple[float, ...], tuple[int, ...]]:
    """Axis and spacing of a recipe, see :func:`make_recipe`, and the median training case's pixels at that spacing."""
    shape, median = data.median
    if axis is None:
        coarse = [a for a in (0, 1, 2) if max(median) < 1.01 * median[a]]
        axis = min(coarse, key=lambda a: shape[a]) if dims == 2 else 2 if 2 in coarse else coarse[0]
    if axis not in (0, 1, 2):
        raise KitError(f"axis is {axis}", remedy="give 0, 1 or 2: slices along x, y or z")
    order = Recipe((), axis, ()).order[-dims:]
    if spacing_mm is None:
        _require_one_scale(data, median)
        spacing_mm = [median[a] for a in order]
    values = np.asarray(spacing_mm, dtype=float).ravel()
    if values.size not in (1, dims) or not (values > 0).all():
        raise KitError(f"spacing_mm is {spacing_mm}", remedy=f"give one number in mm, or {dims}")
    spacing = tuple(float(v) for v in np.broadcast_to(values, dims))
    return axis, spacing, tuple(max(1, round(shape[a] * median[a] / s)) for a, s in zip(order, spacing))


class Prepared:
    """The prepared cases of a data set; arrays are memory-mapped when they are asked for.

    Args:
        data: the data set.
        recipe: what is done to each case.
        names: the cases to prepare.

    Raises:
        KitError: see :meth:`lkm_kit.data.DataSet.read`; a cache folder that cannot be written.
    """

    def __init__(self, data: DataSet, recipe: Recipe, names: Sequence[str]):
        settings = json.dumps([FORMAT, VOXELS_KEPT, recipe.to_json(), str(data.folder.resolve()), data.table.to_json()])
        key = hashlib.sha256(settings.encode()).hexdigest()[:12]
        self.folder = data_folder() / "prepared" / f"{data.name}-{key}"
        self.names = tuple(names)
        lock = self.folder.with_name(f".{self.folder.name}.lock")
        with _kept_in(self.folder), locked(lock, f"preparing {data.name}"):
            self.about = self._fill(data, recipe)

    def image(self, name: str) -> np.ndarray:
        """(c, *order) float32."""
        return np.load(self.folder / f"{name}.image.npy", mmap_mode="r")

    def label(self, name: str) -> np.ndarray:
        """(*order) ids."""
        return np.load(self.folder / f"{name}.label.npy", mmap_mode="r")

    def places(self, name: str) -> dict[int, np.ndarray]:
        """Label id -> (n, 3) voxels that have it."""
        stored = np.load(self.folder / f"{name}.places.npy", mmap_mode="r")
        return {int(number): np.asarray(stored[stored[:, 0] == number, 1:]) for number in np.unique(stored[:, 0])}

    def _fill(self, data: DataSet, recipe: Recipe) -> dict[str, dict[str, Any]]:
        from tqdm.auto import tqdm

        about, missing, anew = {}, [], {"changed since they were prepared": [], "damaged": []}
        for name in self.names:
            there = (self.folder / f"{name}.json").is_file()
            known = self._known(name) if there else None
            if known is not None and known["checksum"] == data.checksums[name]:
                about[name] = known
                continue
            missing.append(name)
            if there:
                anew["damaged" if known is None else "changed since they were prepared"].append(name)
        for why, names in anew.items():
            if names:
                print(f"{why}, prepared anew: {', '.join(names)}")
        for name in tqdm(missing, desc=f"preparing {data.name}", unit="case", disable=None, leave=False):
            about[name] = self._write(data, data.cases[name], recipe)
        return about

    def _known(self, name: str) -> dict[str, Any] | None:
        """What was written of a case; None where one of its files is damaged."""
        try:
            about = read_json(self.folder / f"{name}.json")
            about["checksum"], about["voxels"].values()
            image, label = self.image(name), self.label(name)
            whole = (len(about["background"]), *about["shape"]) == image.shape == (len(image), *label.shape)
            return about if whole and self.places(name) is not None else None
        except Exception:  # whatever a broken file makes its reader raise
            return None

    def _write(self, data: DataSet, case: CaseFiles, recipe: Recipe) -> dict[str, Any]:
        (self.folder / f"{case.name}.json").unlink(missing_ok=True)
        image, label = recipe.apply(data.read(case))
        rng = np.random.default_rng(0)
        places, counts = [], {}
        for number in data.table.labels:
            found = np.argwhere(label == number)
            counts[number] = len(found)
            if len(found) > VOXELS_KEPT:
                found = found[np.sort(rng.choice(len(found), VOXELS_KEPT, replace=False))]
            places.append(np.concatenate([np.full((len(found), 1), number), found], axis=1).astype(np.int32))
        for kind, array in {"image": image, "label": label, "places": np.concatenate(places)}.items():
            with atomic_path(self.folder / f"{case.name}.{kind}.npy") as temporary:
                np.save(temporary, array)
        about = {
            "checksum": data.checksums[case.name],
            "shape": list(label.shape),
            "background": [float(value) for value in image.min(axis=(1, 2, 3))],
            "voxels": {str(number): count for number, count in counts.items()},
        }
        write_json(self.folder / f"{case.name}.json", about)
        return about


@contextlib.contextmanager
def _kept_in(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise KitError(
            f"prepared cases cannot be kept in {folder} ({error.strerror})",
            remedy="set LKM_DATA to a folder that you may write",
        ) from error


def _require_one_scale(data: DataSet, median: Sequence[float]) -> None:
    for case in data.training:
        _, spacing = data.geometry(case)
        ratio = np.array(spacing) / np.array(median)
        if ratio.max() >= SPACING_LIMIT or ratio.min() <= 1 / SPACING_LIMIT:
            here, usual = (" x ".join(f"{v:g}" for v in each) for each in (spacing, median))
            raise KitError(
                f"{case.images[0]} has voxels of {here} mm, the median of the training cases is {usual} mm",
                remedy="correct its header or leave it out; if it is right, say which spacing to train at (spacing_mm)",
            )


def _fingerprint(data: DataSet, train: Sequence[str], kept: int = 10_000) -> list[list[float]]:
    """0.5 and 99.5 percentile, mean and standard deviation of each channel in the labelled voxels; nnU-Net's rule."""
    from tqdm.auto import tqdm

    content = json.dumps([kept, sorted((name, data.checksums[name]) for name in train)])
    path = data_folder() / "prepared" / "fingerprints" / f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(KitError, KeyError, TypeError, ValueError):  # not there, or damaged
        known = read_json(path)["channels"]
        if np.isfinite(known).all() and np.shape(known) == (len(data.channels), 4):
            return known
    rng, values = np.random.default_rng(0), []
    for name in tqdm(train, desc=f"intensities of {data.name}", unit="case", disable=None, leave=False):
        case = data.read(data.cases[name])
        image = case.image if case.image.ndim == 4 else case.image[None]
        inside = image[:, case.label > 0]
        values.append(inside[:, rng.integers(inside.shape[1], size=kept)] if inside.shape[1] > kept else inside)
    together = np.concatenate(values, axis=1).astype(np.float64)
    if not together.shape[1]:
        raise KitError(f"no training case of {data.name} has a labelled voxel", remedy="check the folder labelsTr")
    low, high = np.percentile(together, (0.5, 99.5), axis=1)
    sd = np.maximum(together.std(axis=1), 1e-6)
    found = [[float(v) for v in row] for row in zip(low, high, together.mean(axis=1), sd)]
    with _kept_in(path.parent):
        write_json(path, {"data": data.name, "channels": found})
    return found
