"""Each arm's own learning rate: rates × warm-ups × arms × seeds, scored on validation items alone.

A rate that suits one arm makes it look better than it is beside another. So every arm gets its own, chosen before
the study: by seeds that no study uses (they begin at :data:`FIRST_SEED`) and on validation items; no test item is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lkm_kit.data.source import Source
from lkm_kit.errors import KitError, note
from lkm_kit.files import read_json
from lkm_kit.studies.arms import Arm, Study
from lkm_kit.studies.conclusions import unlearnt_organs
from lkm_kit.studies.job import Job
from lkm_kit.studies.learning import history, last_quarter, scores_in
from lkm_kit.studies.plan import Plan
from lkm_kit.training import TrainConfig

FIRST_SEED = 1000
SETTING = ["arm", "rate", "warmup"]
_APART = {"seeds", "folds", "fold", "test_cases", "learning_rate", "warmup"}
"""Of a protocol: in what a study and its sweep may differ."""


@dataclasses.dataclass(frozen=True)
class Sweep(Plan):
    """A plan whose arms are a study's arms at every rate and warm-up; its runs end with their training."""

    def jobs(self) -> list[Job]:
        """As a plan's, but never scored on test items."""
        return [dataclasses.replace(job, scored=False) for job in super().jobs()]

    def protocol(self) -> dict[str, Any]:
        """As a plan's, without test items, and with all values of what is swept."""
        swept = {name: sorted({getattr(arm, name) for arm in self.study.arms}) for name in ("learning_rate", "warmup")}
        return {name: value for name, value in {**super().protocol(), **swept}.items() if name != "test_cases"}

    def differences(self) -> dict[str, dict[str, Any]]:
        """As a plan's, but for what is swept."""
        own = {arm: {k: v for k, v in f.items() if k not in _APART} for arm, f in super().differences().items()}
        return {arm: fields for arm, fields in own.items() if fields}


def make_sweep(plan: Plan, rates: Sequence[float], warmups: Sequence[float] = (), seeds: int = 2) -> Sweep:
    """The sweep of a study: its runs lie in ``<root>/<study>-sweep/``.

    Args:
        plan: the study's; its arms are swept, its seeds and folds are not used. Of a data set, one division of the
            training cases serves (``fold`` or ``holdout`` among its changes).
        rates: learning rates, for every arm.
        warmups: shares of the steps in which one cycle rises; default each arm's own.
        seeds: how many, from :data:`FIRST_SEED` on.

    Raises:
        KitError: no rate, rates also given as a change, or warm-ups for an arm that has none.

    >>> from lkm_kit.studies.runner import make_plan
    >>> sweep = make_sweep(make_plan("table3", "smoke", arms=["pim"]), [0.003, 0.01], [0.1], seeds=1)
    >>> [(job.arm, job.seed, job.config.learning_rate) for job in sweep.jobs()]
    [('pim-rate-0.003-warmup-0.1', 1000, 0.003), ('pim-rate-0.01-warmup-0.1', 1000, 0.01)]
    """
    for field in {"learning_rate", "warmup"} & plan.changes.keys():
        raise KitError(f"--set {field} would be the same in the whole sweep", remedy="--rates and --warmups vary them")
    if not rates:
        raise KitError("a sweep needs at least one learning rate", remedy="--rates 0.003,0.01,0.02")
    arms = []
    for arm in plan.study.arms:
        if plan.arms and arm.name not in plan.arms:
            continue
        own = arm.at(plan.size)
        if warmups and plan.changes.get("optimizer", own.optimizer) == "sgd":
            raise KitError(f"{arm.title} is trained by SGD, whose rate does not rise", remedy="leave --warmups out")
        arms += [_at(arm, rate, share) for rate in sorted(rates) for share in sorted(warmups) or [own.warmup]]
    of_plan = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
    name = f"{plan.study.name}-sweep"
    study = dataclasses.replace(plan.study, name=name, arms=tuple(arms), control=arms[0].name, comparisons=())
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + seeds))
    return Sweep(**{**of_plan, "study": study, "arms": (), "folds": (), "seeds": seeds})


def left_to_sweep(sweep: Sweep, where: str | Path) -> Sweep:
    """The sweep without the trainings that a written one holds, so that more arms, rates or seeds can join it.

    Args:
        sweep: what is asked for.
        where: as in :func:`read_sweep`.

    Raises:
        KitError: the written sweep's protocol is another one, but for rates, warm-ups and seeds.
    """
    there = read_sweep(where)
    if differ := _other_protocol(sweep, where):
        raise KitError(
            f"the sweep in {where} cannot be joined, it was made at another protocol: {'; '.join(differ)}",
            remedy="give a sweep on the same data, with the same steps and batch",
        )
    held = {(_name(*row[:-1]), row[-1]) for row in there[[*SETTING, "seed"]].itertuples(index=False, name=None)}
    return dataclasses.replace(sweep, elsewhere=sweep.elsewhere | held)


