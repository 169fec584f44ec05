"""From finished runs to a report: what it says when there is an effect, none, too little, or a divergence."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from toy_study import plan, poisoned, squares
from toy_training import Squares
from typer.testing import CliRunner

from lkm_kit.commands import study as command
from lkm_kit.data.manifest import Manifest
from lkm_kit.errors import KitError
from lkm_kit.studies import published
from lkm_kit.studies import report as report_module
from lkm_kit.studies.conclusions import conclude
from lkm_kit.studies.plan import Results
from lkm_kit.studies.reference import read_results
from lkm_kit.studies.report import make_report
from lkm_kit.studies.report_text import person_table, precision_table
from lkm_kit.studies.runner import make_plan, run_study

ROW = {
    "seeds": 3, "diverged": 0, "unlearnt": "", "difference": 1.0, "low": 0.4, "high": 1.6, "p_holm": 0.01,
    "detectable": 0.9,
}  # fmt: skip
OVER = {"low gain": 1.0, "high gain": 2.0}  # the interval of our gain over the paper's baseline


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"published": 1.5, **OVER},
            "better than C on these cases; the published gain of .1.50 over the paper's baseline is inside "
            r"the interval of ours over it \(\+1.00 to \+2.00\)",
        ),
        ({}, "better than C on these cases$"),
        ({"published": 0.5, **OVER}, "is below the interval"),
        ({"p_holm": 0.2}, r"no difference to C shown \(\+0.40 to \+1.60\); this study would have shown ±0.90"),
        ({"difference": -1.0, "published": 2.5, **OVER}, "worse than C on these cases; .* above the interval"),
        ({"seeds": 2, "p_holm": np.nan}, r"no verdict from 2 seeds, where it is \+1.00 from C; that takes 3$"),
        ({"seeds": 0}, "not run"),
        ({"seeds": 0, "diverged": 3}, "diverged in 3 runs"),
        ({"diverged": 1, "unlearnt": "aorta not learnt"}, "diverged in 1 run; aorta not learnt; better"),
    ],
)
def test_conclusions(change, said):
    assert re.match(f"^.*{said}", conclude({**ROW, **change}, "C"))


def test_a_smaller_distance_is_better():
    assert conclude(ROW, "C", "HD95").startswith("worse than C")


def fake_results(size, effect, seeds=3, cases=20):
    """Rows of Table 3's arms: those with PiM gain ``effect``, everything else is noise."""
    rng = np.random.default_rng(0)
    level = rng.normal(0.7, 0.1, cases)
    names = [arm.name for arm in make_plan("table3", size).study.arms]
    rows = [
        (arm, seed, f"case {case}", "liver", level[case] + (effect if "pim" in arm else 0) + rng.normal(0, 0.01))
        for arm in names
        for seed in range(seeds)
        for case in range(cases)
    ]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "case", "organ", "DSC"])
    runs = [(arm, seed, "done", 0.1, "test CPU", "a scan", "") for arm in names for seed in range(seeds)]
    columns = ["arm", "seed", "state", "seconds_per_step", "hardware", "source", "detail"]
    return Results(frame.assign(NSD=frame["DSC"]), pd.DataFrame(runs, columns=columns), [])


def report_of(monkeypatch, results, seeds=3):
    monkeypatch.setattr(report_module, "collect", lambda plan, **how: results)
    return make_report(make_plan("table3", "laptop", seeds=seeds, root="nowhere"))


def test_an_effect_is_found_where_it_is_and_nowhere_else(monkeypatch):
    report = report_of(monkeypatch, fake_results("laptop", 0.06))
    table = report.table
    with_pim = table.index.str.contains("pim")
    assert table.loc[with_pim, "conclusion"].str.startswith("better than residual U-Net").all()
    others = table.loc[~with_pim & (table.index != "residual-unet"), "conclusion"]
    assert others.str.startswith("no difference").all()
    assert table.loc["pim", "difference"] == pytest.approx(6.0, abs=0.5)  # points
    assert table.loc["residual-unet", "conclusion"] == "the control"
    pairs = report.comparisons.set_index(["arm", "versus", "score"])
    assert abs(pairs.loc[("pim-bim", "pim-bim-shuffled", "DSC"), "difference"]) < 0.5
    assert pairs.loc[("pim-pam-bim", "wide-residual-unet", "DSC"), "low"] > 1


