"""The functional receptive field: right where a network can see, at chance where it cannot; finished runs are kept."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from lkm_kit.commands.reach import reach
from lkm_kit.errors import KitError
from lkm_kit.figures import build_figures
from lkm_kit.profiles import PROFILES, Reach
from lkm_kit.studies import functional
from lkm_kit.studies.functional import CueRun, functional_study, run, train_and_score
from lkm_kit.studies.functional_tables import by_distance, by_offset, reaches, report_text, write_report
from lkm_kit.studies.reference import FOLDER

SMALL = Reach(size=(24, 24), pairs=4, iterations=60, test_pairs=24, probes=4, seeds=(0,))
CONVOLUTIONS_REACH = 7  # pixels, of two stages with 3x3 and 1x1 kernels, whichever way the stride falls


def trained(name: str, reach: Reach = SMALL) -> pd.DataFrame:
    table = by_distance([train_and_score(functional_study(reach).arm(name), 0, reach, "cpu")])
    return table.set_index(["cue", "distance"])


def test_convolutions_are_right_as_far_as_they_see_and_at_chance_exactly_beyond():
    anywhere = trained("residual-unet").loc["anywhere"]
    assert (anywhere["accuracy"][:4] > 0.9).all()
    beyond = anywhere[CONVOLUTIONS_REACH + 1 :]
    assert (beyond["accuracy"] == 0.5).all() and (beyond["visible"].dropna() == 0).all()


def test_patches_carry_the_sign_across_the_map_but_one_direction_only_forward():
    both, forward = trained("pam-bim"), trained("pam")
    assert both.loc["anywhere"]["accuracy"][:18].min() > 0.8
    assert forward.loc["before"]["accuracy"][9:18].min() > 0.75
    after = forward.loc["after"]
    assert after["accuracy"][12:18].mean() < forward.loc["before"]["accuracy"][12:18].mean() - 0.2


def test_instance_norm_lets_short_convolutions_answer_everywhere():
    leaking = trained("residual-unet-instance").loc["anywhere"]
    assert leaking["accuracy"][CONVOLUTIONS_REACH + 1 :].mean() > 0.75
    assert (leaking["visible"].dropna() == 1).all()


def test_a_mixer_and_an_order_see_their_windows_and_no_farther():
    arms = functional_study(SMALL, "scans")
    for name, farthest in (("attention", 12), ("hilbert", 12), ("local", 23)):
        table = by_distance([train_and_score(arms.arm(name), 0, dataclasses.replace(SMALL, iterations=4), "cpu")])
        visible = table[table["cue"] == "anywhere"].set_index("distance")["visible"].dropna()
        assert visible[visible > 0].index.max() <= farthest, name
    assert visible[13] > 0.5, "windows in one sequence carry across the map"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    root, lines = tmp_path_factory.mktemp("runs"), []
    return root, run("smoke", root=root, device="cpu", say=lines.append), lines


def test_smoke_runs_every_arm_once(smoke, monkeypatch):
    root, runs, lines = smoke
    assert [done.arm for done in runs] == [arm.name for arm in functional_study(PROFILES["smoke"].reach).arms]
    assert "iterations 3" in lines[0] and len(lines) == 1 + len(runs)
    monkeypatch.setattr(functional, "train_and_score", None)  # the second time, nothing is trained
    again = run("smoke", root=root, say=lines.append)
    for a, b in zip(runs, again):
        assert a.about == b.about and np.array_equal(a.right, b.right) and np.array_equal(a.looks, b.looks)


def test_a_damaged_run_is_set_aside_and_made_again_with_the_same_numbers(smoke):
    root, runs, _ = smoke
    path = root / "functional" / "smoke" / "pam" / "seed-0" / "answers.npz"
    path.write_bytes(path.read_bytes()[:100])
    (again,) = run("smoke", arms=["pam"], root=root, device="cpu", say=lambda line: None)
    before = next(done for done in runs if done.arm == "pam")
    assert np.array_equal(again.right, before.right)
    assert path.exists() and path.parent.with_name("seed-0.damaged-1").exists()


def test_runs_of_another_protocol_lie_elsewhere(smoke):
    root, _, _ = smoke
    size = PROFILES["smoke"]
    longer = dataclasses.replace(size, reach=dataclasses.replace(size.reach, iterations=2))
    run(longer, arms=["pam-bim"], root=root, device="cpu", say=lambda line: None)
    assert len(list((root / "functional" / "smoke" / "pam-bim").glob("seed-0*/answers.npz"))) == 2


def test_divergence_is_reported_not_dropped(monkeypatch, tmp_path):
    monkeypatch.setattr(functional, "LEARNING_RATE", 1e30)
    lines = []
    runs = run("smoke", arms=["residual-unet"], root=tmp_path, device="cpu", say=lines.append)
    assert "diverged at step" in lines[-1]
    assert reaches(by_distance(runs))["diverged"].tolist() == [1, 1, 1]
    assert "1 of 1 diverged" in report_text(runs, PROFILES["smoke"])


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(KitError, match="no arm of functional 'pim-bin'") as error:
        run("smoke", arms=["pim-bin"], root=tmp_path)
    assert "'pim-bim'" in error.value.remedy
    with pytest.raises(KitError, match="no study of the cue task 'scan'"):
        run("smoke", of="scan", root=tmp_path)
    with pytest.raises(KitError, match="at least one seed"):
        run("smoke", seeds=0, root=tmp_path)
    with pytest.raises(KitError, match="no runs"):
        by_distance([])
    with pytest.raises(KitError, match=r"threshold 0\.5"):
        reaches(pd.DataFrame(), 0.5)
    assert list(tmp_path.iterdir()) == []


def lit(right_of: int) -> CueRun:
    """A 5x5 image whose answers are all right when the cue lies at most ``right_of`` pixels away, else half of them."""
    down, right = np.mgrid[-4:5, -4:5]
    answers = np.full((9, 9), 2)
    hits = np.where(np.maximum(abs(down), abs(right)) <= right_of, 2, 1)
    return CueRun("a", right_of, hits, answers, answers, answers, {})


def test_tables_of_known_answers():
    table = by_distance([lit(1), lit(2)])
    assert set(table["distance"]) == {0, 1, 2}  # a cue of 3 pixels is at most 2 away
    anywhere = table[(table["seed"] == 1) & (table["cue"] == "anywhere")]
    assert anywhere["accuracy"].tolist() == [1, 1, 0.5] and anywhere["answers"].tolist() == [2, 16, 32]
    before, after = (table[(table["seed"] == 1) & (table["cue"] == cue)] for cue in ("before", "after"))
    assert before["answers"].tolist() == after["answers"].tolist() == [0, 8, 16]
    row = reaches(table).set_index("cue").loc["anywhere"]
    assert row[["reach", "low", "high", "possible"]].tolist() == [1.5, 1, 2, 2]


def test_cells_of_the_map_hold_every_answer_once():
    cells = by_offset([lit(1), lit(1)], cell=3)
    assert cells["answers"].sum() == 2 * 2 * 81
    assert cells.set_index(["down", "right"])["accuracy"][0, 0] == 1
    assert cells.set_index(["down", "right"])["accuracy"][3, 0] == 0.5


def test_the_committed_results_draw_the_figure_and_agree_with_each_other(tmp_path):
    (picture,) = build_figures(["functional_receptive_field"], tmp_path)
    assert picture.stat().st_size > 50_000
    caption = json.loads(picture.with_suffix(".json").read_text())
    folder = FOLDER / "functional-laptop"
    assert caption["profile"] == "laptop" and caption["config"]["results"] == f"studies/{folder.name}"
    table, reach_table = (pd.read_csv(folder / f"{name}.csv") for name in ("by_distance", "reach"))
    pd.testing.assert_frame_equal(reaches(table), reach_table, check_dtype=False, rtol=1e-3)
    arms = [arm.name for arm in functional_study(PROFILES["laptop"].reach).arms]
    assert reach_table["arm"].drop_duplicates().tolist() == arms
    assert set(table["seed"]) == set(PROFILES["laptop"].reach.seeds)


def test_report_files_and_command(smoke, tmp_path):
    root, runs, _ = smoke
    write_report(runs, PROFILES["smoke"], tmp_path / "written")
    app = typer.Typer()
    app.command()(reach)
    arguments = ["--profile", "smoke", "--root", str(root), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "| PiM+PaM+BiM |" in done.output
    for name in ("by_distance.csv", "by_offset.csv", "reach.csv", "report.md"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "written" / name).read_bytes()
    listed = CliRunner().invoke(app, ["--profile", "smoke", "--list"]).output
    assert all(done.arm in listed for done in runs)