def joined(study: Study, *tables: pd.DataFrame) -> pd.DataFrame:
    """Tables of :func:`curves` in one, in the order of the study's arms, then by rate, warm-up, seed and step.

    Of a training that several have, the first one counts.

    Raises:
        KitError: an arm that the study does not have.

    >>> from lkm_kit.studies import study
    >>> row = {"rate": 0.01, "warmup": 0.1, "seed": 1000, "state": "done", "step": [50], "DSC": 0.5}
    >>> parts = [pd.DataFrame({"arm": arm, **row}) for arm in ("pim", "residual-unet")]
    >>> joined(study("table3", "smoke"), *parts)["arm"].tolist()
    ['residual-unet', 'pim']
    """
    table = pd.concat([each for each in tables if len(each)], ignore_index=True)
    table = table.drop_duplicates([*SETTING, "seed", "step"])
    place = {arm.name: number for number, arm in enumerate(study.arms)}
    keys = table.assign(arm=[place[study.arm(arm).name] for arm in table["arm"]])[[*SETTING, "seed", "step"]]
    return table.loc[keys.sort_values(list(keys), kind="stable").index].reset_index(drop=True)


def curves(sweep: Sweep) -> pd.DataFrame:
    """What a finished sweep's runs have scored on validation items.

    Returns:
        rows of :func:`lkm_kit.studies.learning.history`, with ``state`` ("done" or "diverged") and the data's
        ``source``.

    Raises:
        KitError: a run is not finished, or runs were made on different data.
    """
    rows, sources, data = [], set(), set()
    for job in sweep.jobs():
        run = job.run(sweep.root)
        state = job.state(run)
        if not state.finished:
            raise KitError(f"{job} is not finished ({state.name})", remedy="run the sweep again")
        if state.name == "done":
            data.add((read_json(run.folder / "config.json").get("identity") or {}).get("data"))
            source = read_json(run.folder / "weights.json")["training"]["source"]
            sources.add("given by the caller" if source is None else Source.from_json(source).text)
        rows.append(history(job, run).assign(arm=job.arm.rpartition("-rate-")[0], state=state.name))
    if len(data) > 1:
        raise KitError(f"the runs in {sweep.folder} were made on different data", remedy="--root and a fresh folder")
    table = pd.concat(rows, ignore_index=True).assign(source="; ".join(sorted(sources)))
    first = [*SETTING, "seed", "state", "step"]
    return table[[*first, *(name for name in table if name not in first)]]


def last(table: pd.DataFrame) -> pd.DataFrame:
    """The last validation of every run of :func:`curves`; without scores where the run diverged."""
    table = table.reset_index(drop=True)
    rows = table.loc[table.groupby([*SETTING, "seed"], sort=False)["step"].idxmax()].copy()
    rows.loc[rows["state"] == "diverged", scores_in(table)] = float("nan")
    return rows


def grid(table: pd.DataFrame) -> pd.DataFrame:
    """Every setting at its end: index arm, rate, warmup; mean and sd of DSC in percent, ``seeds``, ``diverged``.

    A setting of which one seed diverged has no mean.

    >>> two = {"arm": "a", "rate": 0.02, "warmup": 0.1, "seed": [0, 1], "state": "done", "step": 9, "DSC": [0.8, 0.7]}
    >>> lost = {**two, "state": ["done", "diverged"]}
    >>> grid(pd.concat([pd.DataFrame(lost), pd.DataFrame({**two, "rate": 0.01})]))["mean"].round(1).tolist()
    [nan, 75.0]
    """
    rows = last(table)
    by = rows.assign(DSC=100 * rows["DSC"], lost=rows["state"] == "diverged").groupby(SETTING, sort=False)
    found = by.agg(mean=("DSC", "mean"), sd=("DSC", "std"), seeds=("seed", "count"), diverged=("lost", "sum"))
    found["mean"] = found["mean"].where(found["diverged"] == 0)
    return found


def best(table: pd.DataFrame) -> pd.DataFrame:
    """Each arm's best setting, by the mean over seeds of the last validation's DSC.

    Args:
        table: of :func:`curves`.

    Returns:
        index arm; rate, warmup, mean, sd, seeds; ``gain``: points that the last quarter of the steps brought, mean over
        seeds (nan without a validation before it); ``edge``: "lowest" or "highest" where the best rate is that of all
        that were tried, else "". An arm that diverged at every rate is not in it.
    """
    settings = grid(table)["mean"].dropna()
    chosen = settings.groupby("arm", sort=False).idxmax()
    found = grid(table).loc[list(chosen)].reset_index()
    quarter = [last_quarter(_of(table, row)) for row in found.itertuples()]
    edges = [_edge(table, row) for row in found.itertuples()]
    return found.drop(columns="diverged").assign(gain=quarter, edge=edges).set_index("arm")


