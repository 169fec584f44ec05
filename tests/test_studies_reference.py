"""The committed reference results are whole, and follow from their rows."""

import shutil

import numpy as np
import pytest
from combinations import first

from lkm_kit.errors import KitError
from lkm_kit.evaluation.metrics import about
from lkm_kit.profiles import profile
from lkm_kit.studies.reference import FOLDER, read_results, reference_results
from lkm_kit.studies.render import to_markdown
from lkm_kit.studies.report import make_report
from lkm_kit.studies.report_text import person_table
from lkm_kit.training import TrainConfig

COMMITTED = [path.name for start in ("table", "scans") for path in sorted(FOLDER.glob(f"{start}*-*"))]


def test_every_study_has_reference_results():
    assert {f"{name}-laptop-hippocampus" for name in ("table1", "table2", "table3", "scans")} <= set(COMMITTED)


@pytest.mark.parametrize("name", first(COMMITTED, 5))
def test_reference_results_are_whole_and_follow_from_their_rows(name):
    from lkm_kit.studies.statistics import compare_arms

    study, profile, *data = name.split("-", 2)
    found = reference_results(study, profile, data=data[0] if data else None)
    assert found.seeds and found.picture.is_file() and "Hardware:" in found.text
    assert set(found.table.index) == set(found.per_case["arm"])
    pairs = list(dict.fromkeys(zip(found.comparisons["arm"], found.comparisons["versus"])))
    for score, committed in found.comparisons.groupby("score"):
        again = compare_arms(found.per_case, pairs, score)
        ours = about(score).scale * again.set_index(["arm", "versus"])[["difference", "low", "high"]]
        theirs = committed.set_index(["arm", "versus"])[["difference", "low", "high"]]
        np.testing.assert_allclose(ours.loc[theirs.index], theirs, rtol=1e-3, atol=2e-3)


def comparisons(name):
    return len((FOLDER / name / "comparisons.csv").read_text("utf-8").splitlines())


@pytest.mark.parametrize("name", first(sorted((path.name for path in FOLDER.glob("*-hippocampus*")), key=comparisons)))
def test_patients_are_compared_by_persons_too(name):
    """80 cases of 51 persons: one verdict hangs on taking the cases for samples, and docs/results.md says which."""
    study = name.split("-")[0]
    plan, results = read_results(study, FOLDER / name)
    found = person_table(make_report(plan, results))
    assert set(found["persons"]) == {"51"} and to_markdown(found) in (FOLDER / name / "report.md").read_text("utf-8")
    hangs = {"residual U-Net, wider − residual U-Net"} if name == "table3-laptop-hippocampus-best" else set()
    assert set(found.index[found["verdict"] == "**another**"]) == hangs
    assert set(found["verdict"]) <= {"the same", "**another**"}


@pytest.mark.parametrize("name", ["table2", "table3"])
def test_a_report_is_read_with_its_own_rate_whatever_the_profile_has_since_chosen(name):
    """The two were made at 0.003 before a config had a warm-up: it was 0.3, and is 0.1 in today's profile."""
    plan, _ = read_results(name, FOLDER / f"{name}-laptop")
    configs = [job.config for job in plan.jobs()]
    assert {(c.learning_rate, c.warmup, c.iterations) for c in configs} == {(0.003, TrainConfig.warmup, 400)}
    assert (profile("laptop").learning_rate, profile("laptop").warmup) == (0.01, 0.1)


@pytest.mark.parametrize(
    ("name", "content"), [("per_case.csv", b""), ("runs.csv", b"seed\n0\n"), ("differences.json", b"{}")]
)
def test_a_damaged_report_is_named(tmp_path, name, content):
    folder = shutil.copytree(FOLDER / "table3-laptop", tmp_path / "report")
    (folder / name).write_bytes(content)
    with pytest.raises(KitError, match="report holds no report that can be read") as error:
        read_results("table3", folder)
    assert "copy the whole folder" in error.value.remedy


def test_missing_reference_results_say_how_to_make_them(tmp_path):
    with pytest.raises(KitError, match="no reference results of table2 at profile 'gpu'") as error:
        reference_results("table2", "gpu", tmp_path)
    assert "lkm study table2 --profile gpu" in error.value.remedy
