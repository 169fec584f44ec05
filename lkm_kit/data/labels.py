"""The organs of the paper's data, their ids in every numbering the kit meets, and the table a network learns.

Three numberings occur. *Kit ids* are FLARE22's (0 background, 1 liver, ... 13 left kidney) and are what a
:class:`~lkm_kit.data.Case` carries. *Source ids* are a data set's own (AMOS22, TotalSegmentator) and are translated on
reading. *Classes* are a network's output channels: 0 background, ``i + 1`` the ``i``-th organ of a :class:`LabelTable`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from lkm_kit.errors import KitError


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
    found = _BY_NAME.get(key) if isinstance(key, str) else _BY_LABEL.get(int(key))
    if found is None:
        close = difflib.get_close_matches(str(key), _BY_NAME, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise KitError(f"there is no organ {key!r}", remedy=f"{hint}the organs are {', '.join(_BY_NAME)}")
    return found


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
    label = np.asarray(label)
    if label.dtype.kind == "f":
        finite = np.isfinite(label)
        whole = finite & (label == np.round(label))
        if not whole.all():
            bad = label[~whole].flat[0]
            raise KitError(
                f"{where} holds {bad:g}, which is not a whole number, in {int((~whole).sum())} voxels",
                remedy="a label map stores organ ids; resample it with nearest neighbours, "
                "and check that image and label files were not exchanged",
            )
        label = label.astype(np.int64)
    elif label.dtype.kind not in "iub":
        raise KitError(f"{where} has values of type {label.dtype}", remedy="a label map stores whole numbers")
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


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """The organs a network learns, in the order of its classes; class 0 is everything else.

    Args:
        names: organ names from :data:`ORGANS`; class ``i + 1`` is ``names[i]``.

    Raises:
        KitError: a name is unknown or occurs twice, or there is none.

    >>> table = LabelTable(("liver", "left kidney"))
    >>> table.num_classes, table.labels
    (3, (1, 13))
    >>> table.to_classes(np.array([0, 1, 13, 5])).tolist()   # the aorta is not learnt here
    [0, 1, 2, 0]
    """

    names: tuple[str, ...] = tuple(each.name for each in ORGANS)

    def __post_init__(self):
        names = (self.names,) if isinstance(self.names, str) else tuple(self.names)
        object.__setattr__(self, "names", names)
        if not names:
            raise KitError("a label table needs at least one organ", remedy="name organs of lkm_kit.data.ORGANS")
        for name in names:
            organ(name)
        if len(set(names)) != len(names):
            raise KitError(f"an organ occurs twice in the label table {names}", remedy="name every organ once")

    @property
    def num_classes(self) -> int:
        """Output channels of the network: the organs and background."""
        return len(self.names) + 1

    @property
    def labels(self) -> tuple[int, ...]:
        """Kit ids, in class order."""
        return tuple(organ(name).label for name in self.names)

    @property
    def tolerances_mm(self) -> tuple[float, ...]:
        """NSD tolerances in mm, in class order."""
        return tuple(organ(name).tolerance_mm for name in self.names)

    def to_classes(self, kit_label: np.ndarray) -> np.ndarray:
        """Kit ids (any shape) -> network classes (int64); organs outside the table become background."""
        table = np.zeros(len(ORGANS) + 1, dtype=np.int64)
        table[list(self.labels)] = np.arange(1, self.num_classes)
        return table[to_kit_ids(kit_label)]

    def to_kit(self, classes: np.ndarray) -> np.ndarray:
        """Network classes (any shape) -> kit ids (uint8).

        Raises:
            KitError: a value is not a class of this table.
        """
        classes = np.asarray(classes)
        if classes.size and (classes.min() < 0 or classes.max() >= self.num_classes):
            raise KitError(
                f"class {classes.max() if classes.min() >= 0 else classes.min()} is not in this label table "
                f"of {self.num_classes} classes",
                remedy="use the table the network was trained with (config.json of its run)",
            )
        return np.array((0, *self.labels), dtype=np.uint8)[classes]

    def to_json(self) -> str:
        """One line of JSON: class, organ name and kit id of each class."""
        rows = [{"class": i + 1, "name": n, "label": organ(n).label} for i, n in enumerate(self.names)]
        return json.dumps({"organs": rows}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | Mapping) -> LabelTable:
        """Undo :meth:`to_json`; checks that names, classes and ids still agree with :data:`ORGANS`.

        >>> LabelTable.from_json(LabelTable(("spleen",)).to_json())
        LabelTable(names=('spleen',))
        """
        try:
            rows = (json.loads(text) if isinstance(text, str) else text)["organs"]
            rows = sorted(rows, key=lambda row: row["class"])
            table = cls(tuple(row["name"] for row in rows))
            agrees = [(row["class"], row["label"]) for row in rows] == list(enumerate(table.labels, start=1))
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise KitError(f"this is not a label table: {text!r}", remedy="see LabelTable.to_json") from error
        if not agrees:
            raise KitError(
                "the label table's classes or ids disagree with lkm_kit.data.ORGANS",
                remedy="it was written by another version of the kit, or edited: write it again",
            )
        return table


def organs_present(kit_label: np.ndarray, names: Iterable[str] | None = None) -> dict[str, int]:
    """Count the voxels of each organ that occurs in a label map with kit ids.

    >>> organs_present(np.array([0, 1, 1, 13]))
    {'liver': 2, 'left kidney': 1}
    """
    counts = np.bincount(np.asarray(kit_label).ravel(), minlength=len(ORGANS) + 1)
    wanted = set(names) if names is not None else set(_BY_NAME)
    return {each.name: int(counts[each.label]) for each in ORGANS if counts[each.label] and each.name in wanted}
