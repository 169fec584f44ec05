"""The sample scans: the published voxel counts, and what happens when the download goes wrong."""

import contextlib
import errno
import io
import json
import subprocess
import tarfile

import numpy as np
import pandas as pd
import pytest

from lkm_kit.cli import main
from lkm_kit.data import fetch_sample, load_sample, organs_present, sample, sample_source, training_case
from lkm_kit.errors import KitError

# Voxels after remapping by name, as measured independently of this code; the esophagus is in no case.
COUNTS = {
    "ct_a": [41692, 7134, 9668, 695, 1839, 2266, 166, 210, 1319, 0, 4836, 2319, 5090],
    "mr_d": [18480, 1721, 1941, 1176, 672, 444, 91, 86, 1121, 0, 4221, 508, 1442],
}
GRIDS = {
    "ct_a": ((122, 101, 112), (3.0, 3.0, 3.0)),
    "ct_b": ((512, 512, 20), (0.976562, 0.976562, 2.0)),
    "mr_d": ((117, 91, 20), (3.0, 3.0, 3.0)),
}


@pytest.fixture(scope="session")
def real_data():
    if "SYNTHETIC" in sample_source():
        pytest.skip("the archive with the real scans cannot be reached")


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LKM_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("LKM_SAMPLE_ARCHIVE", raising=False)
    sample._real_data_in.cache_clear()
    sample._load.cache_clear()
    yield tmp_path
    sample._real_data_in.cache_clear()
    sample._load.cache_clear()


@pytest.mark.parametrize("name", ["ct_a", "ct_b", "mr_d"])
def test_grids_and_organs(real_data, name):
    case = load_sample(name)
    shape, spacing = GRIDS[name]
    assert case.shape == shape and case.spacing == pytest.approx(spacing, abs=1e-5)
    assert case.image.dtype == np.float32 and case.label.shape == case.shape
    if name in COUNTS:
        assert np.bincount(case.label.ravel(), minlength=14)[1:].tolist() == COUNTS[name]
    else:
        assert len(organs_present(case.label)) == 7
    # RAS: the liver lies on the patient's right, which is where x grows to
    x = np.argwhere(case.label == 1)[:, 0].mean()
    assert x > np.argwhere(case.label == 3)[:, 0].mean(), "liver is not to the right of the spleen"


def test_ct_is_in_hounsfield_units(real_data):
    for name in ("ct_a", "ct_b"):
        case = load_sample(name)
        assert -1100 < np.percentile(case.image, 2) < -900, "air"
        assert 20 < np.median(case.image[case.label == 1]) < 160, "liver tissue"


def make_archive(path, change=None):
    """An archive of the published layout with made-up members; ``change`` alters one."""
    members = {name: f"content of {name}".encode() for name in sample.SOURCE["members"]}
    if change:
        members[change] = b"altered"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(f"{sample.SOURCE['folder']}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def made_up(monkeypatch):
    import hashlib

    sums = {n: hashlib.sha256(f"content of {n}".encode()).hexdigest() for n in sample.SOURCE["members"]}
    monkeypatch.setitem(sample.SOURCE, "members", sums)


def test_fetch_from_an_archive_once(fresh_cache, made_up):
    folder = fetch_sample(make_archive(fresh_cache / "a.tar.gz"))
    assert sorted(sample.SOURCE["members"]) == sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()
    )
    assert fetch_sample(fresh_cache / "no longer needed") == folder


def test_altered_member_is_refused_and_nothing_stays(fresh_cache, made_up):
    archive = make_archive(fresh_cache / "a.tar.gz", change="example_mr_sm.nii.gz")
    with pytest.raises(KitError, match=r"example_mr_sm.nii.gz .* not the published file"):
        fetch_sample(archive)
    assert not (fresh_cache / "cache" / "totalsegmentator-2.18.0").exists()
    fetch_sample(make_archive(fresh_cache / "b.tar.gz"))  # a later, good one completes


