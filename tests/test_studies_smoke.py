"""Tables 2 and 3 at the smoke profile, on the real sample data: from the command to the report."""

import json
import re

import pandas as pd
import pytest
from combinations import first
from typer.testing import CliRunner

from lkm_kit.cli import app
from lkm_kit.studies import study

SHORT = ("iterations=2", "validate_every=2", "validation_slices=2")  # what is learnt is not looked at


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


ARMS = {"table2": ["contiguous-large", "dilated-medium", "count-small", "residual-unet"], "table3": []}
"""Each reading of Table 2 once, and all of Table 3."""


@pytest.mark.parametrize("name", first(ARMS))
def test_whole_study_to_its_report(name, root, a_slab):
    """One run after the other in this process; tests/test_studies_own_data.py leaves the launcher to the command."""
    chosen = ["--arms", ",".join(ARMS[name])] if ARMS[name] else []
    where = ["--profile", "smoke", "--seeds", "1", "--root", str(root), *chosen]
    where += [word for setting in SHORT for word in ("--set", setting)]
    result = CliRunner().invoke(app, ["study", name, *where, "--device", "cpu", "--launcher", "serial"])
    assert result.exit_code == 0, result.output
    arms = ARMS[name] or [arm.name for arm in study(name, "smoke").arms]
    assert re.search(rf"^done +{len(arms)}$", result.output, re.MULTILINE), result.output  # some copied from table2
    result = CliRunner().invoke(app, ["study", "report", name, *where])
    assert result.exit_code == 0, result.output
    folder = root / name / "smoke"
    for arm in arms:
        scores = pd.read_csv(folder / arm / "seed-0" / "per_case.csv")
        assert scores["DSC"].dropna().between(0, 1).all() and scores["DSC"].notna().any()
        about = json.loads((folder / arm / "seed-0" / "done.json").read_text())["scores"]
        assert set(scores["case"]) == set(about["data"]["cases"]) == {"warp 0"}  # a whole warp, no slice
    report, slices = folder / "report", about["data"]["shape"][0]
    text = (report / "report.md").read_text()
    assert f"1 deformed copy of the patient's {slices} slices, each copy a case" in text
    assert "| aorta | 2 | 3 x 3 x 3 | 0.67, the exact voxel |" in text
    assert {"report.md", "report.tex", "differences.png", "comparisons.csv"} <= {path.name for path in report.iterdir()}
