"""A study of one's own, from a file: found, its file imported by every worker, and its errors named."""

import pickle
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from lkm_kit.commands import study as command
from lkm_kit.errors import KitError
from lkm_kit.evaluation import METRICS
from lkm_kit.studies import Arm, Study
from lkm_kit.studies.conclusions import caveats
from lkm_kit.studies.files import study_from_file
from lkm_kit.studies.job import make_job
from lkm_kit.studies.plan import Results
from lkm_kit.studies.runner import make_plan
from lkm_kit.studies.worker import attempt

STUDY = """
from lkm_kit.evaluation import METRICS
from lkm_kit.networks import UNet, register_network
from lkm_kit.profiles import Profile
from lkm_kit.studies import Arm, Study


def share(prediction, truth, spacing, label):
    return prediction.mean()


METRICS["predicted share"] = share


@register_network("narrow-of-a-file", features_per_stage=[4, 8], strides=[(1, 1), (2, 2)])
def narrow(input_channels, num_classes, deep_supervision=False, **arguments):
    return UNet(input_channels, num_classes, deep_supervision, **arguments)


def widths(size: Profile) -> Study:
    arms = (Arm("narrow", "narrow U-Net", "{stem}:narrow-of-a-file", iterations=size.iterations + 1, optimizer="sgd"),)
    control = Arm("control", "residual U-Net", "residual-unet/tiny-2d")
    return Study("widths-of-mine", "Does width matter?", (control, *arms), control="control")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file with a study, under a name that no other test uses."""
    stem = f"study_{tmp_path.name.replace('-', '_')}"
    path = tmp_path / f"{stem}.py"
    path.write_text(STUDY.replace("{stem}", stem))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield path
    METRICS.pop("predicted share", None)
    sys.modules.pop(stem, None)


def test_a_function_of_the_profile_is_the_study(own):
    found = study_from_file(own, "smoke")
    assert (found.name, found.file) == ("widths-of-mine", str(own))
    plan = make_plan(found, "smoke", seeds=1)
    control, narrow = (job.config for job in plan.jobs())
    assert (narrow.iterations, narrow.optimizer) == (control.iterations + 1, "sgd") and control.optimizer == "adamw"
    assert narrow.weight_decay == 3e-5 < control.weight_decay  # follows from the optimiser
    assert set(plan.differences()) == {"narrow"}
    lines = "\n".join(plan.protocol_lines())
    assert "optimizer: adamw; narrow U-Net sgd" in lines and "batch_size: " in lines
    rows = pd.DataFrame({"arm": ["control"], "seed": 0, "case": "c", "organ": "liver", "DSC": 0.5})
    said = " ".join(caveats(plan, Results(rows, pd.DataFrame({"hardware": ["a CPU"]}), [])))
    assert "narrow U-Net: " in said and "iterations 7" in said
    changed = make_plan(found, "smoke", seeds=1, iterations=2)
    assert {job.config.iterations for job in changed.jobs()} == {2}  # --set is for every arm


def test_a_worker_imports_the_file_again(own):
    """What a launcher sends to another process is pickled; there the file has not been imported yet."""
    job = make_plan(study_from_file(own, "smoke"), "smoke", seeds=1).jobs()[1]
    sent = pickle.dumps(job)
    METRICS.pop("predicted share")
    del sys.modules[own.stem]
    seen = {}

    def datasets(job):
        seen.update(METRICS)
        raise KitError("far enough")

    assert attempt(pickle.loads(sent), "nowhere", {"datasets": datasets, "log": lambda line: None})[1].count(
        "far enough"
    )
    assert "predicted share" in seen


def invoke(*words):
    return CliRunner().invoke(command.app, [str(word) for word in words])


def test_the_command_takes_a_file_everywhere(own, tmp_path):
    shared = ["--file", own, "--profile", "smoke", "--root", tmp_path / "runs"]
    assert "narrow U-Net" in invoke("list", "--file", own, "--profile", "smoke").output
    for words in (["status", *shared, "--seeds", 1], ["run", *shared, "--arms", "nope"], [*shared, "--arms", "nope"]):
        result = invoke(*words)
        if words[0] == "status":
            assert result.exit_code == 0 and result.output.count("waiting") == 2
        else:
            assert "no arm of widths-of-mine 'nope'" in str(result.exception)
    missing = invoke("report", *shared).exception
    assert isinstance(missing, KitError) and f"lkm study run --file {own} --profile smoke" in missing.remedy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "holds no study"),
        ("from lkm_kit.studies import Study, Arm\na = b = (Arm('a', 'A', 'x'),)\n"
         "one = Study('s', '?', a, 'a')\ntwo = Study('t', '?', b, 'a')\n", r"holds 2 studies \(one, two\)"),
        ("x = 1\ndef f(:\n", "line 2: SyntaxError"),
        ("x = 1\n\ny = 1 / 0\n", "line 3: ZeroDivisionError"),
        ("import not_there_at_all\n", "line 1: ModuleNotFoundError"),
        ("from lkm_kit.studies import Study\ndef f(size) -> Study:\n    return 3\n", "returns 3"),
    ],
)  # fmt: skip
def test_errors_of_the_file_are_named(text, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / f"wrong_{abs(hash(text))}.py"
    path.write_text(text)
    with pytest.raises(KitError, match=message) as error:
        study_from_file(path, "smoke")
    assert str(path) in str(error.value) and error.value.remedy
    sys.modules.pop(path.stem, None)


def test_other_mistakes_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(KitError, match="no Python file"):
        study_from_file(tmp_path / "absent.py")
    (tmp_path / "statistics.py").write_text("")
    with pytest.raises(KitError, match="name of another module"):
        study_from_file(tmp_path / "statistics.py")
    with pytest.raises(KitError, match="no name of a folder"):
        Study("my/study", "?", (Arm("a", "A", "x"),), control="a")
    with pytest.raises(KitError, match="no name of a folder"):
        Arm("../a", "A", "x")
    with pytest.raises(KitError, match="one of the two"):
        raise invoke("status").exception
    mistyped = invoke("tabel3").exception
    assert isinstance(mistyped, KitError) and "did you mean 'table3'?" in mistyped.remedy


def test_an_arm_without_a_budget_of_its_own_is_what_it_was():
    plan = make_plan("table3", "smoke", seeds=1)
    assert plan.differences() == {"pim-pam-bim-equal-time": {"iterations": 2}}  # 37 % of six steps
    job = make_job(plan.study, plan.study.arm("pim"), plan.size, 0)
    assert job.file == "" and job.config.iterations == plan.size.iterations
