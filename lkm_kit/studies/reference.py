"""Committed reference results: reports of the studies, run at a stated profile on stated hardware."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lkm_kit.errors import KitError
from lkm_kit.files import read_json
from lkm_kit.profiles import Profile, in_3d
from lkm_kit.profiles import profile as profile_of
from lkm_kit.studies.arm import BUDGET, Study
from lkm_kit.studies.arms import study as study_of
from lkm_kit.studies.own_data import fitted
from lkm_kit.studies.plan import Foreign, Plan, Results
from lkm_kit.studies.runner import make_plan
from lkm_kit.training import TrainConfig

_CHECKOUT = Path(__file__).resolve().parents[2] / "figures" / "studies"
FOLDER = _CHECKOUT if _CHECKOUT.is_dir() else Path(__file__).with_name("results")  # setup.py puts them into the wheel
"""``<study>-<profile>/``, or ``<study>-<profile>-<data>/``, each written by ``lkm study report ... --out``."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """A committed report.

    Args:
        folder: where it lies.
        table: one row an arm: published and own means, differences from the control, costs.
        comparisons: every pair that was compared, with interval, p and the smallest difference it would have shown.
        per_case: arm, seed, case, organ and the metrics that there were when it was made.
        text: the whole report as Markdown, with protocol, hardware and caveats.
    """

    folder: Path
    table: pd.DataFrame
    comparisons: pd.DataFrame
    per_case: pd.DataFrame
    text: str

    @property
    def seeds(self) -> list[int]:
        """Seeds that every arm has."""
        return sorted(set.intersection(*(set(rows["seed"]) for _, rows in self.per_case.groupby("arm"))))

    @property
    def picture(self) -> Path:
        """The figure of differences."""
        return self.folder / "differences.png"


def reference_results(
    study: str, profile: str = "laptop", folder: Path | None = None, *, data: str | None = None
) -> Reference:
    """Read a committed report; nothing is computed.

    Args:
        study: its name.
        profile: its size.
        folder: where reports lie; default the kit's own.
        data: ``"hippocampus"``; ``"hippocampus-best"``, arms at the best rates of its sweep; None for the cohort.

    Raises:
        KitError: there is none for this study, profile and data.

    >>> reference_results("table3").comparisons.columns.tolist()[:3]
    ['arm', 'versus', 'score']
    """
    place = (FOLDER if folder is None else Path(folder)) / "-".join([study, profile, *([data] if data else [])])
    how = f"{study} --profile {profile}" + (f" --data {data}" if data else "")
    if not (place / "report.csv").is_file():
        raise KitError(
            f"there are no reference results of {study} at profile {profile!r}"
            f"{f' on {data}' if data else ''} in {place.parent}",
            remedy=f"run `lkm study {how} --seeds 3`, then `lkm study report {how} --out {place}`",
        )
    tables = {name: pd.read_csv(place / f"{name}.csv") for name in ("report", "comparisons", "per_case")}
    text = (place / "report.md").read_text(encoding="utf-8")
    return Reference(place, tables["report"].set_index("arm"), tables["comparisons"], tables["per_case"], text)


def read_results(
    study: Study | str | Callable[[Profile], Study], folder: str | Path, size: Profile | None = None
) -> tuple[Plan, Results]:
    """The plan and the runs that a written report stands on, to make it anew where its tables or words have changed.

    Args:
        study: its name, or the study, or what makes it at the sizes of a profile.
        folder: of the report: per_case.csv, runs.csv, the protocol in differences.json, and splits.json, what the runs
            were scored on (a data set itself is not needed).
        size: the profile of the runs; default that of the name written there.

    Raises:
        KitError: one of the files is missing or damaged.
    """
    try:
        return _read_results(study, Path(folder), size)
    except KitError:
        raise
    except (
        OSError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:  # of tables and keys that are not there
        raise KitError(
            f"{folder} holds no report that can be read ({type(error).__name__}: {error})",
            remedy="copy the whole folder of the written report again, or make the report anew from its runs",
        ) from error


def _read_results(
    study: Study | str | Callable[[Profile], Study], folder: Path, size: Profile | None
) -> tuple[Plan, Results]:
    if lacking := [name for name in ("per_case.csv", "runs.csv") if not (folder / name).is_file()]:
        raise KitError(f"{folder} lacks {' and '.join(lacking)}", remedy="give the folder of a written report")
    about = read_json(folder / "differences.json", "caption of a report's figure")
    shared = dict(about["config"])
    seeds, folds, size = shared.pop("seeds"), shared.pop("folds", ()), size or profile_of(about["profile"])
    data, axes, cohort = [], len(shared["image_size"]), {"test_cases", "test_slices"} & shared.keys()
    for name in cohort:
        size = dataclasses.replace(size, test_cases=shared.pop(name))
    if not cohort or (folder / "splits.json").exists():
        data = read_json(folder / "splits.json", "record of what a report's runs were scored on")["splits"]
    if axes == 3:
        size = in_3d(size)
    own = about.get("arms", {})  # what arms have their own value of must not be set for all of them
    differ = {name for fields in own.values() for name in fields}
    size = dataclasses.replace(size, **{name: shared[name] for name in BUDGET if name in differ})
    study = study_of(study, size) if isinstance(study, str) else study if isinstance(study, Study) else study(size)
    runs, rows = (pd.read_csv(folder / f"{name}.csv") for name in ("runs", "per_case"))
    arms = list(dict.fromkeys(runs["arm"]))
    said = {"missing": about.get("missing", []), "mixed": about.get("mixed", ""), "data": data}
    if "trainer" in shared:  # another program's, which has neither rates nor a history of ours
        return Foreign(study, size, tuple(seeds), tuple(arms), config=shared), Results(rows, runs, **said)
    if not cohort:
        study = fitted(study, shared["image_size"], shared["spacing_mm"])
        size = dataclasses.replace(size, batch_size=shared["batch_size"])
    # steps are read as they were made, whatever an arm's share of them is today
    with_own = [dataclasses.replace(arm, share=1.0, **_budget(own.get(arm.name, {}))) for arm in study.arms]
    study = dataclasses.replace(study, arms=tuple(with_own))
    # a field that the record does not know was at its default, whatever the profile has since chosen
    budget = {field.name: field.default for field in dataclasses.fields(TrainConfig) if field.name in BUDGET}
    changes = {name: value for name, value in {**budget, **shared}.items() if name not in differ}
    plan = make_plan(study, size, seeds, arms, folds=folds, **changes)
    seen = folder / "history.csv"
    history = pd.read_csv(seen) if seen.exists() else pd.DataFrame()
    return plan, Results(rows, runs, history=history, **said)


def _budget(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in BUDGET}
