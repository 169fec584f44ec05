"""The check of a data set finds each planted fault, and nothing in a sound one."""

import json
import shutil
from pathlib import Path

import archives
import nibabel
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from lkm_kit.data import ORGANS, check_dataset, prepare_umamba
from lkm_kit.data.manifest import content_hash
from lkm_kit.data.report import make_preview
from lkm_kit.errors import KitError
from lkm_kit.plots.contact_sheet import FRAMES, plot_contact_sheet

NAMES = {organ.name: organ.label for organ in ORGANS}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    source = archives.write_zip(root / "drive.zip", archives.umamba(702))
    return prepare_umamba(source, root / "raw")[0].folder


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / made.name))


def errors(folder, **how):
    return {(f.case, f.kind) for f in check_dataset(folder, **how).findings if f.level == "error"}


def texts(folder, kind):
    return " | ".join(f.text for f in check_dataset(folder).findings if f.kind == kind)


def forget(folder):
    """Without its manifest an edited file shows by its content alone."""
    (folder / "manifest.json").unlink()
    return folder


def edit(path, change):
    image = nibabel.load(path)
    array, affine = np.asarray(image.dataobj).copy(), image.affine.copy()
    array = change(array, affine)
    array = array if array is not None else np.asarray(image.dataobj)
    path.write_bytes(archives.nifti(array, affine, array.dtype))


def swap(first, second):
    def change(array, _):
        a, b = array == NAMES[first], array == NAMES[second]
        array[a], array[b] = NAMES[second], NAMES[first]
        return array

    return change


def test_a_sound_data_set(folder):
    report = check_dataset(folder)
    assert report.ok and {f.kind for f in report.findings} == {"labels"}, "only what the phantom never had"
    row = report.cases.set_index("case").loc["amos_0540"]
    assert row["split"] == "test" and row["voxels"] == "40x36x12" and row["spacing_mm"] == "3x3x5"
    assert row["orientation"] == "LPS" and row["labels"] >= 8 and "esophagus" in row["missing"]
    assert "Dataset702_AbdomenMR: 2 training, 1 test cases; 1 warning" in str(report)
    assert "channels: MR; labels: liver, right kidney" in str(report)
    liver = report.labels_table().loc["liver"]
    assert liver["cases"] == 3 and 0 < liver["min"] <= liver["median"] <= liver["max"]
    label = nibabel.load(folder / "labelsTs" / "amos_0540.nii.gz")
    voxels = int((np.asarray(label.dataobj) == NAMES["liver"]).sum())
    assert report.volumes.loc["amos_0540", "liver"] == pytest.approx(voxels * 45 / 1000)


def test_a_file_edited_after_it_was_written(folder):
    path = folder / "labelsTr" / "amos_0507.nii.gz"
    path.write_bytes(path.read_bytes() + b"\0")
    assert errors(folder) == {("amos_0507", "manifest")}
    (folder / "labelsTr" / "extra.nii.gz").write_bytes(path.read_bytes())
    assert "labelsTr/extra.nii.gz is not in the manifest" in texts(folder, "manifest")


def test_an_interrupted_preparation(folder):
    stored = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**stored, "complete": False}))
    assert errors(folder) == {("", "manifest")}
    (folder / "dataset.json").unlink()
    with pytest.raises(KitError, match=r"there is no dataset\.json"):
        check_dataset(folder)


def test_no_source_is_a_warning(folder):
    path, said = forget(folder) / "dataset.json", "where the files come from is not known"
    about = json.loads(path.read_text())
    for key, value in (("licence", "CC-BY 4.0"), ("reference", "somebody"), ("name", "without either")):
        left = {k: v for k, v in about.items() if k not in ("licence", "reference")}
        path.write_text(json.dumps({**left, key: value}))
        report = check_dataset(folder)
        assert report.ok and (said in str(report)) == (key == "name")


def test_missing_partners(folder):
    forget(folder)
    (folder / "labelsTr" / "amos_0507.nii.gz").unlink()
    (folder / "imagesTr" / "amos_0508_0000.nii.gz").unlink()
    assert errors(folder) == {("amos_0507", "files"), ("amos_0508", "files"), ("", "files")}
    assert "dataset.json says 2 training cases, imagesTr holds 1" in texts(folder, "files")


def test_test_cases_without_labels_are_a_warning(folder):
    forget(folder)
    shutil.rmtree(folder / "labelsTs")
    report = check_dataset(folder)
    assert report.ok and "can be predicted, not scored" in str(report)


def test_files_that_do_not_belong(folder):
    forget(folder)
    (folder / "imagesTr" / "notes.txt").write_text("x")
    (folder / "imagesTr" / ".amos_0507_0000.nii.gz.x.nii.gz").write_text("x")
    assert "imagesTr/notes.txt is no file" in texts(folder, "files")
    assert errors(folder) == {("", "files")}


def test_an_unreadable_file(folder):
    forget(folder)
    path = folder / "imagesTr" / "amos_0507_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    assert errors(folder) == {("amos_0507", "files")}
    assert str(folder) not in texts(folder, "files")