def test_every_comparison_has_its_verdict_and_its_power(monkeypatch, tmp_path):
    """Scan against convolution, mean and attention in the same window, equal parameters, equal time."""
    results = fake_results("laptop", 0.0)
    lost = results.rows["arm"].eq("pim-pam-mean") & results.rows["seed"].eq(1)
    rows = results.rows.assign(DSC=results.rows["DSC"].mask(lost, 0.0))
    made = Results(rows, results.runs, ["pam seed 9 (training)"], mixed="code: a (pim), b (pam)")
    report = report_of(monkeypatch, made)
    text = report.text()
    for title in ("PiM+PaM, depth-wise 7x7", "PiM+PaM, mean", "PiM+PaM, attention", "residual U-Net, wider"):
        row = next(line for line in text.split("\n") if line.startswith(f"| PiM+PaM+BiM − {title}, DSC | "))
        assert re.search(r"\| (±\d+\.\d\d|none) \| .*this study would have shown (±\d|none)", row), row
        assert ("PiM+PaM, mean: liver not learnt in 1 of 3 seeds" in row) == (title == "PiM+PaM, mean")
    assert "| PiM+PaM+BiM, equal time |" in text
    assert text.index("**PiM+PaM, mean: liver not learnt in 1 of 3 seeds.**") < text.index("| plain U-Net |")
    exact, table = precision_table(report), report.table.set_index("title")
    halves = (table["high"] - table["low"]) / 2
    assert exact["half-width"].to_dict() == halves.dropna().map("{:.2f}".format).to_dict()
    assert exact.loc["PiM", "seeds for ±1.5"] == "2" and exact.loc["PiM+PaM, mean", "seeds for ±1.5"] == "no number"
    # what is written is enough, also for an arm that takes a share of the steps
    plan, again = read_results("table3", report.write(tmp_path))
    assert plan.differences() == {"pim-pam-bim-equal-time": {"iterations": 148}}
    assert make_report(plan, again).text() == text and "not all made with the same: code: a (pim), b" in text


def test_two_cases_of_one_person_are_one_sample(monkeypatch):
    """Every case twice, under two names: by persons the numbers are those of the cases taken once."""
    once = fake_results("laptop", 0.06, cases=10)
    alone = report_of(monkeypatch, once)
    assert person_table(alone).empty and "show one person" not in alone.text()
    twin = once.rows.assign(case=once.rows["case"] + ", other side")
    rows = pd.concat([once.rows, twin], ignore_index=True)
    persons = {case: case.removesuffix(", other side") for case in rows["case"]}
    found = person_table(report_of(monkeypatch, Results(rows, once.runs, [], data=[{"persons": persons}])))
    assert set(found["persons"]) == {"10"} and len(found) == len(alone.comparisons.query("score == 'DSC'"))
    row = alone.comparisons.query("arm == 'pim' and score == 'DSC'").iloc[0]
    wanted = f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
    assert found.loc["PiM − residual U-Net", ["difference [95 %]", "verdict"]].tolist() == [wanted, "the same"]


def test_published_numbers_stand_beside_ours(monkeypatch):
    table = report_of(monkeypatch, fake_results("laptop", 0.0)).table
    assert table.loc["pim-pam-bim", ["published DSC", "published NSD"]].tolist() == [77.35, 83.80]
    assert table.loc["pim-pam-bim", "published DSC gain"] == pytest.approx(2.85)
    assert np.isnan(table.loc["plain-unet", "published DSC gain"])  # it is the paper's own baseline
    assert np.isnan(table.loc["residual-unet", "published DSC"])  # which the paper does not have
    assert table["parameters"].between(50_000, 400_000).all()
    assert not table["conclusion"].str.contains("published gain").any()  # the data are not the paper's


