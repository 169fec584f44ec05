"""Label tables: which labels a data set has, by name, and which of its ids is which class of a network.

*Ids* are what a label file and a :class:`~lkm_kit.data.Case` hold. *Classes* are a network's output channels: 0
background, ``i + 1`` the ``i``-th label of a :class:`LabelTable`. The 13 organs of the paper's data are one such table.
"""

from __future__ import annotations

import dataclasses
import json
import math
import operator
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lkm_kit.data.organs import ORGANS, organ, whole_numbers
from lkm_kit.errors import KitError, one_of
from lkm_kit.files import parse_json

LARGEST_ID = 65535


class Label(NamedTuple):
    """One label.

    Args:
        name: what tables and figures call it.
        id: in the files, 1 to 65535.
        tolerance_mm: how far a contour may be off and still count for NSD; None: the diagonal of a voxel.
        partner: the label of the same structure on the patient's other side, which a mirrored image shows in its place.

    >>> Label("prostate", 1).tolerance((3.0, 4.0, 12.0))
    13.0
    """

    name: str
    id: int
    tolerance_mm: float | None = None
    partner: str | None = None

    def tolerance(self, spacing: Sequence[float]) -> float:
        """NSD tolerance in mm on a grid of this spacing (mm): the label's own, else the voxel's diagonal."""
        return float(np.linalg.norm(spacing)) if self.tolerance_mm is None else float(self.tolerance_mm)


_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}


def partner_name(name: str) -> str | None:
    """What the label of the other side would be called; None when the name has no side.

    >>> partner_name("left kidney"), partner_name("Femur_R"), partner_name("liver")
    ('right kidney', 'Femur_L', None)
    """
    words = re.split(r"([\s_-]+)", name)
    sides = [i for i, word in enumerate(words) if word.lower() in _SIDES]
    if len(sides) != 1:
        return None
    word = words[sides[0]]
    other = _SIDES[word.lower()]
    words[sides[0]] = other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
    return "".join(words)