def test_geometry(folder):
    forget(folder)

    def move(array, affine):
        affine[2, 3] += 5

    edit(folder / "labelsTr" / "amos_0507.nii.gz", move)
    edit(folder / "labelsTr" / "amos_0508.nii.gz", lambda array, _: array[:, :-1])
    assert errors(folder) == {("amos_0507", "geometry"), ("amos_0508", "geometry")}


def test_label_values(folder):
    forget(folder)

    def strange(array, _):
        array[0, 0, :2] = 14, 77
        return array

    edit(folder / "labelsTr" / "amos_0507.nii.gz", strange)
    edit(folder / "labelsTr" / "amos_0508.nii.gz", lambda array, _: array * 0)
    report = check_dataset(folder)
    assert errors(folder) == {("amos_0507", "labels"), ("amos_0508", "labels")}
    assert "the label holds 14, 77, which" in str(report) and "amos_0508: the label is empty" in str(report)


def test_modality_and_nan(folder):
    forget(folder)
    edit(folder / "imagesTr" / "amos_0507_0000.nii.gz", lambda array, _: array - 1000)

    def hole(array, _):
        array = array.astype(np.float32)
        array[3, 3, 3] = np.nan
        return array

    edit(folder / "imagesTr" / "amos_0508_0000.nii.gz", hole)
    assert errors(folder) == {("amos_0507", "intensities"), ("amos_0508", "intensities")}
    assert "look like CT" in texts(folder, "intensities") and "1 voxels are NaN" in texts(folder, "intensities")


def test_what_training_would_refuse_or_take_otherwise_is_said(folder):
    """A scale that no scanner has; two geometries in one header; a channel called ct; a number that is a text."""
    forget(folder)
    path = folder / "imagesTr" / "amos_0507_0000.nii.gz"
    edit(path, lambda array, _: array.astype(np.float32) * 1e8)
    image = nibabel.load(folder / "imagesTr" / "amos_0508_0000.nii.gz")
    image.set_sform(image.affine, 1)
    image.set_qform(np.diag([-1, 1, 1, 1]) @ image.affine, 1)
    nibabel.save(image, folder / "imagesTr" / "amos_0508_0000.nii.gz")
    about = json.loads((folder / "dataset.json").read_text())
    about |= {"channel_names": {"0": "ct"}, "numTraining": "2"}
    (folder / "dataset.json").write_text(json.dumps(about))
    assert "which no scanner gives" in texts(folder, "intensities")
    assert "says ct, the intensities" in texts(folder, "intensities")
    assert "imagesTr/amos_0508_0000.nii.gz: qform and sform disagree" in texts(folder, "geometry")
    assert not texts(folder, "files")


def test_kidneys_exchanged(folder):
    forget(folder)
    edit(folder / "labelsTr" / "amos_0507.nii.gz", swap("right kidney", "left kidney"))
    assert errors(folder) == {("amos_0507", "sides")}
    assert "to the left of left kidney: are the two labels exchanged?" in texts(folder, "sides")


def test_a_mirrored_scan_and_situs_inversus(folder):
    forget(folder)
    for sub, tail in (("imagesTr", "_0000"), ("labelsTr", "")):
        edit(folder / sub / f"amos_0507{tail}.nii.gz", lambda array, _: array[::-1])
    assert errors(folder) == {("amos_0507", "sides")} and "in the whole scan" in texts(folder, "sides")
    report = check_dataset(folder, accept=["amos_0507"])
    assert report.ok and "accepted: amos_0507" in str(report)


def test_a_case_that_is_accepted_exists(folder):
    with pytest.raises(KitError, match="--accept amos_507: there is no such case") as error:
        check_dataset(folder, accept=["amos_507"])
    assert "did you mean 'amos_0507'" in error.value.remedy


def test_leakage_by_content_not_by_name(folder):
    """The same scan as a test case under another name, other compression, type and axis order."""
    forget(folder)
    for sub, target, tail in (("imagesTr", "imagesTs", "_0000"), ("labelsTr", "labelsTs", "")):
        image = nibabel.as_closest_canonical(nibabel.load(folder / sub / f"amos_0507{tail}.nii.gz"))
        content = archives.nifti(np.asarray(image.dataobj), image.affine, np.float32 if tail else np.uint8)
        (folder / target / f"renamed{tail}.nii.gz").write_bytes(content)
    assert errors(folder) == {("renamed", "leakage")}
    assert "the same scan is training case amos_0507: tested on what was trained on" in texts(folder, "leakage")


def test_duplicates_within_a_split_and_names_in_both(folder):
    forget(folder)
    for sub, tail in (("imagesTr", "_0000"), ("labelsTr", "")):
        shutil.copy(folder / sub / f"amos_0507{tail}.nii.gz", folder / sub / f"twin{tail}.nii.gz")
    for sub, tail in (("imagesTs", "_0000"), ("labelsTs", "")):
        (folder / sub / f"amos_0540{tail}.nii.gz").rename(folder / sub / f"amos_0508{tail}.nii.gz")
    found = errors(folder)
    assert ("twin", "duplicate") in found and ("amos_0508", "leakage") in found
    assert len(check_dataset(folder).previews) == 4


