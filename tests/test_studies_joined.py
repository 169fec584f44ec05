"""Runs of a written report beside one's own: the same trainings, under this study's names, and no others."""

import dataclasses
import json
import re
import shutil

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from lkm_kit.commands import study as command
from lkm_kit.errors import KitError
from lkm_kit.studies.joined import collect_with, with_report
from lkm_kit.studies.plan import Results
from lkm_kit.studies.reference import FOLDER, read_results
from lkm_kit.studies.report import make_report
from lkm_kit.training import initial_network

SCANS, TABLE3 = FOLDER / "scans-laptop-hippocampus", FOLDER / "table3-laptop-hippocampus"
SAME = {"rows": "pim-bim", "one-way": "pim", "shuffled": "pim-bim-shuffled"}
SAME |= {name: name for name in ("residual-unet", "wide-residual-unet")}


def nothing_of(plan):
    return Results(pd.DataFrame(), pd.DataFrame(), [f"{job} (waiting)" for job in plan.jobs()])


def scores(rows, arm, seed):
    return rows[(rows["arm"] == arm) & (rows["seed"] == seed)].set_index(["case", "organ"])["DSC"]


ARMS = ("rows", "one-way", "s4d", "residual-unet", "wide-residual-unet")


@pytest.fixture(scope="module")
def scans():
    return dataclasses.replace(read_results("scans", SCANS)[0], arms=ARMS)


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory):
    """The committed report of the study ``scans``, but for all seeds after the third."""
    folder = shutil.copytree(SCANS, tmp_path_factory.mktemp("written") / "scans-cut")
    for name in ("per_case", "runs", "history"):
        table = pd.read_csv(folder / f"{name}.csv")
        table[table["seed"] < 3].to_csv(folder / f"{name}.csv", index=False)
    return folder


def test_trainings_of_another_study_serve_under_this_studys_names(scans):
    asked = dataclasses.replace(scans, arms=tuple(SAME), seeds=(0, 4))
    results = with_report(asked, nothing_of(asked), TABLE3)
    assert list(zip(results.runs["arm"], results.runs["seed"])) == [(job.arm, job.seed) for job in asked.jobs()]
    assert not results.missing and set(results.history["arm"]) == set(SAME)
    theirs = pd.read_csv(TABLE3 / "per_case.csv")
    for arm, name in SAME.items():
        pd.testing.assert_series_equal(scores(results.rows, arm, 4), scores(theirs, name, 4))
    assert "10 runs are of the report table3-laptop-hippocampus (rows" in results.mixed
    assert "plain-unet" not in results.mixed and re.search(
        r"the same \(85 runs were made before \(code: \w{12}, ", results.mixed
    )  # its own arms
    assert set(make_report(asked, results).table["seeds"]) == {2}


def test_an_older_report_of_the_same_study_keeps_what_it_says_of_the_runs_that_are_taken():
    plan, written = read_results("table3", TABLE3)
    asked = dataclasses.replace(plan, arms=("pim", "pam"), seeds=(0, 1))
    taken = with_report(asked, nothing_of(asked), TABLE3).mixed
    codes = re.findall(r"\w{12}", written.mixed)
    assert taken.startswith("4 runs were made before (code: ") and re.findall(r"\w{12}", taken) == codes
    assert re.findall(r"\(([^()]*)\)", taken) == ["pim, pam", "pim, pam", "none of these"]
    whole = with_report(plan, nothing_of(plan), TABLE3).mixed
    assert whole.startswith("90 runs were made before (code: ") and "pim-pam-depthwise, pim-pam-mean" in whole


def test_networks_of_two_names_that_count_as_one_begin_alike(scans):
    theirs, _ = read_results("table3", TABLE3)
    ours = {job.arm: job.config for job in dataclasses.replace(scans, arms=tuple(SAME), seeds=(0,)).jobs()}
    other = {job.arm: job.config for job in dataclasses.replace(theirs, arms=(), seeds=(0,)).jobs()}
    for arm, name in SAME.items():
        first, second = initial_network(ours[arm]).eval(), initial_network(other[name]).eval()
        image = torch.randn(1, 1, *ours[arm].image_size)
        with torch.no_grad():
            assert torch.equal(first(image)[0], second(image)[0]), arm


