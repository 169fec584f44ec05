"""Splits by person: two scans of one person never go to different sides, or the score says nothing about others."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lkm_kit.errors import KitError

FOLDS = 5
"""Of a cross-validation without a ``splits_final.json``; nnU-Net's number."""

_LAST = re.compile(
    r"^(?P<person>.*\d.*?)[\s_.-]+(?:left|right|l|r|pre|post|baseline|follow-?up|[a-z]{0,5}-?\d{1,3})$", re.IGNORECASE
)
"""A name that goes on after something with a number in it: a side, a visit or a short number."""


class Split(NamedTuple):
    """Names of the cases on each side; ``how`` says where it comes from."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    how: str

    def names(self, side: str) -> tuple[str, ...]:
        """The cases of ``"train"``, ``"validation"`` or ``"test"``."""
        return getattr(self, side)


def person_of_name(name: str) -> str:
    """Whom a case shows, as far as its name tells: ``p07_left`` and ``p07_2`` are of ``p07``.

    >>> [person_of_name(name) for name in ("p07_left", "sub-03_ses-2", "amos_0507", "p07")]
    ['p07', 'sub-03', 'amos_0507', 'p07']
    """
    found = _LAST.match(name)
    return found["person"] if found else name


def persons_by_name(names: Sequence[str]) -> dict[str, str]:
    """Case -> person by :func:`person_of_name`, but for a beginning that is the data set's rather than a person's.

    >>> persons_by_name(["FLARE22_001", "FLARE22_002", "FLARE22_003"])["FLARE22_001"]
    'FLARE22_001'
    """
    guessed = {name: person_of_name(name) for name in names}
    counts = Counter(guessed.values())
    return {name: person if counts[person] <= max(2, len(names) / 4) else name for name, person in guessed.items()}


def read_persons(about: Mapping[str, Any], names: Sequence[str], folder: Path) -> dict[str, str]:
    """Case -> person: from ``persons.csv`` (case,person) or the ``persons`` of dataset.json, else from the names.

    Raises:
        KitError: a case is not in the list that there is.
    """
    path, given = folder / "persons.csv", about.get("persons")
    if path.is_file():
        given = _persons_file(path)
    if given is None:
        return persons_by_name(names)
    if not isinstance(given, dict):
        raise KitError(f"{folder / 'dataset.json'}: persons is no table", remedy='write {"CASE": "PERSON", ...}')
    known = {unicodedata.normalize("NFC", case): str(person) for case, person in given.items()}
    missing = [name for name in names if unicodedata.normalize("NFC", name) not in known]
    if missing:
        where = path if path.is_file() else folder / "dataset.json (persons)"
        raise KitError(
            f"{where} does not say whom {', '.join(missing[:5])} shows", remedy="add every case, or remove the list"
        )
    return {name: known[unicodedata.normalize("NFC", name)] for name in names}


def _persons_file(path: Path) -> dict[str, str]:
    remedy = "write a table of UTF-8 text, one case a line, whose first line is case,person"
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            rows = list(csv.DictReader(handle, restkey="more"))
    except (OSError, ValueError, csv.Error) as error:
        raise KitError(f"{path} cannot be read ({error})", remedy=remedy) from error
    if rows and not {"case", "person"} <= set(rows[0]):
        raise KitError(f"{path} has the columns {', '.join(rows[0])}", remedy=remedy)
    given: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        case, person = ((row[key] or "").strip() for key in ("case", "person"))
        if not case or not person or given.setdefault(case, person) != person:
            wrong = f"{case} is {given.get(case)} and {person}" if case and person else "a case or a person is missing"
            raise KitError(f"{path}, line {number}: {wrong}", remedy=remedy)
    return given


def shared_persons(sides: Mapping[str, Sequence[str]], persons: Mapping[str, str]) -> list[str]:
    """Sentences on persons, by list and by name, who are on two sides of a split.

    >>> shared_persons({"train": ["p1_1"], "test": ["p1_2", "p2_1"]}, {"p1_1": "p1", "p1_2": "p1", "p2_1": "p2"})
    ['p1 is in train (p1_1) and in test (p1_2): tested on whom was trained on']
    """
    first: dict[str, tuple[str, str]] = {}
    found = {}
    for side, cases in sides.items():
        for case in cases:
            other, twin = first.setdefault(persons[case], (side, case))
            if other != side:
                text = f"{persons[case]} is in {other} ({twin}) and in {side} ({case}): tested on whom was trained on"
                found.setdefault(persons[case], text)
    return list(found.values())


def split_cases(
    training: Sequence[str],
    test: Sequence[str],
    persons: Mapping[str, str],
    *,
    splits: Sequence[Mapping[str, Sequence[str]]] | None = None,
    fold: int | None = None,
    holdout: float | None = None,
    seed: int = 0,
) -> Split:
    """Divide the training cases.

    Args:
        training, test: names of the cases of imagesTr and imagesTs.
        persons: case -> person.
        splits: contents of ``splits_final.json``: ``{"train": [...], "val": [...]}`` of each fold.
        fold: take this fold, of ``splits``, else of five that are drawn by person.
        holdout: validate on this share of the persons, drawn with ``seed``, instead.
        seed: of what is drawn.

    Raises:
        KitError: fold and holdout together; a fold that is not there; too few persons; cases that are missing, twice
            in a fold, or on both of its sides.

    >>> persons = {name: name[0] for name in ("a1", "a2", "b1", "c1", "d1")}
    >>> split = split_cases(list(persons), [], persons, holdout=0.25)
    >>> len({persons[name] for name in split.validation}), set(split.train) & set(split.validation)
    (1, set())
    """
    if fold is not None and holdout is not None:
        raise KitError(f"fold {fold} and holdout {holdout:g} together", remedy="give one of them")
    people = sorted({persons[name] for name in training})
    if len(people) < 2:
        raise KitError(
            f"the training cases show {len(people)} person{'s' * (len(people) != 1)}: nobody is left to validate on",
            remedy="add cases of somebody else; whom a case shows is said by persons.csv (case,person)",
        )
    if holdout is None and splits:
        fold = fold or 0
        if not 0 <= fold < len(splits):
            raise KitError(f"there is no fold {fold}", remedy=f"splits_final.json has the folds 0 to {len(splits) - 1}")
        return _from_file(splits[fold], fold, training, test)
    drawn = np.random.default_rng(seed).permutation(len(people))
    if holdout is not None:
        if not 0 < holdout < 1:
            raise KitError(f"holdout is {holdout:g}", remedy="give a share between 0 and 1, such as 0.2")
        count = min(len(people) - 1, max(1, round(holdout * len(people))))
        chosen, how = drawn[:count], f"{count} of {len(people)} persons held out by seed {seed}"
    else:
        folds = min(FOLDS, len(people))
        fold = fold or 0
        if not 0 <= fold < folds:
            raise KitError(f"there is no fold {fold}", remedy=f"the folds are 0 to {folds - 1}")
        chosen, how = drawn[fold::folds], f"fold {fold} of {folds}, drawn by person with seed {seed}"
    held = {people[i] for i in chosen}
    sides = [tuple(n for n in training if (persons[n] in held) == inside) for inside in (False, True)]
    return Split(*sides, tuple(test), how)


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _from_file(entry: Mapping[str, Sequence[str]], fold: int, training: Sequence[str], test: Sequence[str]) -> Split:
    known = {unicodedata.normalize("NFC", name): name for name in training}
    try:
        sides = [[unicodedata.normalize("NFC", name) for name in entry[side]] for side in ("train", "val")]
    except (KeyError, TypeError) as error:
        raise KitError(
            f"splits_final.json: fold {fold} has no lists train and val", remedy="see nnU-Net's manual_data_splits"
        ) from error
    faults = [f"{name} is no training case" for side in sides for name in side if name not in known]
    faults += [f"{name} is twice in {side}" for side, names in zip(("train", "val"), sides) for name in _twice(names)]
    faults += [f"{name} is on both sides" for name in sorted(set(sides[0]) & set(sides[1]))]
    faults += [f"{side} is empty" for side, names in zip(("train", "val"), sides) if not names]
    if faults:
        raise KitError(
            f"splits_final.json, fold {fold}: {faults[0]}",
            remedy="correct the file, or move it away: folds are then drawn by person",
        )
    train, validation = (tuple(known[name] for name in side) for side in sides)
    return Split(train, validation, tuple(test), f"fold {fold} of splits_final.json")
