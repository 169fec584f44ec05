"""Sweeps: learning rates on seeds and items that no study scores, and each arm's own rate in a study."""

import dataclasses
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from toy_study import SIZE, STUDY, plan, poisoned, squares
from typer.testing import CliRunner

from lkm_kit.cli import app
from lkm_kit.errors import KitError, KitWarning
from lkm_kit.plots.sweep import plot_curves
from lkm_kit.studies.runner import run_study, status
from lkm_kit.studies.sweep import (
    at_best,
    best,
    curves,
    grid,
    joined,
    left_to_sweep,
    make_sweep,
    read_sweep,
    unlearnt,
)
from lkm_kit.studies.sweep_report import sweep_text, write_sweep

RATES = [0.02, 0.001]


def untouchable(job):
    """Test items that must not be looked at, and no test items at all."""
    data = squares(job)
    del data["test"]
    return data


def run(sweep, **how):
    return run_study(sweep, **{"datasets": untouchable, "device": "cpu", "log": lambda line: None, **how})


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    sweep = make_sweep(plan(tmp_path_factory.mktemp("sweep")), RATES, [0.25], seeds=2)
    run(sweep)
    return sweep


def runs(arm, rate, ends, *, before=0.5, warmup=0.3, state="done", aorta=0.5):
    """Curves of seeds that end at ``ends``, from ``before`` at three quarters."""
    return pd.DataFrame(
        {"arm": arm, "rate": rate, "warmup": warmup, "seed": 1000 + seed, "state": state, "step": step, "DSC": score}
        | {"DSC aorta": aorta[seed] if isinstance(aorta, list) else aorta, "DSC liver": score, "source": "made up"}
        for seed, end in enumerate(ends)
        for step, score in ((75, before), (100, end))
    )


def test_every_arm_rate_and_seed_is_trained_and_nothing_is_scored_on_test_items(swept):
    table = curves(swept)
    assert table.columns.tolist()[:7] == ["arm", "rate", "warmup", "seed", "state", "step", "DSC"]
    assert {"DSC liver", "DSC spleen"} < set(table)
    assert set(table["arm"]) == {"control", "lkm"} and set(table["rate"]) == set(RATES)
    assert set(table["seed"]) == {1000, 1001} and set(table["warmup"]) == {0.25}
    assert len(table) == 2 * 2 * 2 * 2 and set(table["step"]) == {2, 4}
    assert swept.folder == swept.root / "toy-study-sweep" / "toy"
    assert not list(swept.folder.rglob("per_case.csv"))
    configs = {job.arm: job.config for job in swept.jobs()}
    assert configs["lkm-rate-0.001-warmup-0.25"].learning_rate == 0.001


def test_a_sweep_resumes_and_repeats_nothing(swept):
    before = {path: path.stat().st_mtime_ns for path in swept.folder.rglob("weights.*")}
    lines = []
    run(swept, log=lines.append)
    assert sum("done before" in line for line in lines) == 8 == len(before) / 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_study_then_runs_every_arm_at_its_own_best_rate(swept, tmp_path):
    caption = {"config": swept.protocol(), "profile": "toy", "seed": list(swept.seeds)}
    folder = write_sweep(curves(swept), STUDY, tmp_path / "out", caption)
    assert {path.name for path in folder.iterdir()} == {"sweep.csv", "sweep.md", "sweep.png", "sweep.json"}
    pd.testing.assert_frame_equal(read_sweep(folder), read_sweep(folder / "sweep.csv"))
    found = best(read_sweep(folder))
    pd.testing.assert_frame_equal(found, best(curves(swept)))
    ends = curves(swept).query("step == 4").groupby(["arm", "rate"])["DSC"].mean()
    assert {arm: ends[arm].idxmax() for arm in ("control", "lkm")} == found["rate"].to_dict()
    mine = at_best(plan(tmp_path), folder)
    for job in mine.jobs():
        assert (job.config.learning_rate, job.config.warmup) == (found["rate"][job.arm], 0.25)
    assert mine.protocol()["warmup"] == 0.25  # which all arms have in common, though the profile has another
    assert not any("warmup" in own for own in mine.differences().values())
    own = {**mine.protocol(), **mine.differences().get("lkm", {})}
    assert own["learning_rate"] == found["rate"]["lkm"]
    table = run_study(mine, datasets=squares, device="cpu", log=lambda line: None)
    assert table["state"].tolist() == ["done", "done"] and len(list(mine.folder.rglob("per_case.csv"))) == 2
    with pytest.warns(KitWarning, match="iterations 4 there, 5 here"):
        at_best(plan(tmp_path, iterations=5), folder)


