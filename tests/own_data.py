"""A data set that a user might have, written by the tests: two channels, five labels, sides, odd spacing and names."""

import json
from pathlib import Path

import nibabel
import numpy as np

LABELS = {"background": 0, "body": 1, "left lobe": 2, "right lobe": 3, "lesion": 7, "käfer": 4}


def write(path: Path, array: np.ndarray, spacing=(1.0, 1.5, 2.5), affine=None) -> None:
    """A NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, 1.0]) if affine is None else affine), path)


def make_case(seed: int, shape=(30, 26, 14)) -> tuple[list[np.ndarray], np.ndarray]:
    """Two channels and a label map: a ball with two lobes, of which the left one (small x) is brighter."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    label = np.zeros(shape, np.uint8)
    label[x**2 + y**2 + z**2 < 0.8] = 1
    label[(x + 0.4) ** 2 + y**2 + z**2 < 0.08] = 2
    label[(x - 0.4) ** 2 + y**2 + z**2 < 0.08] = 3
    label[x**2 + (y - 0.5) ** 2 + z**2 < 0.03 + 0.01 * (seed % 4)] = 7
    label[x**2 + (y + 0.5) ** 2 + z**2 < 0.03] = 4
    values = np.array([0, 300, 800, 600, 1200, 900, 0, 1000], float)
    first = values[label] + rng.normal(0, 20, shape) * (label > 0)
    second = (500 - 0.3 * first + rng.normal(0, 10, shape)) * (label > 0)
    return [first.astype(np.float32), second.astype(np.float32)], label


def make_data(folder: Path, cases: int = 5, test: int = 1, **changes) -> Path:
    """The folder, in nnU-Net's raw layout; ``changes`` replaces keys of dataset.json."""
    for number in range(cases + test):
        channels, label = make_case(number)
        images, labels = ("imagesTr", "labelsTr") if number < cases else ("imagesTs", "labelsTs")
        name = f"Fall {number}é"
        for i, channel in enumerate(channels):
            write(folder / images / f"{name}_{i:04d}.nii.gz", channel)
        write(folder / labels / f"{name}.nii.gz", label)
    about = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": LABELS,
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "name": "Lobes",
        "licence": "made up",
        "reference": "nobody",
        "label_source": "phantom",
        "tolerances_mm": {"body": 2.0},
    }
    (folder / "dataset.json").write_text(json.dumps({**about, **changes}, ensure_ascii=False), encoding="utf-8")
    return folder
