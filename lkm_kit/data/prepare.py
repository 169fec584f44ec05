"""From a publisher's archive to nnU-Net's raw layout: find the cases, check each one, translate its label."""

from __future__ import annotations

import dataclasses
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lkm_kit.data.archives import Source, open_source
from lkm_kit.data.case import read_case, write_segmentation
from lkm_kit.data.manifest import Manifest
from lkm_kit.data.nifti import read_image
from lkm_kit.data.nnunet_raw import Job, RawSpec, Written, raw_folder, write_raw_dataset
from lkm_kit.data.preprocess import AIR_BELOW_HU, looks_like
from lkm_kit.data.releases import Release
from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, sha256


@dataclasses.dataclass(frozen=True)
class SourceCase:
    """One case in an archive: its name, its split, and the members that hold its image and its label (or None)."""

    name: str
    split: str
    image: str
    label: str | None


def match_members(source: Source, pattern: str) -> dict[tuple[str, ...], str]:
    """Members whose path, from any folder on, matches ``pattern``: its groups -> the member's name.

    Raises:
        KitError: two members have the same groups, as when an archive lies in it twice.
    """
    found: dict[tuple[str, ...], str] = {}
    for name in source.names:
        match = re.fullmatch(rf"(?:.*/)?{pattern}", name)
        if match:
            if match.groups() in found:
                raise KitError(
                    f"{source.path.name} holds a case twice: {found[match.groups()]} and {name}",
                    remedy="give the folder that holds the data set once",
                )
            found[match.groups()] = name
    return found


def leave_out(cases: Sequence[SourceCase], names: Iterable[str]) -> list[SourceCase]:
    """The cases without those that the user does not want.

    Raises:
        KitError: a name is not among them, or nothing is left to train on.
    """
    names = set(names)
    unknown = names - {case.name for case in cases}
    if unknown:
        raise KitError(
            f"there is no case {', '.join(sorted(unknown))} to leave out",
            remedy=f"names are written like {cases[0].name}",
        )
    left = [case for case in cases if case.name not in names]
    if not any(case.split == "training" for case in left):
        raise KitError("no training case is left", remedy="leave out fewer cases")
    return left


def require_labels(cases: Sequence[SourceCase], where: str) -> None:
    """Raise a :class:`KitError` that names the cases without a label."""
    missing = [case.name for case in cases if case.label is None]
    if missing:
        shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        raise KitError(
            f"{where}: no label for {len(missing)} of {len(cases)} cases: {shown}",
            remedy="the archive is not complete: fetch it again, or go on without them: --leave-out "
            + " ".join(missing[:6]),
        )


def prepare(
    source: Source,
    cases: Sequence[SourceCase],
    release: Release,
    *,
    number: int,
    name: str,
    modality: str,
    configuration: str,
    label_ids: str,
    split: str,
    paper_split: bool,
    root: str | Path | None = None,
    check_modality: bool = True,
) -> Written:
    """Write cases of an archive as a raw nnU-Net data set.

    Images are copied byte by byte. Labels are translated to kit ids and written on their image's grid, after a check
    that both lie in the same place. Volumes stay whole: a 2D network gets its slices from nnU-Net's ``2d``
    configuration (and U-Mamba's), which cuts them while it trains.

    Args:
        source: open archive or folder.
        cases: what to take from it.
        release: which data set it is.
        number, name: of the new data set.
        modality: ``"CT"`` or ``"MR"``; every scan is held against it.
        configuration: nnU-Net's configuration of the paper, ``"2d"`` or ``"3d_fullres"``.
        label_ids: numbering of the labels, see :func:`lkm_kit.data.organs.look_up`.
        split: one sentence on how the cases were divided.
        paper_split: whether results can be compared with the paper's tables.
        root: the ``nnUNet_raw`` folder, see :func:`raw_folder`.
        check_modality: False for scans whose intensities are unusual and known to be right.

    Raises:
        KitError: see :func:`write_raw_dataset`; also label ids outside the numbering, image and label that lie apart,
            CT where MR is expected or the other way round, damaged members.
    """
    root = raw_folder(root)
    about: dict[str, Any] = {
        "modality": modality,
        "configuration": configuration,
        "split": split,
        "paper_split": paper_split,
        "labels": f"{label_ids} ids translated to kit ids" if label_ids != "kit" else "kit ids (as published)",
        "release": {key: getattr(release, key) for key in ("name", "version", "page", "licence", "citation")},
    }
    spec = RawSpec(number, name, modality, about)
    about["source"] = _describe(source, Manifest.read(root / spec.folder_name))

    def job(case: SourceCase) -> Job:
        members = [case.image] + ([case.label] if case.label else [])
        fingerprint = "/".join([*(source.fingerprint(member) for member in members), label_ids])

        def write(image: Path, label: Path) -> None:
            _write(source, case, modality if check_modality else None, label_ids, image, label)

        return Job(case.name, case.split, fingerprint, source.bytes_of(members), write)

    return write_raw_dataset(root, spec, [job(case) for case in cases])


def prepare_archive(
    archive: str | Path,
    find: Callable[[Source], list[SourceCase]],
    release: Release,
    without: Iterable[str] = (),
    **how: Any,
) -> Written:
    """:func:`prepare` of all labelled cases that ``find`` sees in an archive, but for those to be left out."""
    with open_source(archive) as source:
        cases = leave_out(find(source), without)
        require_labels(cases, source.path.name)
        return prepare(source, cases, release, **how)


def _write(
    source: Source, case: SourceCase, modality: str | None, label_ids: str, image_path: Path, label_path: Path
) -> None:
    with (
        tempfile.TemporaryDirectory(dir=image_path.parents[1], prefix=".incoming-") as temporary,
        atomic_path(image_path) as image,
    ):
        raw_label = Path(temporary) / "label.nii.gz"
        try:
            source.copy(case.image, image)
            if case.label is None:
                pixels, read = read_image(image)[0], None
            else:
                source.copy(case.label, raw_label)
                # what the scan is called here makes no difference to its label; the check of the intensities follows
                read = read_case(image, raw_label, modality=modality or "MR", name=case.name, label_ids=label_ids)
                pixels = read.image
        except KitError as error:  # the member is what the user knows, not the copy of it
            message = error.message.replace(str(image), case.image).replace(str(raw_label), str(case.label))
            raise KitError(message, remedy=error.remedy) from error.__cause__
        if modality is not None and looks_like(pixels) != modality:
            raise KitError(
                f"{case.image} does not look like {modality}: its values run from {pixels.min():g} to "
                f"{pixels.max():g}, and {(pixels < AIR_BELOW_HU).mean():.0%} of them are below {AIR_BELOW_HU:g}",
                remedy=f"make sure that these are the {modality} scans (CT in Hounsfield units); "
                "if you know that they are, use --trust-modality",
            )
        if read is not None:
            write_segmentation(label_path, read.label, like=read)


def _describe(source: Source, before: Manifest | None) -> dict[str, Any]:
    """What the manifest says of the archive; its checksum is computed anew only when the file is another one."""
    about: dict[str, Any] = {"kind": source.kind, "name": source.path.resolve().name}
    if source.kind == "folder":
        return about
    status = source.path.stat()
    about |= {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    known = before.about.get("source", {}) if before else {}
    if {key: known.get(key) for key in about} == about:
        return known
    if status.st_size > 1e9:
        print(f"computing the checksum of {source.path.name} ({status.st_size / 1e9:.0f} GB)", file=sys.stderr)
    return {**about, "sha256": sha256(source.path)}