def test_one_label_for_two_scans_is_a_warning(folder):
    forget(folder)
    shutil.copy(folder / "labelsTr" / "amos_0507.nii.gz", folder / "labelsTr" / "amos_0508.nii.gz")
    assert "its label is, voxel by voxel, that of training case amos_0507" in texts(folder, "duplicate")


def test_unusual_spacing_and_orientation(folder):
    forget(folder)

    def coarse(array, affine):
        affine[:3, 2] *= 4

    def turned(array, affine):
        affine[:3] = affine[:3] @ np.diag([-1, -1, 1, 1])
        return array[::-1, ::-1]

    for sub, tail in (("imagesTr", "_0000"), ("labelsTr", "")):
        edit(folder / sub / f"amos_0507{tail}.nii.gz", coarse)
        edit(folder / sub / f"amos_0508{tail}.nii.gz", turned)
    report = check_dataset(folder)
    found = {(f.case, f.kind) for f in report.findings if f.case}
    assert found == {("amos_0507", "spacing"), ("amos_0508", "orientation")} and report.ok


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"background": 1, "liver": 2}}, "no label background: 0"),
        ({"labels": {"background": 0, "liver": [1, 2]}}, "not all of the form NAME: ID"),
        ({"labels": ["liver"]}, "is not nnU-Net's dataset.json"),
        ({"channel_names": {"1": "T1"}}, "is not nnU-Net's dataset.json"),
        ({"file_ending": ".nrrd"}, "files end in .nrrd"),
    ],
)
def test_unusable_descriptions(folder, change, message):
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**about, **change}))
    with pytest.raises(KitError, match=message):
        check_dataset(folder)


def test_content_hash_sees_one_voxel():
    image = np.zeros((4, 5, 6), np.int16)
    other = image.copy()
    other[3, 4, 5] = 1
    assert content_hash(image) != content_hash(other)
    assert content_hash(image) != content_hash(image.reshape(5, 4, 6))


def test_the_command_writes_tables_and_picture(folder, capsys):
    assert archives.lkm("data", "check", str(folder)) == 0
    assert archives.lkm("data", "check", str(folder), "--strict") == 1
    edit(folder / "labelsTr" / "amos_0507.nii.gz", swap("right kidney", "left kidney"))
    assert archives.lkm("data", "check", str(folder), "--report", str(folder / "mine")) == 1
    findings = pd.read_csv(folder / "mine" / "findings.csv")
    assert set(findings["kind"]) >= {"sides", "manifest"} and findings["level"].iloc[0] == "error"
    assert pd.read_csv(folder / "mine" / "cases.csv").shape == (3, 9)
    picture = imread(folder / "mine" / "contact_sheet.png")
    assert picture.ndim == 3 and picture[..., :3].std() > 0.05
    assert archives.lkm("data", "check", str(folder), "--accept", "amos_0507") == 0
    assert archives.lkm("data", "check", str(folder / "nowhere")) == 2
    assert "there is no data set" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_no_traceback(folder, capsys):
    (folder / "check").write_text("a file where the folder should be")
    assert archives.lkm("data", "check", str(folder)) == 2
    assert "error: " in capsys.readouterr().err


def test_the_check_does_not_disturb_the_data_set(folder):
    assert archives.lkm("data", "check", str(folder)) == 0 and (folder / "check" / "contact_sheet.png").is_file()
    assert check_dataset(folder).ok
    archives.require_nnunet_layout(folder)


def test_contact_sheet_frames_and_sides(folder):
    report = check_dataset(folder)
    preview = report.previews["amos_0507"]
    columns = [np.argwhere(preview.label == NAMES[name])[:, 1].mean() for name in ("liver", "spleen")]
    assert columns[0] < columns[1], "the patient's right is at the left"
    rows = [np.argwhere(preview.label == NAMES[name])[:, 0].mean() for name in ("stomach", "aorta")]
    assert rows[0] < rows[1], "the front is at the top"
    figure = plot_contact_sheet(report.previews, report.names, marked={"amos_0508": "error"}, columns=2)
    framed = {ax.get_title(): ax.spines["top"].get_visible() for ax in figure.axes}
    assert framed == {"amos_0507": False, "amos_0508": True, "amos_0540": False}
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "liver" in texts and "error" in texts and "warning" not in texts and set(FRAMES) == {"error", "warning"}


def test_a_preview_shows_the_slice_with_most_of_most_labels():
    image = np.broadcast_to(np.arange(6.0), (8, 8, 6))  # a slice's value is its number
    label = np.zeros(image.shape, int)
    label[:, :, 0] = 1
    label[0, 0, 1:4], label[1, 0, 1:4] = 1, 2
    label[2:6, 3:6, 3] = 2
    preview = make_preview(image, label, (1.0, 1.0, 1.0), "MR")
    assert np.count_nonzero(preview.label) == 14 and set(np.unique(preview.label)) == {0, 1, 2}
    assert np.allclose(preview.image, 0.6, atol=0.01)
