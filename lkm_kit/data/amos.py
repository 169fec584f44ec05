"""AMOS22's MR scans as an nnU-Net data set: 40 to train on, the 20 of its validation part to test on.

The paper trains on these 60 and tests on 50 scans that the U-Mamba authors labelled; those are not in the archive
(:mod:`lkm_kit.data.umamba_folders` takes them). What is made here is therefore *not the paper's split*.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lkm_kit.data.archives import Source
from lkm_kit.data.nnunet_raw import Written
from lkm_kit.data.prepare import SourceCase, match_members, prepare_archive
from lkm_kit.data.releases import RELEASES
from lkm_kit.errors import KitError

AMOS_MR_NUMBER, AMOS_MR_NAME = 722, "AMOS22MR"
"""Not 702: that number stays with the authors' folder, so that the two are never taken for one another."""

AMOS_MR_COUNTS = {"training": 40, "test": 20}
LAST_CT = 500
"""Cases up to this id are CT, above it MR."""

AMOS_MR = {
    "name": AMOS_MR_NAME,
    "modality": "MR",
    "configuration": "2d",
    "label_ids": "amos",
    "split": "AMOS22's own: its training part to train on, its validation part to test on; not the paper's split",
    "paper_split": False,
}


def amos_mr_cases(source: Source) -> list[SourceCase]:
    """The labelled MR cases of ``amos22.zip`` or of the folder it was unpacked into.

    Raises:
        KitError: it is not AMOS22, holds no MR scan, or a label is missing.
    """
    members = match_members(source, r"(images|labels)(Tr|Va)/(amos_(\d{4}))\.nii\.gz")
    if not members:
        raise KitError(
            f"{source.path.name} is not AMOS22: there is no imagesTr/amos_XXXX.nii.gz in it",
            remedy="give amos22.zip or the folder it was unpacked into",
        )
    cases = [
        SourceCase(name, "training" if part == "Tr" else "test", image, members.get(("labels", part, name, number)))
        for (kind, part, name, number), image in members.items()
        if kind == "images" and int(number) > LAST_CT
    ]
    if not any(case.split == "training" for case in cases):
        raise KitError(
            f"{source.path.name} holds no MR scan to train on (in imagesTr, ids above {LAST_CT})",
            remedy="some copies of AMOS22 hold only its CT part: fetch the whole amos22.zip",
        )
    return sorted(cases, key=lambda case: case.name)


def prepare_amos_mr(
    archive: str | Path,
    root: str | Path | None = None,
    *,
    number: int = AMOS_MR_NUMBER,
    without: Iterable[str] = (),
    check_modality: bool = True,
) -> Written:
    """Make ``Dataset722_AMOS22MR`` out of AMOS22.

    Args:
        archive: ``amos22.zip`` or the unpacked folder.
        root: the ``nnUNet_raw`` folder; default see :func:`lkm_kit.data.raw_folder`.
        number: nnU-Net's data set id.
        without: names of cases to leave out, such as ``"amos_0540"``.
        check_modality: False: do not hold the intensities against "MR".

    Raises:
        KitError: see :func:`amos_mr_cases` and :func:`lkm_kit.data.prepare.prepare`.

    >>> prepare_amos_mr("amos22.zip", "nnUNet_raw")  # doctest: +SKIP
    """
    how = {"root": root, "number": number, "check_modality": check_modality}
    return prepare_archive(archive, amos_mr_cases, RELEASES["amos22"], without, **how, **AMOS_MR)
