"""Running a study: resumable, safe under kill -9, never twice, and nothing lost when a folder is spoilt."""

import dataclasses
import json
import multiprocessing
import random
import shutil
import sys
from functools import partial

import pandas as pd
import pytest
from combinations import first
from toy_study import STUDY, broken, deadly, other_source, plan, poisoned, squares
from toy_training import PRELOAD

from lkm_kit.errors import KitError
from lkm_kit.evaluation import METRICS
from lkm_kit.studies.runner import collect, make_plan, run_study, seeds_found, status
from lkm_kit.studies.worker import run_job


def run(the_plan, **how):
    lines = []
    table = run_study(the_plan, **{"datasets": squares, "device": "cpu", "log": lines.append, **how})
    return table, lines


def scores(the_plan):
    return {(j.arm, j.seed): (j.folder(the_plan.root) / "per_case.csv").read_bytes() for j in the_plan.jobs()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    the_plan = plan(tmp_path_factory.mktemp("undisturbed"), seeds=2)
    run(the_plan)
    return the_plan


def test_folders_are_those_of_the_contract(undisturbed):
    folder = undisturbed.root / "toy-study" / "toy" / "lkm" / "seed-1"
    names = {"config.json", "history.csv", "weights.safetensors", "weights.json", "per_case.csv", "done.json"}
    assert {path.name for path in folder.iterdir()} == names
    rows = pd.read_csv(folder / "per_case.csv")
    assert rows.columns.tolist() == ["case", "organ", *METRICS]
    assert len(rows) == 4 * 2
    assert status(undisturbed)["state"].tolist() == ["done"] * 4
    newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == "done.json"


def test_a_run_is_announced_before_it_is_done_and_drawn_on_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lkm_kit.studies.launchers.sys.stderr.isatty", lambda: True, raising=False)
    _, lines = run(plan(tmp_path, seeds=1, arms=["lkm"]))
    assert lines[2:] == ["lkm seed 0: begins, 4 steps", "lkm seed 0: done"]
    bar = capsys.readouterr().err
    assert "lkm/seed-0" in bar and "4/4" in bar


def test_second_start_does_nothing(undisturbed):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.root.rglob("*.*") if path.suffix != ".lock"}
    _, lines = run(undisturbed)
    assert sum("done before" in line for line in lines) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_protocol_is_printed_and_seeds_matter(undisturbed):
    _, lines = run(undisturbed)
    told = " ".join(lines[1].split())
    for part in ("iterations 4", "batch_size 4", "optimizer adamw", "seeds [0, 1]", "test_cases 4"):
        assert part in told
    own = scores(undisturbed)
    assert own["lkm", 0] != own["lkm", 1] != own["control", 1]


@pytest.mark.parametrize(("split", "item"), [("train", 9), ("validation", 2), ("test", 3)])
def test_killed_at_any_stage_ends_in_the_same_numbers(split, item, undisturbed, tmp_path):
    the_plan = plan(tmp_path, seeds=1, arms=["lkm"])
    with pytest.raises(KitError, match="exit code -9"):
        run(the_plan, launcher="processes", concurrent=1, datasets=partial(deadly, split, item))
    state = status(the_plan).iloc[0]
    assert state["state"] == {"train": "training", "validation": "training", "test": "trained"}[split]
    _, lines = run(the_plan)
    assert any("goes on after step" in line or "begins" in line for line in lines) == (split != "test")
    job = the_plan.jobs()[0]
    assert (job.folder(tmp_path) / "per_case.csv").read_bytes() == scores(undisturbed)["lkm", 0]


def _run_in_a_process(root, seeds):
    run_study(plan(root, seeds), datasets=squares, device="cpu", log=lambda line: None)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork server")
