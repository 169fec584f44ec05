"""FLARE22 and the U-Mamba authors' folders: from the published layouts to data sets that nnU-Net takes."""

import json
import runpy
import sys
from pathlib import Path

import archives
import pytest

from lkm_kit.data import prepare_flare_ct, prepare_umamba
from lkm_kit.data.manifest import Manifest
from lkm_kit.errors import KitError

SCRIPTS = Path(__file__).parents[1] / "data_scripts"


@pytest.fixture(scope="module")
def flare():
    return archives.flare22()


@pytest.fixture(scope="module")
def umamba():
    return archives.umamba(701) | archives.umamba(702)


def test_flare(tmp_path, flare):
    written = prepare_flare_ct(archives.write_zip(tmp_path / "FLARE22Train.zip", flare), tmp_path / "raw")
    about = archives.require_nnunet_layout(written.folder)
    assert written.folder.name == "Dataset721_FLARE22CT" and about["channel_names"] == {"0": "CT"}
    cases = Manifest.read(written.folder).cases
    splits = {name: case["split"] for name, case in cases.items()}
    assert splits.pop("FLARE22_Tr_0005") == "test" and set(splits.values()) == {"training"} and len(splits) == 3
    same = written.folder / "imagesTr" / "FLARE22_Tr_0004_0000.nii.gz"
    assert same.read_bytes() == flare["FLARE22Train/images/FLARE22_Tr_0004_0000.nii.gz"]
    assert prepare_flare_ct(tmp_path / "FLARE22Train.zip", tmp_path / "raw").new == []


def test_flare_with_mr_inside(tmp_path, flare):
    image, label = archives.pair(1, "MR")
    mixed = {
        **flare,
        "FLARE22Train/images/FLARE22_Tr_0001_0000.nii.gz": image,
        "FLARE22Train/labels/FLARE22_Tr_0001.nii.gz": label,
    }
    with pytest.raises(KitError, match=r"FLARE22_Tr_0001_0000.nii.gz does not look like CT") as error:
        prepare_flare_ct(archives.write_folder(tmp_path / "in", mixed), tmp_path / "raw")
    assert "--trust-modality" in error.value.remedy
    prepare_flare_ct(archives.write_folder(tmp_path / "in", flare), tmp_path / "raw")


def test_flare_with_amos_ids_is_refused(tmp_path, flare):
    """FLARE22 ends at 13; AMOS22's 14 and 15 show that the labels are somebody else's."""
    _, label = archives.pair(1, "CT", "amos")
    mixed = {**flare, "FLARE22Train/labels/FLARE22_Tr_0001.nii.gz": label}
    with pytest.raises(KitError, match=r"holds the value 14, outside the kit label table 0..13"):
        prepare_flare_ct(archives.write_folder(tmp_path / "in", mixed), tmp_path / "raw")


def test_another_archive_is_not_flare(tmp_path, umamba):
    with pytest.raises(KitError, match="is not FLARE22Train"):
        prepare_flare_ct(archives.write_folder(tmp_path / "in", umamba), tmp_path / "raw")


def test_umamba_both_folders(tmp_path, umamba):
    source = archives.write_folder(tmp_path / "drive", umamba)
    written = prepare_umamba(source, tmp_path / "raw")
    assert [each.folder.name for each in written] == ["Dataset701_AbdomenCT", "Dataset702_AbdomenMR"]
    for each, (channel, configuration) in zip(written, [("CT", "3d_fullres"), ("MR", "2d")]):
        about = archives.require_nnunet_layout(each.folder)
        assert about["channel_names"] == {"0": channel} and about["numTraining"] == 2
        manifest = Manifest.read(each.folder)
        assert manifest.about["configuration"] == configuration and manifest.complete
        assert not manifest.about["paper_split"], "three cases are not the paper's hundred"
        assert "2 training + 1 test" in manifest.about["split"] and "not the paper's split" in manifest.about["split"]
    assert all(each.new == [] for each in prepare_umamba(source, tmp_path / "raw"))
    # in place makes no sense, and must not harm the only copy
    with pytest.raises(KitError, match="was not written by this kit"):
        prepare_umamba(source, source)
    assert (source / "Dataset702_AbdomenMR/imagesTr/amos_0507_0000.nii.gz").is_file()


def test_the_complete_folder_is_the_papers_split(tmp_path, umamba, monkeypatch):
    from lkm_kit.data import umamba_folders

    small = tuple(each._replace(counts={"training": 2, "test": 1}) for each in umamba_folders.UMAMBA_FOLDERS)
    monkeypatch.setattr(umamba_folders, "UMAMBA_FOLDERS", small)
    for written in prepare_umamba(archives.write_zip(tmp_path / "drive.zip", umamba), tmp_path / "raw"):
        about = Manifest.read(written.folder).about
        assert about["paper_split"] and about["split"].endswith(": the split of the paper")


