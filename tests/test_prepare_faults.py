"""Faulty input: each fault ends in a message that names it, and a later run with good input completes."""

import errno
import gzip
import shutil
import stat
import zipfile

import archives
import nibabel
import numpy as np
import pytest

from lkm_kit.data import prepare_amos_mr
from lkm_kit.data.archives import open_source
from lkm_kit.data.nnunet_raw import RawSpec, raw_folder, write_raw_dataset
from lkm_kit.errors import KitError
from lkm_kit.files import locked

NAME = "Dataset722_AMOS22MR"
IMAGE, LABEL = "amos22/imagesTr/amos_0508.nii.gz", "amos22/labelsTr/amos_0508.nii.gz"


@pytest.fixture(scope="module")
def files():
    return archives.amos22()


def prepare(tmp_path, files, **how):
    return prepare_amos_mr(archives.write_zip(tmp_path / "amos22.zip", files), tmp_path / "raw", **how)


def edited(content, change):
    """A NIfTI member with other voxels or another header."""
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
    array, affine = np.asarray(image.dataobj).copy(), image.affine.copy()
    array = change(array, affine)
    return archives.nifti(array, affine, array.dtype)


def with_value(value, dtype=np.int16):
    def change(array, _):
        array = array.astype(dtype)
        array[5, 5, 5] = value
        return array

    return change


def moved(array, affine):
    affine[0, 3] += 9
    return array


