"""Run a study, see how far it is, and collect what it has: ``lkm study <name>``, ``status``, ``report``."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lkm_kit.data import DataSet
from lkm_kit.errors import KitError
from lkm_kit.evaluation import METRICS
from lkm_kit.files import Busy, write_json
from lkm_kit.profiles import Profile
from lkm_kit.profiles import profile as profile_of
from lkm_kit.studies.arms import Study
from lkm_kit.studies.arms import study as study_of
from lkm_kit.studies.job import Job, make_job, protocol, protocol_of
from lkm_kit.studies.launchers import launch
from lkm_kit.studies.own_data import on_data, scored_on, splits_of
from lkm_kit.training import runs_root
from lkm_kit.training.provenance import mixture
from lkm_kit.training.store import Run, State, find


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
        ]

    @property
    def on_cohort(self) -> bool:
        """Whether the runs are on the kit's cohort, and not on a data set."""
        return self.changes.get("data", "cohort") == "cohort"

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
        shared = protocol(self.size, self.changes)
        shared |= {"test_cases": self.size.test_cases} if self.on_cohort else {"data": Path(shared["data"]).name}
        return {**shared, "seeds": list(self.seeds), **({"folds": list(self.folds)} if self.folds else {})}

    def differences(self) -> dict[str, dict[str, Any]]:
        """Arm -> the fields of the protocol that it has its own value of."""
        shared = protocol(self.size, self.changes)
        own = {arm.name: protocol_of(arm, self.size, self.changes) for arm in self.study.arms}
        differ = {arm: {k: v for k, v in fields.items() if v != shared[k]} for arm, fields in own.items()}
        return {arm: fields for arm, fields in differ.items() if fields and (not self.arms or arm in self.arms)}

    def protocol_lines(self) -> list[str]:
        """``field: value`` of the protocol; where arms have their own, ``field: value; title value; ...``."""
        own = [(self.study.arm(arm).title, fields) for arm, fields in self.differences().items()]
        return [
            "; ".join([f"{name}: {value}", *(f"{title} {fields[name]}" for title, fields in own if name in fields)])
            for name, value in self.protocol().items()
            if name != "label_table" and value not in (None, "")  # of the table, organs are the names
        ]


def make_plan(
    study: Study | str,
    size: Profile | str | None = None,
    seeds: int | Sequence[int] | None = None,
    arms: Sequence[str] = (),
    root: str | Path | None = None,
    data_set: DataSet | None = None,
    folds: Sequence[int] = (),
    **changes: Any,
) -> Plan:
    """Names and numbers → :class:`Plan`.

    Args:
        seeds: how many (0, 1, 2, ...), or which; default the profile's.
        data_set: instead of the cohort; see :func:`lkm_kit.studies.own_data.on_data`.
        folds: of its cross-validation.

    >>> make_plan("table3", "smoke", seeds=2, arms=["pim", "residual-unet"]).jobs()[0].arm
    'residual-unet'
    """
    size = size if isinstance(size, Profile) else profile_of(size)
    study = study if isinstance(study, Study) else study_of(study, size)
    chosen = size.seeds if seeds is None else range(seeds) if isinstance(seeds, int) else seeds
    where = {} if root is None else {"root": Path(root)}
    if data_set is not None:
        protocol(size, {"data": str(data_set.folder), **changes})  # a field that is not there, or not to be changed
        study, size, changes = on_data(study, size, data_set, changes)
    return Plan(study, size, tuple(chosen), tuple(arms), changes, tuple(folds), **where)


def seeds_found(plan: Plan) -> list[int]:
    """Seeds of which some arm has a run under the plan's config; those of the plan do not matter.

    >>> seeds_found(make_plan("table3", "smoke", root="nowhere"))
    []
    """
    names = (re.match(r"seed-(\d+)", path.name) for path in plan.folder.glob("*/seed-*"))
    named = tuple(sorted({int(found[1]) for found in names if found}))
    jobs = dataclasses.replace(plan, seeds=named).jobs() if named else []
    there = (job.seed for job in jobs if find(plan.folder, f"{job.arm}/{job.name}*", job.config.identity()))
    return sorted(set(there))


def run_study(plan: Plan, launcher: str = "serial", *, log: Callable[[str], None] = print, **how: Any) -> pd.DataFrame:
    """Run whatever is missing of a study. Started again, or beside itself, it does nothing twice.

    Args:
        plan: of :func:`make_plan`.
        launcher: "serial", "processes" or "slurm".
        log: told what happens, line by line, the protocol first.
        **how: further keywords of :func:`lkm_kit.studies.launchers.launch`: concurrent, device, processes, workers,
            datasets, slurm.

    Returns:
        :func:`status` after it.

    Raises:
        KitError: some runs failed (they are named, with their messages; the others are finished).
    """
    jobs = plan.jobs()
    log(f"study {plan.study.name}, profile {plan.size.name}: {len(jobs)} runs in {plan.folder}")
    log("the protocol: " + ", ".join(plan.protocol_lines()))
    if not plan.on_cohort and all(job.scored for job in jobs):
        write_json(plan.folder / "splits.json", {"splits": splits_of(plan)})
    outcomes = launch(jobs, str(plan.root), launcher, log=log, **how)
    failed = [f"{job}: {message}" for job, (how, message) in zip(jobs, outcomes) if how == "failed"]
    if failed:
        raise KitError(
            f"{len(failed)} of {len(jobs)} runs failed:\n  " + "\n  ".join(failed),
            remedy="mend the cause and give the same command again: finished runs are kept",
        )
    return status(plan)


