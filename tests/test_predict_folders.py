"""lkm evaluate on folders: known scores, the worst case first and pictured, and folders that do not match."""

import os

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from lkm_kit import cli
from lkm_kit.data import LabelTable
from lkm_kit.errors import KitError
from lkm_kit.evaluation.folders import score_folders

GRID = np.diag([2.0, 3.0, 4.0, 1.0])


def save(path, array, affine=GRID):
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


@pytest.fixture
def folders(tmp_path):
    """Three cases with 4 voxels of liver (AMOS id 6); found: all of them, three and one too many, none."""
    truth = np.zeros((12, 11, 10), np.uint8)
    truth[4:8, 5, 5] = 6
    for shift, name in enumerate(("good", "shifted", "missed")):
        found = np.zeros_like(truth)
        if name != "missed":
            found[4 + shift : 8 + shift, 5, 5] = 1
        save(tmp_path / "pred" / f"{name}.nii.gz", found)
        (tmp_path / "pred" / f"{name}.labels.json").write_text(LabelTable(("liver", "spleen")).to_json())
        save(tmp_path / "labels" / f"{name}.nii.gz", truth)
        save(tmp_path / "images" / f"{name}_0000.nii.gz", np.arange(truth.size, dtype=np.int16).reshape(truth.shape))
    return tmp_path


def test_a_name_that_is_no_utf8_costs_no_score(folders):
    """Written by another system: the table shows the byte."""
    for sub in ("pred", "labels"):
        (folders / sub / "missed.nii.gz").rename(folders / sub / os.fsdecode(b"caf\xe9 $x^$ 50%.nii.gz"))
    (folders / "pred" / "missed.labels.json").unlink()
    run(folders, "-o", folders / "s.csv", "--worst", 1)
    assert "caf\\udce9 $x^$ 50%" in set(pd.read_csv(folders / "s.csv")["case"])
    assert len(list(folders.glob("s_worst_1_*.png"))) == 1
    (folders / "pred" / "good.labels.json").write_bytes(b"\xff")
    with pytest.raises(KitError, match=r"good\.labels\.json cannot be read as a label table"):
        run(folders)


def run(folders, *more):
    arguments = ["evaluate", "--predictions", folders / "pred", "--labels", folders / "labels", "--label-ids", "amos"]
    result = CliRunner().invoke(cli.app, [str(a) for a in (*arguments, *more)])
    if isinstance(result.exception, Exception):
        raise result.exception
    return result.output


def test_known_scores_summary_and_pictures(folders):
    text = run(folders, "--images", folders / "images", "-o", folders / "out" / "s.csv", "--worst", 2)
    rows = pd.read_csv(folders / "out" / "s.csv").set_index(["case", "organ"])
    assert rows["DSC"].to_dict() == pytest.approx(
        {(c, "liver"): d for c, d in (("good", 1.0), ("shifted", 0.75), ("missed", 0.0))}
        | {(c, "spleen"): np.nan for c in ("good", "shifted", "missed")},
        nan_ok=True,
    )
    summary = pd.read_csv(folders / "out" / "s_summary.csv").set_index("organ")
    assert summary.loc["mean", "DSC"] == pytest.approx(1.75 / 3) and "spleen" not in summary.index
    pictures = sorted(path.name for path in (folders / "out").glob("*.png"))
    assert pictures == ["s_worst_1_missed.png", "s_worst_2_shifted.png"]
    assert text.index("missed") < text.index("shifted")


def test_the_official_rule_and_the_default_place(folders):
    assert "rule official" in run(folders, "--rule", "official", "--worst", 0)
    rows = pd.read_csv(folders / "pred" / "per_case.csv")
    assert (rows[rows["organ"] == "spleen"]["DSC"] == 1).all()  # in neither: 1 by that rule
    assert not list(folders.rglob("*.png"))


def test_folders_that_do_not_match(folders):
    kinds = {"label_ids": "amos"}
    with pytest.raises(KitError, match="no folder"):
        score_folders(folders / "pred", folders / "nowhere")
    with pytest.raises(KitError, match="belong together"):
        CliRunner().invoke(cli.app, ["evaluate", "--labels", "x"], standalone_mode=False, catch_exceptions=False)
    with pytest.raises(KitError, match="no label numbering 'none'"):
        score_folders(folders / "pred", folders / "pred", label_ids="none")
    (folders / "pred" / "missed.nii.gz").rename(folders / "missed.nii.gz")
    with pytest.raises(KitError, match="lacks 1 of 3 cases: missed"):
        score_folders(folders / "pred", folders / "labels", **kinds)
    save(folders / "pred" / "missed.nii.gz", np.zeros((12, 11, 10), np.uint8), np.diag([2.0, 3.0, 5.0, 1.0]))
    with pytest.raises(KitError, match="mm apart"):
        score_folders(folders / "pred", folders / "labels", **kinds)
    save(folders / "pred" / "missed.nii.gz", np.full((12, 11, 10), 1.5, np.float32))
    with pytest.raises(KitError, match=r"1\.5, which is not a whole number"):
        score_folders(folders / "pred", folders / "labels", **kinds)
    (folders / "pred" / "good.labels.json").write_text(LabelTable(("aorta",)).to_json())
    with pytest.raises(KitError, match="different label tables"):
        score_folders(folders / "pred", folders / "labels", **kinds)
