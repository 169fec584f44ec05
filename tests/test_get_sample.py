"""The script that fetches the sample scans: its help says what a user must know, and it never falls back in silence."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "data_scripts" / "get_sample.py"


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT))["main"]


def test_help_names_size_place_licence_and_label_quality(main, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(word in text for word in ("38 MB", "LKM_DATA", "Apache-2.0", "silver", "--archive"))


def test_a_missing_archive_is_an_error_with_a_remedy(main, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LKM_DATA", str(tmp_path))
    monkeypatch.delenv("LKM_SAMPLE_ARCHIVE", raising=False)
    assert main(["--archive", str(tmp_path / "none.tar.gz")]) == 1
    output = capsys.readouterr()
    assert "there is no archive" in output.err and "->" in output.err
    assert "SYNTHETIC" not in output.out, "the script must not fall back to phantoms"
    assert not (tmp_path / "totalsegmentator-2.18.0").exists()