def test_gains_over_the_papers_baseline_stand_beside_each_other(monkeypatch):
    """Not against the control: that has other convolutions than the baseline."""
    results = fake_results("laptop", 0.06)
    lower = results.rows["arm"].eq("plain-unet")
    rows = results.rows.assign(DSC=results.rows["DSC"] - 0.03 * lower)
    report = report_of(monkeypatch, Results(rows, results.runs, []))
    gains = report.gains_over_the_baseline()
    assert set(gains.index) == {"pim", "pam", "pim-bim", "pam-bim", "pim-pam", "pim-pam-bim"}
    assert gains.loc["pim-pam-bim", "published"] == pytest.approx(2.85)
    assert gains.loc["pim-pam-bim", "ours"] == pytest.approx(9.0, abs=0.5)  # 0.06 over the control, 0.09 over this
    assert gains.loc["pam", "low gain"] < gains.loc["pam", "ours"] < gains.loc["pam", "high gain"]
    _, right = report.figure().axes
    diamonds = [line for line in right.lines if line.get_marker() == "D" and len(line.get_xdata())]
    drawn = {round(float(line.get_xdata()[0]), 6): line.get_fillstyle() for line in diamonds}
    assert drawn == {round(x, 6): fill for x in gains["ours"] for fill in ["full"]} | {
        round(x, 6): "none" for x in gains["published"]
    }
    assert any("over the plain U-Net (diamonds)" in said for said in report.caveats)
    assert report.comparisons.set_index(["arm", "versus", "score"]).loc[("pim-pam-bim", "plain-unet", "DSC"), "low"] > 6


def test_without_an_arm_for_the_baseline_no_published_gain_is_drawn(monkeypatch):
    results = fake_results("laptop", 0.06)
    kept = [each[each["arm"] != "plain-unet"] for each in (results.rows, results.runs)]
    report = report_of(monkeypatch, Results(*kept, []))
    assert report.gains_over_the_baseline().empty and not any("diamonds" in said for said in report.caveats)
    assert not [line for line in report.figure().axes[1].lines if line.get_marker() == "D"]


def test_caveats_say_what_is_missing(monkeypatch):
    results = fake_results("laptop", 0.0, seeds=1)
    lost = [results.rows["arm"].eq("pim"), results.runs["arm"].eq("pim")]
    kept = [each[~gone] for each, gone in zip((results.rows, results.runs), lost)]
    missing = ["pam seed 7 (training)", "pim seed 0 (waiting)"]
    report = report_of(monkeypatch, Results(*kept, missing), seeds=1)
    said = " ".join(report.caveats)
    begun, waiting = "Not finished: pam seed 7 (training).", "Arms with fewer than 1 seeds: PiM (0)."
    for part in ("deformed copies of one patient", "One seed", begun, waiting, "1000 epochs"):
        assert part in said
    assert report.table["conclusion"].str.contains("no verdict from 1 seed,").sum() == len(report.table) - 2


def test_few_seeds_are_told_how_often_their_intervals_hold(monkeypatch):
    report = report_of(monkeypatch, fake_results("laptop", 0.02))
    said = re.search(
        r"Student's 95 % interval covered the true value in (\d+) %, the bootstrap's in (\d+) %", report.text()
    )
    student, bootstrap = map(int, said.groups())
    assert bootstrap < 85 < 90 < student
    _, right = report.figure().axes
    assert {"95 % interval, Student", "95 % interval, bootstrap"} <= {line.get_label() for line in right.get_lines()}


