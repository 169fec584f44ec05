"""Human-labelled scans: the archive in both of its layouts, faulty cases left out by name, the split by person."""

import gzip
import io
import json
import os
import shutil
import signal
import tarfile
from pathlib import Path

import archives
import nibabel
import numpy as np
import pytest

from lkm_kit.data import DataSet, check_dataset
from lkm_kit.data.dataset_init import init_dataset
from lkm_kit.data.hippocampus import (
    TASK,
    TEST_PERSONS,
    VALIDATION_PERSONS,
    hippocampus_archive,
    person_of,
    prepare_hippocampus,
)
from lkm_kit.data.persons import shared_persons
from lkm_kit.errors import KitError

PACK = Path(os.environ.get("LKM_HIPPOCAMPUS_ARCHIVE", "/nowhere"))
CASES = (1, 2, 3, 4, 17, 43, 44, 10, 118)
"""Persons 1, 2 (test), 9 (test), 22 (validation); 10 is of two sizes, 118 has no label."""


def nifti(array) -> bytes:
    return gzip.compress(nibabel.Nifti1Image(array, np.eye(4)).to_bytes(), mtime=0)


def members(prefix="") -> dict[str, bytes]:
    files = {}
    for number in CASES:
        rng = np.random.default_rng(number)
        image = rng.integers(0, 400, (12, 14, 10)).astype(np.int16)
        label = np.zeros(image.shape, np.uint8)
        label[3:9, 3:7, 2:8], label[3:9, 7:11, 2:8] = 1, 2
        image[label > 0] += 500
        name = f"hippocampus_{number:03d}.nii.gz"
        files[f"{prefix}imagesTr/{name}"] = nifti(image[:-1] if number == 10 else image)
        if number != 118:
            files[f"{prefix}labelsTr/{name}"] = nifti(label)
    if prefix:
        files |= {f"{prefix}dataset.json": b"{}", f"{prefix}imagesTr/._hippocampus_001.nii.gz": b"x"}
        files[f"{prefix}imagesTs/hippocampus_002.nii.gz"] = b"x"
    return files


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("prefix", ["", f"{TASK}/"])
def test_both_layouts_and_a_second_run(tmp_path, prefix):
    archive = write_tar(tmp_path / "a.tar", members(prefix))
    written, left_out = prepare_hippocampus(archive, tmp_path / "raw")
    assert written.folder.name == "Dataset004_Hippocampus" and len(written.new) == 7
    assert set(left_out) == {"hippocampus_010", "hippocampus_118"}
    assert "11, 14, 10" in left_out["hippocampus_010"] and "no label" in left_out["hippocampus_118"]
    data = DataSet(written.folder)
    data.require()
    assert data.table.names == ("anterior", "posterior") and data.source.labels == "human"
    assert "CC-BY-SA 4.0" in data.source.licence and "Antonelli" in data.source.citation
    split = data.split(fold=0)
    assert [name[-3:] for name in split.train] == ["001", "002"]
    assert [name[-3:] for name in split.validation] == ["043", "044"]
    assert [name[-3:] for name in split.test] == ["003", "004", "017"]
    assert not shared_persons(split._asdict() | {"how": []}, data.persons)
    assert check_dataset(written.folder).ok
    stored = (written.folder / "imagesTr" / "hippocampus_001_0000.nii.gz").read_bytes()
    assert stored == members()["imagesTr/hippocampus_001.nii.gz"], "byte by byte"
    again, _ = prepare_hippocampus(archive, tmp_path / "raw")
    assert not again.new and len(again.kept) == 7


def test_the_split_is_fixed_and_by_person():
    assert not set(TEST_PERSONS) & set(VALIDATION_PERSONS)
    assert (len(TEST_PERSONS), len(VALIDATION_PERSONS)) == (51, 14)
    assert person_of(393) == person_of(394) == 197 and person_of(395) == 198


