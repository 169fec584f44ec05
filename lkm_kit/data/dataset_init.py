"""Loose pairs of scans and label maps, made a data set: files under nnU-Net's names, and a ``dataset.json``."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from lkm_kit.data.dataset import DataSet
from lkm_kit.data.dataset_json import checked, table_of
from lkm_kit.data.labels import LARGEST_ID
from lkm_kit.data.nifti import case_name, image_geometry, is_nifti, read_image
from lkm_kit.data.organs import whole_numbers
from lkm_kit.data.source import Source
from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, write_json

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def init_dataset(
    folder: str | Path,
    images: str | Path,
    labels: str | Path,
    *,
    names: Iterable[str] = (),
    channels: Iterable[str] = (),
    about: Mapping[str, str] | None = None,
) -> DataSet:
    """Make a data set's folder of two folders of files, which stay as they are.

    ``images`` holds ``CASE.nii.gz``, or ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz``, ... with several channels;
    ``labels`` holds ``CASE.nii.gz``. Files are linked where the disk allows it, else copied.

    Args:
        folder: to make; may exist if it holds nothing.
        names: ``"prostate=1"``; default every id that occurs, as ``"label 1"``.
        channels: name of each channel; default ``"channel 0"``, ...
        about: further keys of dataset.json: licence, reference, label_source.

    Raises:
        KitError: a folder with something in it; no pairs; an image or a label without its partner; ids without a name.

    >>> init_dataset("mine", "scans", "masks", names=["prostate=1"], channels=["T2"])  # doctest: +SKIP
    """
    folder = Path(folder).expanduser()
    if folder.is_dir() and any(folder.iterdir()):
        raise KitError(f"{folder} is not empty", remedy="give the name of a new folder")
    Source(folder.name, (about or {}).get("label_source", "unknown"))  # said before anything is written
    scans: dict[str, dict[int, Path]] = {}
    found, truths = _nifti(images), _nifti(labels)
    for name, path in found.items():
        match = _CHANNEL.match(name)
        case, number = (match["case"], int(match["channel"])) if match and name not in truths else (name, 0)
        scans.setdefault(case, {})[number] = path
    _require_partners(scans, truths, images, labels)
    count = len(next(iter(scans.values())))
    for case, files in scans.items():
        if sorted(files) != list(range(count)):
            raise KitError(
                f"{case} has the channels {sorted(files)}, the first case has {count}",
                remedy="give every case the same channels, _0000, _0001, ...",
            )
    channels = list(channels) or [f"channel {i}" for i in range(count)]
    if len(channels) != count:
        raise KitError(f"{len(channels)} names for {count} channels", remedy="give --channel once for each channel")
    ending = ".nii.gz"
    description = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": {"background": 0, **_names(names, truths.values())},
        "numTraining": len(scans),
        "file_ending": ending,
        "name": folder.resolve().name,
        **(about or {}),
    }
    table_of(checked(description, folder / "dataset.json"), folder / "dataset.json")
    for case, files in scans.items():
        for path in (*files.values(), truths[case]):
            image_geometry(path)
    there = folder.is_dir()
    try:
        for case, files in scans.items():
            for number, path in files.items():
                _place(path, folder / "imagesTr" / f"{case}_{number:04d}{ending}")
            _place(truths[case], folder / "labelsTr" / f"{case}{ending}")
        write_json(folder / "dataset.json", description)
    except BaseException:  # Ctrl-C too: the same command again must find no half of a data set
        for made in ("imagesTr", "labelsTr") if there else ("",):
            shutil.rmtree(folder / made, ignore_errors=True)
        raise
    return DataSet(folder)


def _nifti(folder: str | Path) -> dict[str, Path]:
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise KitError(f"there is no folder {folder}", remedy="give a folder with one NIfTI file a case")
    files = sorted(path for path in folder.iterdir() if is_nifti(path))
    if not files:
        raise KitError(
            f"{folder} holds no .nii or .nii.gz file", remedy="convert DICOM first, for instance with dcm2niix"
        )
    found: dict[str, Path] = {}
    for path in files:
        name = case_name(path)
        if name in found:
            raise KitError(f"{folder} holds {found[name].name} and {path.name}", remedy="move one of the two away")
        found[name] = path
    return found


def _require_partners(scans, truths, images, labels) -> None:
    for these, those, where in ((scans, truths, labels), (truths, scans, images)):
        if missing := sorted(set(these) - set(those)):
            raise KitError(
                f"{where} has no file for {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}",
                remedy="name a scan and its label map alike (CASE.nii.gz), and move away what has no partner",
            )


def _names(names: Iterable[str], paths: Iterable[Path]) -> dict[str, int]:
    """Label name -> id; every id that occurs has a name."""
    table: dict[str, int] = {}
    for text in names:
        name, _, number = text.rpartition("=")
        if not name or not number.strip().isdecimal():
            raise KitError(f"--label {text}", remedy="write --label NAME=ID, for instance --label prostate=1")
        if table.setdefault(name.strip(), int(number)) != int(number):
            raise KitError(f"--label names {name.strip()} twice", remedy="give every id a name of its own")
    present: dict[int, Path] = {}
    for path in paths:
        for number in np.unique(whole_numbers(read_image(path)[0], str(path))):
            present.setdefault(int(number), path)
    present.pop(0, None)
    if table.pop("background", 0):
        raise KitError("--label background is not 0", remedy="0 is everything without a name; give other names")
    if not present:
        raise KitError("all label maps are empty", remedy="check that --labels is the folder of the label maps")
    if outside := sorted(number for number in present if not 0 < number <= LARGEST_ID):
        raise KitError(
            f"{present[outside[0]]} holds the value {outside[0]}",
            remedy=f"a label map has ids from 0 to {LARGEST_ID}, 0 for what has no label; write it anew",
        )
    unnamed = sorted(set(present) - set(table.values()))
    if table and unnamed:
        raise KitError(
            f"{present[unnamed[0]]} holds the value {unnamed[0]}, which no --label names",
            remedy=f"add --label NAME={unnamed[0]}",
        )
    return table or {f"label {number}": number for number in unnamed}


def _place(path: Path, target: Path) -> None:
    """A link to a .nii.gz; a .nii is packed on the way."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.name.lower().endswith(".nii"):
        import gzip

        with atomic_path(target) as temporary, open(path, "rb") as raw, gzip.open(temporary, "wb") as packed:
            shutil.copyfileobj(raw, packed)
        return
    try:
        os.link(path.resolve(), target)
    except OSError:  # another disk, or one without links
        with atomic_path(target) as temporary:
            shutil.copyfile(path, temporary)
