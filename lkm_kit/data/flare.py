"""FLARE22's 50 labelled CT scans as an nnU-Net data set, every fifth one kept for testing.

This is *not the paper's split*: the paper trains on all 50 and tests on 50 others, which are not in this archive
(:mod:`lkm_kit.data.umamba_folders` takes them).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lkm_kit.data.archives import Source
from lkm_kit.data.nnunet_raw import Written
from lkm_kit.data.prepare import SourceCase, match_members, prepare_archive
from lkm_kit.data.releases import RELEASES
from lkm_kit.errors import KitError

FLARE_CT_NUMBER, FLARE_CT_NAME = 721, "FLARE22CT"
"""Not 701: that number stays with the authors' folder, so that the two are never taken for one another."""

FLARE_CT_COUNTS = {"training": 40, "test": 10}
TEST_EVERY = 5
"""Cases whose number divides by this are tested on: fixed once, looked at by nobody before."""

FLARE_CT = {
    "name": FLARE_CT_NAME,
    "modality": "CT",
    "configuration": "3d_fullres",
    "label_ids": "kit",
    "split": f"the labelled cases, every {TEST_EVERY}th one (by its number) to test on; not the paper's split",
    "paper_split": False,
}


def flare_ct_cases(source: Source) -> list[SourceCase]:
    """The labelled cases of ``FLARE22Train.zip`` or of the folder it was unpacked into.

    Raises:
        KitError: it is not FLARE22Train.
    """
    images = match_members(source, r"images/(FLARE22_Tr_(\d{4}))_0000\.nii\.gz")
    labels = match_members(source, r"labels/(FLARE22_Tr_(\d{4}))\.nii\.gz")
    if not images:
        raise KitError(
            f"{source.path.name} is not FLARE22Train: there is no images/FLARE22_Tr_XXXX_0000.nii.gz in it",
            remedy="give FLARE22Train.zip or the folder it was unpacked into",
        )
    return [
        SourceCase(key[0], "test" if int(key[1]) % TEST_EVERY == 0 else "training", image, labels.get(key))
        for key, image in sorted(images.items())
    ]


def prepare_flare_ct(
    archive: str | Path,
    root: str | Path | None = None,
    *,
    number: int = FLARE_CT_NUMBER,
    without: Iterable[str] = (),
    check_modality: bool = True,
) -> Written:
    """Make ``Dataset721_FLARE22CT`` out of FLARE22's labelled training part; arguments as in ``prepare_amos_mr``.

    Raises:
        KitError: see :func:`flare_ct_cases` and :func:`lkm_kit.data.prepare.prepare`.

    >>> prepare_flare_ct("FLARE22Train.zip", "nnUNet_raw")  # doctest: +SKIP
    """
    how = {"root": root, "number": number, "check_modality": check_modality}
    return prepare_archive(archive, flare_ct_cases, RELEASES["flare22"], without, **how, **FLARE_CT)
