"""What a study asks for, and what there is of it: :class:`Plan`, :class:`Foreign` and :class:`Results`."""

from __future__ import annotations

import dataclasses
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd

from lkm_kit.errors import KitError
from lkm_kit.profiles import Profile
from lkm_kit.studies import published
from lkm_kit.studies.arms import Study
from lkm_kit.studies.job import Job, make_job, protocol, protocol_of
from lkm_kit.training import TrainConfig, runs_root


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study at the sizes of a profile, with its seeds: everything that decides which runs there are.

    Args:
        study, size: what and how large.
        seeds: training seeds; every arm gets all of them.
        arms: names of the arms to run; empty for all.
        changes: fields of TrainConfig to replace, in every arm; on a data set, what the data decide too.
        folds: of a cross-validation, each arm and seed once a fold; empty: the test cases are scored.
        root: folder of all studies; default :func:`lkm_kit.training.runs_root`.
        elsewhere: (arm, seed) of runs that written reports hold, so that they are not asked for here.

    Raises:
        KitError: an unknown arm, or no seed.
    """

    study: Study
    size: Profile
    seeds: tuple[int, ...]
    arms: tuple[str, ...] = ()
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    folds: tuple[int, ...] = ()
    root: Path = dataclasses.field(default_factory=runs_root)
    elsewhere: frozenset[tuple[str, int]] = frozenset()

    def __post_init__(self):
        for name in self.arms:
            self.study.arm(name)
        if not self.seeds:
            raise KitError("a study needs at least one seed", remedy="--seeds 3")

    def jobs(self) -> list[Job]:
        """Seed by seed, so that a study that is stopped early has whole seeds rather than whole arms."""
        arms = [arm for arm in self.study.arms if not self.arms or arm.name in self.arms]
        return [
            make_job(self.study, arm, self.size, seed, self.changes, place=self.place, fold=fold)
            for seed in self.seeds
            for fold in self.folds or (None,)
            for arm in arms
            if (arm.name, seed) not in self.elsewhere
        ]

    @property
    def on_cohort(self) -> bool:
        """Whether the runs are on the kit's cohort, and not on a data set."""
        return self.changes.get("data", "cohort") == "cohort"

    @property
    def papers_data(self) -> bool:
        """Whether the runs are on the paper's cases in the paper's split."""
        return published.is_papers_data(self.changes.get("data", "cohort"))

    @property
    def notes(self) -> list[str]:
        """What a reader must know beside what the kit says itself."""
        return []

    @property
    def place(self) -> str:
        """Name of the folder below the study's: the profile's; with the data set's, and "3d" where it is."""
        data = "" if self.on_cohort else f"-{Path(self.changes['data']).name}"
        return f"{self.size.name}{data}{'-3d' if '3d' in self.size.network else ''}"

    @property
    def folder(self) -> Path:
        """``<root>/<study>/<place>``."""
        return Path(self.root) / self.study.name / self.place

    @property
    def called(self) -> str:
        """What names it in a command, but for changes, arms and seeds."""
        words = [self.study.called, "--profile", self.size.name, *(["--dims 3"] if "3d" in self.size.network else [])]
        words += [] if self.on_cohort else ["--data", shlex.quote(str(self.changes["data"]))]
        return " ".join([*words, *(["--folds", ",".join(map(str, self.folds))] if self.folds else [])])

    def protocol(self) -> dict[str, Any]:
        """What all runs have in common, but for :meth:`differences`; a data set is called by its name."""
        shared = self._shared()
        shared |= {"test_cases": self.size.test_cases} if self.on_cohort else {"data": Path(shared["data"]).name}
        return {**shared, "seeds": list(self.seeds), **({"folds": list(self.folds)} if self.folds else {})}

    def differences(self) -> dict[str, dict[str, Any]]:
        """Arm -> the fields of the protocol that it has its own value of."""
        shared = self._shared()
        differ = {arm: {k: v for k, v in fields.items() if v != shared[k]} for arm, fields in self._own().items()}
        return {arm: fields for arm, fields in differ.items() if fields}

    def _own(self) -> dict[str, dict[str, Any]]:
        arms = [arm for arm in self.study.arms if not self.arms or arm.name in self.arms]
        return {arm.name: protocol_of(arm, self.size, self.changes) for arm in arms}

    def _shared(self) -> dict[str, Any]:
        """The profile's protocol; where all arms that are asked for have one other value, that value."""
        shared, own = protocol(self.size, self.changes), list(self._own().values())
        common = {k: v for k, v in own[0].items() if all(fields[k] == v for fields in own)}
        return {**shared, **common}

    def protocol_texts(self) -> dict[str, str]:
        """Field → value of the protocol; where arms have their own, ``value; title value; ...``."""
        own = [(self.study.arm(arm).title, fields) for arm, fields in self.differences().items()]
        return {
            name: "; ".join([str(value), *(f"{title} {fields[name]}" for title, fields in own if name in fields)])
            for name, value in self.protocol().items()
            if name != "label_table" and value not in (None, "")  # of the table, organs are the names
        }

    def protocol_lines(self) -> list[str]:
        """``field: value``, of :meth:`protocol_texts`."""
        return [f"{name}: {text}" for name, text in self.protocol_texts().items()]

    def protocol_table(self) -> str:
        """The protocol for a terminal: first what differs from a training's defaults, beside these; then the rest."""
        usual = {name: str(value) for name, value in TrainConfig().to_dict().items()}
        texts = {name: text[:12] if name.endswith("digest") else text for name, text in self.protocol_texts().items()}
        own = [(name, text, usual.get(name, "–")) for name, text in texts.items() if text != usual.get(name)]
        rows = [("protocol", "of all arms", "default"), *((n, v, d if d != "None" else "–") for n, v, d in own)]
        wide = [max(len(row[column]) for row in rows if len(row[column]) <= 40) for column in (0, 1)]
        table = [f"{name:{wide[0]}}  {value:{wide[1]}}  {textwrap.shorten(before, 40)}" for name, value, before in rows]
        rest = ", ".join(f"{name} {text}" for name, text in texts.items() if text == usual.get(name))
        return "\n".join([*table, *textwrap.wrap(f"as by default: {rest}", 100, subsequent_indent="  ")])


