"""Miniature archives with exactly the published layouts and file names, made of phantoms."""

import gzip
import json
import zipfile

import nibabel
import numpy as np

from lkm_kit.data.labels import ORGANS, look_up
from lkm_kit.data.phantom import make_phantom

SHAPE = (40, 36, 12)
AMOS_IDS = np.argsort(look_up("amos")[:14])  # kit id -> AMOS id; both are 0..13 in another order


def scan(seed, modality):
    return make_phantom(shape=SHAPE, seed=seed, modality=modality)


def nifti(array, affine, dtype):
    image = nibabel.Nifti1Image(array.astype(dtype), affine)
    image.header["qform_code"] = image.header["sform_code"] = 1
    return gzip.compress(image.to_bytes(), 1, mtime=0)


def pair(seed, modality, ids="kit"):
    """Image and label of a phantom as they lie in an archive: LPS order, as published scans are."""
    case = scan(seed, modality)
    label = case.label
    if ids == "amos":
        label = AMOS_IDS[label]
        label[18:22, 14:18, 0] = 14  # a bladder, which the kit does not know
    affine = case.affine @ np.diag([-1.0, -1, 1, 1])
    affine[:3, 3] = (60, 50, -30)
    flip = np.s_[::-1, ::-1]
    return nifti(case.image[flip], affine, np.int16), nifti(label[flip], affine, np.uint8)


def amos22():
    """Members of amos22.zip: two MR and one CT to train on, one of each to validate, one of each without a label."""
    files = {
        "amos22/readme.md": b"AMOS",
        "amos22/dataset.json": json.dumps({"name": "AMOS", "labels": {"1": "spleen"}}).encode(),
    }
    for part, numbers in {"Tr": (1, 507, 508), "Va": (13, 517), "Ts": (20, 541)}.items():
        for number in numbers:
            image, label = pair(number, "MR" if number > 500 else "CT", "amos")
            files[f"amos22/images{part}/amos_{number:04d}.nii.gz"] = image
            if part != "Ts":
                files[f"amos22/labels{part}/amos_{number:04d}.nii.gz"] = label
    return files


def flare22(numbers=(1, 2, 4, 5)):
    """Members of FLARE22Train.zip."""
    files = {}
    for number in numbers:
        image, label = pair(number, "CT")
        files[f"FLARE22Train/images/FLARE22_Tr_{number:04d}_0000.nii.gz"] = image
        files[f"FLARE22Train/labels/FLARE22_Tr_{number:04d}.nii.gz"] = label
    return files


def umamba(number=702):
    """Members of one of the U-Mamba authors' folders."""
    folder, modality = {701: ("Dataset701_AbdomenCT", "CT"), 702: ("Dataset702_AbdomenMR", "MR")}[number]
    names = {
        701: {"Tr": ["FLARE22_Tr_0001", "FLARE22_Tr_0002"], "Ts": ["FLARETs_0001"]},
        702: {"Tr": ["amos_0507", "amos_0508"], "Ts": ["amos_0540"]},
    }[number]
    labels = {"background": 0, **{organ.name: organ.label for organ in ORGANS}}
    files = {
        f"{folder}/dataset.json": json.dumps(
            {"channel_names": {"0": modality}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}
        ).encode()
    }
    for part, cases in names.items():
        for seed, name in enumerate(cases, start=number + 10 * (part == "Ts")):
            image, label = pair(seed, modality)
            files[f"{folder}/images{part}/{name}_0000.nii.gz"] = image
            files[f"{folder}/labels{part}/{name}.nii.gz"] = label
    return files


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2022, 7, 1, 0, 0, 0)), content)
    return path


def write_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


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