FAULTS = {
    "label id outside the table": (LABEL, with_value(16), r"amos_0508: .*labelsTr/amos_0508.nii.gz holds the value 16"),
    "label is no label": (LABEL, with_value(2.5, np.float32), "which is not a whole number"),
    "CT among the MRs": (IMAGE, lambda array, _: (array - 1000).astype(np.int16), "does not look like MR"),
    "label lies elsewhere": (LABEL, moved, r"lie up to 9 mm apart"),
    "label of another shape": (LABEL, lambda array, _: array[:-1], r"has \(40, 36, 12\) voxels, .* \(39, 36, 12\)"),
    "NaN in the scan": (IMAGE, with_value(np.nan, np.float32), "1 voxels are NaN"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_case_is_named_and_a_later_run_completes(tmp_path, files, fault):
    member, change, message = FAULTS[fault]
    broken = {**files, member: edited(files[member], change)}
    with pytest.raises(KitError, match=message) as error:
        prepare(tmp_path, broken)
    assert "1 of 3 cases cannot be used" in error.value.message
    assert "--leave-out amos_0508" in error.value.remedy
    assert ".incoming" not in str(error.value), "the user knows the member, not our copy of it"
    folder = tmp_path / "raw" / NAME
    assert not (folder / "dataset.json").exists(), "nnU-Net must not take half a data set"
    assert not list(folder.rglob("*0508*"))
    assert prepare(tmp_path, files).kept == ["amos_0507", "amos_0517"]
    archives.require_nnunet_layout(folder)


def test_one_can_go_on_without_the_faulty_case(tmp_path, files):
    broken = {**files, LABEL: edited(files[LABEL], with_value(16))}
    written = prepare(tmp_path, broken, without=["amos_0508"])
    assert archives.require_nnunet_layout(written.folder)["numTraining"] == 1


def test_unusual_intensities_can_be_vouched_for(tmp_path, files):
    shifted = {**files, IMAGE: edited(files[IMAGE], lambda array, _: (array - 1000).astype(np.int16))}
    assert len(prepare(tmp_path, shifted, check_modality=False).new) == 3


def test_missing_labels(tmp_path, files):
    partial = {name: content for name, content in files.items() if name != LABEL}
    with pytest.raises(KitError, match="no label for 1 of 3 cases: amos_0508"):
        prepare(tmp_path, partial)
    assert not (tmp_path / "raw").exists()
    assert len(prepare(tmp_path, partial, without=["amos_0508"]).new) == 2


def test_a_truncated_member(tmp_path, files):
    with pytest.raises(KitError, match=r"imagesTr/amos_0508.nii.gz.* truncated or damaged"):
        prepare(tmp_path, {**files, IMAGE: files[IMAGE][:-3000]})
    prepare(tmp_path, files)


def test_a_damaged_archive(tmp_path, files):
    path = archives.write_zip(tmp_path / "amos22.zip", files)
    content = bytearray(path.read_bytes())
    content[content.index(files[IMAGE]) + 2000] ^= 255
    path.write_bytes(content)
    with pytest.raises(KitError, match=r"amos_0508.nii.gz in amos22.zip is damaged \(Bad CRC-32"):
        prepare_amos_mr(path, tmp_path / "raw")
    later = bytearray(content)
    later[content.index(b"PK\x01\x02") + 6] = 238  # the zip version that a reader must know
    for spoilt in (content[:-4000], later):
        path.write_bytes(spoilt)
        with pytest.raises(KitError, match=r"amos22.zip is truncated or damaged"):
            prepare_amos_mr(path, tmp_path / "raw")
    prepare(tmp_path, files)


@pytest.mark.parametrize(
    "name", ["../evil.nii.gz", "amos22/../../evil", "/etc/evil", "C:/evil", "a\\..\\..\\evil", "\\evil"]
)
def test_path_traversal_is_refused(tmp_path, files, name):
    with pytest.raises(KitError, match="points outside the archive: refused"):
        prepare(tmp_path, {**files, name: b"evil"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["amos22.zip"]


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("amos22/imagesTr/amos_0507.nii.gz")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
    with pytest.raises(KitError, match="is a link: refused"):
        open_source(tmp_path / "a.zip")


def test_a_case_that_lies_there_twice(tmp_path, files):
    twice = {**files, f"copy/{IMAGE}": files[IMAGE]}
    with pytest.raises(KitError, match="holds a case twice"):
        prepare(tmp_path, twice)


def test_debris_of_file_managers_is_no_data(tmp_path, files):
    debris = {"__MACOSX/amos22/imagesTr/amos_0599.nii.gz": b"x", "amos22/imagesTr/._amos_0507.nii.gz": b"x"}
    assert len(prepare(tmp_path, {**files, **debris, "amos22/.DS_Store": b"x"}).new) == 3


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_the_disk_fills_up(tmp_path, files, monkeypatch, at):
    """Whichever write it hits, the message names the disk and a later run completes."""
    calls = []

    def full(*_):
        calls.append(1)
        if len(calls) >= at:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(KitError, match="no space left on the disk") as error:
            prepare(tmp_path, files)
    assert "again" in error.value.remedy and "cases cannot be used" not in error.value.message
    written = prepare(tmp_path, files)
    assert len(written.new) + len(written.kept) + len(written.changed) == 3
    archives.require_nnunet_layout(written.folder)


def test_the_disk_fills_up_while_a_member_is_copied(tmp_path, files, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", full)
        with pytest.raises(KitError, match="no space left on the disk"):
            prepare(tmp_path, files)
    assert not list((tmp_path / "raw" / NAME).rglob("*.nii.gz"))
    assert len(prepare(tmp_path, files).new) == 3


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_written(tmp_path, files, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(KitError, match=r"0.0 GB free, 0.0 GB are needed"):
        prepare(tmp_path, files)
    assert not list((tmp_path / "raw" / NAME).rglob("*.nii.gz"))


def test_a_folder_of_somebody_else_is_left_alone(tmp_path, files):
    folder = tmp_path / "raw" / NAME
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(KitError, match="was not written by this kit"):
        prepare(tmp_path, files)
    assert (folder / "dataset.json").read_text() == "{}"


def test_files_of_somebody_else_are_named(tmp_path, files):
    folder = prepare(tmp_path, files).folder
    (folder / "imagesTr" / "mine_0000.nii.gz").write_bytes(b"mine")
    with pytest.raises(KitError, match=r"not in its manifest.json: imagesTr/mine_0000.nii.gz"):
        prepare(tmp_path, files)
    assert (folder / "imagesTr" / "mine_0000.nii.gz").exists()


def test_a_number_is_given_once(tmp_path, files):
    (tmp_path / "raw" / "Dataset722_Hearts").mkdir(parents=True)
    with pytest.raises(KitError, match=r"the number 722 is taken .*Dataset722_Hearts") as error:
        prepare(tmp_path, files)
    assert "--number" in error.value.remedy
    assert prepare(tmp_path, files, number=822).folder.name == "Dataset822_AMOS22MR"


def test_a_manifest_that_cannot_be_read(tmp_path, files):
    folder = prepare(tmp_path, files).folder
    (folder / "manifest.json").write_text('{"format": 99}')
    with pytest.raises(KitError, match="not a manifest that this version of the kit can read"):
        prepare(tmp_path, files)


def test_numbers_and_places(tmp_path, monkeypatch):
    with pytest.raises(KitError, match="no name for a data set"):
        write_raw_dataset(tmp_path, RawSpec(1000, "X", "MR", {}), [])
    monkeypatch.delenv("nnUNet_raw", raising=False)
    monkeypatch.setenv("LKM_DATA", str(tmp_path))
    assert raw_folder() == tmp_path / "nnUNet_raw"
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "mine"))
    assert raw_folder() == tmp_path / "mine" and raw_folder(tmp_path) == tmp_path


def test_waiting_has_an_end(tmp_path, capsys):
    with (
        locked(tmp_path / "x.lock", "a test"),
        pytest.raises(KitError, match="another process has been busy with a test"),
        locked(tmp_path / "x.lock", "a test", wait_s=0.2),
    ):
        pass
    assert "waiting: another process is busy with a test" in capsys.readouterr().err


def test_no_archive_at_all(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("hello")
    for name, message in {
        "empty": "is empty",
        "text.zip": "is neither a zip nor a tar archive",
        "none": "no file or folder",
    }.items():
        with pytest.raises(KitError, match=message):
            open_source(tmp_path / name)
