"""AMOS22's MR scans: from an archive of the published layout to a data set that nnU-Net takes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import archives
import nibabel
import numpy as np
import pytest
from fault_server import FaultServer

from lkm_kit.data import prepare_amos_mr
from lkm_kit.data.manifest import Manifest
from lkm_kit.errors import KitError

SCRIPT = Path(__file__).parents[1] / "data_scripts" / "prepare_amos_mr.py"
NAME = "Dataset722_AMOS22MR"


@pytest.fixture(scope="module")
def files():
    return archives.amos22()


@pytest.fixture
def archive(tmp_path, files):
    return archives.write_zip(tmp_path / "amos22.zip", files)


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_from_the_zip(tmp_path, archive, files):
    written = prepare_amos_mr(archive, tmp_path / "raw")
    assert written.new == ["amos_0507", "amos_0508", "amos_0517"] and written.folder == tmp_path / "raw" / NAME
    about = archives.require_nnunet_layout(written.folder)
    assert about["channel_names"] == {"0": "MR"} and about["numTraining"] == 2
    assert "CC BY 4.0" in about["licence"] and "not the paper's split" in about["description"]
    # images byte by byte; labels by the table of the facts, on their image's grid
    image = written.folder / "imagesTr" / "amos_0507_0000.nii.gz"
    assert image.read_bytes() == files["amos22/imagesTr/amos_0507.nii.gz"]
    theirs = nibabel.Nifti1Image.from_bytes(archives.gzip.decompress(files["amos22/labelsTr/amos_0507.nii.gz"]))
    ours = nibabel.load(written.folder / "labelsTr" / "amos_0507.nii.gz")
    look_up = np.array([0, 3, 2, 13, 9, 10, 1, 11, 5, 6, 4, 7, 8, 12, 0, 0])
    np.testing.assert_array_equal(np.asarray(ours.dataobj), look_up[np.asarray(theirs.dataobj)])
    assert 14 in np.asarray(theirs.dataobj) and nibabel.aff2axcodes(ours.affine) == ("L", "P", "S")


def test_the_manifest_tells_everything_and_no_path(tmp_path, archive):
    written = prepare_amos_mr(archive, tmp_path / "raw")
    text = (written.folder / "manifest.json").read_text()
    assert str(tmp_path) not in text
    stored = json.loads(text)
    assert stored["complete"] and stored["about"]["modality"] == "MR" and stored["about"]["configuration"] == "2d"
    assert stored["about"]["source"]["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert stored["about"]["release"]["version"].startswith("Zenodo record 7155725")
    assert stored["cases"]["amos_0517"]["split"] == "test" and not stored["about"]["paper_split"]
    manifest = Manifest.read(written.folder)
    on_disk = {name for name in tree(written.folder) if name != "manifest.json"}
    assert set(manifest.files()) == on_disk and manifest.changed() == []
    for name, about in manifest.files().items():
        assert hashlib.sha256((written.folder / name).read_bytes()).hexdigest() == about["sha256"]


def test_a_second_run_writes_nothing(tmp_path, archive, files):
    folder = prepare_amos_mr(archive, tmp_path / "raw").folder
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}
    again = prepare_amos_mr(archive, tmp_path / "raw")
    assert again.new == again.changed == [] and len(again.kept) == 3
    # the unpacked folder is the same input, wherever its top is
    unpacked = archives.write_folder(tmp_path / "unpacked", files)
    assert len(prepare_amos_mr(unpacked, tmp_path / "raw").kept) == 3
    assert len(prepare_amos_mr(unpacked / "amos22", tmp_path / "raw").kept) == 3
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}


def test_zip_and_folder_give_the_same_bytes(tmp_path, archive, files):
    one = prepare_amos_mr(archive, tmp_path / "one").folder
    two = prepare_amos_mr(archives.write_folder(tmp_path / "unpacked", files), tmp_path / "two").folder
    ours, theirs = tree(one), tree(two)
    for other in (ours, theirs):
        other.pop("manifest.json")  # it names its input
    assert ours == theirs


def test_a_changed_input_is_noticed(tmp_path, archive, files):
    folder = prepare_amos_mr(archive, tmp_path / "raw").folder
    image, label = archives.pair(99, "MR", "amos")
    changed = {**files, "amos22/imagesTr/amos_0508.nii.gz": image, "amos22/labelsTr/amos_0508.nii.gz": label}
    again = prepare_amos_mr(archives.write_zip(tmp_path / "new.zip", changed), tmp_path / "raw")
    assert again.changed == ["amos_0508"] and len(again.kept) == 2
    assert (folder / "imagesTr/amos_0508_0000.nii.gz").read_bytes() == image
    assert "had changed (amos_0508)" in str(again)
    archives.require_nnunet_layout(folder)


def test_an_update_that_fails_leaves_no_complete_looking_folder(tmp_path, archive, files):
    folder = prepare_amos_mr(archive, tmp_path / "raw").folder
    broken = {**files, "amos22/labelsTr/amos_0508.nii.gz": b"broken"}
    with pytest.raises(KitError, match="amos_0508"):
        prepare_amos_mr(archives.write_zip(tmp_path / "new.zip", broken), tmp_path / "raw")
    assert not (folder / "dataset.json").exists() and not Manifest.read(folder).complete
    assert not list(folder.rglob("*0508*")), "the old version of a changed case is not kept either"
    assert prepare_amos_mr(archive, tmp_path / "raw").new == ["amos_0508"]
    archives.require_nnunet_layout(folder)


def test_an_altered_or_deleted_file_is_written_anew(tmp_path, archive):
    folder = prepare_amos_mr(archive, tmp_path / "raw").folder
    good = tree(folder)
    (folder / "labelsTr/amos_0507.nii.gz").write_bytes(b"edited")
    (folder / "imagesTs/amos_0517_0000.nii.gz").unlink()
    (folder / "dataset.json").unlink()
    assert prepare_amos_mr(archive, tmp_path / "raw").changed == ["amos_0507", "amos_0517"]
    assert tree(folder) == good


def test_left_out_cases_go_and_come_back(tmp_path, archive):
    folder = prepare_amos_mr(archive, tmp_path / "raw").folder
    assert prepare_amos_mr(archive, tmp_path / "raw", without=["amos_0508"]).removed == ["amos_0508"]
    assert archives.require_nnunet_layout(folder)["numTraining"] == 1
    assert prepare_amos_mr(archive, tmp_path / "raw").new == ["amos_0508"]
    assert archives.require_nnunet_layout(folder)["numTraining"] == 2
    with pytest.raises(KitError, match="no case amos_9999"):
        prepare_amos_mr(archive, tmp_path / "raw", without=["amos_9999"])
    with pytest.raises(KitError, match="no training case is left"):
        prepare_amos_mr(archive, tmp_path / "raw", without=["amos_0507", "amos_0508"])


def test_a_killed_run_goes_on(tmp_path, archive):
    killer = (
        "import os, signal, sys\n"
        "from lkm_kit.data import prepare, prepare_amos_mr\n"
        "write, calls = prepare.write_segmentation, []\n"
        "def fatal(*args, **more):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(*args, **more)\n"
        "prepare.write_segmentation = fatal\n"
        "prepare_amos_mr(*sys.argv[1:])\n"
    )
    run = subprocess.run([sys.executable, "-c", killer, str(archive), str(tmp_path / "raw")], timeout=120)
    folder = tmp_path / "raw" / NAME
    assert run.returncode == -signal.SIGKILL
    half = [path.name for path in (folder / "imagesTr").iterdir() if path.name.startswith(".")]
    assert half and half[0].endswith(".nii.gz"), "nnU-Net would take it for a case"
    assert not (folder / "dataset.json").exists()
    first = folder / "imagesTr" / "amos_0507_0000.nii.gz"
    written_at = first.stat().st_mtime_ns
    again = prepare_amos_mr(archive, tmp_path / "raw")
    assert again.kept == ["amos_0507"] and again.new == ["amos_0508", "amos_0517"]
    assert first.stat().st_mtime_ns == written_at
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    archives.require_nnunet_layout(folder)


@pytest.mark.thorough
def test_two_scripts_at_once(tmp_path, archive):
    command = [sys.executable, str(SCRIPT), "--archive", str(archive), "--out", str(tmp_path / "raw")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    output = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], output
    written = sorted(line for out, _ in output for line in out.splitlines() if line.startswith(NAME))
    assert written == [f"{NAME}: 0 written; 3 were there already", f"{NAME}: 3 written; 0 were there already"]
    archives.require_nnunet_layout(tmp_path / "raw" / NAME)


def test_the_command_downloads_and_says_what_it_did(tmp_path, archive, monkeypatch, capsys):
    monkeypatch.setenv("LKM_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setattr("lkm_kit.data.download.time.sleep", lambda _: None)
    with FaultServer({"amos22.zip": archive.read_bytes()}) as server:
        server.faults = [("truncate", 50_000), 503]
        assert archives.lkm("data", "amos", "--url", server.url("amos22.zip")) == 0
        assert archives.lkm("data", "amos", "--url", server.url("amos22.zip")) == 0
        assert len(server.requests) == 3
    out = capsys.readouterr().out
    assert "licence:" in out and "2 training + 1 test" in out and "40 training + 20 test" in out
    assert "not the paper's split" in out and "nnUNetv2_plan_and_preprocess -d 722 -c 2d" in out
    assert "0 written; 3 were there already" in out and "not the one that is known" in out
    archives.require_nnunet_layout(tmp_path / "raw" / NAME)


def test_cases_to_leave_out_are_given_at_once_or_one_by_one(tmp_path, archive):
    command = ["data", "amos", "--archive", archive, "--out", tmp_path / "raw"]
    assert archives.lkm(*command, "--leave-out", "amos_0508", "amos_0517", "--trust-modality") == 0
    assert [path.name for path in (tmp_path / "raw" / NAME).rglob("amos_*_0000.nii.gz")] == ["amos_0507_0000.nii.gz"]
    assert archives.lkm(*command, "--leave-out", "amos_0507", "--leave-out", "amos_0517", "--number", "822") == 0
    (folder,) = (tmp_path / "raw").glob("Dataset822_*")
    assert [path.name for path in folder.rglob("amos_*_0000.nii.gz")] == ["amos_0508_0000.nii.gz"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give one of --archive, --url and --download"),
        (("--archive", "none.zip", "--download"), "give one of --archive, --url and --download"),
        (("--archive", "none.zip"), "there is no file or folder"),
        (("--archive", "none.zip", "--sizes", "3"), "No such option"),
        (("--archive", "none.zip", "more"), "unexpected extra argument"),
    ],
)
def test_errors_end_with_status_2_and_a_remedy(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert archives.lkm("data", "amos", *arguments, "--out", "raw") == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and not list(tmp_path.iterdir())


def test_an_archive_of_ct_only(tmp_path, files):
    only = {name: content for name, content in files.items() if "_05" not in name}
    with pytest.raises(KitError, match="holds no MR scan"):
        prepare_amos_mr(archives.write_zip(tmp_path / "ct.zip", only), tmp_path / "raw")


def test_another_archive(tmp_path):
    path = archives.write_zip(tmp_path / "FLARE22Train.zip", {"a/b.txt": b"x"})
    with pytest.raises(KitError, match="is not AMOS22"):
        prepare_amos_mr(path, tmp_path / "raw")
    shutil.rmtree(tmp_path / "raw", ignore_errors=True)