def test_a_written_sweep_is_joined_and_not_trained_again(swept, tmp_path):
    caption = {"config": swept.protocol(), "profile": "toy", "seed": list(swept.seeds)}
    folder = write_sweep(curves(swept), STUDY, tmp_path / "out", caption)
    wider = make_sweep(plan(tmp_path), [0.02, 0.001, 0.1], [0.25], seeds=2)
    left = left_to_sweep(wider, folder)
    assert {job.config.learning_rate for job in left.jobs()} == {0.1} and len(left.jobs()) == 4
    assert left_to_sweep(make_sweep(plan(tmp_path), [0.02], [0.25], seeds=1), folder).jobs() == []
    assert len(left_to_sweep(make_sweep(plan(tmp_path), [0.02], [0.25], seeds=3), folder).jobs()) == 2  # seed 1002
    run(left)
    whole = joined(STUDY, read_sweep(folder), curves(left))
    run(wider)  # trains what the written one held: the same numbers, in the same order
    pd.testing.assert_frame_equal(whole, joined(STUDY, curves(wider)))
    assert best(whole)["rate"].to_dict() == best(curves(wider))["rate"].to_dict()
    pd.testing.assert_frame_equal(joined(STUDY, whole, whole), whole)
    older = {name: value for name, value in swept.protocol().items() if name != "ema_decay"}  # of an earlier version
    (folder / "sweep.json").write_text(json.dumps({"config": older}))
    assert len(left_to_sweep(wider, folder).jobs()) == 4
    with pytest.raises(KitError, match=r"ema_decay 0\.0 there, 0\.9 here"):
        left_to_sweep(make_sweep(plan(tmp_path, ema_decay=0.9), RATES, [0.25]), folder)
    with pytest.raises(KitError, match="iterations 4 there, 5 here"):
        left_to_sweep(make_sweep(plan(tmp_path, iterations=5), RATES, [0.25]), folder)


def test_the_best_rate_is_that_of_the_last_validation_over_all_seeds():
    table = pd.concat(
        [runs("a", 0.01, [0.8, 0.6]), runs("a", 0.02, [0.9, 0.4]), runs("b", 0.01, [0.5]), runs("b", 0.02, [0.505])]
    )
    found = best(table.reset_index(drop=True))
    assert found["rate"].to_dict() == {"a": 0.01, "b": 0.02}
    assert found["gain"].round(6).to_dict() == {"a": 20.0, "b": 0.5}
    assert found["edge"].to_dict() == {"a": "lowest", "b": "highest"}
    text = sweep_text(table, dataclasses.replace(STUDY, arms=tuple(map(_named, "ab")), control="a"))
    assert "| a | 0.01 | 30 % | 70.00 ± 14.14 | +20.00, no |" in text
    assert "| b | 0.02 | 30 % | 50.50 | +0.50, yes |" in text
    assert "b: 0.02 is the highest rate that was tried" in text


def _named(name):
    return dataclasses.replace(STUDY.arm("lkm"), name=name, title=name)


def test_a_rate_at_which_a_seed_diverged_is_never_the_best():
    lost = runs("a", 0.02, [0.9]).assign(state="diverged")
    table = pd.concat([lost, runs("a", 0.02, [0.8, 0.9]).query("seed == 1001"), runs("a", 0.01, [0.6, 0.6])])
    table = table.reset_index(drop=True)
    assert best(table)["rate"].to_dict() == {"a": 0.01}
    assert np.isnan(grid(table).loc[("a", 0.02, 0.3), "mean"])
    assert "diverged in 1 of 2 seeds" in sweep_text(table, dataclasses.replace(STUDY, arms=(_named("a"),), control="a"))
    assert best(lost.reset_index(drop=True)).empty


