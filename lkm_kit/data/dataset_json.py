"""nnU-Net's ``dataset.json``: what a data set says of itself, read and checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lkm_kit.data.labels import Label, LabelTable, partner_name
from lkm_kit.errors import KitError
from lkm_kit.files import read_json

ENDINGS = (".nii.gz", ".nii")


def read_dataset_json(folder: Path) -> dict[str, Any]:
    """``dataset.json`` with channel_names, labels and file_ending, checked.

    Raises:
        KitError: there is none, or it lacks one of them; says what to do.
    """
    path = folder / "dataset.json"
    if not os.path.isdir(folder):  # Path's own question fails on a name that is too long
        raise KitError(f"there is no folder {folder}", remedy="give a folder with dataset.json, imagesTr and labelsTr")
    if not path.is_file():
        raise KitError(
            f"there is no dataset.json in {folder}",
            remedy=f"`lkm data init {folder} --images DIR --labels DIR` writes one for loose pairs of files; "
            "if a preparation was interrupted, run it again",
        )
    needs = "it needs channel_names, labels (name: id) and file_ending"
    return checked(read_json(path, "dataset.json of nnU-Net", remedy=needs), path)


def checked(about: dict[str, Any], path: Path) -> dict[str, Any]:
    """The contents of a ``dataset.json`` as they are, if they are nnU-Net's.

    Args:
        about: the contents.
        path: of the file, for the messages.

    Raises:
        KitError: see :func:`read_dataset_json`.
    """
    folder, needs = path.parent, "it needs channel_names, labels (name: id) and file_ending"
    if "modality" in about and "channel_names" not in about:
        raise KitError(
            f"{path} has the Decathlon's form (modality, labels by number), not nnU-Net's",
            remedy=f"`lkm data init NEW_FOLDER --images {folder}/imagesTr --labels {folder}/labelsTr` makes it one",
        )
    channels, labels = about.get("channel_names"), about.get("labels")
    good = isinstance(channels, dict) and isinstance(labels, dict) and channels
    good = good and all(isinstance(name, str) and name.strip() for name in channels.values())
    if not good or list(channels) != [str(i) for i in range(len(channels))]:
        raise KitError(
            f"{path} is not nnU-Net's dataset.json", remedy=f'{needs}; channels are numbered from "0" on and have names'
        )
    if "file_ending" not in about:
        raise KitError(f"{path} has no file_ending", remedy=f'add "file_ending": "{ENDINGS[0]}", or "{ENDINGS[1]}"')
    if about["file_ending"] not in ENDINGS:
        raise KitError(
            f"{path}: files end in {about['file_ending']}",
            remedy=f"the kit reads {' and '.join(ENDINGS)}: convert them, for instance with nibabel",
        )
    return about


def table_of(about: dict[str, Any], path: str | Path) -> LabelTable:
    """The label table of a ``dataset.json``; with exactly the kit's organs under its ids it is the kit's table.

    Raises:
        KitError: regions or ignored labels, no background 0, ids that are no numbers.

    >>> table_of({"labels": {"background": 0, "left lung": 1, "right lung": 2}}, "dataset.json").mirrored_classes()
    array([0, 2, 1])
    """
    labels = dict(about["labels"])
    if labels and all(name.isdecimal() and isinstance(value, str) for name, value in labels.items()):
        turned = ", ".join(f'"{name}": {int(number)}' for number, name in list(labels.items())[:3])
        raise KitError(
            f"{path}: labels are numbered ID: NAME, as in version 1 of nnU-Net",
            remedy=f"turn them round: {{{turned}{', ...' if len(labels) > 3 else ''}}}",
        )
    if labels.pop("background", None) != 0:
        raise KitError(f"{path}: there is no label background: 0", remedy="add it; all other ids start at 1")
    other = {name: value for name, value in labels.items() if name == "ignore" or not isinstance(value, int)}
    for name, value in other.items():
        kind = "the ignore label" if name == "ignore" else "a region" if isinstance(value, list) else "no whole number"
        raise KitError(
            f"{path}: labels are not all of the form NAME: ID ({name!r}: {value!r} is {kind})",
            remedy="the kit trains one id a label: no regions (lists of ids), no ignore label"
            if kind != "no whole number"
            else "write the id as a whole number, without quotation marks",
        )
    kit = LabelTable()
    if {name.lower().replace("_", " "): number for name, number in labels.items()} == dict(zip(kit.names, kit.labels)):
        return kit
    tolerances, partners = about.get("tolerances_mm", {}), about.get("partners", {})
    for what, extra in (("tolerances_mm", tolerances), ("partners", partners)):
        if not isinstance(extra, dict):
            raise KitError(f"{path}: {what} is no table", remedy=f'write {{"LABEL": ...}}, or leave {what} out')
        if strangers := sorted(set(extra) - set(labels)):
            raise KitError(f"{path}: {what} names {strangers[0]!r}, which is no label", remedy="spell it as in labels")
    found = {name: other for name in labels if (other := partner_name(name)) in labels}
    try:
        entries = [Label(n, i, tolerances.get(n), {**found, **partners}.get(n)) for n, i in labels.items()]
        return LabelTable(tuple(sorted(entries, key=lambda each: each.id)))
    except KitError as error:
        raise KitError(f"{path}: {error.message}", remedy=error.remedy) from error