def _state(job: Job, run: Run, tests: Mapping[int | None, str]) -> State:
    """The state of a run, whose scores must be of the cases and labels that are there now (:func:`scored_on`)."""
    state = job.state(run)
    if state.name == "done" and job.fold in tests and run.done()["scores"]["test"] != tests[job.fold]:
        return dataclasses.replace(state, name="trained", detail="scored on other cases or labels than are there now")
    return state


def status(plan: Plan) -> pd.DataFrame:
    """One row a run: arm, seed, state, step, steps, detail; "running" where a process is at work in its folder.

    A cross-validation has a column fold after seed.
    """
    rows, (_, tests) = [], scored_on(plan)
    for job in plan.jobs():
        run = job.run(plan.root)
        state = _state(job, run, tests)
        name = state.name
        if not state.finished and run.folder.parent.exists():
            try:
                with run.held(wait=False):
                    pass
            except Busy:
                name = "running"
        rows.append((job.arm, job.seed, job.fold, name, state.step, job.config.iterations, state.detail))
    table = pd.DataFrame(rows, columns=["arm", "seed", "fold", "state", "step", "steps", "detail"])
    return table if plan.folds else table.drop(columns="fold")


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
    """

    rows: pd.DataFrame
    runs: pd.DataFrame
    missing: list[str]
    mixed: str = ""
    data: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def collect(plan: Plan, *, mixed: bool = False) -> Results:
    """Read the finished runs of a plan.

    Args:
        plan: of :func:`make_plan`.
        mixed: take runs that were made with different versions, sources, devices, threads or numbers of processes,
            and say so.

    Raises:
        KitError: nothing is finished yet; runs were scored on different data; or they were made differently and
            ``mixed`` is off (arms and differences are named).
    """
    rows, runs, missing, made, data = [], [], [], [], {}
    splits, tests = scored_on(plan)
    known = {each["fold"]: each for each in splits}
    for job in plan.jobs():
        run = job.run(plan.root)
        state = _state(job, run, tests)
        if not state.finished:
            detail = f"; {state.detail}" if state.detail else ""
            missing.append(f"{job} ({state.name}{detail})")
            continue
        about = {"arm": job.arm, "seed": job.seed, "fold": job.fold, "state": state.name, "detail": state.detail}
        if state.name == "done":
            done = run.done()
            made.append((job.arm, done))
            rows.append(pd.read_csv(run.folder / "per_case.csv").assign(arm=job.arm, seed=job.seed))
            about["seconds_per_step"] = done["seconds"] / done["steps"]
            about |= {key: done["scores"].get(key) for key in ("hardware", "source", "test")}
            if (split := done["scores"].get("data")) is not None:
                data[job.fold] = {**known.get(job.fold, {}), **split}  # what older records do not say yet
        runs.append(about)
    if not rows:
        diverged = f" ({len(runs)} diverged)" if runs else ""
        raise KitError(
            f"no run of {plan.study.name} at profile {plan.size.name} has scores in {plan.folder}{diverged}"
            + "".join(f"\n  {line}" for line in missing if ";" in line),
            remedy=f"lkm study run {plan.called}",
        )
    scores = [name for name in METRICS if all(name in frame for frame in rows)]
    about_columns = ["arm", "seed", "fold", "state", "seconds_per_step", "hardware", "source", "detail"]
    about_columns = [name for name in about_columns if plan.folds or name != "fold"]
    table = pd.DataFrame(runs)
    scored = table[table["state"] == "done"].fillna({"test": "unknown"})
    groups = scored.groupby(["source", "test"])["arm"].agg(lambda arms: ", ".join(dict.fromkeys(arms)))
    if len(groups) > max(1, scored["fold"].nunique()):
        listed = "; ".join(f"{source.splitlines()[0]}: {arms}" for (source, _), arms in groups.items())
        raise KitError(
            f"the runs in {plan.folder} were made on different data ({listed})",
            remedy="delete the folders of the runs on the wrong data, and run the study again",
        )
    if (differ := mixture(made)) and not mixed:
        raise KitError(
            f"the runs in {plan.folder} were not all made with the same ({differ})",
            remedy="run the older ones again with --root and a fresh folder, or report all the same with --mixed",
        )
    table = table.reindex(columns=about_columns)
    return Results(
        pd.concat(rows, ignore_index=True)[["arm", "seed", "case", "organ", *scores]],
        table,
        missing,
        differ,
        list(data.values()),
    )
