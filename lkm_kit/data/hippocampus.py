"""Real patients, labelled by a human: Task04 Hippocampus of the Medical Segmentation Decathlon, split by person.

260 crops of T1 MR scans, about 35×50×35 voxels of 1 mm, with the anterior and the posterior hippocampus. Cases 2k−1
and 2k resemble each other far more than any others (correlation 0.65 against 0.48 ± 0.10): very probably they are the
two sides of one person. No document says so. With such a pair divided, the test set would hold people of the training.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from pathlib import Path

from lkm_kit.data.archives import Source, open_source
from lkm_kit.data.case import read_image, require_same_geometry
from lkm_kit.data.download import download
from lkm_kit.data.labels import Label, LabelTable
from lkm_kit.data.nnunet_raw import Job, RawSpec, Written, raw_folder, write_raw_dataset
from lkm_kit.data.prepare import match_members
from lkm_kit.data.sample import data_folder
from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, write_json
from lkm_kit.monai_parts import monai_part

TASK = "Task04_Hippocampus"
NUMBER, NAME = 4, "Hippocampus"

TABLE = LabelTable((Label("anterior", 1, 1.0), Label("posterior", 2, 1.0)))
"""The tolerance is the decathlon's own for this task: 1 mm."""

LICENCE = "CC-BY-SA 4.0: name the source, and keep this licence with what is derived of its images"
CITATION = (
    "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13:4128, 2022; "
    "Simpson et al., arXiv 1902.09063"
)

# fmt: off
TEST_PERSONS = (
    2, 9, 10, 12, 17, 18, 19, 26, 27, 29, 32, 35, 37, 51, 55, 64, 65, 66, 75, 76, 77, 78, 82, 83, 85, 89, 93, 98, 99,
    100, 112, 114, 116, 122, 125, 133, 135, 145, 147, 152, 155, 156, 158, 160, 163, 164, 166, 178, 181, 190, 197,
)
VALIDATION_PERSONS = (22, 39, 42, 68, 72, 81, 121, 132, 134, 161, 170, 172, 185, 186)
# fmt: on
"""Drawn once, and fixed: 80 cases of 51 people test, 20 of 14 validate, 160 of 105 train."""


def person_of(number: int) -> int:
    """Whom a case shows: 2k−1 and 2k are of person k.

    >>> [person_of(number) for number in (1, 2, 3)]
    [1, 1, 2]
    """
    return (number + 1) // 2


def hippocampus_archive(archive: str | Path | None = None) -> Path:
    """The archive, or the folder it was unpacked into: the one given, ``LKM_HIPPOCAMPUS_ARCHIVE``, else downloaded.

    Address and md5 are those that MONAI's ``DecathlonDataset`` lists.

    Raises:
        KitError: it is not there, cannot be fetched, or is not the published file.
    """
    given = archive or os.environ.get("LKM_HIPPOCAMPUS_ARCHIVE", "").strip()
    if given:
        return Path(given).expanduser()
    published = monai_part("apps").DecathlonDataset
    target = data_folder() / "downloads" / f"{TASK}.tar"
    try:
        path = download(published.resource[TASK], target)
    except KitError as error:
        raise KitError(
            error.message,
            remedy=f"fetch {TASK}.tar elsewhere and give it with --archive, or set LKM_HIPPOCAMPUS_ARCHIVE to its path",
        ) from error
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if found != published.md5[TASK]:
        path.unlink()
        raise KitError(
            f"{path.name} is not the published archive: its md5 is {found}, not {published.md5[TASK]}",
            remedy=f"nothing was kept: try again, or fetch {TASK}.tar in another way and use --archive",
        )
    return path


