"""Studies under nnU-Net: plans that it can build networks from, commands in order, scores by the paper's rule.

All but the last test run without nnU-Net; the last one runs it, on the CPU, on a miniature of the authors' data set.
"""

import json
import os
import pydoc
import stat
import subprocess
import sys

import archives
import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from lkm_kit.commands.nnunet import app
from lkm_kit.commands.study import app as study_app
from lkm_kit.data import prepare_umamba
from lkm_kit.errors import KitError
from lkm_kit.nnunet import collect, make_plans, nnunet_study, run_steps, steps, write_plans
from lkm_kit.nnunet.pipeline import STARTED
from lkm_kit.nnunet.places import nnunet_folder, predictions_folder, results_folder
from lkm_kit.nnunet.plans import STUDIES, configurations, plans_name
from lkm_kit.profiles import profile

BASE = {
    "plans_name": "nnUNetPlans",
    "dataset_name": "Dataset702_AbdomenMR",
    "configurations": {
        "2d": {"data_identifier": "nnUNetPlans_2d", "patch_size": [256, 224], "batch_size": 40},
        "3d_fullres": {"data_identifier": "nnUNetPlans_3d_fullres", "patch_size": [40, 224, 192], "batch_size": 2},
    },
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("nnunet")
    files = archives.umamba(702)
    image, label = archives.pair(40, "MR")
    files["Dataset702_AbdomenMR/imagesTr/amos_0510_0000.nii.gz"] = image
    files["Dataset702_AbdomenMR/labelsTr/amos_0510.nii.gz"] = label
    prepare_umamba(archives.write_zip(root / "drive.zip", files), root / "raw")
    return root / "raw"


@pytest.fixture
def places(raw, tmp_path, monkeypatch):
    """The three folders of nnU-Net; planned, not trained."""
    monkeypatch.setenv("nnUNet_raw", str(raw))
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    folder = tmp_path / "nnUNet_preprocessed" / "Dataset702_AbdomenMR"
    folder.mkdir(parents=True)
    (folder / "nnUNetPlans.json").write_text(json.dumps(BASE))
    return folder


def build(configuration, deep_supervision=True):
    """A network from a configuration, as nnU-Net's stock trainer builds it."""
    about = json.loads(json.dumps(configuration["architecture"]))
    return pydoc.locate(about["network_class_name"])(
        input_channels=1, num_classes=14, deep_supervision=deep_supervision, **about["arch_kwargs"]
    )


@pytest.mark.parametrize("name", ["table1", "table1-ct"])
def test_nnunet_can_build_and_supervise_every_arm(name):
    made, size = make_plans(BASE, name, "smoke"), profile("smoke")
    known, _ = configurations(name, size)
    alike = [each for each in STUDIES if (each == "table1-ct") == (name == "table1-ct")]
    assert {mine for each in alike for mine in configurations(each, size)[1].values()} == set(known)
    for arm in known.values():
        configuration = made["configurations"][arm.name]
        network = build(configuration)
        outputs = network(torch.zeros(1, 1, *configuration["patch_size"]))
        # nnU-Net expects a loss weight for every stage but the coarsest, each smaller by the strides so far
        strides = np.array(configuration["architecture"]["arch_kwargs"]["strides"])
        sizes = [tuple(int(n) for n in np.array(configuration["patch_size"]) // s) for s in strides.cumprod(axis=0)]
        assert [tuple(output.shape[2:]) for output in outputs] == sizes[:-1], arm.name
        network.decoder.deep_supervision = False
        assert network(torch.zeros(1, 1, *configuration["patch_size"])).shape[1] == 14


def test_the_papers_protocol():
    made = make_plans(BASE, "table2", "paper")
    assert made["plans_name"] == "lkmPaperPlans" and made["dataset_name"] == "Dataset702_AbdomenMR"
    assert made["configurations"]["2d"] == BASE["configurations"]["2d"] and BASE["plans_name"] == "nnUNetPlans"
    large = made["configurations"]["lkm-unet"]
    assert (large["inherits_from"], large["patch_size"], large["batch_size"]) == ("2d", [320, 320], 24)
    assert "data_identifier" not in large, "the preprocessed data are shared"
    arguments = large["architecture"]["arch_kwargs"]
    assert arguments["windows"] == [40, 20, 20, 10, 10, 5, 5] and len(arguments["strides"]) == 7
    volumes = make_plans(BASE, "table1-ct", "paper")["configurations"]["lkm-unet"]
    assert (volumes["inherits_from"], volumes["patch_size"], volumes["batch_size"]) == (
        "3d_fullres", [40, 224, 192], 2,
    )  # fmt: skip


def test_the_papers_networks_have_their_published_size():
    """The released networks' parameters without PiM and PaM: 61,648,436 in 2D and 57,156,326 in 3D at 14 classes."""
    with torch.device("meta"):
        for name, count in (("table3", 61_648_436), ("table1-ct", 57_156_326)):
            network = build(make_plans(BASE, name, "paper")["configurations"]["residual-unet"])
            assert sum(p.numel() for p in network.parameters()) == count, name


def test_other_sizes_and_what_does_not_go():
    arm = make_plans(BASE, "table3", "paper", patch_size=(640, 320), batch_size=6)["configurations"]["pim"]
    assert arm["patch_size"] == [640, 320] and arm["batch_size"] == 6
    with pytest.raises(KitError, match="no study of nnU-Net 'table4'"):
        make_plans(BASE, "table4", "paper")
    with pytest.raises(KitError, match="no configuration 3d_fullres") as error:
        make_plans({"configurations": {"2d": {}}}, "table1-ct", "paper")
    assert "-c 3d_fullres" in error.value.remedy


def test_write_plans(places, monkeypatch):
    path = write_plans(702, "table3", "smoke")
    assert path == places / "lkmSmokePlans.json"
    assert json.loads(path.read_text())["plans_name"] == path.stem == plans_name("table3", profile("smoke"))
    (places / "nnUNetPlans.json").unlink()
    with pytest.raises(KitError, match="no plans file of nnU-Net") as error:
        write_plans(702, "table3", "smoke")
    assert "nnUNetv2_plan_and_preprocess -d 702 -c 2d" in error.value.remedy
    with pytest.raises(KitError, match="no data set of the number 703"):
        write_plans(703, "table3", "smoke")
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(KitError, match="nnUNet_preprocessed is not set"):
        write_plans(702, "table3", "smoke")


def test_steps_in_order(places):
    todo = steps(702, "table2", "paper", arms=["contiguous-small", "residual-unet"], folds=["0", "1"])
    names = [step.name for step in todo]
    assert names == ["plan", "plans", *["train", "predict"] * 4, "collect"]
    assert str(todo[0]) == "nnUNetv2_plan_and_preprocess -d 702 -c 2d --verify_dataset_integrity"
    assert str(todo[2]) == ("nnUNet_compile=f nnUNetv2_train 702 contiguous-small 0 -p lkmPaperPlans -device cuda")
    assert "-c residual-unet -p lkmPaperPlans -f 1" in str(todo[9])
    # as in the released commands; mirrored predictions are others, and lie elsewhere
    assert todo[9].command[-1] == "--disable_tta" and "--tta" not in todo[-1].command
    mirrored = steps(702, "table2", "paper", arms=["residual-unet"], tta=True)
    assert "--disable_tta" not in mirrored[-2].command and mirrored[-1].command[-1] == "--tta"
    assert mirrored[-2].makes[0].parent != steps(702, "table2", "paper", arms=["residual-unet"])[-2].makes[0].parent
    short = steps(702, "table2", "smoke", arms=["residual-unet"], epochs=2, iterations=3, device="cpu")[2]
    assert "-m lkm_kit.nnunet.train 702 residual-unet all -p lkmSmokePlans -device cpu --epochs 2" in str(short)


def test_steps_that_cannot_be(places):
    with pytest.raises(KitError, match="arm unetr: no decoder stages") as error:
        steps(702, "table1", "paper", arms=["unetr"])
    assert "lkm study" in error.value.remedy
    with pytest.raises(KitError, match="no arm of table2 'nope'"):
        steps(702, "table2", "paper", arms=["nope"])
    with pytest.raises(KitError, match="no fold 7"):
        steps(702, "table2", "paper", folds=["7"])


FAKE = """#!{python}
import os, pathlib, sys
log = pathlib.Path({log!r})
log.write_text(log.read_text() + " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
if os.environ.get("FAKE_STATUS"):
    sys.exit(int(os.environ["FAKE_STATUS"]))
for path in os.environ["FAKE_MAKES"].split(os.pathsep):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    told = [os.environ.get("nnUNet_" + name, "") for name in ("compile", "def_n_proc", "n_proc_DA")]
    pathlib.Path(path).write_text(" ".join(told))
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """nnU-Net's commands, which only say that they were called and make a file."""
    log = tmp_path / "calls"
    log.write_text("")
    for name in ("nnUNetv2_train", "nnUNetv2_predict"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(FAKE.format(python=sys.executable, log=str(log)))
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return log


def test_run_skips_what_is_done_and_resumes(places, fake, monkeypatch):
    train = steps(702, "table2", "paper", arms=["residual-unet"])[2]
    monkeypatch.setenv("FAKE_MAKES", str(train.makes[0]))
    monkeypatch.setattr("lkm_kit.nnunet.pipeline.allotted_cpus", lambda: 3)
    monkeypatch.setenv("nnUNet_def_n_proc", "2")
    monkeypatch.delenv("nnUNet_n_proc_DA", raising=False)
    said = []
    monkeypatch.setenv("FAKE_STATUS", "3")
    with pytest.raises(KitError, match="the step train residual-unet ended with status 3") as error:
        run_steps([train], log=said.append)
    assert "run the same command again" in error.value.remedy
    monkeypatch.delenv("FAKE_STATUS")
    train.makes[0].parent.mkdir(parents=True)
    (train.makes[0].parent / "checkpoint_latest.pth").write_text("")
    run_steps([train], log=said.append)
    run_steps([train], log=said.append)
    assert said[-1].startswith("done already:")
    calls = fake.read_text().splitlines()
    assert len(calls) == 2 and calls[1].endswith("--c") and not calls[0].endswith("--c")
    # torch.compile is off; the user's number of processes holds, and another is no more than this process may use
    assert train.makes[0].read_text() == "f 2 3"
    assert train.makes[0] == results_folder("Dataset702_AbdomenMR", "lkmPaperPlans", "residual-unet", "all") / (
        "checkpoint_final.pth"
    )


def started(folder, epochs, iterations):
    """What nnU-Net's trainer notes when it starts: texts, among much else."""
    about = {"num_epochs": str(epochs), "num_iterations_per_epoch": str(iterations), "loss": "DC_and_CE_loss"}
    (folder / STARTED).write_text(json.dumps(about))


def test_a_killed_start_does_not_lend_its_budget(places):
    """60 epochs were asked for and killed before a checkpoint; then nnU-Net's own command trained 1000."""
    ask = {"arms": ["residual-unet"], "epochs": 60, "iterations": 250}
    final = steps(702, "table2", "paper", **ask)[2].makes[0]
    final.parent.mkdir(parents=True)
    started(final.parent, 60, 250)
    assert not steps(702, "table2", "paper", **ask)[2].done
    started(final.parent, 1000, 250)
    final.write_text("")
    with pytest.raises(KitError, match="1000 epochs of 250 iterations, not of 60"):
        steps(702, "table2", "paper", **ask)


def test_a_task_of_an_array_scores_its_own_arm(places):
    todo = steps(702, "table2", "paper", arms=["residual-unet"])
    assert list(todo[-1].command[-4:-2]) == ["--arms", "residual-unet"]
    assert "--arms" not in steps(702, "table2", "paper")[-1].command


def test_a_training_of_another_budget_is_never_taken_for_this_one(places):
    short = {"arms": ["residual-unet"], "epochs": 2, "iterations": 3}
    final = steps(702, "table2", "paper", **short)[2].makes[0]
    final.parent.mkdir(parents=True)
    final.write_text("")
    started(final.parent, 2, 3)
    assert steps(702, "table2", "paper", **short)[2].done
    with pytest.raises(KitError, match="2 epochs of 3 iterations, not of 1000 of 250") as error:
        steps(702, "table2", "paper", arms=["residual-unet"])
    assert "nnUNet_results" in error.value.remedy
    started(final.parent, 1000, 250)  # trained by nnU-Net's own command
    assert steps(702, "table2", "paper", arms=["residual-unet"])[2].done
    with pytest.raises(KitError, match="1000 epochs of 250 iterations, not of 2 of 3"):
        steps(702, "table2", "paper", **short)


def test_run_without_nnunet_and_without_time(places, tmp_path, monkeypatch):
    train = steps(702, "table2", "paper", arms=["residual-unet"])[2]
    monkeypatch.setattr("lkm_kit.nnunet.pipeline.shutil.which", lambda *_, **__: None)
    with pytest.raises(KitError, match="no command nnUNetv2_train") as error:
        run_steps([train])
    assert ".[nnunet]" in error.value.remedy
    monkeypatch.undo()
    slow = type(train)(
        "train", "pim", "0", (sys.executable, "-c", "import time; time.sleep(30)"), (tmp_path / "x" / "y",)
    )
    with pytest.raises(KitError, match=r"took longer than 0 s"):
        run_steps([slow], timeout_s=0.3)


def predict(raw, arm, change=lambda array: array, repetition=0):
    """Predictions made of the truth."""
    plans = plans_name("table2", profile("paper"), repetition)
    configuration = configurations("table2", profile("paper"))[1][arm]
    for path in (raw / "Dataset702_AbdomenMR" / "labelsTs").iterdir():
        image = nibabel.load(path)
        out = predictions_folder("Dataset702_AbdomenMR", plans, configuration, "all") / path.name
        out.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(change(np.asarray(image.dataobj)), image.affine, image.header), out)


def test_collect(places, raw, tmp_path):
    with pytest.raises(KitError, match="no complete predictions of table2"):
        collect(702, "table2", "paper")
    predict(raw, "contiguous-large")
    predict(raw, "residual-unet", lambda array: np.roll(array, 3, axis=0))
    made = collect(702, "table2", "paper")
    table = made.table
    # the truth scores 100, absent organs 1 each by the official rule
    assert table.loc["large contiguous", ["DSC", "NSD"]].tolist() == [100, 100]
    assert 30 < table.loc["residual U-Net", "DSC"] < 95
    assert table.loc["large contiguous", "published DSC"] == 77.35 and np.isnan(
        table.loc["residual U-Net", "published DSC"]
    )
    assert ("dilated-small", "all") in made.missing and "1 of 1 predictions" in made.missing["dilated-small", "all"]
    folder = made.write(tmp_path / "scores")
    rows = pd.read_csv(folder / "residual-unet" / "fold-all" / "per_case.csv")
    assert (
        list(rows.columns) == ["case", "organ", "DSC", "NSD", "HD95"]
        and len(rows) == 13
        and set(rows["case"]) == {"amos_0540"}
    )
    text = (folder / "table.md").read_text()
    assert "| large contiguous | all | 1 | 77.35 | 83.80 | 100.00 | 100.00 | 0.00 |" in text
    assert "NOT comparable with the published numbers" in text and "official rule" in text and "optimiser" in text


def test_networks_that_tables_share_are_trained_once(places):
    size = profile("paper")
    (_, second), (_, third) = (configurations(name, size) for name in ("table2", "table3"))
    assert {arm: second[arm] for arm in ("contiguous-large", "residual-unet")} == {
        "contiguous-large": "lkm-unet",
        "residual-unet": "residual-unet",
    }
    assert third["pim-pam-bim"] == "lkm-unet" and third["wide-residual-unet"] == second["wide-residual-unet"]
    assert len({*second.values(), *third.values()}) == len(second) + len(third) - 3
    one, other = (steps(702, *ask)[2] for ask in (("table2", size), ("table3", size)))
    shared = [
        next(step for step in steps(702, name, size, arms=[arm]) if step.name == "train")
        for name, arm in (("table2", "contiguous-large"), ("table3", "pim-pam-bim"))
    ]
    assert shared[0].command == shared[1].command and shared[0].makes == shared[1].makes
    assert one.command != other.command


SBATCH = """#!/bin/sh
echo "$PWD $@" >> {log}
[ -n "$FAKE_STATUS" ] && {{ echo "invalid partition" >&2; exit 1; }}
echo "$(wc -l < {log});cluster"
"""


def test_a_submission_trains_what_tables_share_once(places, tmp_path, monkeypatch):
    ask = [
        "submit",
        "702",
        "--study",
        "table2,table3",
        "--folds",
        "0,1",
        "--slurm",
        "partition=gpu",
        "--slurm",
        "mem=64G",
    ]
    ask += ["--at-once", "4", "--out", str(tmp_path / "slurm")]
    run = CliRunner().invoke
    assert run(app, [*ask, "--write-only"]).exit_code == 0
    scripts = {path.name: path.read_text() for path in (tmp_path / "slurm").iterdir()}
    assert set(scripts) == {"prepare.sh", "train.sh", "collect.sh"}
    distinct = {
        *configurations("table2", profile("paper"))[1].values(),
        *configurations("table3", profile("paper"))[1].values(),
    }
    train = scripts["train.sh"].splitlines()
    tasks = [line for line in train if line.startswith("    '--study")]
    assert len(tasks) == 2 * len(distinct) and f"#SBATCH --array=0-{len(tasks) - 1}%4" in train
    assert "    '--study table2 --arms contiguous-large --folds 0 --repetitions 0'" in tasks
    assert not any("--arms pim-pam-bim " in line for line in tasks)  # it is Table 2's contiguous-large
    assert "#SBATCH --partition=gpu" in train and "#SBATCH --mem=64G" in train and "#SBATCH --requeue" in train
    assert "${runs[$SLURM_ARRAY_TASK_ID]} --epochs 1000 --iterations 250 --run" in train[-1]
    assert "nnUNetv2_plan_and_preprocess -d 702" in scripts["prepare.sh"] and "gres" not in scripts["prepare.sh"]
    assert scripts["collect.sh"].count(" collect 702 ") == 2
    assert f"export nnUNet_raw={nnunet_folder('nnUNet_raw')}" in train
    for name in scripts:  # bash reads them
        assert subprocess.run(["bash", "-n", str(tmp_path / "slurm" / name)]).returncode == 0

    log = tmp_path / "submitted"
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(SBATCH.format(log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert run(app, ask).output.splitlines() == [
        f"{name}: Slurm job {n}" for n, name in enumerate(("prepare.sh", "train.sh", "collect.sh"), 1)
    ]
    told = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [words for _, words in told] == [
        "--parsable prepare.sh",
        "--parsable --dependency=afterok:1 train.sh",
        "--parsable --dependency=afterany:2 collect.sh",
    ]
    monkeypatch.setenv("FAKE_STATUS", "1")
    refused = run(app, ask).exception
    assert isinstance(refused, KitError) and "invalid partition" in str(refused) and "--slurm" in refused.remedy
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no sbatch" in str(run(app, ask).exception)


def test_repetitions_are_trainings_of_their_own(places):
    todo = steps(702, "table2", "paper", arms=["residual-unet"], repetitions=[0, 1, 2])
    trained = [step for step in todo if step.name == "train"]
    assert [step.repetition for step in trained] == [0, 1, 2] and len({step.makes for step in trained}) == 3
    assert "-p lkmPaperPlansAgain2 " in str(trained[2])
    assert todo[1].command[-2:] == ("--repetitions", "0,1,2") == todo[-1].command[-2:] and len(todo[1].makes) == 3
    with pytest.raises(KitError, match="repetitions"):
        steps(702, "table2", "paper", repetitions=[])


def test_collected_scores_go_into_the_studys_report(places, raw, monkeypatch):
    """Three trainings count as three seeds: the verdict, its power and the words are those of `lkm study report`."""
    for repetition in range(3):
        predict(raw, "contiguous-large", lambda array, by=repetition: np.roll(array, by, axis=0), repetition)
        predict(raw, "residual-unet", lambda array, by=repetition: np.roll(array, 6 + by, axis=0), repetition)
    run = CliRunner().invoke
    scored = run(app, ["collect", "702", "--study", "table2", "--repetitions", "0,1,2"])
    assert scored.exit_code == 0, scored.output
    folder = nnunet_folder("nnUNet_results") / "Dataset702_AbdomenMR" / "lkm_scores" / "lkmPaperPlans" / "table2"
    text = (folder / "report" / "report.md").read_text()
    for part in (
        "1 cases of Dataset702_AbdomenMR",
        "trainer: nnUNetTrainer",
        "'repetition 2, fold all'",
        "epochs: 1000",
        "NOT comparable with the published numbers",
        "optimiser: the paper names Adam",
        "this study would have shown",
    ):
        assert part in text, part
    rows = pd.read_csv(folder / "report" / "per_case.csv")
    assert sorted(rows["seed"].unique()) == [0, 1, 2] and set(rows["arm"]) == {"contiguous-large", "residual-unet"}
    assert len(pd.read_csv(folder / "residual-unet" / "fold-all-again-2" / "per_case.csv")) == 13
    by_seed = rows.groupby(["arm", "seed"])["DSC"].mean().unstack()
    report = pd.read_csv(folder / "report" / "report.csv").set_index("arm")
    difference = 100 * (by_seed.loc["contiguous-large"] - by_seed.loc["residual-unet"]).mean()
    assert report.loc["contiguous-large", "difference"] == pytest.approx(difference, rel=1e-4)
    again = run(study_app, ["report", "table2", "--again", str(folder / "report")])
    assert again.exit_code == 0, again.output
    assert (folder / "report" / "report.md").read_text() == text


def test_collect_refuses_what_does_not_fit(places, raw):
    predict(raw, "contiguous-large", lambda array: array + np.uint8(100))
    with pytest.raises(KitError, match="which the label table does not name"):
        collect(702, "table2", "paper")
    predict(raw, "contiguous-large", lambda array: array[:-1])
    with pytest.raises(KitError, match="voxels"):
        collect(702, "table2", "paper")


def test_the_published_ct_half():
    from lkm_kit.nnunet.scores import _published

    arms = nnunet_study("table1-ct", "paper")[0]
    assert _published("table1-ct", arms.arm("lkm-unet")) == {"published DSC": 86.82, "published NSD": 90.02}
    assert _published("table1", nnunet_study("table1", "paper")[0].arm("lkm-unet"))["published DSC"] == 77.35


def test_the_command_line(places, raw):
    run = CliRunner().invoke
    made = run(app, ["plans", "702", "--study", "table2", "--profile", "smoke"])
    assert made.exit_code == 0 and "lkmSmokePlans.json" in made.output and "what the paper leaves open" in made.output
    listed = run(app, ["commands", "702", "--study", "table3", "--arms", "pim,pam", "--folds", "0"])
    lines = listed.output.splitlines()
    assert len(lines) == 7 and lines[0].startswith("nnUNetv2_plan_and_preprocess") and "collect 702" in lines[-1]
    predict(raw, "contiguous-large")
    scored = run(app, ["collect", "702", "--study", "table2", "--arms", "contiguous-large"])
    assert scored.exit_code == 0 and "77.35" in scored.output and "lkm_scores" in scored.output


@pytest.mark.nnunet
@pytest.mark.timeout(900)
def test_the_whole_chain(raw, tmp_path, monkeypatch):
    """Plan, preprocess, two epochs of an arm, predict, score: the installed nnU-Net on the CPU.

    That it can build the other arms, and that several are collected, is tested above.
    """
    pytest.importorskip("nnunetv2")
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("nnUNet_raw", str(raw))
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arms = ["contiguous-small"]
    todo = steps(702, "table2", "smoke", arms=arms, device="cpu", epochs=2, iterations=2)
    run_steps([step for step in todo if step.name == "plan"], timeout_s=240)
    assert todo[0].done
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")  # augments in the training process; planning does not stand it
    write_plans(702, "table2", "smoke")
    run_steps([step for step in todo if step.name in ("train", "predict")], timeout_s=240)
    assert all(step.done for step in todo if step.name != "collect")
    made = collect(702, "table2", "smoke", arms=arms)
    assert not made.missing and set(made.table["cases"]) == {1}
    assert made.table[["DSC", "NSD"]].notna().all(axis=None)
    with pytest.raises(KitError, match="2 epochs of 2 iterations, not of 3 of 2"):
        steps(702, "table2", "smoke", arms=arms, device="cpu", epochs=3, iterations=2)
    said = []
    run_steps([step for step in todo if step.makes], log=said.append)
    assert all(line.startswith("done already") for line in said)