def test_umamba_one_folder(tmp_path, umamba):
    only = {name: content for name, content in umamba.items() if "Dataset702" in name}
    (written,) = prepare_umamba(archives.write_zip(tmp_path / "702.zip", only), tmp_path / "raw")
    assert written.folder.name == "Dataset702_AbdomenMR"
    with pytest.raises(KitError, match="holds no Dataset701_AbdomenCT/imagesTr"):
        prepare_umamba(tmp_path / "702.zip", tmp_path / "raw", numbers=[701])
    (written,) = prepare_umamba(tmp_path / "702.zip", tmp_path / "raw", without=["amos_0508"])
    assert written.removed == ["amos_0508"]
    with pytest.raises(KitError, match="no case amos_1 to leave out"):
        prepare_umamba(tmp_path / "702.zip", tmp_path / "raw", without=["amos_1"])


def test_umamba_with_other_numbers_for_the_organs(tmp_path, umamba):
    name = "Dataset702_AbdomenMR/dataset.json"
    about = json.loads(umamba[name])
    about["labels"] |= {"liver": 6, "aorta": 1}
    with pytest.raises(KitError, match="gives liver the label 6, FLARE22 and the paper 1"):
        prepare_umamba(archives.write_zip(tmp_path / "a.zip", {**umamba, name: json.dumps(about)}), tmp_path / "raw")
    with pytest.raises(KitError, match=r"is not nnU-Net's dataset.json"):
        prepare_umamba(archives.write_zip(tmp_path / "b.zip", {**umamba, name: b"[]"}), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_umamba_missing_labels(tmp_path, umamba):
    def without(part):
        return archives.write_zip(tmp_path / "a.zip", {n: c for n, c in umamba.items() if part not in n})

    with pytest.raises(KitError, match="Dataset702: no label for 1 of 3 cases: amos_0508"):
        prepare_umamba(without("labelsTr/amos_0508"), tmp_path / "raw")
    # test scans without any label can still be predicted
    (written,) = prepare_umamba(without("702_AbdomenMR/labelsTs"), tmp_path / "raw", numbers=[702])
    assert len(written.new) == 3 and not list((written.folder / "labelsTs").iterdir())
    # once the labels are there, they are taken over
    again = prepare_umamba(archives.write_zip(tmp_path / "a.zip", umamba), tmp_path / "raw", numbers=[702])
    assert again[0].changed == ["amos_0540"]
    archives.require_nnunet_layout(written.folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("get_sample", ("38 MB", "LKM_DATA", "Apache-2.0", "silver", "--archive")),
        ("make_cohort", ("Apache-2.0", "silver", "40 kB", "imagesTr", "one anatomy", "--dimensions")),
        ("prepare_amos_mr", ("24.2 GB", "non-commercial", "imagesTr", "NOT the paper's split", "--url", "7155725")),
        ("prepare_flare_ct", ("2 GB", "non-commercial", "7860267", "NOT the paper's split", "imagesTs", "--leave-out")),
        ("prepare_umamba", ("5 GB", "non-commercial", "without checksums", "Tables 1 to 3", "--only")),
        ("check_dataset", ("exit status", "contact_sheet.png", "patients", "--accept", "two splits")),
    ],
)
def test_a_script_says_what_a_user_must_know_and_is_the_command(name, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    text = capsys.readouterr().out
    assert stop.value.code == 0 and [word for word in words if word not in text] == []


def test_a_script_hands_its_options_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["check_dataset.py", str(tmp_path), "--strict"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPTS / "check_dataset.py"), run_name="__main__")
    assert stop.value.code == 2 and f"no dataset.json in {tmp_path}" in capsys.readouterr().err


def test_the_commands(tmp_path, flare, umamba, capsys):
    out = ["--out", tmp_path / "raw"]
    archive = archives.write_zip(tmp_path / "FLARE22Train.zip", flare)
    assert archives.lkm("data", "flare", "--archive", archive, "--number", 821, *out) == 0
    assert "nnUNetv2_plan_and_preprocess -d 821 -c 3d_fullres" in capsys.readouterr().out
    drive = archives.write_folder(tmp_path / "drive", umamba)
    assert archives.lkm("data", "umamba", "--archive", drive, "--only", 702, *out) == 0
    text = capsys.readouterr().out
    assert "Dataset702_AbdomenMR: 3 written" in text and "Dataset701" not in text and "60 training + 50 test" in text
    assert archives.lkm("data", "umamba", "--url", "ftp://nowhere/x.zip", *out) == 2
    assert "no web address" in capsys.readouterr().err
    assert archives.lkm("data", "umamba", "--archive", drive, "--only", 703, *out) == 2
    assert "choose one of 701, 702" in capsys.readouterr().err
