"""A data set: a folder in nnU-Net's raw layout, which says of itself what its channels, labels and cases are.

``dataset.json`` (channel_names, labels by name, file_ending), ``imagesTr/CASE_0000.nii.gz`` (one file a channel),
``labelsTr/CASE.nii.gz``; optional ``imagesTs``, ``labelsTs`` and ``splits_final.json``. nnU-Net ignores what only the
kit reads in ``dataset.json``: ``tolerances_mm`` and ``partners`` by label, ``persons`` by case, ``label_source``.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from pathlib import Path

import numpy as np

from lkm_kit.data.case import Case, read_case
from lkm_kit.data.checksums import remembered_checksums
from lkm_kit.data.dataset_json import read_dataset_json, table_of
from lkm_kit.data.geometry import spacing_of
from lkm_kit.data.nifti import image_geometry
from lkm_kit.data.nnunet_raw import FOLDERS, raw_folder
from lkm_kit.data.persons import Split, read_persons, split_cases
from lkm_kit.data.report import Finding
from lkm_kit.data.source import Source
from lkm_kit.errors import KitError
from lkm_kit.files import digest_of, parse_json_file

SPACING_LIMIT = 10.0
"""A case whose voxels are this many times larger or smaller than the others' is a wrong header, or of another world."""

OF_THE_SYSTEM = (".ds_store", "thumbs.db", "desktop.ini")
"""What macOS and Windows leave in folders that somebody looked at, beside files that begin with ``._``: no finding."""


