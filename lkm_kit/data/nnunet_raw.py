"""Write a data set in nnU-Net's raw layout, case by case, so that a killed run goes on and a second run does nothing.

``nnUNet_raw/DatasetXXX_Name/{dataset.json, imagesTr, labelsTr, imagesTs, labelsTs, manifest.json}``; images are
``CASE_0000.nii.gz``, labels ``CASE.nii.gz`` with kit ids. ``dataset.json`` is written last: nnU-Net refuses a folder
without it, so that nobody trains on half a data set.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lkm_kit.data.labels import LabelTable
from lkm_kit.data.manifest import NAME as MANIFEST
from lkm_kit.data.manifest import Manifest
from lkm_kit.data.sample import data_folder
from lkm_kit.errors import KitError
from lkm_kit.files import locked, write_json

FOLDERS = {"training": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}
"""Split -> where its images and labels lie."""

ENDING = ".nii.gz"
_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class RawSpec:
    """Which data set it will be.

    Args:
        number: nnU-Net's data set id, 1..999.
        name: the part after ``DatasetXXX_``.
        channel: nnU-Net's channel name, which chooses its normalisation: ``"CT"``, ``"MR"`` or ``"noNorm"``.
        about: for the manifest: modality, source, licence, split, ... (plain JSON values).
        table: the labels of its files; default the kit's organs.
        described: more keys of dataset.json, such as those that :mod:`lkm_kit.data.dataset` reads.
    """

    number: int
    name: str
    channel: str
    about: dict[str, Any]
    table: LabelTable = dataclasses.field(default_factory=LabelTable)
    described: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def folder_name(self) -> str:
        """``DatasetXXX_Name``."""
        return f"Dataset{self.number:03d}_{self.name}"


@dataclasses.dataclass(frozen=True)
class Job:
    """One case to be written.

    Args:
        name: of the case.
        split: ``"training"`` or ``"test"``.
        input: changes when the case's input changes: a fingerprint.
        size: bytes it will need, roughly.
        write: called with the paths of the image and of the label; writes both (the label may stay away for test cases
            without one).
    """

    name: str
    split: str
    input: str
    size: int
    write: Callable[[Path, Path], None]


@dataclasses.dataclass
class Written:
    """What :func:`write_raw_dataset` did: names of the cases it wrote, kept, found changed and wrote anew, removed."""

    folder: Path
    new: list[str] = dataclasses.field(default_factory=list)
    kept: list[str] = dataclasses.field(default_factory=list)
    changed: list[str] = dataclasses.field(default_factory=list)
    removed: list[str] = dataclasses.field(default_factory=list)

    @property
    def number(self) -> int:
        """nnU-Net's data set id."""
        return int(self.folder.name[7:10])

    def __str__(self) -> str:
        parts = [f"{len(self.new)} written", f"{len(self.kept)} were there already"]
        if self.changed:
            parts.append(f"{len(self.changed)} written anew, their input or files had changed ({_some(self.changed)})")
        if self.removed:
            parts.append(f"{len(self.removed)} removed, no longer asked for ({_some(self.removed)})")
        return f"{self.folder.name}: " + "; ".join(parts)


def raw_folder(chosen: str | Path | None = None) -> Path:
    """Where raw data sets go: ``chosen``, else ``nnUNet_raw`` of the environment, else ``LKM_DATA/nnUNet_raw``."""
    if chosen is not None:
        return Path(chosen).expanduser()
    environment = os.environ.get("nnUNet_raw", "").strip()  # noqa: SIM112  nnU-Net spells it so
    return Path(environment).expanduser() if environment else data_folder() / "nnUNet_raw"


def write_raw_dataset(root: str | Path, spec: RawSpec, jobs: Sequence[Job]) -> Written:
    """Write what is missing or changed, remove what is no longer asked for, and complete the manifest.

    Args:
        root: the ``nnUNet_raw`` folder.
        spec: the data set.
        jobs: all of its cases.

    Raises:
        KitError: the folder holds files of somebody else, the disk is full or too small, or cases are faulty. The good
            cases are then written and stay; the message names the others.
    """
    root = Path(root)
    folder = root / spec.folder_name
    root.mkdir(parents=True, exist_ok=True)
    _require_free_number(root, spec)
    with locked(root / f".{spec.folder_name}.lock", f"writing {spec.folder_name}"):
        manifest = Manifest.read(folder)
        if manifest is None:
            if folder.is_dir() and any(folder.iterdir()):
                raise KitError(
                    f"{folder} holds files and no {MANIFEST}: it was not written by this kit",
                    remedy="choose another folder with --out or another number with --number, or move it away",
                )
            manifest = Manifest(folder, {})
        manifest.about = spec.about
        _sweep(folder, manifest, jobs)
        return _write(manifest, spec, jobs)