def test_archives_that_are_not_it(tmp_path, monkeypatch):
    with pytest.raises(KitError, match=f"is not {TASK}"):
        prepare_hippocampus(write_tar(tmp_path / "b.tar", {"readme": b""}), tmp_path / "raw")
    files = members()
    files["imagesTr/hippocampus_002.nii.gz"] = files["imagesTr/hippocampus_002.nii.gz"][:200]
    with pytest.raises(KitError, match=r"imagesTr/hippocampus_002\.nii\.gz"):
        prepare_hippocampus(write_tar(tmp_path / "c.tar", files), tmp_path / "raw")
    whole = write_tar(tmp_path / "d.tar", members()).read_bytes()
    (tmp_path / "e.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(KitError, match=r"e\.tar is truncated|damaged"):
        prepare_hippocampus(tmp_path / "e.tar", tmp_path / "raw")
    with tarfile.open(tmp_path / "f.tar", "w") as tar:
        info = tarfile.TarInfo("imagesTr/hippocampus_001.nii.gz")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(KitError, match="refused"):
        prepare_hippocampus(tmp_path / "f.tar", tmp_path / "raw")
    monkeypatch.setenv("LKM_HIPPOCAMPUS_ARCHIVE", str(tmp_path / "gone.tar"))
    assert hippocampus_archive() == tmp_path / "gone.tar"
    with pytest.raises(KitError, match="no file or folder"):
        prepare_hippocampus(root=tmp_path / "raw")


def test_the_download_is_checked_by_its_md5(tmp_path, monkeypatch):
    monkeypatch.setenv("LKM_DATA", str(tmp_path))
    monkeypatch.delenv("LKM_HIPPOCAMPUS_ARCHIVE", raising=False)

    def fetch(url, target):
        assert url.endswith(f"{TASK}.tar")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"something else")
        return target

    monkeypatch.setattr("lkm_kit.data.hippocampus.download", fetch)
    with pytest.raises(KitError, match="its md5 is"):
        hippocampus_archive()
    assert not list((tmp_path / "downloads").glob("*.tar"))


def test_the_command_prints_licence_source_and_what_is_left_out(tmp_path, capsys):
    archive = write_tar(tmp_path / "a.tar", members())
    assert archives.lkm("data", "hippocampus", "--archive", str(archive), "--out", str(tmp_path / "raw")) == 0
    said = capsys.readouterr().out
    for word in ("CC-BY-SA 4.0", "Antonelli", "left out: hippocampus_010", "2 cases to train on", "lkm train --data"):
        assert word in said


@pytest.mark.skipif(not PACK.exists(), reason="LKM_HIPPOCAMPUS_ARCHIVE names no archive")
def test_the_published_cases(tmp_path):
    written, _ = prepare_hippocampus(PACK, tmp_path / "raw")
    data = DataSet(written.folder)
    split = data.split(fold=0)
    assert (len(split.train), len(split.validation), len(split.test)) == (160, 20, 80)
    assert data.median[1] == (1.0, 1.0, 1.0) and not data.problems
    assert not shared_persons({k: split.names(k) for k in ("train", "validation", "test")}, data.persons)


def loose(tmp_path, channels=1):
    for number in range(3):
        image = np.random.default_rng(number).normal(size=(8, 9, 10)).astype(np.float32)
        for k in range(channels):
            tail = f"_{k:04d}" if channels > 1 else ""
            path = tmp_path / "scans" / f"patient {number}{tail}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(nifti(image + k))
        path = tmp_path / "masks" / f"patient {number}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(nifti((image > 1).astype(np.uint8) * (1 + number % 2)))
    return tmp_path / "scans", tmp_path / "masks"


@pytest.mark.parametrize("channels", [1, 2])
def test_loose_pairs_become_a_data_set(tmp_path, channels, capsys):
    images, labels = loose(tmp_path, channels)
    target = tmp_path / "Dataset050_Mine"
    options = ["--label", "prostate=1", "lesion=2", *(["--channel", "T2", "ADC"] if channels == 2 else [])]
    command = ["data", "init", str(target), "--images", str(images), "--labels", str(labels), *options]
    assert archives.lkm(*command) == 0
    assert "prostate = 1, lesion = 2" in capsys.readouterr().out
    data = DataSet(target)
    data.require()
    assert data.table.names == ("prostate", "lesion") and len(data.training) == 3
    assert data.channels == (("T2", "ADC") if channels == 2 else ("channel 0",))
    assert archives.lkm(*command) == 2 and "is not empty" in capsys.readouterr().err