def test_truncated_archive(fresh_cache, made_up):
    archive = make_archive(fresh_cache / "a.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(KitError, match="truncated"):
        fetch_sample(archive)
    assert not (fresh_cache / "cache" / "totalsegmentator-2.18.0").exists()


def test_disk_full(fresh_cache, made_up, monkeypatch):
    archive = make_archive(fresh_cache / "a.tar.gz")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(KitError, match="no space left"):
        fetch_sample(archive)


def pip_that_fails(monkeypatch, stderr):
    def run(command, **_):
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(sample.subprocess, "run", run)


def test_changed_download_is_refused(fresh_cache, monkeypatch):
    pip_that_fails(monkeypatch, "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE")
    with pytest.raises(KitError, match="sha256 differs"):
        sample_source()


def test_offline_phantoms_stand_in_only_where_they_are_allowed(fresh_cache, monkeypatch, capsys):
    pip_that_fails(monkeypatch, "ERROR: Could not find a version that satisfies the requirement TotalSegmentator")
    monkeypatch.setenv("LKM_PHANTOMS", "0")
    for use in (sample_source, lambda: load_sample("ct_a"), lambda: training_case("MR")):
        with pytest.raises(KitError, match=r"could not be fetched(.|\n)*LKM_SAMPLE_ARCHIVE(.|\n)*LKM_PHANTOMS=1"):
            use()
    monkeypatch.setenv("LKM_PHANTOMS", "1")
    assert "SYNTHETIC" in sample_source()
    assert "phantoms instead" in capsys.readouterr().err
    case = load_sample("ct_a")
    assert len(organs_present(case.label)) > 5 and case.source.is_phantom
    with pytest.raises(KitError, match="Could not find a version"):
        fetch_sample()


def test_a_changed_cache_is_noticed(fresh_cache, made_up):
    folder = fetch_sample(make_archive(fresh_cache / "a.tar.gz"))
    (folder / "example_ct.nii.gz").write_bytes(b"something else")
    with pytest.raises(KitError, match="was changed"):
        load_sample("ct_a")


def test_unknown_case():
    with pytest.raises(KitError, match="ct_z"):
        load_sample("ct_z")


def test_the_list_of_files_is_complete():
    assert len(sample.SOURCE["members"]) == 25
    assert all(len(v) == 64 for v in sample.SOURCE["members"].values())
    json.dumps(sample.SOURCE)


@pytest.mark.parametrize(
    "command",
    [
        ["train"],
        ["evaluate", "tiny-2d"],
        ["figures", "held_out_patient"],
        ["data", "sample"],
        ["erf", "tiny-2d-control"],
        ["study", "table2", "--profile", "smoke"],
        ["data", "cohort"],
    ],
)
def test_commands_refuse_phantoms_unless_asked(fresh_cache, monkeypatch, command):
    """Exit status of an error, nothing trained and nothing written, where the scans cannot be fetched."""
    pip_that_fails(monkeypatch, "ERROR: Could not find a version that satisfies the requirement TotalSegmentator")
    monkeypatch.delenv("LKM_PHANTOMS", raising=False)
    monkeypatch.setenv("LKM_RUNS", str(fresh_cache / "runs"))
    monkeypatch.setattr("sys.argv", ["lkm", *command])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == (1 if command == ["data", "sample"] else 2)
    assert not list(fresh_cache.rglob("*.json")), "a run has begun on phantoms"


def test_the_caption_of_a_field_says_phantom(fresh_cache, monkeypatch):
    pip_that_fails(monkeypatch, "ERROR: Could not find a version that satisfies the requirement TotalSegmentator")
    monkeypatch.setenv("LKM_PHANTOMS", "1")
    monkeypatch.setattr("sys.argv", ["lkm", "erf", "tiny-2d-control", "--images", "1", "-o", str(fresh_cache / "out")])
    with contextlib.suppress(SystemExit):
        main()
    assert "phantom: made up" in (fresh_cache / "out" / "erf.json").read_text()


def test_phantoms_are_asked_for_by_option(fresh_cache, monkeypatch, capsys):
    pip_that_fails(monkeypatch, "ERROR: Could not find a version that satisfies the requirement TotalSegmentator")
    monkeypatch.setenv("LKM_PHANTOMS", "0")
    arguments = ["evaluate", "tiny-2d", "--phantoms", "--slices", "2", "-o", str(fresh_cache / "rows.csv")]
    monkeypatch.setattr("sys.argv", ["lkm", *arguments, "--device", "cpu"])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr().out
    assert stop.value.code == 0 and "phantom: made up, no patient" in said and "another patient" not in said
    assert set(pd.read_csv(fresh_cache / "rows.csv")["source"]) == {"phantom: made up, no patient"}
