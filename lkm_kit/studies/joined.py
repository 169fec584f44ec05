"""Runs of written reports beside one's own: what somebody has trained and committed need not be trained again."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lkm_kit.errors import KitError
from lkm_kit.files import read_json
from lkm_kit.networks.registry import network_recipe
from lkm_kit.profiles import Profile
from lkm_kit.studies.arms import Study, study_names
from lkm_kit.studies.job import Job
from lkm_kit.studies.plan import Plan, Results
from lkm_kit.studies.reference import read_results
from lkm_kit.studies.runner import collect, status


def collect_with(plan: Plan, folders: Sequence[str | Path], *, mixed: bool = False, weights: bool = True) -> Results:
    """The finished runs of a plan, and those that it lacks from written reports.

    Args:
        plan: of :func:`~lkm_kit.studies.runner.make_plan`; not one of its own runs need be there.
        folders: of written reports, one after the other; see :func:`with_report`.
        mixed, weights: as of :func:`~lkm_kit.studies.runner.collect`, for the plan's own runs.

    Raises:
        KitError: as of both functions.
    """
    if not folders or status(plan, weights=weights)["state"].isin(["done", "diverged"]).any():
        results = collect(plan, mixed=mixed, weights=weights)
    else:
        results = Results(pd.DataFrame(), pd.DataFrame(), [f"{job} (waiting)" for job in plan.jobs()])
    for folder in folders:
        results = with_report(plan, results, folder)
    return results


def with_report(plan: Plan, results: Results, folder: str | Path) -> Results:
    """Add the runs of a written report that a plan asks for and lacks.

    A run is the one that is asked for where its training is: network (by whatever name), windows, steps, rate, data,
    seed and every other field of the config are the same. So PiM+BiM of Table 3 serves as the arm "rows" of the study
    ``scans``. It must have been scored on the same cases, too.

    Args:
        plan: what is asked for.
        results: what there is of it; of a run that both have, this one counts.
        folder: of the report; whose study it is stands in it, or is the first word of the folder's name.

    Returns:
        the results with these runs; ``mixed`` names the folder, the arms and what these runs were made with.

    Raises:
        KitError: the folder holds no report, no run of it is lacking, it was scored on other cases, or there are folds.

    >>> import dataclasses
    >>> from lkm_kit.studies.reference import FOLDER
    >>> plan, written = read_results("scans", FOLDER / "scans-laptop-hippocampus")
    >>> asked = dataclasses.replace(plan, arms=("rows", "residual-unet"), seeds=(7,))
    >>> nothing = Results(pd.DataFrame(), pd.DataFrame(), [f"{job} (waiting)" for job in asked.jobs()])
    >>> with_report(asked, nothing, FOLDER / "table3-laptop-hippocampus").runs["arm"].tolist()
    ['rows', 'residual-unet']
    """
    folder = Path(folder)
    lacking = {line.split(" (")[0] for line in results.missing}
    found, taken = _shared(plan, [job for job in plan.jobs() if str(job) in lacking], folder)
    _check_cases(results.data, found.data, folder)
    parts = [
        [mine, _renamed(other, taken)]
        for mine, other in zip(_tables(results), _tables(found), strict=True)  # tables without rows have no columns
    ]
    rows, runs, history = (_joined([each for each in part if len(each)], plan) for part in parts)
    known = set.intersection(*(set(each) for each in parts[0] if len(each)))  # metrics that all were scored by
    new = {str(job) for job in taken.values()}
    if _study_name(folder) == plan.study.name:  # that report may be replaced by this one: keep what it says of the runs
        earlier = _of_arms(found.mixed, {arm for arm, _ in taken})
        made = f"{len(taken)} runs were made before" + (f" ({earlier})" if earlier else "")
    else:
        arms = ", ".join(dict.fromkeys(job.arm for job in plan.jobs() if str(job) in new))
        made = f"{len(taken)} runs are of the report {folder.name} ({arms})"
        with_what = re.sub(r" \([^()]*\)", "", found.mixed)  # which arms with which stands in that report
        made += f", in which not all was made with the same ({with_what})" if with_what else ""
    return Results(
        rows[[name for name in rows if name in known]],
        runs,
        [line for line in results.missing if line.split(" (")[0] not in new],
        "; ".join(each for each in (results.mixed, made) if each),
        results.data or found.data,
        history,
    )


def left_to_run(plan: Plan, folders: Sequence[str | Path]) -> Plan:
    """The plan without the runs that written reports hold, so that these are not trained once more.

    Whether they were scored on the same cases is asked where their scores are: by :func:`with_report`.

    Raises:
        KitError: a folder holds no report, or no run that the plan lacks; or there are folds.

    >>> import dataclasses
    >>> from lkm_kit.studies.reference import FOLDER
    >>> plan, _ = read_results("scans", FOLDER / "scans-laptop-hippocampus")
    >>> asked = dataclasses.replace(plan, arms=("rows", "residual-unet"), seeds=(7, 70))
    >>> [str(job) for job in left_to_run(asked, [FOLDER / "table3-laptop-hippocampus"]).jobs()]
    ['rows seed 70', 'residual-unet seed 70']
    """
    for folder in folders:
        _, taken = _shared(plan, plan.jobs(), Path(folder))
        held = {(job.arm, job.seed) for job in taken.values()}
        plan = dataclasses.replace(plan, elsewhere=plan.elsewhere | held)
    return plan


def _shared(plan: Plan, lacking: Sequence[Job], folder: Path) -> tuple[Results, dict[tuple[str, int], Job]]:
    """What a written report holds, and its (arm, seed) → the job of this plan that is the same training."""
    theirs, found = read_results(_study_of(plan, folder), folder)
    if plan.folds or theirs.folds:
        raise KitError(
            "runs of a cross-validation cannot be joined: a written report does not say which fold a score is of",
            remedy="report each of the two by itself",
        )
    asked = {_training(job): job for job in lacking}
    finished = set(_keys(found.runs))
    there = {key: job for job in theirs.jobs() if (key := (job.arm, job.seed)) in finished}
    taken = {key: asked[_training(job)] for key, job in there.items() if _training(job) in asked}
    if not taken:
        raise KitError(
            f"{folder} has none of the {len(asked)} runs that {plan.study.name} lacks"
            + _difference(list(asked.values()), list(there.values())),
            remedy="give the report of runs on the same data, with the same steps, batch and rate",
        )
    return found, taken


def _study_of(plan: Plan, folder: Path) -> Study | str | Callable[[Profile], Study]:
    """The study of a written report: the plan's own by name or file, else one of the kit's."""
    name = _study_name(folder)
    if name == plan.study.name:
        return (lambda size: plan.study) if plan.study.file else name
    if name not in study_names():
        raise KitError(
            f"{folder} is the report of a study {name!r}, which is neither {plan.study.name!r} nor one of the kit's",
            remedy="give a report of the same study, or of one that `lkm study list` names",
        )
    return name


def _of_arms(mixed: str, arms: set[str]) -> str:
    """What a report says its runs were made with, with the names of these arms alone."""

    def kept(names: re.Match) -> str:
        return f"({', '.join(name for name in names[1].split(', ') if name in arms) or 'none of these'})"

    return re.sub(r"\(([^()]*)\)", kept, re.sub(r"^\d+ runs were made before \((.*)\)$", r"\1", mixed))


def _study_name(folder: Path) -> str:
    about = read_json(folder / "differences.json", "caption of a report's figure")
    return about.get("study", folder.name.split("-")[0])


def _training(job: Job) -> str:
    """What decides a training, as text: a network by what it is made of, a data set by its name, wherever it lies."""
    config = job.config.to_dict()
    factory, arguments = network_recipe(config["network"])  # two names may stand for one network
    config["network"] = f"{factory.__module__}.{factory.__qualname__}"
    config["network_overrides"] = {**arguments, **config["network_overrides"]}
    if config["training_digest"]:  # of what is trained on; the other digest also covers what is scored
        config.pop("data_digest")
    return json.dumps({**config, "data": Path(config["data"]).name}, sort_keys=True)


def _difference(asked: Sequence[Job], there: Sequence[Job]) -> str:
    """Why no training is the same, where it is a field of all of them."""
    if not asked or not there:
        return ""
    mine, other = (json.loads(_training(jobs[0])) for jobs in (asked, there))
    fields = [name for name in mine if name not in ("network", "network_overrides", "seed", "label_table")]
    differ = [f"{name} {other[name]} there, {mine[name]} here" for name in fields if mine[name] != other[name]]
    return f" ({'; '.join(differ)})" if differ else " (other networks, or other seeds)"


def _check_cases(mine: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]], folder: Path) -> None:
    """Raise a KitError where records of what was scored contradict each other; older ones lack some fields."""
    for here, there in zip(mine, other):
        differ = [name for name in here.keys() & there.keys() if here[name] != there[name]]
        if differ:
            raise KitError(
                f"the runs in {folder} were scored on other cases ({', '.join(sorted(differ))} differ)",
                remedy="give a report on the same cases, labels and tolerances",
            )


def _tables(results: Results) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    return results.rows, results.runs, results.history


def _keys(table: pd.DataFrame) -> list[tuple[str, int]]:
    """(arm, seed) of every row."""
    return list(zip(table["arm"], table["seed"]))


def _renamed(table: pd.DataFrame, taken: Mapping[tuple[str, int], Job]) -> pd.DataFrame:
    """The rows of the runs that were taken, under the names of this study's arms."""
    if table.empty:
        return table
    jobs = [taken.get(key) for key in _keys(table)]
    mine = table[[job is not None for job in jobs]]
    return mine.assign(arm=[job.arm for job in jobs if job is not None])


def _joined(tables: Sequence[pd.DataFrame], plan: Plan) -> pd.DataFrame:
    """One table, its runs in the order of the plan's."""
    if not tables:
        return pd.DataFrame()
    both = pd.concat(tables, ignore_index=True)
    place = {(job.arm, job.seed): number for number, job in enumerate(plan.jobs())}
    ranks = pd.Series([place[key] for key in _keys(both)], index=both.index)
    return both.loc[ranks.sort_values(kind="stable").index].reset_index(drop=True)