def test_loose_pairs_that_are_none(tmp_path, monkeypatch):
    images, labels = loose(tmp_path)
    assert init_dataset(tmp_path / "a", images, labels).table.names == ("label 1", "label 2")
    with pytest.raises(KitError, match="holds the value 2, which no --label names"):
        init_dataset(tmp_path / "b", images, labels, names=["prostate=1"])
    for wrong in ("prostate", "prostate=x", "prostate=²"):
        with pytest.raises(KitError, match="write --label NAME=ID"):
            init_dataset(tmp_path / "b", images, labels, names=[wrong])
    with pytest.raises(KitError, match="--label names prostate twice"):
        init_dataset(tmp_path / "b", images, labels, names=["prostate=1", "prostate=2"])
    with pytest.raises(KitError, match="2 names for 1 channels"):
        init_dataset(tmp_path / "b", images, labels, channels=["a", "b"])
    for wrong, message in (
        (["prostate=1", "lesion=2", "tumour=0"], "0 is no label's id"),
        (["prostate=1", "lesion=2", "twin=2"], "id 2 twice"),
        (["prostate=1", "lesion=2", "background=1"], "--label background is not 0"),
        (["prostate=1", "lesion=2", "far=99999"], "99999 is no label's id"),
    ):
        with pytest.raises(KitError, match=message):
            init_dataset(tmp_path / "b", images, labels, names=wrong)
    with pytest.raises(KitError, match="channels are numbered"):
        init_dataset(tmp_path / "b", images, labels, channels=[" "])
    for value, words in ((-1, "holds the value -1"), (70000, "holds the value 70000")):
        masks = shutil.copytree(labels, tmp_path / f"masks{value}")
        (masks / "patient 2.nii.gz").write_bytes(nifti(np.full((6, 5, 4), value, np.int32)))
        with pytest.raises(KitError, match=words):
            init_dataset(tmp_path / "b", images, masks)
    scan = (images / "patient 2.nii.gz").read_bytes()
    (images / "patient 2.nii.gz").write_bytes(nifti(np.zeros((6, 5, 4, 3), np.int16)))
    with pytest.raises(KitError, match=r"patient 2\.nii\.gz has 4 axes"):
        init_dataset(tmp_path / "b", images, labels)
    (images / "patient 2.nii.gz").write_bytes(scan)
    monkeypatch.setattr("lkm_kit.data.dataset_init.write_json", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        init_dataset(tmp_path / "b", images, labels)
    assert not (tmp_path / "b").exists(), "nothing is left of what was refused or interrupted"
    (images / "patient 1.nii").write_bytes(gzip.decompress(scan))
    with pytest.raises(KitError, match=r"holds patient 1\.nii and patient 1\.nii\.gz"):
        init_dataset(tmp_path / "b", images, labels)
    (images / "patient 1.nii").unlink()
    (labels / "patient 1.nii.gz").rename(labels / "other.nii.gz")
    with pytest.raises(KitError, match="masks has no file for patient 1"):
        init_dataset(tmp_path / "b", images, labels)
    with pytest.raises(KitError, match="there is no folder"):
        init_dataset(tmp_path / "b", tmp_path / "nowhere", labels)
    assert not (tmp_path / "b").exists(), "nothing is left of what failed"


def test_a_packed_copy_of_plain_files(tmp_path):
    images, labels = loose(tmp_path)
    for folder in (images, labels):
        for path in folder.iterdir():
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    data = init_dataset(tmp_path / "a", images, labels)
    assert data.read(data.training[0]).shape == (8, 9, 10)
    assert json.loads((tmp_path / "a" / "dataset.json").read_text())["numTraining"] == 3