def prepare_hippocampus(
    archive: str | Path | None = None, root: str | Path | None = None, *, number: int = NUMBER
) -> tuple[Written, dict[str, str]]:
    """Make ``Dataset004_Hippocampus``: training and validation cases in imagesTr, test cases in imagesTs.

    Files are copied byte by byte. ``splits_final.json`` holds one fold, the validation cases; ``dataset.json`` says
    whom each case shows. Killed, it goes on; done, it does nothing.

    Args:
        archive: see :func:`hippocampus_archive`; a repacked one without ``dataset.json`` will do.
        root: the ``nnUNet_raw`` folder; default :func:`lkm_kit.data.raw_folder`.
        number: nnU-Net's data set id.

    Returns:
        what was written, and the cases that were left out with the reason. In the published archive 010 and 281 have
        images of another size than their labels, and 118 may lack one.

    Raises:
        KitError: not this archive; damaged; see :func:`lkm_kit.data.nnunet_raw.write_raw_dataset`.

    >>> written, left_out = prepare_hippocampus("Task04_Hippocampus.tar", "nnUNet_raw")  # doctest: +SKIP
    """
    path = hippocampus_archive(archive)
    with open_source(path) as source:
        pairs, left_out = _usable(source)
        people = {name: person_of(int(name[-3:])) for name in pairs}
        jobs = [
            Job(
                name,
                "test" if people[name] in TEST_PERSONS else "training",
                "/".join(source.fingerprint(member) for member in members),
                source.bytes_of(members),
                functools.partial(_copy, source, members),
            )
            for name, members in sorted(pairs.items())
        ]
        sides: dict[str, list[str]] = {"train": [], "val": []}
        for job in jobs:
            if job.split == "training":
                sides["val" if people[job.name] in VALIDATION_PERSONS else "train"].append(job.name)
        about = {
            "modality": "MR",
            "configuration": "3d_fullres",
            "split": f"by person: {len(sides['train'])} cases to train on, {len(sides['val'])} to validate on, "
            f"{len(jobs) - len(sides['train']) - len(sides['val'])} to test on",
            "left_out": left_out,
            "release": {"name": f"MSD {TASK}", "licence": LICENCE, "citation": CITATION},
            "source": {"kind": source.kind, "name": path.resolve().name},
        }
        described = {
            "name": f"MSD {TASK}",
            "label_source": "human",
            "tolerances_mm": {label.name: label.tolerance_mm for label in TABLE},
            "persons": {name: f"person {person:03d}" for name, person in people.items()},
        }
        root = raw_folder(root)
        written = write_raw_dataset(root, RawSpec(number, NAME, "MRI", about, TABLE, described), jobs)
    write_json(written.folder / "splits_final.json", [sides])
    return written, left_out


def _usable(source: Source) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Case -> members of its image and label; and the cases without a label or of two sizes, with the reason."""
    found: dict[str, dict[str, str]] = {}
    for (kind, case), name in match_members(source, r"(images|labels)Tr/(hippocampus_\d{3})\.nii\.gz").items():
        found.setdefault(case, {})[kind] = name
    if not found:
        raise KitError(
            f"{source.path.name} is not {TASK}: there is no imagesTr/hippocampus_NNN.nii.gz in it",
            remedy=f"give {TASK}.tar or the folder it was unpacked into",
        )
    pairs, left_out = {}, {}
    for case, members in sorted(found.items()):
        if len(members) < 2:
            left_out[case] = f"there is no {'label' if 'images' in members else 'image'}"
        elif differ := _differ(source, members["images"], members["labels"]):
            left_out[case] = differ
        else:
            pairs[case] = (members["images"], members["labels"])
    return pairs, left_out


def _differ(source: Source, image: str, label: str) -> str:
    """How image and label differ in their grids, empty when they do not; a damaged file is an error."""
    arrays = []
    for member in (image, label):
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "file.nii.gz"
            source.copy(member, path)
            try:
                arrays.append(read_image(path)[:2])
            except KitError as error:
                raise KitError(error.message.replace(str(path), member), remedy=error.remedy) from error
    (pixels, affine), (ids, label_affine) = arrays
    TABLE.check(ids, where=label)
    try:
        require_same_geometry(pixels.shape, affine, ids.shape, label_affine, "the image", "its label")
    except KitError as error:
        return error.message
    return ""


def _copy(source: Source, members: tuple[str, str], image: Path, label: Path) -> None:
    for member, target in zip(members, (image, label)):
        with atomic_path(target) as temporary:
            source.copy(member, temporary)
