"""Studies on a data set: arms fitted to its images, cases scored whole, patients apart, folds, and nothing mixed up."""

import json
import re
import shutil

import archives
import pandas as pd
import pytest
from combinations import first
from own_data import LABELS, NAME, at_home, make_case, make_data, write

from lkm_kit.data import DataSet
from lkm_kit.errors import KitError
from lkm_kit.evaluation import METRICS
from lkm_kit.profiles import in_3d, profile
from lkm_kit.studies import study
from lkm_kit.studies.arms import KERNEL_SIZES
from lkm_kit.studies.costs import cost
from lkm_kit.studies.own_data import chosen_folds, fitted, split_of, splits_of
from lkm_kit.studies.reference import read_results
from lkm_kit.studies.report import make_report
from lkm_kit.studies.runner import make_plan
from lkm_kit.training import TrainConfig

SMALL = ["--set", "iterations=1", "--set", "batch_size=1", "--set", "validation_slices=1"]
ARMS = ["--arms", "residual-unet,plain-unet"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("made") / NAME, cases=4, test=2)


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    return at_home(made, tmp_path, monkeypatch)


def test_slices_along_another_axis(folder):
    plan = make_plan("table3", "smoke", data_set=DataSet(folder), root="nowhere", axis=0)
    assert plan.protocol()["axis"] == 0 and plan.protocol()["data"] == folder.name