def _write(manifest: Manifest, spec: RawSpec, jobs: Sequence[Job]) -> Written:
    from tqdm import tqdm

    result = Written(manifest.folder)
    wanted = {job.name: job for job in jobs}
    gone = [name for name in manifest.cases if name not in wanted]
    pending = []
    for job in jobs:
        known = manifest.cases.get(job.name)
        if known is None:
            pending.append((job, result.new))
        elif (known["input"], known["split"]) != (job.input, job.split) or manifest.changed(known["files"]):
            pending.append((job, result.changed))
        else:
            result.kept.append(job.name)
    if gone or pending or not manifest.complete:
        manifest.complete = False
        manifest.dataset_json = None
        manifest.save()
        (manifest.folder / "dataset.json").unlink(missing_ok=True)
        # files first, then the record of them: a run killed in between finds them missing, not unknown
        for name in [*gone, *_rewritten(pending, manifest)]:
            for path in manifest.cases.pop(name)["files"]:
                (manifest.folder / path).unlink(missing_ok=True)
        manifest.save()
    result.removed = gone
    _require_space(manifest.folder, sum(job.size for job, _ in pending))
    faults: list[tuple[str, KitError]] = []
    for job, done in tqdm(pending, desc=spec.folder_name, unit="case", disable=None, leave=False):
        try:
            _write_case(manifest, job)
        except KitError as error:
            if _is_full(error.__cause__):
                raise
            faults.append((job.name, error))
        else:
            done.append(job.name)
    if faults:
        raise _faulty(faults, len(jobs))
    _finish(manifest, spec, jobs)
    return result


def _rewritten(pending, manifest: Manifest) -> list[str]:
    """Cases that are written anew: their old files go first, the split may differ."""
    return [job.name for job, _ in pending if job.name in manifest.cases]


def _write_case(manifest: Manifest, job: Job) -> None:
    image, label = (f"{sub}/{job.name}{end}" for sub, end in zip(FOLDERS[job.split], (f"_0000{ENDING}", ENDING)))
    for path in (image, label):
        (manifest.folder / path).parent.mkdir(parents=True, exist_ok=True)
    try:
        job.write(manifest.folder / image, manifest.folder / label)
    except OSError as error:
        if not _is_full(error):
            raise
        raise KitError(
            f"no space left on the disk while writing case {job.name}",
            remedy=f"free space on the disk that holds {manifest.folder.resolve()} and run the same command again",
        ) from error
    written = [path for path in (image, label) if (manifest.folder / path).is_file()]
    manifest.cases[job.name] = {"split": job.split, "input": job.input, "files": manifest.describe(*written)}
    manifest.save()


def _finish(manifest: Manifest, spec: RawSpec, jobs: Sequence[Job]) -> None:
    value = dataset_json(spec, sum(job.split == "training" for job in jobs))
    path = manifest.folder / "dataset.json"
    if manifest.complete and not manifest.changed():
        manifest.save()  # about may have become richer
        return
    write_json(path, value)
    manifest.dataset_json = manifest.describe("dataset.json")["dataset.json"]
    manifest.complete = True
    manifest.save()


def dataset_json(spec: RawSpec, training: int) -> dict[str, Any]:
    """nnU-Net's description of a data set.

    >>> dataset_json(RawSpec(722, "AMOS22MR", "MR", {}), 40)["labels"]["left kidney"]
    13
    """
    release = spec.about.get("release", {})
    return {
        "channel_names": {"0": spec.channel},
        "labels": {"background": 0, **{label.name: label.id for label in spec.table}},
        "numTraining": training,
        "file_ending": ENDING,
        "name": spec.folder_name,
        "description": spec.about.get("split", ""),
        "reference": release.get("citation", ""),
        "licence": release.get("licence", ""),
        **spec.described,
    }


def _sweep(folder: Path, manifest: Manifest, jobs: Sequence[Job]) -> None:
    """Remove what a killed run left half-written: nnU-Net would take ``.CASE...nii.gz`` for a case. Refuse the rest."""
    ours = set(manifest.files())
    for job in jobs:
        image, label = FOLDERS[job.split]
        ours |= {f"{image}/{job.name}_0000{ENDING}", f"{label}/{job.name}{ENDING}"}
    strangers = []
    for sub in {sub for pair in FOLDERS.values() for sub in pair}:
        for path in (folder / sub).iterdir() if (folder / sub).is_dir() else ():
            if path.name.startswith("."):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            elif f"{sub}/{path.name}" not in ours:
                strangers.append(f"{sub}/{path.name}")
    for path in folder.glob(".incoming-*"):
        shutil.rmtree(path)
    if strangers:
        raise KitError(
            f"{folder} holds files that are not in its {MANIFEST}: {_some(sorted(strangers))}",
            remedy="move them away (nnU-Net would train on them), or choose another folder with --out",
        )


def _require_free_number(root: Path, spec: RawSpec) -> None:
    if not 1 <= spec.number <= 999 or not re.fullmatch(r"\w+", spec.name):
        raise KitError(f"{spec.folder_name} is no name for a data set", remedy="choose a number from 1 to 999")
    others = [p.name for p in root.glob(f"Dataset{spec.number:03d}_*") if p.is_dir() and p.name != spec.folder_name]
    if others:
        raise KitError(
            f"the number {spec.number} is taken in {root}: {_some(others)}",
            remedy="nnU-Net knows data sets by their numbers: choose another one with --number",
        )


def _require_space(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise KitError(
            f"the disk that holds {folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed",
            remedy="free space, or choose a folder on another disk with --out",
        )


def _faulty(faults: list[tuple[str, KitError]], total: int) -> KitError:
    lines = [f"{name}: {error.message}" for name, error in faults[:_SHOWN]]
    if len(faults) > _SHOWN:
        lines.append(f"... and {len(faults) - _SHOWN} more")
    names = " ".join(name for name, _ in faults[:_SHOWN])
    own = next((error.remedy for _, error in faults if error.remedy), "repair them")
    return KitError(
        f"{len(faults)} of {total} cases cannot be used; the others are written\n  " + "\n  ".join(lines),
        remedy=f"{own}; then run the same command again. To go on without them: --leave-out {names}",
    )


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
