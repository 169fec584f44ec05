"""Run a study, see how far it is, and collect what it has: ``lkm study <name>``, ``status``, ``report``."""

from __future__ import annotations

import dataclasses
import re
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
from lkm_kit.studies.job import Job, protocol
from lkm_kit.studies.launchers import launch
from lkm_kit.studies.learning import history
from lkm_kit.studies.own_data import on_data, scored_on, splits_of
from lkm_kit.studies.plan import Plan, Results
from lkm_kit.training.provenance import mixture
from lkm_kit.training.store import Run, State, find


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
    log(plan.protocol_table())
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


def _state(job: Job, run: Run, tests: Mapping[int | None, str], weights: bool) -> State:
    """The state of a run, whose scores must be of the cases and labels that are there now (:func:`scored_on`)."""
    state = job.state(run, weights=weights)
    if state.name == "done" and job.fold in tests and run.done()["scores"]["test"] != tests[job.fold]:
        return dataclasses.replace(state, name="trained", detail="scored on other cases or labels than are there now")
    return state


def status(plan: Plan, *, weights: bool = True) -> pd.DataFrame:
    """One row a run: arm, seed, state, step, steps, detail; "running" where a process is at work in its folder.

    A cross-validation has a column fold after seed. ``weights`` as in :func:`collect`.
    """
    rows, (_, tests) = [], scored_on(plan)
    for job in plan.jobs():
        run = job.run(plan.root)
        state = _state(job, run, tests, weights)
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


def collect(plan: Plan, *, mixed: bool = False, weights: bool = True) -> Results:
    """Read the finished runs of a plan.

    Args:
        plan: of :func:`make_plan`.
        mixed: take runs that were made with different versions, sources, devices, threads or numbers of processes,
            and say so.
        weights: a run whose weights are gone is damaged; off: its scores count all the same.

    Raises:
        KitError: nothing is finished yet; runs were scored on different data; or they were made differently and
            ``mixed`` is off (arms and differences are named).
    """
    rows, runs, missing, made, data, curves = [], [], [], [], {}, []
    splits, tests = scored_on(plan)
    known = {each["fold"]: each for each in splits}
    for job in plan.jobs():
        run = job.run(plan.root)
        state = _state(job, run, tests, weights)
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
        curves.append(history(job, run))
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
        pd.concat(curves, ignore_index=True),
    )