def test_what_is_there_stays_and_what_nobody_has_is_missing(scans, three_seeds):
    asked = dataclasses.replace(scans, seeds=(0, 1, 2, 3))
    mine = with_report(asked, nothing_of(asked), three_seeds)
    marked = dataclasses.replace(mine, rows=mine.rows.assign(DSC=0.5))  # to tell the two apart
    results = with_report(asked, marked, TABLE3)
    assert (results.rows[results.rows["seed"] < 3]["DSC"] == 0.5).all()
    new = results.rows[results.rows["seed"] == 3]
    assert set(new["arm"]) == {*ARMS} - {"s4d"} and (new["DSC"] != 0.5).all()
    assert "s4d seed 3 (waiting)" in results.missing and "rows seed 3 (waiting)" not in results.missing
    with pytest.raises(KitError, match=r"none of the .* runs that scans lacks"):
        with_report(asked, results, TABLE3)


def test_another_protocol_other_cases_and_other_studies_are_refused(scans, three_seeds, tmp_path):
    asked = dataclasses.replace(scans, seeds=(0,))
    with pytest.raises(KitError, match=r"batch_size 8 there, 16 here; image_size \[64, 64\] there, \[56, 40\] here"):
        with_report(asked, nothing_of(asked), FOLDER / "table2-laptop-hippocampus")
    other = shutil.copytree(TABLE3, tmp_path / "mine")
    about = json.loads((other / "differences.json").read_text())
    assert about.pop("study") == "table3"  # which older reports do not say
    (other / "differences.json").write_text(json.dumps(about))
    with pytest.raises(KitError, match="the report of a study 'mine', which is neither 'scans' nor"):
        with_report(asked, nothing_of(asked), other)
    (other / "differences.json").write_text(json.dumps({**about, "study": "table3"}))
    mine = with_report(asked, nothing_of(asked), three_seeds)
    lacking = dataclasses.replace(asked, seeds=(3,))
    splits = json.loads((other / "splits.json").read_text())
    splits["splits"][0]["split"]["test"].pop()
    (other / "splits.json").write_text(json.dumps(splits))
    with pytest.raises(KitError, match=r"scored on other cases \(split differ\)"):
        with_report(lacking, dataclasses.replace(mine, missing=nothing_of(lacking).missing), other)
    folds = dataclasses.replace(asked, folds=(0,))
    with pytest.raises(KitError, match="cross-validation cannot be joined"):
        with_report(folds, nothing_of(folds), SCANS)


def test_the_command_reports_committed_runs_alone(tmp_path):
    words = ["report", "table3", "--profile", "laptop", "--root", str(tmp_path), "--seeds", "2"]
    words += ["--set", "batch_size=4", "--set", "iterations=800", "--arms", "residual-unet,pam"]
    cohort = FOLDER / "table3-laptop-cohort"
    done = CliRunner().invoke(command.app, [*words, "--with", str(cohort)])
    assert done.exit_code == 0, done.output
    written = pd.read_csv(tmp_path / "table3" / "laptop" / "report" / "per_case.csv")
    theirs = pd.read_csv(cohort / "per_case.csv")
    pd.testing.assert_series_equal(scores(written, "pam", 1), scores(theirs, "pam", 1))
    plan = CliRunner().invoke(command.app, ["run", *words[1:], "--dry-run", "--with", str(cohort)])
    assert plan.exit_code == 0 and "0 runs: 0 arms x 2 seeds" in plan.output, plan.output
    assert "; 4 more are in written reports" in plan.output
    more = CliRunner().invoke(command.app, ["run", *words[1:], "--seeds", "6", "--dry-run", "--with", str(cohort)])
    assert "2 runs: 2 arms x 6 seeds (2 waiting)" in more.output, more.output
    with pytest.raises(KitError, match="--again reads one report"):
        raise CliRunner().invoke(command.app, [*words, "--with", str(cohort), "--again", str(cohort)]).exception


def test_without_folders_nothing_finished_is_an_error_as_before(scans, tmp_path):
    plan, _ = read_results("table3", FOLDER / "table3-laptop-cohort")
    with pytest.raises(KitError, match="no run of table3 at profile laptop has scores"):
        collect_with(dataclasses.replace(plan, root=tmp_path), [])
