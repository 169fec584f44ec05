"""A data set that a user might have, written by the tests: two channels, five labels, sides, odd spacing and names."""

import shutil
from pathlib import Path

import nibabel
import numpy as np

from lkm_kit.data.lobes import lobes_case, write_lobes

IDS = {"body": 1, "left lobe": 2, "right lobe": 3, "lesion": 7, "käfer": 4}
NAME = "Dataset009 Läppchen"
LABELS = {"background": 0, **IDS}


def write(path: Path, array: np.ndarray, spacing=(1.0, 1.5, 2.5), affine=None) -> None:
    """A NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, 1.0]) if affine is None else affine), path)


def make_case(seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Two channels and a label map."""
    return lobes_case(seed, ids=IDS)


def make_data(folder: Path, cases: int = 5, test: int = 1, **changes) -> Path:
    """The folder, in nnU-Net's raw layout; ``changes`` replaces keys of dataset.json."""
    about = {"licence": "made up", "reference": "nobody", "tolerances_mm": {"body": 2.0}, **changes}
    how = {"visits": 1, "case_name": "Fall {person}é", "ids": IDS, "about": about}
    write_lobes(folder, persons=cases, test_persons=test, **how)
    return folder


def at_home(made: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy of a made folder that a test may spoil, where data, runs and profile are the test's own."""
    for name in ("LKM_DATA", "LKM_RUNS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("LKM_PROFILE", "smoke")
    monkeypatch.delenv("nnUNet_raw", raising=False)
    return Path(shutil.copytree(made, tmp_path / made.name))
