"""The U-Mamba authors' ready nnU-Net folders: the only data with which the paper's Tables 1 to 3 can be compared.

``Dataset701_AbdomenCT`` (FLARE22) and ``Dataset702_AbdomenMR`` (AMOS22 and 50 test scans that the authors labelled),
each with ``imagesTr, labelsTr, imagesTs, labelsTs, dataset.json``. They come without a version and without checksums.
So they are checked case by case, and their manifest is the only record of what was used.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lkm_kit.data.archives import Source, open_source
from lkm_kit.data.nnunet_raw import Written
from lkm_kit.data.organs import ORGANS
from lkm_kit.data.prepare import SourceCase, leave_out, match_members, prepare, require_labels
from lkm_kit.data.releases import RELEASES
from lkm_kit.errors import KitError
from lkm_kit.files import parse_json


class UMambaFolder(NamedTuple):
    """One of the two folders: its number and name, the scans' modality, the paper's configuration and case counts."""

    number: int
    name: str
    modality: str
    configuration: str
    counts: dict[str, int]


UMAMBA_FOLDERS = (
    UMambaFolder(701, "AbdomenCT", "CT", "3d_fullres", {"training": 50, "test": 50}),
    UMambaFolder(702, "AbdomenMR", "MR", "2d", {"training": 60, "test": 50}),
)

UMAMBA_SPLIT = "the U-Mamba authors'"


def umamba_cases(source: Source, about: UMambaFolder) -> list[SourceCase]:
    """Cases of one folder, empty where it is not there.

    Test scans without any label are taken too: one can predict them, not score them.

    Raises:
        KitError: training scans without labels, or some test scans with and some without.
    """
    members = match_members(
        source, rf"Dataset{about.number}_{about.name}/(images|labels)(Tr|Ts)/(\w[\w.-]*?)(?:_0000)?\.nii\.gz"
    )
    cases = [
        SourceCase(name, "training" if part == "Tr" else "test", image, members.get(("labels", part, name)))
        for (kind, part, name), image in members.items()
        if kind == "images"
    ]
    return sorted(cases, key=lambda case: (case.split != "training", case.name))


def prepare_umamba(
    archive: str | Path,
    root: str | Path | None = None,
    *,
    numbers: Iterable[int] = (701, 702),
    without: Iterable[str] = (),
    check_modality: bool = True,
) -> list[Written]:
    """Check and copy ``Dataset701_AbdomenCT`` and ``Dataset702_AbdomenMR``, those of them that are there.

    Args:
        archive: a zip or folder that holds one of them or both.
        root: the ``nnUNet_raw`` folder; default see :func:`lkm_kit.data.raw_folder`.
        numbers: which of the two to look for.
        without: names of cases to leave out.
        check_modality: False: do not hold the intensities against CT and MR.

    Raises:
        KitError: neither is there, the folder is where the result would go, ``dataset.json`` numbers the organs in
            another way, labels are missing, or a case is faulty.

    >>> prepare_umamba("download/", "nnUNet_raw")  # doctest: +SKIP
    """
    with open_source(archive) as source:
        wanted = [about for about in UMAMBA_FOLDERS if about.number in set(numbers)]
        found = [(about, cases) for about in wanted if (cases := umamba_cases(source, about))]
        if not found:
            raise KitError(
                f"{source.path.name} holds no "
                + " or ".join(f"Dataset{each.number}_{each.name}/imagesTr" for each in wanted),
                remedy="give the folder that holds the authors' Dataset folders, with their names unchanged",
            )
        without = set(without)
        chosen = []
        for about, cases in found:
            _require_kit_ids(source, about)
            # a name to leave out belongs to one of the two folders
            cases = leave_out(cases, without & {case.name for case in cases})
            some_tested = any(case.label for case in cases if case.split == "test")
            require_labels([c for c in cases if c.split == "training" or some_tested], f"Dataset{about.number}")
            chosen.append((about, cases))
        unknown = without - {case.name for _, cases in found for case in cases}
        if unknown:
            raise KitError(
                f"there is no case {', '.join(sorted(unknown))} to leave out",
                remedy="names are written like amos_0507 or FLARE22_Tr_0001",
            )
        return [
            prepare(
                source,
                cases,
                RELEASES["u-mamba"],
                number=about.number,
                name=about.name,
                modality=about.modality,
                configuration=about.configuration,
                label_ids="kit",
                split=_split(cases, about),
                paper_split=_counts(cases) == about.counts,
                root=root,
                check_modality=check_modality,
            )
            for about, cases in chosen
        ]


def _counts(cases: list[SourceCase]) -> dict[str, int]:
    return {split: sum(case.split == split for case in cases) for split in ("training", "test")}


def _split(cases: list[SourceCase], about: UMambaFolder) -> str:
    """What ends up beside every score: the paper's split is only what has all of the paper's cases."""
    counts = _counts(cases)
    if counts == about.counts:
        return f"{UMAMBA_SPLIT}: the split of the paper"
    found, wanted = (f"{each['training']} training + {each['test']} test cases" for each in (counts, about.counts))
    return f"{UMAMBA_SPLIT}, but with {found}; the paper has {wanted}: not the paper's split"


def _require_kit_ids(source: Source, about: UMambaFolder) -> None:
    """Hold the organs' numbers in the authors' ``dataset.json`` against the kit's."""
    members = match_members(source, rf"(Dataset{about.number}_{about.name})/dataset\.json")
    for name in members.values():
        with source.open(name) as stream:
            content = stream.read()
        try:
            labels = parse_json(content)["labels"]
            theirs = {key.lower().replace("_", " "): int(value) for key, value in labels.items()}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise KitError(
                f"{name} is not nnU-Net's dataset.json ({error})", remedy="fetch the folder again"
            ) from error
        for organ in ORGANS:
            if theirs.get(organ.name, organ.label) != organ.label:
                raise KitError(
                    f"{name} gives {organ.name} the label {theirs[organ.name]}, FLARE22 and the paper {organ.label}",
                    remedy="this is another version of the data: its labels would be read wrongly",
                )