def unlearnt(table: pd.DataFrame) -> dict[tuple[str, float, float], str]:
    """Setting → labels that some of its seeds have learnt and others not at all, in words."""
    rows = last(table).drop(columns="DSC")
    rows["arm"] = list(rows[SETTING].itertuples(index=False, name=None))
    long = rows.melt(["arm", "seed"], scores_in(rows), "organ", "DSC").dropna()
    return unlearnt_organs(long.assign(organ=long["organ"].str.removeprefix("DSC "), case="validation"), "DSC")


def read_sweep(where: str | Path) -> pd.DataFrame:
    """:func:`curves` as they were written.

    Args:
        where: sweep.csv, or the folder that holds it.

    Raises:
        KitError: there is none, or it is no sweep's.
    """
    path = Path(where) / "sweep.csv" if Path(where).is_dir() else Path(where)
    remedy = "give the folder that `lkm study sweep` wrote, or the sweep.csv in it"
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise KitError(f"there is no sweep in {path} ({type(error).__name__})", remedy=remedy) from error
    if lacking := {*SETTING, "seed", "state", "step", "DSC"} - {*table.columns}:
        raise KitError(f"{path} is no sweep: it lacks {', '.join(sorted(lacking))}", remedy=remedy)
    return table


def at_best(plan: Plan, where: str | Path) -> Plan:
    """The plan with every arm at its own best rate and warm-up of a sweep.

    A protocol that is not the sweep's is noted: the best rate for 400 steps need not be the best one for 4000.

    Args:
        plan: of a study.
        where: as in :func:`read_sweep`.

    Raises:
        KitError: an arm of the plan is not in the sweep, or diverged at every rate.
    """
    found = best(read_sweep(where))
    arms = [arm for arm in plan.study.arms if not plan.arms or arm.name in plan.arms]
    if lacking := [arm.name for arm in arms if arm.name not in found.index]:
        raise KitError(
            f"the sweep in {where} has no best rate of {', '.join(lacking)}",
            remedy=f"sweep all of the study's arms, or leave these out with --arms {','.join(found.index)}",
        )
    differ = _other_protocol(plan, where)
    if plan.folds:
        note("every case is scored in some fold, those too that the sweep chose the rates on; keep test cases apart")
    if differ:
        note(f"the sweep in {where} was made at another protocol: {'; '.join(differ)}")
    own = {arm.name: found.loc[arm.name] for arm in arms}
    changed = tuple(
        dataclasses.replace(arm, learning_rate=float(own[arm.name]["rate"]), warmup=float(own[arm.name]["warmup"]))
        if arm.name in own
        else arm
        for arm in plan.study.arms
    )
    return dataclasses.replace(plan, study=dataclasses.replace(plan.study, arms=changed))


def _other_protocol(plan: Plan, where: str | Path) -> list[str]:
    """In what a plan's protocol differs from a written sweep's, in words; nothing where no caption is beside it."""
    caption = (Path(where) if Path(where).is_dir() else Path(where).parent) / "sweep.json"
    if not caption.exists():
        return []
    swept = {**TrainConfig().to_dict(), **read_json(caption)["config"]}  # a field that is newer than the sweep
    return [
        f"{name} {swept[name]} there, {value} here"
        for name, value in plan.protocol().items()
        if name in swept and name not in _APART and swept[name] != value
    ]


def _at(arm: Arm, rate: float, warmup: float) -> Arm:
    name, title = _name(arm.name, rate, warmup), f"{arm.title}, {rate:g}, warm-up {warmup:g}"
    return dataclasses.replace(arm, name=name, title=title, learning_rate=rate, warmup=warmup)


def _name(arm: str, rate: float, warmup: float) -> str:
    return f"{arm}-rate-{rate:g}-warmup-{warmup:g}"


def _of(table: pd.DataFrame, setting) -> pd.DataFrame:
    same = [table[name] == getattr(setting, name) for name in SETTING]
    return table[same[0] & same[1] & same[2]]


def _edge(table: pd.DataFrame, setting) -> str:
    tried = table.loc[table["arm"] == setting.arm, "rate"]
    if tried.min() == tried.max():
        return ""
    return {tried.min(): "lowest", tried.max(): "highest"}.get(setting.rate, "")
