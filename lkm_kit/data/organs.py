"""The 13 organs of the paper's data and their ids in every numbering that is published of them.

*Kit ids* are FLARE22's (0 background, 1 liver, ... 13 left kidney); AMOS22 and TotalSegmentator number otherwise and
are translated on reading, by name.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lkm_kit.errors import KitError, note, one_of


class Organ(NamedTuple):
    """One organ: its name, its ids and how far a contour may be off.

    Args:
        name: the kit's name, as in FLARE22.
        label: kit id = FLARE22 id.
        amos: id in AMOS22.
        tolerance_mm: NSD tolerance of the official scripts, in mm.
        total: the structure's name in TotalSegmentator's class maps.
    """

    name: str
    label: int
    amos: int
    tolerance_mm: float
    total: str


ORGANS: tuple[Organ, ...] = (
    Organ("liver", 1, 6, 5.0, "liver"),
    Organ("right kidney", 2, 2, 3.0, "kidney_right"),
    Organ("spleen", 3, 1, 3.0, "spleen"),
    Organ("pancreas", 4, 10, 5.0, "pancreas"),
    Organ("aorta", 5, 8, 2.0, "aorta"),
    Organ("inferior vena cava", 6, 9, 2.0, "inferior_vena_cava"),
    Organ("right adrenal gland", 7, 11, 2.0, "adrenal_gland_right"),
    Organ("left adrenal gland", 8, 12, 2.0, "adrenal_gland_left"),
    Organ("gallbladder", 9, 4, 2.0, "gallbladder"),
    Organ("esophagus", 10, 5, 3.0, "esophagus"),
    Organ("stomach", 11, 7, 5.0, "stomach"),
    Organ("duodenum", 12, 13, 7.0, "duodenum"),
    Organ("left kidney", 13, 3, 3.0, "kidney_left"),
)
"""The 13 organs of FLARE22 and AMOS22, in the order of their kit ids."""

TOTAL_IDS: dict[str, dict[str, int]] = {
    "total": {
        "spleen": 1, "kidney_right": 2, "kidney_left": 3, "gallbladder": 4, "liver": 5, "stomach": 6, "pancreas": 7,
        "adrenal_gland_right": 8, "adrenal_gland_left": 9, "esophagus": 15, "duodenum": 19, "aorta": 52,
        "inferior_vena_cava": 63,
    },
    "total_mr": {
        "spleen": 1, "kidney_right": 2, "kidney_left": 3, "gallbladder": 4, "liver": 5, "stomach": 6, "pancreas": 7,
        "adrenal_gland_right": 8, "adrenal_gland_left": 9, "esophagus": 12, "duodenum": 14, "aorta": 23,
        "inferior_vena_cava": 24,
    },
}  # fmt: skip
"""TotalSegmentator 2.18.0's ids of these organs, by structure name (``totalsegmentator/map_to_binary.py``)."""

_BY_NAME = {organ.name: organ for organ in ORGANS}
_BY_LABEL = {organ.label: organ for organ in ORGANS}


def organ(key: str | int) -> Organ:
    """Return the organ with this name or kit id.

    Raises:
        KitError: no organ has that name or id (the closest name is offered).

    >>> organ("aorta").tolerance_mm, organ(13).name
    (2.0, 'left kidney')
    """
    table = _BY_NAME if isinstance(key, str) else _BY_LABEL
    return table[one_of(key, table, "organ", remedy=f"the organs are {', '.join(_BY_NAME)}")]


def look_up(source: str) -> np.ndarray:
    """Return the array that turns a source's ids into kit ids: ``kit = look_up(source)[ids]``.

    Ids of structures the kit does not know (bladder, ribs, ...) become background.

    Args:
        source: ``"kit"``, ``"amos"``, ``"total"`` or ``"total_mr"``.

    >>> look_up("amos").tolist()
    [0, 3, 2, 13, 9, 10, 1, 11, 5, 6, 4, 7, 8, 12, 0, 0]
    """
    if source == "kit":
        return np.arange(len(ORGANS) + 1, dtype=np.uint8)
    if source == "amos":
        table = np.zeros(16, dtype=np.uint8)
        for each in ORGANS:
            table[each.amos] = each.label
        return table
    if source in TOTAL_IDS:
        table = np.zeros(256, dtype=np.uint8)
        for each in ORGANS:
            table[TOTAL_IDS[source][each.total]] = each.label
        return table
    raise KitError(f"there is no label numbering {source!r}", remedy="choose one of kit, amos, total, total_mr")


def to_kit_ids(label: np.ndarray, source: str = "kit", *, where: str = "the label") -> np.ndarray:
    """Translate a label map from a source's ids to kit ids.

    Args:
        label: any shape, whole numbers in any dtype.
        source: ``"kit"``, ``"amos"``, ``"total"`` or ``"total_mr"``.
        where: what error messages call the array, a file's path for instance.

    Returns:
        uint8 array of the same shape with ids 0..13.

    Raises:
        KitError: a value is not a whole number, not finite, or not an id of ``source``.

    >>> to_kit_ids(np.array([0, 6, 1, 14]), "amos").tolist()
    [0, 1, 3, 0]
    """
    table = look_up(source)
    label = whole_numbers(label, where)
    if label.size and (label.min() < 0 or label.max() >= len(table)):
        values = np.unique(label)
        outside = values[(values < 0) | (values >= len(table))]
        raise KitError(
            f"{where} holds the value{'s' if len(outside) > 1 else ''} {', '.join(map(str, outside[:8]))}, "
            f"outside the {source} label table 0..{len(table) - 1}",
            remedy="name the right numbering (kit, amos, total, total_mr), or check that this is a label map",
        )
    if source == "kit":  # the same ids: an index array of a large scan would take eight times its memory
        return label.astype(np.uint8)
    return table[label]


ROUNDED = 1e-3
"""A label this far from a whole number is one that a scale factor of the header has rounded."""


def whole_numbers(label: np.ndarray, where: str = "the label") -> np.ndarray:
    """The same values as integers; what a scale factor's rounding left within a thousandth of one is rounded.

    Raises:
        KitError: a value is not a whole number, or not finite.

    >>> whole_numbers(np.array([0.0, 2.0])).tolist()
    [0, 2]
    """
    label = np.asarray(label)
    if label.dtype.kind == "f":
        finite = np.isfinite(label)
        nearest = np.round(label)
        with np.errstate(invalid="ignore"):  # infinite values are refused below
            whole = finite & (np.abs(label - nearest) <= ROUNDED) & (np.abs(nearest) < 2**53)  # else it is cut off
        if not whole.all():
            bad = label[~whole].flat[0]
            raise KitError(
                f"{where} holds {bad:g}, which is not a whole number, in {int((~whole).sum())} voxels",
                remedy="a label map stores label ids; resample it with nearest neighbours, "
                "and check that image and label files were not exchanged",
            )
        if (off := np.abs(label - nearest).max(initial=0)) > 0:
            note(f"{where} holds numbers up to {off:.2g} from whole ones, which were rounded")
        return nearest.astype(np.int64)
    if label.dtype.kind not in "iub":
        raise KitError(f"{where} has values of type {label.dtype}", remedy="a label map stores whole numbers")
    return label
