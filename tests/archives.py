"""The miniature archives, as the tests use them, what nnU-Net wants of a data set, and the commands in this process."""

import gzip
import json

import nibabel
import numpy as np

from lkm_kit import cli
from lkm_kit.data.miniature import SHAPE, amos22, flare22, nifti, pair, umamba, write_zip
from lkm_kit.data.phantom import make_phantom

__all__ = ["amos22", "flare22", "gzip", "nifti", "pair", "umamba", "write_zip"]


def scan(seed, modality):
    return make_phantom(shape=SHAPE, seed=seed, modality=modality)


def write_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def lkm(*arguments):
    """Run ``lkm`` in this process; returns the exit status."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
    raise AssertionError("the entry point ends the process")


def require_nnunet_layout(folder):
    """What nnU-Net's ``--verify_dataset_integrity`` asks for, said independently of the kit's own check."""
    about = json.loads((folder / "dataset.json").read_text())
    ids = sorted(about["labels"].values())
    assert ids == list(range(len(ids))) and about["labels"]["background"] == 0
    for images, labels in (("imagesTr", "labelsTr"), ("imagesTs", "labelsTs")):
        names = {path.name for path in (folder / images).iterdir()} if (folder / images).is_dir() else set()
        cases = {name.removesuffix("_0000.nii.gz") for name in names}
        assert names == {f"{case}_0000.nii.gz" for case in cases}
        if images == "imagesTr":
            assert len(cases) == about["numTraining"] > 0
        there = {path.name for path in (folder / labels).iterdir()} if (folder / labels).is_dir() else set()
        assert there == {f"{case}.nii.gz" for case in cases}
        for case in cases:
            image, label = (
                nibabel.load(folder / images / f"{case}_0000.nii.gz"),
                nibabel.load(folder / labels / f"{case}.nii.gz"),
            )
            assert image.shape == label.shape and len(image.shape) == 3
            np.testing.assert_allclose(image.header.get_zooms(), label.header.get_zooms(), rtol=1e-5)
            for form in ("get_qform", "get_sform"):
                np.testing.assert_allclose(getattr(image, form)(), getattr(label, form)(), atol=1e-4)
            values = np.asarray(label.dataobj)
            assert label.get_data_dtype() == np.uint8 and set(np.unique(values)) <= set(ids)
            assert np.isfinite(image.get_fdata()).all()
    return about
