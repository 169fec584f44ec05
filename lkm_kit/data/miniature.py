"""Miniature archives with exactly the published layouts and file names, made of phantoms: a few cases of a few kB each.

They go through ``lkm data amos|flare|umamba`` as the real archives do. So the way from a download to nnU-Net can be
walked, and tested, before 24 GB are fetched. Nothing can be learnt from them.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lkm_kit.data.organs import ORGANS, look_up
from lkm_kit.data.phantom import make_phantom
from lkm_kit.errors import one_of
from lkm_kit.files import atomic_path

SHAPE = (40, 36, 12)
"""Voxels of a miniature scan along x, y, z."""

BLADDER = 14
"""An id of AMOS22 that the kit's label table does not have."""


def miniature_members(release: str) -> dict[str, bytes]:
    """What a miniature archive holds: path in the archive -> content.

    Args:
        release: ``"amos22"``, ``"flare22"`` or ``"u-mamba"``, as in :data:`lkm_kit.data.releases.RELEASES`.

    Raises:
        KitError: another release.

    >>> sorted(miniature_members("flare22"))[0]
    'FLARE22Train/images/FLARE22_Tr_0001_0000.nii.gz'
    """
    made = {"amos22": amos22, "flare22": flare22, "u-mamba": lambda: umamba(701) | umamba(702)}
    return made[one_of(release, made, "miniature of")]()


def write_zip(path: str | Path, files: Mapping[str, bytes]) -> Path:
    """Write members as a zip archive; the same members give the same bytes.

    >>> import tempfile
    >>> archive = write_zip(Path(tempfile.mkdtemp(), "FLARE22Train.zip"), miniature_members("flare22"))
    >>> zipfile.ZipFile(archive).namelist()[1]
    'FLARE22Train/labels/FLARE22_Tr_0001.nii.gz'
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2022, 7, 1, 0, 0, 0)), content)
    return Path(path)


def pair(seed: int, modality: str, ids: str = "kit") -> tuple[bytes, bytes]:
    """Image and label of a phantom as they lie in an archive: compressed NIfTI in LPS order, as published scans are.

    Args:
        seed: of the phantom.
        modality: ``"CT"`` or ``"MR"``.
        ids: numbering of the label, ``"kit"`` or ``"amos"`` (with a piece of a bladder then).
    """
    case = make_phantom(shape=SHAPE, seed=seed, modality=modality)
    label = case.label
    if ids == "amos":
        label = np.argsort(look_up("amos")[:BLADDER])[label]  # kit id -> AMOS id; both are 0..13 in another order
        label[18:22, 14:18, 0] = BLADDER
    affine = case.affine @ np.diag([-1.0, -1, 1, 1])
    affine[:3, 3] = (60, 50, -30)
    flip = np.s_[::-1, ::-1]
    return nifti(case.image[flip], affine, np.int16), nifti(label[flip], affine, np.uint8)


def nifti(array: np.ndarray, affine: np.ndarray, dtype: type) -> bytes:
    """A compressed NIfTI file in memory."""
    import nibabel

    image = nibabel.Nifti1Image(array.astype(dtype), affine)
    image.header["qform_code"] = image.header["sform_code"] = 1
    return gzip.compress(image.to_bytes(), 1, mtime=0)


def amos22() -> dict[str, bytes]:
    """Members of amos22.zip: two MR and one CT to train on, one of each to validate, one of each without a label."""
    files = {
        "amos22/readme.md": b"AMOS",
        "amos22/dataset.json": json.dumps({"name": "AMOS", "labels": {"1": "spleen"}}).encode(),
    }
    for part, numbers in {"Tr": (1, 507, 508), "Va": (13, 517), "Ts": (20, 541)}.items():
        for number in numbers:
            image, label = pair(number, "MR" if number > 500 else "CT", "amos")
            files[f"amos22/images{part}/amos_{number:04d}.nii.gz"] = image
            if part != "Ts":
                files[f"amos22/labels{part}/amos_{number:04d}.nii.gz"] = label
    return files


def flare22(numbers: Sequence[int] = (1, 2, 4, 5)) -> dict[str, bytes]:
    """Members of FLARE22Train.zip."""
    files = {}
    for number in numbers:
        image, label = pair(number, "CT")
        files[f"FLARE22Train/images/FLARE22_Tr_{number:04d}_0000.nii.gz"] = image
        files[f"FLARE22Train/labels/FLARE22_Tr_{number:04d}.nii.gz"] = label
    return files


def umamba(number: int = 702) -> dict[str, bytes]:
    """Members of one of the U-Mamba authors' folders, 701 (CT) or 702 (MR): two cases to train on, one to test on."""
    folder, modality = {701: ("Dataset701_AbdomenCT", "CT"), 702: ("Dataset702_AbdomenMR", "MR")}[number]
    names = {
        701: {"Tr": ["FLARE22_Tr_0001", "FLARE22_Tr_0002"], "Ts": ["FLARETs_0001"]},
        702: {"Tr": ["amos_0507", "amos_0508"], "Ts": ["amos_0540"]},
    }[number]
    labels = {"background": 0, **{organ.name: organ.label for organ in ORGANS}}
    files = {
        f"{folder}/dataset.json": json.dumps(
            {"channel_names": {"0": modality}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}
        ).encode()
    }
    for part, cases in names.items():
        for seed, name in enumerate(cases, start=number + 10 * (part == "Ts")):
            image, label = pair(seed, modality)
            files[f"{folder}/images{part}/{name}_0000.nii.gz"] = image
            files[f"{folder}/labels{part}/{name}.nii.gz"] = label
    return files