@dataclasses.dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Args:
        name: of the case.
        split: ``"training"`` (imagesTr) or ``"test"`` (imagesTs).
        images: one file a channel.
        label: the label map, or None.
    """

    name: str
    split: str
    images: tuple[Path, ...]
    label: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (*self.images, *([self.label] if self.label else []))


class DataSet:
    """Lists what a folder holds; reads voxels only when asked for a case.

    Args:
        folder: with ``dataset.json`` in it.

    Attributes:
        name: the folder's name.
        channels: names in the order of the files; ``"CT"`` gets a CT's normalisation, ``"noNorm"`` none, others a
            z-score.
        table: labels by name.
        listed: the files of every case, training cases first.
        cases: name -> files.
        persons: case -> whom it shows; cases of one person never go to different splits.
        source: origin, who labelled, licence, citation.
        problems: what the listing alone shows to be wrong: files without a partner, or that do not belong.

    Raises:
        KitError: no folder, or a ``dataset.json`` that cannot be used.

    >>> data = DataSet("Dataset004_Hippocampus")  # doctest: +SKIP
    >>> data.table.names, len(data.training), data.median_of_training()[1]  # doctest: +SKIP
    (('Anterior', 'Posterior'), 180, (1.0, 1.0, 1.0))
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        self.name = self.folder.resolve().name
        about = self.about = read_dataset_json(self.folder)
        self.channels = tuple(map(str, about["channel_names"].values()))
        self.table = table_of(about, self.folder / "dataset.json")
        self.ending: str = about["file_ending"]
        licence = str(about.get("licence") or about.get("license") or "")
        name, labels = str(about.get("name") or self.name), about.get("label_source", "unknown")
        self.source = Source(name, labels, licence, str(about.get("reference", "")))
        self.problems: list[Finding] = []
        self.listed = [case for split in FOLDERS for case in self._listed(split)]
        self.cases: dict[str, CaseFiles] = {}
        for case in self.listed:
            if self.cases.setdefault(case.name, case) is not case:
                self._problem("leakage", "the name is in imagesTr and in imagesTs", case.name)
        self.persons = read_persons(about, list(self.cases), self.folder)

    def __str__(self) -> str:
        """What it is, for a terminal: source, licence and citation too."""
        shape, spacing = self.median
        size = f"{'x'.join(map(str, shape))} voxels of {'x'.join(f'{s:g}' for s in spacing)} mm"
        people = len({self.persons[case.name] for case in self.listed})
        lines = [
            f"{self.name}: {self.source.text}; {len(self.training)} training and {len(self.test)} test cases of "
            f"{people} persons, median {size}",
            f"  channels: {', '.join(self.channels)}; labels: {', '.join(self.table.names)}",
            *([f"  licence: {self.source.licence}"] if self.source.licence else []),
            *([f"  cite: {self.source.citation}"] if self.source.citation else []),
        ]
        return "\n".join(lines)

    @property
    def training(self) -> list[CaseFiles]:
        """Cases of imagesTr."""
        return [each for each in self.listed if each.split == "training"]

    @property
    def test(self) -> list[CaseFiles]:
        """Cases of imagesTs."""
        return [each for each in self.listed if each.split == "test"]

    @property
    def modality(self) -> str:
        """``"CT"`` or ``"MR"``, of the first channel."""
        return "CT" if self.channels[0].upper() == "CT" else "MR"

    def require(self) -> None:
        """Refuse a folder whose listing has errors, or no training case.

        Raises:
            KitError: names the first files and the remedy.
        """
        errors = [each.text for each in self.problems if each.level == "error"]
        if errors:
            more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
            raise KitError(
                f"{self.folder}: {'; '.join(errors[:3])}{more}",
                remedy=f"add or remove these files; `lkm data check {self.folder}` lists all that is wrong",
            )
        if not self.training:
            raise KitError(
                f"{self.folder} has no training case",
                remedy=f"images are imagesTr/CASE_0000{self.ending}, their labels labelsTr/CASE{self.ending}",
            )

    def read(self, case: CaseFiles) -> Case:
        """Read one case, all channels, in RAS order; the label holds the table's ids.

        Raises:
            KitError: names the file: see :func:`lkm_kit.data.read_image`. Also voxels that are not finite, values that
                the table does not name, channels or label on another grid (up to a tenth of a voxel is header noise).
        """
        about = {"modality": self.modality, "name": case.name, "label_ids": self.table, "source": self.source}
        return read_case(case.images, case.label, **about)

    def geometry(self, case: CaseFiles) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Voxels and spacing (mm) along x, y, z of RAS order, from the header alone."""
        shape, affine = image_geometry(case.images[0])
        return shape, spacing_of(affine)

    @functools.cached_property
    def median(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Median voxels and spacing (mm) of the training cases, along x, y, z."""
        sizes = np.array([self.geometry(case) for case in self.training], dtype=float)
        shape, spacing = np.median(sizes, axis=0)
        return tuple(round(float(n)) for n in shape), tuple(round(float(s), 3) for s in spacing)

    @functools.cached_property
    def splits(self) -> list[dict[str, list[str]]] | None:
        """Contents of ``splits_final.json``, None without one.

        Raises:
            KitError: it is no list of folds.
        """
        path = self.folder / "splits_final.json"
        if not path.is_file():
            return None
        try:
            splits = parse_json_file(path)
            if not isinstance(splits, list) or not splits or not all(isinstance(each, dict) for each in splits):
                raise ValueError("it holds no list of folds")
        except (OSError, ValueError) as error:
            raise KitError(f"{path} cannot be read ({error})", remedy="correct it, or move it away") from error
        return splits

    def split(self, *, fold: int | None = None, holdout: float | None = None, seed: int = 0) -> Split:
        """Which cases train, validate and test: see :func:`lkm_kit.data.persons.split_cases`."""
        training, test = ([case.name for case in each] for each in (self.training, self.test))
        how = {"splits": self.splits, "fold": fold, "holdout": holdout, "seed": seed}
        return split_cases(training, test, self.persons, **how)

    @functools.cached_property
    def checksums(self) -> dict[str, str]:
        """Case -> sha256 of its files, in their order."""
        with remembered_checksums(self.folder) as of:
            sums = {name: [of(path) for path in case.files] for name, case in self.cases.items()}
        return {name: hashlib.sha256(" ".join(each).encode()).hexdigest() for name, each in sums.items()}

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of everything in the folder that a result may depend on: channels, labels, persons, cases, files."""
        return digest_of([self.channels, self.table.to_json(), self.persons, self.checksums])

    @functools.cached_property
    def training_digest(self) -> str:
        """sha256 of what a training may depend on: :attr:`digest` without the test cases."""
        names = [case.name for case in self.training]
        cases = [[name, self.persons[name], self.checksums[name]] for name in names]
        return digest_of([self.channels, self.table.to_json(), cases])

    def _problem(self, kind: str, text: str, case: str = "", level: str = "error") -> None:
        self.problems.append(Finding(level, case, kind, text))

    def _listed(self, split: str):
        """The complete cases of a split; what is not complete goes to ``problems``."""
        images, labels = FOLDERS[split]
        found: dict[str, dict[int, Path]] = {}
        for path in self._files(images):
            case, _, number = path.name.removesuffix(self.ending).rpartition("_")
            if not case or len(number) != 4 or not number.isdecimal() or int(number) >= len(self.channels):
                tails = ", ".join(f"_{i:04d}" for i in range(len(self.channels)))
                self._problem("files", f"{images}/{path.name} does not end in {tails} before {self.ending}")
            else:
                found.setdefault(case, {})[int(number)] = path
        truth = {path.name.removesuffix(self.ending): path for path in self._files(labels)}
        for case in sorted(set(truth) - set(found)):
            self._problem("files", f"there is a label {labels}/{case}{self.ending} and no image in {images}", case)
        unlabelled = sorted(set(found) - set(truth))
        for case in unlabelled if split == "training" or truth else ():
            self._problem("files", f"there is an image of {case} in {images}, no label in {labels}", case)
        if split == "test" and unlabelled and not truth:
            text = f"none of the {len(unlabelled)} test cases has a label: they can be predicted, not scored"
            self._problem("files", text, level="warning")
        for case, channels in sorted(found.items()):
            missing = [i for i in range(len(self.channels)) if i not in channels]
            for i in missing:
                self._problem("files", f"{images}/{case}_{i:04d}{self.ending} is missing ({self.channels[i]})", case)
            if not missing:
                yield CaseFiles(case, split, tuple(channels[i] for i in sorted(channels)), truth.get(case))

    def _files(self, sub: str) -> list[Path]:
        folder = self.folder / sub
        good = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name.startswith("._") or path.name.lower() in OF_THE_SYSTEM:
                continue
            if path.name.endswith(self.ending) and not path.name.startswith("."):
                good.append(path)
            else:
                self._problem("files", f"{sub}/{path.name} is no file of nnU-Net's layout")
        return good


def find_dataset(name: str | Path) -> DataSet:
    """A data set by its folder, or by its name in the raw folder: ``"Dataset004_Hippocampus"``, ``"hippocampus"``.

    Raises:
        KitError: neither a folder nor a name that is there (those that are there are listed).

    >>> find_dataset("hippocampus").name  # doctest: +SKIP
    'Dataset004_Hippocampus'
    """
    path = Path(name).expanduser()
    if os.path.isdir(path):
        return DataSet(path)
    root = raw_folder()
    there = {each.parent.name: each.parent for each in sorted(root.glob("*/dataset.json"))}
    wanted = str(name).lower()
    found = [each for key, each in there.items() if wanted in (key.lower(), key.lower().partition("_")[2])]
    if len(found) != 1:
        listed = f"{root} holds {', '.join(there)}" if there else f"`lkm data hippocampus` makes one in {root}"
        raise KitError(f"there is no data set {name}", remedy=f"give its folder, with dataset.json in it; {listed}")
    return DataSet(found[0])