def test_labels_that_some_seeds_have_not_learnt_are_named():
    table = pd.concat([runs("a", 0.003, [0.8, 0.5, 0.7], aorta=[0.76, 0.0, 0.61]), runs("a", 0.01, [0.9, 0.9, 0.9])])
    assert unlearnt(table.reset_index(drop=True)) == {("a", 0.003, 0.3): "aorta not learnt in 1 of 3 seeds"}


def test_diverged_runs_are_in_the_curves(tmp_path):
    sweep = make_sweep(plan(tmp_path, train_slices=16), [0.01], seeds=1)
    run(sweep, datasets=lambda job: poisoned(dataclasses.replace(job, arm=job.arm.partition("-rate-")[0])))
    table = curves(sweep)
    assert dict(zip(table["arm"], table["state"])) == {"control": "done", "lkm": "diverged"}
    write_sweep(table, STUDY, tmp_path / "out", {"config": {}, "profile": "toy", "seed": [1000]})
    assert best(read_sweep(tmp_path / "out")).index.tolist() == ["control"]
    with pytest.raises(KitError, match="no best rate of lkm") as error:
        at_best(plan(tmp_path), tmp_path / "out")
    assert "--arms control" in error.value.remedy
    assert at_best(plan(tmp_path, arms=["control"]), tmp_path / "out").study.arm("control").learning_rate == 0.01


def test_the_picture_has_a_panel_an_arm_and_a_colour_a_rate():
    table = pd.concat([runs(arm, rate, [0.5, 0.6]) for arm in "ab" for rate in (0.003, 0.01, 0.02)], ignore_index=True)
    figure = plot_curves(table, {"a": "PiM", "b": "PaM"}, best(table))
    assert [ax.get_title() for ax in figure.axes] == ["PiM", "PaM"]
    colors = [{line.get_color() for line in ax.lines[:9]} for ax in figure.axes]
    assert len(colors[0]) == 3 and colors[0] == colors[1]
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said[:4] == ["one training", "mean", "last quarter of the steps", "the arm's best rate"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda root: make_sweep(plan(root), []), "at least one learning rate"),
        (lambda root: make_sweep(plan(root), [0.01, 0.01]), "two arms of one name"),
        (lambda root: make_sweep(plan(root, learning_rate=0.1), [0.01]), "--set learning_rate"),
        (lambda root: make_sweep(plan(root, optimizer="sgd"), [0.01], [0.1]), "SGD"),
        (lambda root: make_sweep(plan(root), [0.01], seeds=0), "at least one seed"),
        (lambda root: make_sweep(plan(root), [-1.0]).jobs(), "learning_rate is -1"),
        (lambda root: curves(make_sweep(plan(root), [0.01])), "not finished"),
        (lambda root: read_sweep(root), "no sweep in"),
        (lambda root: run_study(plan(root), threads=10**6, datasets=squares, log=str), "1000000 threads"),
        (lambda root: run_study(plan(root), threads=1, processes=2, datasets=squares, log=str), "several processes"),
    ],
)
def test_wrong_input_is_named(call, message, tmp_path):
    with pytest.raises(KitError, match=message):
        call(tmp_path)