def test_invented_organs_are_counted_beside_and_a_changed_verdict_is_marked(monkeypatch):
    """Every arm with PiM is better where the organ is, and invents one that the others rightly leave out."""
    results = fake_results("laptop", 0.06)
    rows = results.rows
    absent = rows[rows["organ"] == rows["organ"].iloc[0]].assign(organ="esophagus", DSC=np.nan, NSD=np.nan)
    absent.loc[absent["arm"].str.contains("pim"), ["DSC", "NSD"]] = 0.0
    report = report_of(monkeypatch, Results(pd.concat([rows, absent], ignore_index=True), results.runs, []))
    pairs = report.comparisons.set_index(["arm", "versus", "score"]).loc[("pim", "residual-unet", "DSC")]
    assert pairs["low"] > 0 > pairs["high strict"]
    lines = [line for line in report.text().split("\n") if "another verdict" in line]
    with_pim = sum("pim" in arm for arm in report.table.index)
    assert sum(" − residual U-Net: " in line for line in lines) == with_pim
    assert not any(line.startswith("- PaM −") for line in lines)


def test_only_on_the_papers_data_is_the_published_gain_held_against_the_interval(monkeypatch, tmp_path):
    assert not published.is_papers_data(tmp_path)
    Manifest(tmp_path, {"paper_split": True}).save()
    monkeypatch.setattr(published, "is_papers_data", lambda data, known=published.is_papers_data: known(tmp_path))
    table = report_of(monkeypatch, fake_results("laptop", 0.06)).table
    assert table["conclusion"].str.contains("published gain of").sum() == 6
    assert "of +2.85 over the paper's baseline is below the interval of ours" in table.loc["pim-pam-bim", "conclusion"]


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_other_tables_know_their_published_gains(name):
    plan = make_plan(name, "laptop")
    rows = {arm.name: report_module._published(plan, arm.published) for arm in plan.study.arms}
    best = rows["lkm-unet" if name == "table1" else "contiguous-large"]
    assert best["published DSC gain"] == pytest.approx(77.35 - 74.50)
    assert published.table1.loc["nnU-Net", ("MR", "DSC")] == 74.50


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    the_plan = plan(tmp_path_factory.mktemp("finished"), seeds=2)
    run_study(the_plan, datasets=squares, device="cpu", log=lambda line: None)
    return the_plan


def test_whole_way_from_runs_to_files(finished, tmp_path):
    report = make_report(finished)
    folder = report.write(tmp_path / "report")
    names = {
        "report.csv",
        "comparisons.csv",
        "per_case.csv",
        "runs.csv",
        "report.md",
        "report.tex",
        "differences.png",
        "differences.json",
        "history.csv",
        "learning.png",
        "learning.json",
    }
    assert {path.name for path in folder.iterdir()} == names
    text = (folder / "report.md").read_text()
    for part in (
        "| no Mamba |",
        "| LKM-UNet |",
        "the control",
        "PiM 64, 16; PaM 4, 4",
        "batch_size: 4",
        "threads",
        "Each item that was scored counts as a case",
        "last quarter's gain; below 1 point?",
    ):
        assert part in text
    table = pd.read_csv(folder / "report.csv").set_index("arm")
    # the numbers are those of the runs
    rows = pd.read_csv(finished.jobs()[1].folder(finished.root) / "per_case.csv")
    others = pd.read_csv(finished.jobs()[3].folder(finished.root) / "per_case.csv")
    by_hand = np.mean([r.groupby("organ")["DSC"].mean().mean() for r in (rows, others)])
    assert table.loc["lkm", "DSC"] == pytest.approx(100 * by_hand, rel=1e-5)
    latex = (folder / "report.tex").read_text()
    assert latex.count(r"\\") == 1 + 2
    assert json.loads((folder / "differences.json").read_text())["profile"] == "toy"
    assert make_report(finished).text() == report.text()
    seen = report.results.history  # two validations of two seeds of two arms; their ends stand in the report
    assert seen.groupby(["arm", "seed"])["step"].apply(list).tolist() == [[2, 4]] * 4
    ends = 100 * seen.query("arm == 'lkm' and step == 4")["DSC"]
    gain = 100 * seen.query("arm == 'lkm'").groupby("seed")["DSC"].diff().mean()
    row = next(line for line in text.split("\n") if line.startswith("| LKM-UNet | 4 |"))
    assert f"{ends.mean():.2f} ± {ends.std():.2f}" in row and f"{gain:+.2f}".replace("-", "−") in row
    panels = report.figure_of_learning().axes
    assert [axis.get_title() for axis in panels] == ["no Mamba", "LKM-UNet"]
    assert [len(axis.get_lines()[0].get_xdata()) for axis in panels] == [2, 2]
    shown = report.labels().loc["LKM-UNet"]
    assert all(cell.count(" / ") == 1 for cell in shown)  # two seeds
    # the written files are enough to make it anew, at the sizes it was made with
    again = make_report(*read_results(finished.study, folder, finished.size))
    assert again.text() == report.text()