def test_a_study_from_a_folder_to_its_report(folder, tmp_path, capsys):
    options = ["--data", folder, "--profile", "smoke", *ARMS, *SMALL]
    assert archives.lkm("study", "table3", *options, "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert re.search(r"^done +2$", said, re.MULTILINE), said
    runs = tmp_path / "LKM_RUNS" / "table3" / f"smoke-{folder.name}"
    split = json.loads((runs / "splits.json").read_text())["splits"][0]
    assert split["split"]["test"] == [case.name for case in DataSet(folder).test] and split["scored"] == "test"
    people = {side: {split["persons"][name] for name in split["split"][side]} for side in ("train", "test")}
    assert people["train"] and people["test"] and not people["train"] & people["test"]
    rows = pd.read_csv(runs / "residual-unet" / "seed-0" / "per_case.csv")
    assert len(rows) == 2 * 5 and set(rows["case"]) == set(split["split"]["test"]) and set(METRICS) <= set(rows)
    assert set(rows["organ"]) == {name for name in LABELS if name != "background"}
    about = json.loads((runs / "residual-unet" / "seed-0" / "done.json").read_text())["scores"]["data"]
    assert split["voxel_mm"] == [[1.0, 1.5, 2.5]] * 2 and split["tolerance_mm"]["body"] == 2.0
    assert about == split and about["licence"] == "made up" and about["digest"] == DataSet(folder).digest
    (tmp_path / "elsewhere").mkdir()
    options[1] = moved = folder.rename(tmp_path / "elsewhere" / folder.name)  # its content counts, not where it lies
    assert archives.lkm("study", "table3", *options, "--device", "cpu") == 0
    assert capsys.readouterr().out.count("done before") == 2
    assert archives.lkm("study", "report", "table3", *options) == 0
    said = capsys.readouterr().out
    for part in (
        "by case, in 3D",
        "Licence: made up",
        "Cite: nobody",
        "nobody is in both",
        "scored on 2 cases of 2 pers",
    ):
        assert part in said, part
    assert str(moved) not in (runs / "report" / "differences.json").read_text()
    made = make_report(*read_results("table3", runs / "report"))
    assert made.text() == (runs / "report" / "report.md").read_text(), "made anew without the data set"
    trained, scored = (runs / "plain-unet" / "seed-0" / name for name in ("weights.safetensors", "per_case.csv"))
    before = trained.stat().st_mtime_ns, scored.read_text()
    record = json.loads(trained.with_name("config.json").read_text())
    del record["training_digest"]  # as it was written before there was one
    trained.with_name("config.json").write_text(json.dumps(record))
    assert archives.lkm("study", "status", "table3", *options) == 0
    assert capsys.readouterr().out.count("done") == 2
    record["training_digest"] = DataSet(moved).training_digest
    trained.with_name("config.json").write_text(json.dumps(record))
    write(DataSet(moved).test[0].label, make_case(51)[1])
    assert archives.lkm("study", "report", "table3", *options) == 2
    assert "scored on other cases or labels than are there now" in capsys.readouterr().err
    assert archives.lkm("study", "table3", *options, "--device", "cpu") == 0
    assert trained.stat().st_mtime_ns == before[0], "a test label was corrected: nothing is trained anew"
    assert scored.read_text() != before[1]
    write(DataSet(moved).training[0].label, make_case(50)[1])
    plan = make_plan("table3", "smoke", arms=["plain-unet"], data_set=DataSet(moved), iterations=1, batch_size=1)
    assert plan.jobs()[0].state(plan.jobs()[0].run(plan.root)).name == "waiting", "a label was corrected"


def test_folds_are_scored_on_what_they_hold_out_and_pooled(folder, tmp_path, capsys):
    options = ["--data", folder, "--profile", "smoke", "--folds", "0,2", *ARMS, *SMALL]
    assert archives.lkm("study", "table3", *options, "--device", "cpu") == 0
    assert archives.lkm("study", "report", "table3", *options) == 0
    runs = tmp_path / "LKM_RUNS" / "table3" / f"smoke-{folder.name}"
    splits = json.loads((runs / "report" / "splits.json").read_text())["splits"]
    held = [name for each in splits for name in each["split"]["validation"]]
    assert [each["fold"] for each in splits] == [0, 2] and len(set(held)) == len(held)
    rows = pd.read_csv(runs / "report" / "per_case.csv")
    assert set(rows["case"]) == set(held) and len(rows) == 2 * 5 * len(held)
    assert sorted(path.name for path in (runs / "plain-unet").glob("seed*")) == ["seed-0-fold-0", "seed-0-fold-2"]
    capsys.readouterr()
    assert archives.lkm("study", "status", "table3", *options) == 0
    assert capsys.readouterr().out.count("done") == 4


def test_a_sweep_sees_training_cases_only(folder, tmp_path, capsys):
    for name in ("imagesTs", "labelsTs"):
        shutil.rmtree(folder / name)
    options = ["--data", folder, "--profile", "smoke", "--arms", "residual-unet", *SMALL]
    how = ["--rates", "0.01", "--seeds", 1, "--device", "cpu"]
    assert archives.lkm("study", "sweep", "table3", *options, *how) == 0
    said, runs = capsys.readouterr().out, tmp_path / "LKM_RUNS" / "table3-sweep" / f"smoke-{folder.name}"
    assert "| residual U-Net | 0.01 | 30 % |" in said and DataSet(folder).source.text in " ".join(said.split())
    labels = {f"DSC {name}" for name in LABELS if name != "background"}
    assert labels < set(pd.read_csv(runs / "report" / "sweep.csv")) and not (runs / "splits.json").exists()


def test_a_published_archive_through_the_same_door(tmp_path, monkeypatch, capsys):
    for name in ("LKM_DATA", "LKM_RUNS", "nnUNet_raw"):
        monkeypatch.setenv(name, str(tmp_path / name))
    archives.write_zip(tmp_path / "amos22.zip", archives.amos22())
    assert archives.lkm("data", "amos", "--archive", tmp_path / "amos22.zip") == 0
    name = "Dataset722_AMOS22MR"
    some = ["--set", 'organs=["liver", "spleen", "left kidney", "right kidney"]']  # the one training case shows these
    options = ["--data", name, "--profile", "smoke", "--arms", "pim-pam-bim,residual-unet", *SMALL, *some]
    assert archives.lkm("study", "table3", *options, "--device", "cpu") == 0
    assert archives.lkm("study", "report", "table3", *options) == 0
    assert "AMOS" in capsys.readouterr().out


def test_dry_run_says_everything_and_trains_nothing(folder, tmp_path, capsys):
    options = ["--data", folder, "--profile", "laptop", "--arms", "pim,residual-unet", "--seeds", "3", "--folds", "all"]
    assert archives.lkm("study", "table3", *options, "--dry-run") == 0
    said = capsys.readouterr().out
    for part in (
        "24 runs: 2 arms x 3 seeds x 4 folds",
        "slices of 32x32",
        "[[8, 8], [8, 8], [4, 4], [4, 4]]",
        "400",
        "Trained on",
        "the column default is of a training without a profile (TrainConfig)",
        "as by default: ",
    ):
        assert part in said, part
    table = said[said.index("protocol ") : said.index("as by default")].splitlines()
    assert any(re.fullmatch(r"image_size +\[32, 32\] +\[96, 96\]", line) for line in table)
    assert "precision" not in " ".join(table) and max(map(len, table)) < 120
    assert not (tmp_path / "LKM_RUNS").exists()


@pytest.mark.parametrize(("name", "three"), first([("table1", False), ("table2", False), ("table2", True)]))
def test_every_arm_takes_the_images_of_the_data_set(folder, name, three):
    size = in_3d(profile("smoke")) if three else profile("smoke")
    larger = {"image_size": (96, 96)} if name == "table1" else {}  # nnFormer's windows keep their pixels
    plan = make_plan(name, size, data_set=DataSet(folder), root="nowhere", **larger)
    config = plan.protocol()
    assert len(config["image_size"]) == 2 + three and config["spacing_mm"] == [2.5, 1.0, 1.5][1 - three :]
    for arm in plan.study.arms:
        assert cost(arm, config["image_size"], 6, 2)["parameters"] > 0
    assert plan.folder.name == f"smoke-{folder.name}{'-3d' if three else ''}"


def test_kernel_sizes_keep_their_share_of_the_image():
    small = fitted(study("table2", "smoke"), (64, 64))
    assert small.arm("contiguous-large").overrides["windows"] == [[16, 16]] * 2 + [[8, 8]] * 2
    assert small.arm("contiguous-small").overrides["windows"] == [[4, 4]] * 2 + [[2, 2]] * 2
    assert "windows [[16, 16]" in small.arm("contiguous-large").note
    assert fitted(study("table2", "smoke"), (96, 96)) == study("table2", "smoke")
    for sizes in (KERNEL_SIZES["tiny-3d"], KERNEL_SIZES["paper-3d"]):
        assert len({len(windows) for windows in sizes.values()}) == 1


def test_what_cannot_be_scored_is_refused_before_a_step(folder):
    data = DataSet(folder)
    config = TrainConfig.for_data(data, "smoke")
    first, second = data.training[0].name, data.test[0].name
    (folder / "persons.csv").write_text(
        "case,person\n" + "".join(f"{n},{n}\n" for n in data.cases if n != second) + f"{second},{first}\n"
    )
    with pytest.raises(KitError, match="show persons who are trained on"):
        for fold in range(2):  # in one of the two folds the person is trained on
            split_of(DataSet(folder), TrainConfig.for_data(DataSet(folder), "smoke", fold=fold))
    (folder / "persons.csv").unlink()
    shutil.rmtree(folder / "labelsTs")
    with pytest.raises(KitError, match="no labelled test case") as caught:
        split_of(DataSet(folder), config)
    assert "--folds all" in caught.value.remedy
    assert splits_of(make_plan("table3", "smoke", data_set=DataSet(folder), folds=[1], root="nowhere"))[0]["fold"] == 1
    assert chosen_folds(data, "all") == [0, 1, 2, 3] and chosen_folds(data, "1, 3") == [1, 3]
    for wrong in ("0,0", "first", "", "²"):
        with pytest.raises(KitError, match="--folds"):
            chosen_folds(data, wrong)