@pytest.mark.parametrize("launcher", ["serial", "processes"])
def test_a_run_has_the_threads_that_were_asked_for_and_records_them(launcher, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    the_plan, before = plan(tmp_path, arms=["control"]), torch.get_num_threads()
    if before == 1:
        torch.set_num_threads(2)
    run_study(the_plan, launcher, concurrent=1, threads=1, datasets=squares, device="cpu", log=lambda line: None)
    assert the_plan.jobs()[0].run(tmp_path).done()["threads"] == 1
    assert status(the_plan)["state"].tolist() == ["done"] and SIZE.iterations == 4
    torch.set_num_threads(before)


FILE = """
from lkm_kit.studies import Arm, Study

UNET = {"features_per_stage": [4, 8], "strides": [[1, 1], [2, 2]], "kernel_sizes": 3}
STUDY = Study("tiny-of-mine", "?", (Arm("small", "small U-Net", "residual-unet/tiny-2d", UNET),), control="small")
"""


def lkm(*words):
    result = CliRunner().invoke(app, ["study", *map(str, words)])
    assert result.exit_code == 0, result.exception or result.output
    return " ".join(result.output.split())


def test_from_the_command_to_the_report_at_the_best_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(
        "lkm_kit.studies.worker.job_datasets", lambda job: squares(job) if job.scored else untouchable(job)
    )
    path = tmp_path / "tiny_of_mine.py"
    path.write_text(FILE)
    shared = ["--file", path, "--profile", "smoke", "--root", tmp_path, "--set", "image_size=[16,16]"]
    shared += ["--set", "iterations=2", "--set", 'organs=["liver","spleen"]']
    run_it = ["--device", "cpu", "--threads", 1]
    said = lkm("sweep", *shared, *run_it, "--rates", "0.01,0.02", "--warmups", "0.2", "--seeds", 1)
    folder = tmp_path / "tiny-of-mine-sweep" / "smoke" / "report"
    assert "| small U-Net |" in said and f"--best-of {folder}" in said and "done 2" in said
    picture = (folder / "sweep.png").read_bytes()
    (folder / "sweep.md").unlink()
    lkm("sweep", "--file", path, "--profile", "smoke", "--again", folder)
    assert (folder / "sweep.png").read_bytes() == picture and (folder / "sweep.md").exists()
    both = CliRunner().invoke(
        app, ["study", "sweep", "--file", str(path), "--again", str(folder), "--with", str(folder)]
    )
    assert isinstance(both.exception, KitError) and "--again reads one sweep" in str(both.exception)
    more = ["--rates", "0.01,0.02,0.04", "--warmups", "0.2", "--seeds", 1, "--with", folder, "--out", tmp_path / "more"]
    assert "done 1" in lkm("sweep", *shared, *run_it, *more)
    before, after = read_sweep(folder), read_sweep(tmp_path / "more")
    pd.testing.assert_frame_equal(before, after[after["rate"] < 0.04])
    caption = json.loads((tmp_path / "more" / "sweep.json").read_text())
    assert caption["config"]["learning_rate"] == [0.01, 0.02, 0.04] and caption["seed"] == [1000]
    less = ["--rates", "0.02", "--warmups", "0.2", "--seeds", 1, "--with", tmp_path / "more", "--out", tmp_path / "all"]
    lkm("sweep", *shared, *run_it, *less)
    pd.testing.assert_frame_equal(after, read_sweep(tmp_path / "all"))
    rate = best(read_sweep(folder))["rate"]["small"]
    own = ["--best-of", folder]
    assert f"--best-of {folder}" in lkm("run", *shared, *run_it, "--seeds", 1, *own)
    config = json.loads((tmp_path / "tiny-of-mine" / "smoke" / "small" / "seed-0" / "config.json").read_text())
    assert (config["learning_rate"], config["warmup"]) == (rate, 0.2)
    assert lkm("status", *shared, *own, "--seeds", 1).count("done") == 1
    assert lkm("status", *shared, "--seeds", 1).count("waiting") == 1  # at the profile's rate it is another run
    assert f"- learning_rate: {rate} " in lkm("report", *shared, *own)
    written = tmp_path / "tiny-of-mine" / "smoke" / "report-best-of" / "report.md"
    before = written.read_text()
    lkm("report", "--file", path, "--profile", "smoke", "--again", written.parent)
    assert written.read_text() == before, "the arm's own rate is in the report's files"


def test_the_protocol_names_what_is_swept_once(tmp_path):
    sweep = make_sweep(plan(tmp_path), [0.01, 0.003], [0.1])
    lines = sweep.protocol_lines()
    assert "learning_rate: [0.003, 0.01]" in lines and "warmup: [0.1]" in lines
    assert not sweep.differences()
