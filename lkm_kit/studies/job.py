"""One run of a study: what it is, where it lies and how far it is.

A run's folder ``<root>/<study>/<place>/<arm>/seed-<s>/`` is a training's folder (:mod:`lkm_kit.training.store`), of a
cross-validation ``seed-<s>-fold-<f>/``. It holds ``per_case.csv`` besides, with rows case, organ and a column a metric
on the test items; done.json is then written once more, last of all, with the sha256 of the scores. Under another
config, on other data, a run has a folder of its own, whose name ends in a digest, and what is finished stays where it
is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lkm_kit.errors import KitError
from lkm_kit.evaluation.metrics import METRICS, OFFICIAL
from lkm_kit.files import sha256
from lkm_kit.profiles import Profile
from lkm_kit.studies.arms import Arm, Study
from lkm_kit.training import TrainConfig
from lkm_kit.training.store import Run, State, place

OWN_FIELDS = ("network", "network_overrides", "seed")
"""What arms and seeds differ in. Everything else is the protocol, one for the whole study."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One arm with one seed, and one fold of a cross-validation.

    Args:
        study, profile, arm, seed: what it is of.
        config: the training.
        test_cases: number of the cohort's test cases to score; None on a data set, whose split says which.
        file: of the study, imported before the run; empty for the kit's own.
        fold: whose held-out cases are scored; None: the test cases.
        place: name of the folder below the study's; default the profile's.
        scored: on test items after the training; a sweep's is not.
    """

    study: str
    profile: str
    arm: str
    seed: int
    config: TrainConfig
    test_cases: int | None
    file: str = ""
    fold: int | None = None
    place: str = ""
    scored: bool = True

    def __str__(self) -> str:
        return f"{self.arm} seed {self.seed}" + ("" if self.fold is None else f" fold {self.fold}")

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"seed-{self.seed}" + ("" if self.fold is None else f"-fold-{self.fold}")

    def folder(self, root: str | Path) -> Path:
        """``<root>/<study>/<place>/<arm>/<name>``, unless another run is there; see :meth:`run`."""
        return Path(root) / self.study / (self.place or self.profile) / self.arm / self.name

    def run(self, root: str | Path) -> Run:
        """Where the run is, on whatever data (the newest, if on several), else where it shall be."""
        return place(self.folder(root), self.config.identity())

    def state(self, run: Run, *, thorough: bool = False, test: str | None = None, weights: bool = True) -> State:
        """The state of the training, and "done" where it is scored.

        Args:
            run: of this job.
            thorough: also read the checkpoint of a training that is under way.
            test: digest of the test items, where it is known; then scores by fewer metrics than there are do not count.
            weights: as in :meth:`lkm_kit.training.store.Run.state`.
        """
        state = run.state(thorough=thorough, weights=weights)
        plain = run.folder.with_name(self.name)
        if state.name == "waiting" and plain != run.folder:
            return State("waiting", detail=f"{plain.name}: {Run(plain, run.identity).state().detail}")
        if state.name != "trained":
            return state
        if not self.scored:
            return dataclasses.replace(state, name="done")
        scores, per_case = run.done().get("scores", {}), run.folder / "per_case.csv"
        asked = scores.get("test_cases") == self.test_cases
        if test is not None:  # version 0.1 wrote the items' number alone, and no metrics
            asked &= scores.get("test", test) == test and set(METRICS) <= set(scores.get("metrics", OFFICIAL))
        whole = {"source", "hardware"} <= scores.keys() and per_case.exists() and sha256(per_case) == scores["sha256"]
        return dataclasses.replace(state, name="done") if asked and whole else state


def make_job(
    study: Study,
    arm: Arm,
    size: Profile,
    seed: int,
    changes: Mapping[str, Any] | None = None,
    *,
    place: str = "",
    fold: int | None = None,
) -> Job:
    """The run of an arm with a seed at the sizes of a profile, or the arm's own.

    Args:
        changes: fields of every arm's TrainConfig to replace, the arm's own ones too.
        place: name of the study's folder for these sizes and data; default the profile's.
        fold: of a cross-validation.

    Raises:
        KitError: a field that does not exist, or one that arms or seeds differ in.

    >>> from lkm_kit.profiles import profile
    >>> from lkm_kit.studies import study
    >>> plan = study("table3", "smoke")
    >>> make_job(plan, plan.arm("pim"), profile("smoke"), 0, {"iterations": 2}).config.iterations
    2
    """
    own = {"network": arm.network, "network_overrides": arm.overrides, "seed": seed}
    own |= {} if fold is None else {"fold": fold}
    config = TrainConfig.from_json({**protocol_of(arm, size, changes or {}), **own})
    cases = size.test_cases if config.data == "cohort" else None
    return Job(study.name, size.name, arm.name, seed, config, cases, study.file, fold, place)


def protocol_of(arm: Arm, size: Profile, changes: Mapping[str, Any]) -> dict[str, Any]:
    """:func:`protocol` with an arm's own budget, and its share of the steps whatever decides their number.

    >>> from lkm_kit.profiles import profile
    >>> short = Arm("short", "half the steps", "plain-unet/tiny-2d", share=0.5)
    >>> [protocol_of(short, profile("smoke"), changes)["iterations"] for changes in ({}, {"iterations": 100})]
    [3, 50]
    """
    fields = protocol(arm.at(size), changes)
    return {**fields, "iterations": max(1, round(arm.share * fields["iterations"]))}


def protocol(size: Profile, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of TrainConfig that all arms and seeds of a study share, but for arms that have their own.

    Raises:
        KitError: ``changes`` names a field that does not exist, or one that arms or seeds differ in.
    """
    if clash := [name for name in OWN_FIELDS if name in changes]:
        raise KitError(f"{clash[0]} cannot be changed for all arms", remedy="it is what arms or seeds differ in")
    config = TrainConfig.from_json({**TrainConfig.from_profile(size).to_dict(), **changes}).to_dict()
    return {name: value for name, value in config.items() if name not in OWN_FIELDS}
