"""The cohort as files, for programs that read nnU-Net's layout: the same warped slices or volumes, written once.

:class:`~lkm_kit.data.CohortSlices` makes them on the fly; here they are frozen. Every second one is mirrored left to
right with the organs' names kept (see :mod:`lkm_kit.data.cohort`), and all come from one anatomy.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lkm_kit.data.case import Case, write_segmentation
from lkm_kit.data.cohort import CohortPatches, CohortSlices
from lkm_kit.data.labels import LabelTable
from lkm_kit.data.manifest import content_hash
from lkm_kit.data.nnunet_raw import Job, RawSpec, Written, raw_folder, write_raw_dataset
from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path

COHORT_NUMBERS = {2: 731, 3: 732}
"""nnU-Net's data set id for slices and for volumes."""

_ON_DISK = {"training": ("train", "validation"), "test": ("test",)}
"""nnU-Net cuts its own validation folds out of what it trains on."""


def write_cohort(
    root: str | Path | None = None,
    *,
    size: Sequence[int],
    spacing_mm: float,
    lengths: Mapping[str, int],
    seed: int = 0,
    case: Case | None = None,
    number: int | None = None,
) -> Written:
    """Write the cohort as ``Dataset731_CohortSlices`` (2D) or ``Dataset732_CohortVolumes`` (3D).

    Args:
        root: the ``nnUNet_raw`` folder; default see :func:`lkm_kit.data.raw_folder`.
        size: pixels (x, y) of a slice, or (z, x, y) of a volume.
        spacing_mm: in-plane size of a pixel.
        lengths: number of items of the splits ``"train"``, ``"validation"`` and ``"test"``; the first two go to
            ``imagesTr``, named after their split, the last to ``imagesTs``.
        seed: of the cohort.
        case: another labelled case than ct_a.
        number: nnU-Net's data set id.

    Intensities are normalised already, so the channel is ``noNorm``. Labels are kit ids of all organs.

    Raises:
        KitError: see :class:`~lkm_kit.data.CohortSlices` and :func:`~lkm_kit.data.nnunet_raw.write_raw_dataset`.

    >>> write_cohort("nnUNet_raw", size=(128, 128), spacing_mm=3, lengths={"train": 9, "test": 3})  # doctest: +SKIP
    """
    unknown = set(lengths) - {"train", "validation", "test"}
    if unknown or not lengths.get("train"):
        raise KitError(
            f"a cohort of {dict(lengths)}", remedy="give lengths for train (at least 1), validation and test"
        )
    if len(size) not in COHORT_NUMBERS:
        raise KitError(f"a cohort of size {tuple(size)}", remedy="give (x, y) for slices, (z, x, y) for volumes")
    if case is None:
        from lkm_kit.data.sample import training_case

        case = training_case("CT")
    kind = CohortSlices if len(size) == 2 else CohortPatches
    made_of = content_hash(case.image)[:16] + content_hash(case.label)[:16]
    settings = f"{kind.__name__} size {tuple(size)} spacing {float(spacing_mm)} seed {seed} source {made_of}"
    jobs = []
    for folder, splits in _ON_DISK.items():
        for split in splits:
            if not lengths.get(split):
                continue
            cohort = kind(
                split,
                size=size,
                spacing_mm=spacing_mm,
                table=LabelTable(),  # with all organs, classes are kit ids
                length=lengths[split],
                seed=seed,
                case=case,
            )
            for index in range(lengths[split]):
                name = f"{split}_{index:04d}"
                write = functools.partial(_write_item, cohort, index)
                jobs.append(Job(name, folder, f"{settings} {name}", 5 * int(np.prod(size)), write))
    about = {
        "modality": case.modality,
        "configuration": "2d" if len(size) == 2 else "3d_fullres",
        "split": "disjoint seeds of one anatomy: shows learning, not generalisation",
        "paper_split": False,
        "mirrored": True,
        "release": {"name": "cohort", "licence": case.source.licence, "citation": case.source.citation},
        "source": {"kind": "warps", "name": case.name, "labels": case.source.labels, "settings": settings},
    }
    name = "CohortSlices" if len(size) == 2 else "CohortVolumes"
    spec = RawSpec(COHORT_NUMBERS[len(size)] if number is None else number, name, "noNorm", about)
    return write_raw_dataset(raw_folder(root), spec, jobs)


def _write_item(cohort, index: int, image_path: Path, label_path: Path) -> None:
    import nibabel

    item = cohort[index]
    image, label = (_volume(array.numpy()) for array in (item["image"][0], item["label"]))
    spacing = (cohort.spacing_mm, cohort.spacing_mm, float(cohort.case.spacing[2]))
    affine = np.diag([*spacing, 1.0])
    name, modality = image_path.name, cohort.case.modality
    case = Case(image, label.astype(np.uint8), spacing, affine, name, modality, source=cohort.source)
    with atomic_path(image_path) as temporary:
        nibabel.save(nibabel.Nifti1Image(case.image, affine), temporary)
    write_segmentation(label_path, case.label, like=case)


def _volume(array: np.ndarray) -> np.ndarray:
    """(x, y) or (z, x, y) -> (x, y, z), the order of files."""
    return array[..., None] if array.ndim == 2 else np.moveaxis(array, 0, 2)
