"""Headers with a few fields spoilt at random: each ends in a case whose geometry is right, or in a KitError.

``LKM_FUZZ`` says how many inputs, of all kinds together, those of ``test_fuzz_settings.py`` too; every number is its
own seed, so that a failure can be run again.
"""

import gzip
import os
import warnings

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_files import save_dicom

from lkm_kit.data import write_segmentation
from lkm_kit.data.geometry import PLAUSIBLE_MM, shear_degrees, spacing_of
from lkm_kit.data.nifti import UNITS_MM
from lkm_kit.data.scan import read_scan
from lkm_kit.errors import KitError

KINDS = 8
INPUTS = -(-int(os.environ.get("LKM_FUZZ", "300")) // KINDS)
BATCH = 25
batches = pytest.mark.parametrize("first", range(0, INPUTS, BATCH))
pytestmark = [pytest.mark.fuzz, pytest.mark.filterwarnings("ignore")]
NUMBERS = [0, 1, -1, 2, 3, 5, 7, 255, 348, 1e-3, 0.5, 1000, 32767, -32768, 1e9, 1e-9, 1e30, np.nan, np.inf, -np.inf]


def spoilt_nifti(rng, path):
    """One file: a sound header of a random grid, and up to four faults."""
    shape = tuple(rng.integers(2, 7, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] if rng.random() < 0.5 else np.diag(rng.choice([-1, 1], 3))
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.choice([0.7, 1, 3, 5], 3)
    affine[:3, 3] = rng.normal(0, 100, 3)
    kind = nibabel.Nifti2Image if rng.random() < 0.2 else nibabel.Nifti1Image
    image = kind(rng.integers(-900, 900, shape).astype(rng.choice(["<i2", "<f4", ">i2", "u1"])), affine)
    image.set_qform(affine, int(rng.integers(0, 3)))
    image.set_sform(affine, int(rng.integers(0, 3)))
    content = bytearray(image.to_bytes())
    header = type(image.header)(bytes(content[: image.header.sizeof_hdr]), check=False)
    for _ in range(rng.integers(0, 4)):
        name = str(rng.choice(header.template_dtype.names))
        field = header[name]
        with np.errstate(all="ignore"):
            if field.dtype.kind == "S":
                header[name] = bytes(rng.integers(0, 256, 4, dtype=np.uint8))
            elif field.size == 1:
                near = rng.random() < 0.3
                header[name] = (
                    field * (1 + rng.normal(0, 1e-4)) if near else np.array(rng.choice(NUMBERS)).astype(field.dtype)
                )
            else:
                field = field.copy()
                field[rng.integers(field.size)] = np.array(rng.choice(NUMBERS)).astype(field.dtype)
                header[name] = field
    content[: header.sizeof_hdr] = header.binaryblock
    for _ in range(rng.integers(0, 2)):
        content[rng.integers(header.sizeof_hdr)] = rng.integers(256)
    if rng.random() < 0.1:
        del content[rng.integers(len(content)) :]
    path.write_bytes(gzip.compress(bytes(content)) if path.name.endswith(".gz") else bytes(content))


@batches
def test_nifti_headers(tmp_path, first):
    """What is read lies where nibabel, asked for each form by itself, says that one of the header's forms puts it."""
    for seed in range(first, min(first + BATCH, INPUTS)):
        rng = np.random.default_rng([1, seed])
        path = tmp_path / f"{seed}.nii{'.gz' if seed % 2 else ''}"
        spoilt_nifti(rng, path)
        try:
            case = read_scan(path)
        except KitError as error:
            assert error.remedy and str(path) in str(error), f"seed {seed}: {error}"
            continue
        assert np.isfinite(case.image).all() and shear_degrees(case.affine) <= 1.0, f"seed {seed}"
        assert PLAUSIBLE_MM[0] <= min(case.spacing) <= max(case.spacing) <= PLAUSIBLE_MM[1], f"seed {seed}"
        mm = UNITS_MM.get(int(case.header["xyzt_units"]) & 7, ("mm", 1.0))[1]
        own = np.diag([mm] * 3 + [1.0]) @ case.header.get_best_affine()
        assert sorted(spacing_of(own)) == pytest.approx(sorted(case.spacing), rel=1e-4), f"seed {seed}"
        out = tmp_path / "out" / f"{seed}.nii"
        write_segmentation(out, np.zeros(case.shape, np.uint8), like=case)
        written = nibabel.load(out)
        assert np.allclose(written.affine, case.header.get_best_affine(), rtol=1e-4, atol=1e-4), f"seed {seed}"
        assert sorted(written.shape) == sorted(case.shape) and not list(out.parent.glob(".*")), f"seed {seed}"


ATTRIBUTES = (
    "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "NumberOfFrames",
    "PhotometricInterpretation", "SeriesInstanceUID", "Modality", "PixelData",
)  # fmt: skip
WORDS = ["", "RGB", "MONOCHROME1", "PALETTE COLOR", "nan", "1.2", "MR", "0", "-1", "1e-9", "x" * 70]


def spoilt_dicom(rng, folder):
    """A series of three or four slices, some attributes of one or of all changed, some bytes too."""
    body = rng.integers(-1000, 1000, (4, 5, int(rng.integers(2, 5)))).astype(np.float32)
    names = rng.choice(ATTRIBUTES, rng.integers(0, 4))
    which = rng.integers(-1, body.shape[2])  # one slice, or all
    draws = {name: rng.random(3) for name in names}

    def change(d, k):
        for name, (how, value, noise) in draws.items():
            if which not in (-1, k):
                continue
            try:
                if how < 0.2:
                    del d[name]
                elif how < 0.4:
                    setattr(d, name, None)
                elif how < 0.6 and isinstance(getattr(d, name), (list, pydicom.multival.MultiValue)):
                    setattr(d, name, [f"{float(v) + 10.0 ** (-7 * noise):.10g}" for v in getattr(d, name)])
                elif how < 0.8:
                    number = NUMBERS[int(value * len(NUMBERS))]
                    whole = pydicom.datadict.dictionary_VR(name) == "US"
                    setattr(d, name, int(np.clip(np.nan_to_num(number), 0, 65535)) if whole else f"{number:.10g}")
                else:
                    setattr(d, name, WORDS[int(value * len(WORDS))])
            except Exception:  # pydicom refuses to hold some of these
                continue

    save_dicom(folder, body, change=change)
    for file in sorted(folder.iterdir()):
        content = bytearray(file.read_bytes())
        if rng.random() < 0.15:
            content[rng.integers(len(content))] = rng.integers(256)
        if rng.random() < 0.03:
            del content[rng.integers(len(content)) :]
        if rng.random() < 0.05:
            del content[:128]
        file.write_bytes(bytes(content))
    if rng.random() < 0.3:
        (folder / str(rng.choice(["README", "DICOMDIR", "a.txt", "s9", "s9.dcm"]))).write_bytes(bytes(rng.bytes(300)))


@batches
def test_dicom_series(tmp_path, first, monkeypatch):
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)
    unwritten = 0
    for seed in range(first, min(first + BATCH, INPUTS)):
        rng = np.random.default_rng([2, seed])
        folder = tmp_path / str(seed)
        try:
            spoilt_dicom(rng, folder)
        except Exception:  # pydicom refuses to write some
            unwritten += 1
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                case = read_scan(folder)
        except KitError as error:
            assert error.remedy and str(folder) in str(error), f"seed {seed}: {error}"
            continue
        assert np.isfinite(case.image).all() and shear_degrees(case.affine) <= 1.0, f"seed {seed}"
        assert PLAUSIBLE_MM[0] <= min(case.spacing) <= max(case.spacing) <= PLAUSIBLE_MM[1], f"seed {seed}"
        assert abs(np.linalg.det(case.affine)) == pytest.approx(np.prod(case.spacing), rel=1e-3)
        write_segmentation(tmp_path / "out" / f"{seed}.nii", np.zeros(case.shape, np.uint8), like=case)
    assert unwritten <= BATCH // 2