@dataclasses.dataclass(frozen=True)
class Foreign(Plan):
    """A plan of runs that another program trained, nnU-Net: the protocol is what that program was told.

    Args:
        config: the protocol; image_size, batch_size, input_channels, organs and iterations are always there. Under
            ``notes`` stands what a reader must know, under ``papers_data`` whether the data are the paper's.
    """

    config: dict[str, Any] = dataclasses.field(default_factory=dict)

    def jobs(self) -> list[Job]:
        """None: nothing of it is run here."""
        return []

    @property
    def called(self) -> str:
        """The study's name, and what trained it."""
        return f"{self.study.name} under {self.config['trainer']}"

    @property
    def papers_data(self) -> bool:
        """As it was recorded."""
        return bool(self.config.get("papers_data"))

    @property
    def notes(self) -> list[str]:
        """As they were recorded."""
        return list(self.config.get("notes", ()))

    def protocol(self) -> dict[str, Any]:
        """The other program's."""
        return {**self.config, "seeds": list(self.seeds)}

    def differences(self) -> dict[str, dict[str, Any]]:
        """None: all arms are trained alike."""
        return {}

    def protocol_texts(self) -> dict[str, str]:
        """Field → value of the protocol; notes stand elsewhere."""
        return {name: str(value) for name, value in self.protocol().items() if name not in ("notes", "papers_data")}


@dataclasses.dataclass(frozen=True)
class Results:
    """What a study has so far.

    Args:
        rows: arm, seed, case, organ and the metrics that every finished run was scored by.
        runs: one row a finished run: arm, seed, state, seconds_per_step, hardware, source, detail.
        missing: runs that are not finished.
        mixed: in what the runs' making differs, where that was allowed; else empty.
        data: what was scored: of runs on a data set an entry a fold, see :func:`lkm_kit.studies.own_data.split_of`; on
            the cohort one entry, see :class:`lkm_kit.studies.cohort_cases.Warps`.
        history: every validation of the finished runs, see :func:`lkm_kit.studies.learning.history`; may be empty.
    """

    rows: pd.DataFrame
    runs: pd.DataFrame
    missing: list[str]
    mixed: str = ""
    data: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    history: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)
