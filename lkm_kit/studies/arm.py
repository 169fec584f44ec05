"""What a study is made of: named networks, its arms, of which one is the control."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping
from typing import Any

from lkm_kit.errors import KitError, one_of
from lkm_kit.profiles import Profile

CONTROL = "residual-unet"
BUDGET = ("iterations", "learning_rate", "optimizer", "warmup")
"""Fields of a profile that an arm may have its own value of."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One network of a study.

    Args:
        name: of its folder.
        title: as tables print it.
        network: name for :func:`lkm_kit.networks.build_network`.
        overrides: further arguments of the network.
        published: its row in the published table, if it has one.
        note: what a reader must know, in one sentence.
        iterations, learning_rate, optimizer, warmup: its own instead of the profile's, with what follows from them (as
            many training slices, the optimiser's weight decay). The report names where arms differ.
        share: of the protocol's steps, for a comparison at equal time; the batches are the first ones of the others'.
    """

    name: str
    title: str
    network: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    published: str | None = None
    note: str = ""
    iterations: int | None = None
    learning_rate: float | None = None
    optimizer: str | None = None
    warmup: float | None = None
    share: float = 1.0

    def __post_init__(self):
        _check_name("arm", self.name)
        if not 0 < self.share <= 1:
            raise KitError(f"arm {self.name}: a share of {self.share} of the steps", remedy="give one in (0, 1]")

    def at(self, size: Profile) -> Profile:
        """The profile with the arm's own budget."""
        own = {name: getattr(self, name) for name in BUDGET}
        return dataclasses.replace(size, **{name: value for name, value in own.items() if value is not None})


@dataclasses.dataclass(frozen=True)
class Study:
    """A list of arms, the published table they stand beside, and who is compared with whom.

    Args:
        name: of its folder and on the command line.
        question: what it asks.
        arms: all of them, the control too.
        control: name of the arm that every other one is compared with.
        comparisons: further pairs (arm, compared with).
        published: "table1", "table2", "table3" of :mod:`lkm_kit.studies.published`, or None.
        published_control: (table, row) of the published baseline that published gains are taken over.
        file: the Python file it was read from (:func:`lkm_kit.studies.files.study_from_file`); empty for the kit's own.

    Raises:
        KitError: a name that is no name of a folder, two arms of one name, or a comparison with an arm that does not
            exist.
    """

    name: str
    question: str
    arms: tuple[Arm, ...]
    control: str = CONTROL
    comparisons: tuple[tuple[str, str], ...] = ()
    published: str | None = None
    published_control: tuple[str, str] = ("table3", "Baseline")
    file: str = ""

    def __post_init__(self):
        _check_name("study", self.name)
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise KitError(f"study {self.name} has two arms of one name: {', '.join(names)}")
        for name in (self.control, *(name for pair in self.comparisons for name in pair)):
            self.arm(name)

    def arm(self, name: str) -> Arm:
        """The arm of that name.

        Raises:
            KitError: there is none (the closest is offered).
        """
        known = {arm.name: arm for arm in self.arms}
        return known[one_of(name, known, f"arm of {self.name}")]

    @property
    def baseline(self) -> str | None:
        """Name of the arm that stands for the published baseline, if one does."""
        table, row = self.published_control
        return next((arm.name for arm in self.arms if (self.published, arm.published) == (table, row)), None)

    @property
    def title(self) -> str:
        """What pictures call it: "Table 3" where that is what it repeats, else its name."""
        return re.sub(r"^table(?=\d+$)", "Table ", self.name)

    @property
    def called(self) -> str:
        """What names it in a command: its name, or its file."""
        return f"--file {shlex.quote(self.file)}" if self.file else self.name

    def pairs(self) -> list[tuple[str, str]]:
        """Who is compared with whom: every arm with the control, then the further pairs."""
        return [(arm.name, self.control) for arm in self.arms if arm.name != self.control] + list(self.comparisons)


def _check_name(what: str, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
        raise KitError(f"{name!r} is no name of a folder for this {what}", remedy="use letters, digits and - _ . +")