def test_figure_has_a_dot_a_seed_and_no_bars(finished):
    figure = make_report(finished).figure()
    left, right = figure.axes
    dots = [line.get_xdata() for line in left.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [len(xs) for xs in dots] == [2, 2]
    assert not left.patches and not right.patches
    assert [label.get_text() for label in left.get_yticklabels()] == ["no Mamba", "LKM-UNet"]


def test_diverged_arm_is_reported_not_dropped(tmp_path):
    the_plan = plan(tmp_path, 1, train_slices=16)
    run_study(the_plan, datasets=poisoned, device="cpu", log=lambda line: None)
    report = make_report(the_plan)
    assert report.table.loc["lkm", "conclusion"] == "diverged in 1 run"
    assert "diverged in 1 run" in report.text()
    assert "no result" in [text.get_text() for text in report.figure().axes[0].texts]


def test_without_its_control_nothing_is_compared(tmp_path):
    the_plan = plan(tmp_path, 1, arms=["lkm"])
    run_study(the_plan, datasets=squares, device="cpu", log=lambda line: None)
    with pytest.raises(KitError, match="the control 'control' of toy-study has no finished run") as error:
        make_report(the_plan)
    assert "--arms control" in error.value.remedy


def large_squares(job):
    lengths = {"train": job.config.train_slices, "validation": job.config.validation_slices, "test": job.test_cases}
    return {split: Squares(length, seed=k, size=96) for k, (split, length) in enumerate(lengths.items())}


def invoke(*words):
    return CliRunner().invoke(command.app, [str(word) for word in words])


def test_command_line_from_run_to_report(tmp_path, monkeypatch):
    monkeypatch.setattr("lkm_kit.studies.worker.job_datasets", large_squares)
    shared = [
        "table3",
        "--profile",
        "smoke",
        "--arms",
        "residual-unet,pim",
        "--set",
        "iterations=1",
        "--root",
        tmp_path,
    ]
    before = invoke("status", *shared)
    assert before.output.count("waiting") == 2
    result = invoke(*shared, "--seeds", 2, "--device", "cpu")  # a study's name runs it
    assert result.exit_code == 0, result.output
    assert "iterations 1 " in " ".join(result.output.split())
    assert result.output.count(": done") == 4
    assert invoke("status", *shared).output.count("done") == 4  # both seeds are found in the folders
    result = invoke("report", *shared)
    assert result.exit_code == 0, result.output
    assert "| PiM | 76.82 | 83.05 |" in result.output
    assert (tmp_path / "table3" / "smoke" / "report" / "report.tex").exists()
    listed = invoke("list", "--profile", "smoke").output
    assert all(name in listed for name in ("table1", "umamba-enc", "dilated-small", "pim-bim-shuffled"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "table9"], "no study 'table9'"),
        (["run", "table3", "--arms", "pin"], "no arm of table3 'pin'"),
        (["run", "table3", "--set", "iterations"], "write --set FIELD=VALUE"),
        (["run", "table3", "--set", "seed=3"], "seed cannot be changed"),
        (["run", "table3", "--set", "iteratoins=3"], "no field 'iteratoins'"),
        (["report", "table3"], "no run of table3"),
    ],
)
def test_command_line_names_what_is_wrong(words, message, tmp_path):
    result = invoke(*words, "--profile", "smoke", "--root", tmp_path)
    assert isinstance(result.exception, KitError)
    assert message in str(result.exception)