_KIT = tuple(
    Label(each.name, each.label, each.tolerance_mm, other if (other := partner_name(each.name)) else None)
    for each in ORGANS
)


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """The labels a network learns, in the order of its classes; class 0 is everything else.

    Args:
        entries: :class:`Label` of each class, or the name of one of the kit's organs; class ``i + 1`` is entry ``i``.
        others: further ids that the files may hold; they count as background. Default: with organs by name, those of
            the other organs.

    Raises:
        KitError: a name or an id is unknown or occurs twice, or there is none; a tolerance that is not positive;
            partners that do not name each other.

    >>> table = LabelTable(("liver", "left kidney"))
    >>> table.num_classes, table.labels, [label.tolerance_mm for label in table]
    (3, (1, 13), [5.0, 3.0])
    >>> table.to_classes(np.array([0, 1, 13, 5])).tolist()   # the aorta is not learnt here
    [0, 1, 2, 0]
    >>> LabelTable((Label("prostate", 1), Label("lesion", 2))).names
    ('prostate', 'lesion')
    """

    entries: tuple[Label, ...] = _KIT
    others: tuple[int, ...] = ()

    def __post_init__(self):
        given = (self.entries,) if isinstance(self.entries, str) else tuple(self.entries)
        entries = tuple(_label(each) for each in given)
        others = set(map(_id, self.others))
        if any(isinstance(each, str) for each in given):
            others |= {each.id for each in _KIT}
        object.__setattr__(self, "entries", entries)
        object.__setattr__(self, "others", tuple(sorted(others - {each.id for each in entries})))
        if not entries:
            raise KitError("a label table needs at least one label", remedy="name one, as lkm_kit.data.Label")
        for what, values in (("name", self.names), ("id", self.labels)):
            twice = sorted({v for v in values if values.count(v) > 1}, key=str)
            if twice:
                raise KitError(f"the label table has the {what} {twice[0]!r} twice", remedy="name every label once")
        partners = {each.name: each.partner for each in entries}
        for name, partner in partners.items():
            if partner in partners and (partners[partner] != name or partner == name):
                raise KitError(
                    f"{name!r} has the partner {partner!r}, whose partner is {partners[partner]!r}",
                    remedy="partners name each other",
                )

    def __iter__(self) -> Iterator[Label]:
        return iter(self.entries)

    @property
    def names(self) -> tuple[str, ...]:
        """In class order."""
        return tuple(each.name for each in self.entries)

    @property
    def num_classes(self) -> int:
        """Output channels of the network: the labels and background."""
        return len(self.entries) + 1

    @property
    def labels(self) -> tuple[int, ...]:
        """Ids in the files, in class order."""
        return tuple(each.id for each in self.entries)

    @property
    def by_id(self) -> dict[int, str]:
        """Id -> name, as pictures want it."""
        return {each.id: each.name for each in self.entries}

    def subset(self, names: Iterable[str]) -> LabelTable:
        """The table of some of the labels; the others' ids then count as background.

        Raises:
            KitError: a name that is not in the table (the closest one is offered).

        >>> LabelTable().subset(["spleen"]) == LabelTable(("spleen",))
        True
        """
        known = {each.name: each for each in self.entries}
        names = [names] if isinstance(names, str) else list(names)
        chosen = tuple(known[one_of(name, known, "label")] for name in names)
        return LabelTable(chosen, (*self.others, *self.labels))

    def check(self, label: np.ndarray, *, where: str = "the label") -> np.ndarray:
        """A label map as whole numbers that this table knows: uint8, or uint16 where an id is above 255.

        Raises:
            KitError: a value is not a whole number, or neither a label's id nor one of ``others``.

        >>> LabelTable((Label("prostate", 1),)).check(np.array([0.0, 1.0])).dtype
        dtype('uint8')
        """
        label = whole_numbers(label, where)
        known = np.array(sorted({0, *self.labels, *self.others}))
        if label.size:
            low, high = label.min(), label.max()
            if low < 0 or high > known[-1] or len(known) <= known[-1]:
                outside = np.setdiff1d(label, known)
                if outside.size:
                    listed = ", ".join(map(str, outside[:8]))
                    raise KitError(
                        f"{where} holds the value{'s' if outside.size > 1 else ''} {listed}, which the label table "
                        f"does not name ({', '.join(f'{each.name} {each.id}' for each in self.entries[:14])})",
                        remedy="name every value in the labels of dataset.json, "
                        "or check that this is a label map of this data set",
                    )
        return label.astype(self.dtype)

    @property
    def dtype(self) -> type:
        """Smallest unsigned type that holds every id."""
        return np.uint8 if max(*self.labels, *self.others, 0) < 256 else np.uint16

    def to_classes(self, label: np.ndarray) -> np.ndarray:
        """Ids (any shape) -> network classes (int64); ``others`` become background.

        Raises:
            KitError: see :meth:`check`.
        """
        table = np.zeros(max(*self.labels, *self.others, 0) + 1, dtype=np.int64)
        table[list(self.labels)] = np.arange(1, self.num_classes)
        return table[self.check(label)]

    def to_kit(self, classes: np.ndarray) -> np.ndarray:
        """Network classes (any shape) -> ids (uint8, or uint16 where an id is above 255).

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
        return np.array((0, *self.labels), dtype=self.dtype)[classes]

    def mirrored_classes(self) -> np.ndarray | None:
        """Class of each class after the image was mirrored left to right; None when a partner is not learnt.

        >>> LabelTable(("right kidney", "liver", "left kidney")).mirrored_classes().tolist()
        [0, 3, 2, 1]
        """
        place = {name: i for i, name in enumerate(self.names, start=1)}
        if any(each.partner is not None and each.partner not in place for each in self.entries):
            return None
        return np.array([0, *(place[each.partner or each.name] for each in self.entries)])

    def to_json(self) -> str:
        """One line of JSON: class, name, id, tolerance and partner of each label."""
        rows = [
            {"class": i, "name": e.name, "label": e.id, "tolerance_mm": e.tolerance_mm, "partner": e.partner}
            for i, e in enumerate(self.entries, start=1)
        ]
        return json.dumps({"labels": rows, "others": list(self.others)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | Mapping) -> LabelTable:
        """Undo :meth:`to_json`; also reads the tables of version 1.0, which name organs of the kit.

        >>> table = LabelTable((Label("prostate", 1),))
        >>> LabelTable.from_json(table.to_json()) == table
        True
        """
        try:
            content = parse_json(text) if isinstance(text, str) else text
            old = "organs" in content
            rows = sorted(content["organs" if old else "labels"], key=lambda row: row["class"])
            if old:
                table = cls(tuple(row["name"] for row in rows))
            else:
                entries = (Label(row["name"], row["label"], row["tolerance_mm"], row["partner"]) for row in rows)
                table = cls(tuple(entries), tuple(content["others"]))
            agrees = [(row["class"], row["label"]) for row in rows] == list(enumerate(table.labels, start=1))
        except KitError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            shown = textwrap.shorten(str(text), 300)
            raise KitError(f"this is not a label table: {shown}", remedy="see LabelTable.to_json") from error
        if not agrees:
            raise KitError(
                "the label table's classes are not 1, 2, 3, ..., or its ids disagree with lkm_kit.data.ORGANS",
                remedy="it was written by another version of the kit, or edited: write it again",
            )
        return table


def _id(value: Any) -> int:
    """An id: a whole number, of whatever type, that label files of 16 bits hold."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or not 1 <= number <= LARGEST_ID:
        raise KitError(f"{value!r} is no label's id", remedy=f"give a whole number from 1 to {LARGEST_ID}")
    return number


def _names(label: Label) -> tuple[str, ...]:
    return (label.name,) if label.partner is None else (label.name, label.partner)


def _label(entry: str | Label | Sequence[Any]) -> Label:
    """One entry of a table, checked: an organ's name, a Label, or a Label's fields."""
    if isinstance(entry, str):
        return _KIT[organ(entry).label - 1]
    try:
        label = Label(*entry)
        label = label._replace(id=_id(label.id))
        wrong = label.tolerance_mm is not None and not 0 < label.tolerance_mm < math.inf
        named = all(isinstance(name, str) and name.strip() and name.encode() for name in _names(label))
    except (TypeError, UnicodeEncodeError) as error:
        raise KitError(f"{entry!r} is no label", remedy="give a name and an id, as lkm_kit.data.Label") from error
    if wrong or not named or label.name == "background":
        raise KitError(
            f"{entry!r} is no label",
            remedy=f"a label has a name other than background, an id from 1 to {LARGEST_ID} and a tolerance above 0 mm",
        )
    return label


def organs_present(label: np.ndarray, table: LabelTable | None = None) -> dict[str, int]:
    """Count the voxels of each label of a table (default: the kit's organs) that occurs in a label map.

    >>> organs_present(np.array([0, 1, 1, 13]))
    {'liver': 2, 'left kidney': 1}
    """
    table = LabelTable() if table is None else table
    counts = np.bincount(table.check(label).ravel(), minlength=max(table.labels) + 1)
    return {each.name: int(counts[each.id]) for each in table if counts[each.id]}
