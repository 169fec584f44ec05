"""Where a case comes from and who labelled it: said by every record, caption and table that is made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from lkm_kit.errors import KitError, one_of

LABELS = {
    "human": "labels by a human rater",
    "silver": "labels predicted by a network (silver)",
    "phantom": "phantom: made up, no patient",
    "unknown": "nobody said who labelled it",
}
"""Who labelled a case, and how tables and captions say it."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Origin of a case or of a data set.

    Args:
        name: of the data set or the program, such as ``"AMOS22"``.
        labels: one of :data:`LABELS`.
        licence: terms of use, empty where unknown.
        citation: whom to cite, empty where unknown.

    Raises:
        KitError: another kind of labels.

    >>> Source("AMOS22", "human").text
    'AMOS22, labels by a human rater'
    >>> Source.from_json(Source("AMOS22", "human").to_json()) == Source("AMOS22", "human")
    True
    """

    name: str
    labels: str
    licence: str = ""
    citation: str = ""

    def __post_init__(self):
        message = f"source {self.name}: there are no labels of the kind {self.labels!r}"
        one_of(self.labels, LABELS, "kind of labels", message=message)

    @property
    def is_phantom(self) -> bool:
        """True when no patient is behind it."""
        return self.labels == "phantom"

    @property
    def subject(self) -> str:
        """``"patient"`` or ``"phantom"``, for titles."""
        return "phantom" if self.is_phantom else "patient"

    @property
    def text(self) -> str:
        """One line for captions, titles and tables."""
        return LABELS["phantom"] if self.is_phantom else f"{self.name}, {LABELS[self.labels]}"

    def to_json(self) -> dict[str, str]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, str]) -> Source:
        """Undo :meth:`to_json`.

        Raises:
            KitError: parts that are missing or unknown.
        """
        try:
            return cls(**value)
        except TypeError as error:
            raise KitError(f"this is no source of data: {error}", remedy="give name and labels") from error


GIVEN = Source("given by the user", "unknown")
"""Of a case that came without a word about its origin."""
PHANTOM = Source("phantom", "phantom")
