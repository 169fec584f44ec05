"""The cohort as files: the same items as on the fly, written once, in nnU-Net's layout."""

import json

import archives
import nibabel
import numpy as np
import pytest

from lkm_kit.data import CohortPatches, CohortSlices, LabelTable, check_dataset, write_cohort
from lkm_kit.errors import KitError

LENGTHS = {"train": 3, "validation": 1, "test": 2}


@pytest.fixture(scope="module")
def source():
    return archives.scan(0, "CT")


def test_slices_are_those_made_on_the_fly(tmp_path, source):
    written = write_cohort(tmp_path, size=(40, 32), spacing_mm=6, lengths=LENGTHS, seed=4, case=source)
    about = archives.require_nnunet_layout(written.folder)
    assert written.folder.name == "Dataset731_CohortSlices"
    assert about["channel_names"] == {"0": "noNorm"} and about["numTraining"] == 4
    cohort = CohortSlices("test", size=(40, 32), spacing_mm=6, table=LabelTable(), length=2, seed=4, case=source)
    image = nibabel.load(written.folder / "imagesTs" / "test_0001_0000.nii.gz")
    label = nibabel.load(written.folder / "labelsTs" / "test_0001.nii.gz")
    assert image.shape == (40, 32, 1) and image.header.get_zooms() == (6, 6, 5)
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32)[..., 0], cohort[1]["image"][0])
    np.testing.assert_array_equal(np.asarray(label.dataobj)[..., 0], cohort[1]["label"])


def test_volumes_keep_their_axes(tmp_path, source):
    written = write_cohort(tmp_path, size=(8, 40, 32), spacing_mm=6, lengths={"train": 2}, case=source)
    archives.require_nnunet_layout(written.folder)
    cohort = CohortPatches("train", size=(8, 40, 32), spacing_mm=6, table=LabelTable(), length=2, case=source)
    image = nibabel.load(written.folder / "imagesTr" / "train_0000_0000.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), cohort[0]["image"][0].movedim(0, 2))


def test_again_longer_and_different(tmp_path, source):
    how = {"size": (40, 32), "spacing_mm": 6, "case": source}
    write_cohort(tmp_path, lengths=LENGTHS, **how)
    assert len(write_cohort(tmp_path, lengths=LENGTHS, **how).kept) == 6
    longer = write_cohort(tmp_path, lengths={**LENGTHS, "train": 5}, **how)
    assert longer.new == ["train_0003", "train_0004"] and len(longer.kept) == 6
    other = write_cohort(tmp_path, lengths=LENGTHS, seed=1, **how)
    assert len(other.changed) == 6 and other.removed == ["train_0003", "train_0004"]


def test_mirrored_items_are_no_finding(tmp_path, source):
    written = write_cohort(tmp_path, size=(64, 64), spacing_mm=5, lengths={"train": 8}, case=source)
    report = check_dataset(written.folder)
    assert report.ok, report
    manifest = json.loads((written.folder / "manifest.json").read_text())
    assert manifest["about"]["mirrored"]
    manifest["about"]["mirrored"] = False  # the check would see them otherwise
    (written.folder / "manifest.json").write_text(json.dumps(manifest))
    kinds = {finding.kind for finding in check_dataset(written.folder).findings if finding.level == "error"}
    assert kinds == {"sides"}


def test_what_cannot_be_made(tmp_path, source):
    with pytest.raises(KitError, match="a cohort of"):
        write_cohort(tmp_path, size=(8, 8), spacing_mm=6, lengths={"test": 2}, case=source)
    with pytest.raises(KitError, match="size"):
        write_cohort(tmp_path, size=(8,), spacing_mm=6, lengths=LENGTHS, case=source)
    with pytest.raises(KitError, match="is no name for a data set"):
        write_cohort(tmp_path, size=(8, 8), spacing_mm=6, lengths=LENGTHS, case=source, number=0)
    assert not list(tmp_path.iterdir())


def test_the_command_never_takes_phantoms_for_the_scan(tmp_path, monkeypatch, capsys):
    def unreachable():
        raise KitError("the sample scans could not be fetched", remedy="connect to the network")

    monkeypatch.setattr("lkm_kit.data.fetch_sample", unreachable)
    assert archives.lkm("data", "cohort", "--out", tmp_path) == 2
    assert "could not be fetched" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("dimensions", "size", "folder"), [(2, (32, 30), "731"), (3, (4, 32, 30), "732")])
def test_the_command(dimensions, size, folder, tmp_path, source, monkeypatch, capsys):
    monkeypatch.setattr("lkm_kit.data.sample.load_sample", lambda name: source)
    monkeypatch.setattr("lkm_kit.data.sample_source", lambda: "sample data: a phantom")
    monkeypatch.setattr("lkm_kit.data.fetch_sample", lambda: None)
    lengths = ["--train", 2, "--validation", 0, "--test", 1]
    assert archives.lkm("data", "cohort", "--out", tmp_path, *lengths, "--dimensions", dimensions, "--size", *size) == 0
    assert "3 written" in capsys.readouterr().out
    (image,) = tmp_path.glob(f"Dataset{folder}_*/imagesTs/*.nii.gz")
    assert nibabel.load(image).shape == ((32, 30, 1) if dimensions == 2 else (32, 30, 4))