@pytest.mark.parametrize("times", first([3, 10]))
def test_killed_many_times_at_random_and_run_twice_at_once(times, undisturbed, tmp_path):
    """The same command again and again, killed anywhere; then two of them at the same time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    draw = random.Random(0)
    finished = set()
    for _ in range(times):
        process = context.Process(target=_run_in_a_process, args=(tmp_path, 2), daemon=True)
        process.start()
        process.join(draw.uniform(0.1, 1.2))
        process.kill()
        process.join()
        table = status(plan(tmp_path, 2))
        done = {(row.arm, row.seed) for row in table.itertuples() if row.state == "done"}
        assert finished <= done, "a finished run was lost"
        assert not set(table["state"]) & {"damaged", "stale", "running"}
        finished = done
    pair = [context.Process(target=_run_in_a_process, args=(tmp_path, 2), daemon=True) for _ in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(120)
    assert [process.exitcode for process in pair] == [0, 0]
    assert scores(plan(tmp_path, 2)) == scores(undisturbed)


def test_processes_give_the_numbers_of_serial(undisturbed, tmp_path):
    table, _ = run(plan(tmp_path, 1), launcher="processes", concurrent=2)
    assert set(table["state"]) == {"done"}
    serial = scores(undisturbed)
    assert all(serial[key] == value for key, value in scores(plan(tmp_path, 1)).items())


def test_a_run_at_work_is_not_touched(tmp_path):
    the_plan = plan(tmp_path, 1)
    job = the_plan.jobs()[0]
    with job.run(tmp_path).held():
        assert run_job(job, tmp_path, wait=False, datasets=squares, log=lambda line: None) == "busy"
        assert not job.folder(tmp_path).exists()
        assert status(the_plan)["state"].tolist() == ["running", "waiting"]
    assert status(the_plan)["state"].tolist() == ["waiting", "waiting"]


def test_same_run_in_another_study_is_copied(undisturbed, tmp_path):
    shutil.copytree(undisturbed.root, tmp_path, dirs_exist_ok=True)
    other = dataclasses.replace(STUDY, name="other-study")
    _, lines = run(plan(tmp_path, 2, study=other))
    assert sum("copied" in line for line in lines) == 4
    assert scores(plan(tmp_path, 2, study=other)) == scores(undisturbed)


@pytest.mark.parametrize(
    ("spoil", "state"),
    [
        (lambda f: (f / "weights.safetensors").write_bytes(b"no weights"), "damaged"),
        (lambda f: (f / "config.json").write_text("{"), "damaged"),
        (lambda f: (f / "config.json").unlink(), "damaged"),
        (lambda f: (f / "done.json").write_text(""), "damaged"),
        (lambda f: (f / "per_case.csv").write_text("case,organ,DSC,NSD\n"), "trained"),
        (lambda f: (f / "per_case.csv").unlink(), "trained"),
    ],
)
def test_spoilt_folder_is_named_kept_and_run_again(spoil, state, undisturbed, tmp_path):
    shutil.copytree(undisturbed.root, tmp_path, dirs_exist_ok=True)
    the_plan = plan(tmp_path, 1, arms=["control"])
    folder = the_plan.jobs()[0].folder(tmp_path)
    spoil(folder)
    assert status(the_plan)["state"].tolist() == [state]
    _, lines = run(the_plan)
    assert (folder / "per_case.csv").read_bytes() == scores(undisturbed)["control", 0]
    aside = folder.with_name("seed-0.damaged-1")
    assert aside.exists() == (state == "damaged")
    assert any("seed-0.damaged-1" in line and str(folder) in line for line in lines) == (state == "damaged")


def test_damaged_checkpoint_starts_the_run_over(undisturbed, tmp_path):
    the_plan = plan(tmp_path, 1, arms=["control"])
    with pytest.raises(KitError):
        run(the_plan, launcher="processes", concurrent=1, datasets=partial(deadly, "train", 9))
    checkpoint = the_plan.jobs()[0].folder(tmp_path) / "state.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    run(the_plan)
    assert scores(the_plan)["control", 0] == scores(undisturbed)["control", 0]


def test_another_config_is_another_folder_and_both_are_found(undisturbed, tmp_path):
    shutil.copytree(undisturbed.root, tmp_path, dirs_exist_ok=True)
    before, shorter = scores(undisturbed), plan(tmp_path, 2, iterations=2)
    with pytest.raises(KitError, match=r"no run of toy-study .*\n.*iterations: 4 there, 2 now"):
        collect(shorter)
    assert set(status(shorter)["state"]) == {"waiting"} and seeds_found(shorter) == []
    run(plan(tmp_path, 1, iterations=2))
    assert status(shorter)["state"].tolist() == ["done"] * 2 + ["waiting"] * 2 and seeds_found(shorter) == [0]
    assert set(status(plan(tmp_path, 2))["state"]) == {"done"} and scores(plan(tmp_path, 2)) == before
    folders = sorted(path.name for path in (tmp_path / "toy-study" / "toy" / "control").glob("seed-0*"))
    assert folders[0] == "seed-0" and folders[1].startswith("seed-0-") and len(folders) == 2
    assert len(collect(shorter).rows) == len(collect(plan(tmp_path, 1)).rows)


def test_a_run_that_was_set_aside_is_found_again(undisturbed, tmp_path):
    """Version 0.1 renamed a finished run when the protocol changed."""
    shutil.copytree(undisturbed.root, tmp_path, dirs_exist_ok=True)
    folder = plan(tmp_path, 1).jobs()[0].folder(tmp_path)
    folder.rename(folder.with_name("seed-0.stale-1"))
    assert set(status(plan(tmp_path, 1))["state"]) == {"done"}
    _, lines = run(plan(tmp_path, 1))
    assert sum("done before" in line for line in lines) == 2 and not folder.exists()


def test_other_data_are_another_run(undisturbed, tmp_path):
    shutil.copytree(undisturbed.root, tmp_path, dirs_exist_ok=True)
    only = plan(tmp_path, 1, arms=["control"])
    _, lines = run(only, datasets=other_squares)
    assert any("control seed 0: done" in line and "before" not in line for line in lines)
    assert scores(only)["control", 0] == scores(undisturbed)["control", 0]  # the first one is as it was
    assert (only.jobs()[0].run(tmp_path).folder / "per_case.csv").read_bytes() != scores(undisturbed)["control", 0]


def other_squares(job):
    data = squares(job)
    for items in data.values():
        items.seed += 10
    return data


def test_more_test_items_are_scored_without_training_again(undisturbed, tmp_path):
    shutil.copytree(undisturbed.root, tmp_path, dirs_exist_ok=True)
    (job, *_) = plan(tmp_path, 1, arms=["control"]).jobs()
    longer = dataclasses.replace(job, test_cases=6)
    stamp = (job.folder(tmp_path) / "weights.safetensors").stat().st_mtime_ns
    assert longer.state(longer.run(tmp_path)).name == "trained"
    assert run_job(longer, tmp_path, device="cpu", datasets=squares, log=lambda line: None) == "done"
    assert len(pd.read_csv(job.folder(tmp_path) / "per_case.csv")) == 6 * 2
    assert (job.folder(tmp_path) / "weights.safetensors").stat().st_mtime_ns == stamp


def test_a_metric_that_came_later_is_scored_without_training_again(undisturbed, tmp_path, monkeypatch):
    shutil.copytree(undisturbed.root, tmp_path, dirs_exist_ok=True)
    (job, *_) = plan(tmp_path, 1, arms=["control"]).jobs()
    stamp = (job.folder(tmp_path) / "weights.safetensors").stat().st_mtime_ns
    monkeypatch.setitem(METRICS, "mine", lambda prediction, truth, spacing, label: float(label.id))
    assert "mine" not in collect(plan(tmp_path, 2)).rows  # what all runs have goes into one table
    said = []
    for _ in range(2):
        assert run_job(job, tmp_path, device="cpu", datasets=squares, log=said.append) == "done"
    assert [line.endswith("done before") for line in said] == [False, True]
    rows = pd.read_csv(job.folder(tmp_path) / "per_case.csv")
    assert set(rows["mine"]) == {label.id for label in job.config.table}
    assert (job.folder(tmp_path) / "weights.safetensors").stat().st_mtime_ns == stamp


def test_runs_of_version_0_1_are_found_and_collected(undisturbed, tmp_path):
    """Their config.json is the config alone, with all fields of then; their done.json names no files and no sources."""
    shutil.copytree(undisturbed.root, tmp_path, dirs_exist_ok=True)
    for folder in (tmp_path / "toy-study" / "toy").glob("*/seed-*"):
        config, done = (json.loads((folder / name).read_text()) for name in ("config.json", "done.json"))
        del config["identity"], config["data_seed"]  # as if this field had come later
        for key in ("files", "kit_version", "code", "backend", "threads"):
            del done[key]
        del done["scores"]["test"]
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "done.json").write_text(json.dumps(done))
    _, lines = run(plan(tmp_path, 2))
    assert sum("done before" in line for line in lines) == 4
    assert len(collect(plan(tmp_path, 2)).rows) == len(collect(undisturbed).rows)


@pytest.mark.parametrize("key", ["kit_version", "code", "torch", "backend", "device", "threads", "processes"])
def test_runs_that_were_made_differently_are_not_put_into_one_table(key, undisturbed, tmp_path):
    shutil.copytree(undisturbed.root, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "toy-study" / "toy" / "lkm" / "seed-1" / "done.json"
    done = json.loads(path.read_text())
    path.write_text(json.dumps({**done, key: "another"}))
    with pytest.raises(KitError, match=rf"{key}: .* \(control, lkm\), another \(lkm\)") as error:
        collect(plan(tmp_path, 2))
    assert "--mixed" in error.value.remedy
    assert f"{key}: " in collect(plan(tmp_path, 2), mixed=True).mixed
    assert collect(plan(tmp_path, 1)).mixed == ""


def test_scores_on_other_data_are_never_mixed_in(tmp_path):
    run(plan(tmp_path, 1, arms=["control"]))
    run(plan(tmp_path, 1), datasets=other_source)
    with pytest.raises(KitError, match="made on different data") as error:
        collect(plan(tmp_path, 1))
    assert "a phantom: lkm" in str(error.value)
    assert collect(plan(tmp_path, 1, arms=["lkm"])).runs["source"].tolist() == ["a phantom"]


def test_divergence_is_a_result(tmp_path):
    the_plan = plan(tmp_path, 1, train_slices=16)
    table, lines = run(the_plan, datasets=poisoned)
    assert table["state"].tolist() == ["done", "diverged"]
    assert "the loss is nan at step" in table["detail"].iloc[1]
    assert any("diverged" in line for line in lines)
    results = collect(the_plan)
    assert results.runs["state"].tolist() == ["done", "diverged"]
    assert results.missing == []
    assert set(results.rows["arm"]) == {"control"}
    _, lines = run(the_plan, datasets=poisoned)  # the same steps would diverge again: not repeated
    assert any("diverged before" in line for line in lines)


def test_one_failure_does_not_stop_the_others(tmp_path):
    the_plan = plan(tmp_path, 1)
    with pytest.raises(KitError, match="1 of 2 runs failed") as error:
        run(the_plan, datasets=broken)
    assert "the disk with the scans is gone" in str(error.value)
    assert status(the_plan)["state"].tolist() == ["done", "waiting"]
    assert collect(the_plan).missing == ["lkm seed 0 (waiting)"]


def test_collect_joins_all_runs(undisturbed):
    results = collect(undisturbed)
    assert len(results.rows) == 2 * 2 * 4 * 2
    assert results.rows.columns.tolist() == ["arm", "seed", "case", "organ", *METRICS]
    assert (results.runs["seconds_per_step"] > 0).all()
    assert results.runs["hardware"].str.contains("CPU").all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda root: plan(root, arms=["lmk"]), "no arm of toy-study 'lmk'"),
        (lambda root: plan(root, seeds=0), "at least one seed"),
        (lambda root: plan(root, itterations=3).jobs(), "no field 'itterations'"),
        (lambda root: plan(root, network="lkm-unet/tiny-2d").jobs(), "network cannot be changed"),
        (lambda root: make_plan("table4", "smoke", root=root), "no study 'table4'"),
        (lambda root: run_study(plan(root), "slum", log=lambda line: None), "no launcher 'slum'"),
        (lambda root: collect(plan(root)), "no run of toy-study"),
    ],
)
def test_wrong_input_is_named(call, message, tmp_path):
    with pytest.raises(KitError, match=message):
        call(tmp_path)


def test_runs_whose_weights_were_not_kept_are_reported_when_asked_for(undisturbed, tmp_path):
    copied = tmp_path / "root"
    shutil.copytree(undisturbed.root, copied)
    here = dataclasses.replace(undisturbed, root=copied)
    for weights in copied.rglob("weights.safetensors"):
        weights.unlink()
    assert {*status(here)["state"]} == {"damaged"}
    assert {*status(here)["detail"]} == {"weights.safetensors is not there"}
    with pytest.raises(KitError, match=r"weights\.safetensors is not there"):
        collect(here)
    found = collect(here, weights=False)
    pd.testing.assert_frame_equal(found.rows, collect(undisturbed).rows)
    assert found.missing == []


def test_weights_that_were_changed_are_damage_whatever_is_asked_for(undisturbed, tmp_path):
    copied = tmp_path / "root"
    shutil.copytree(undisturbed.root, copied)
    here = dataclasses.replace(undisturbed, root=copied)
    changed = min(copied.rglob("weights.safetensors"))
    changed.write_bytes(b"other weights")
    assert (status(here, weights=False)["state"] == "damaged").sum() == 1
    assert len(collect(here, weights=False).missing) == 1
