"""DICOM series as scanners and archives leave them: what is safe is read, all else is refused by name."""

import warnings

import numpy as np
import pydicom
import pytest
from dicom_files import save_dicom
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from lkm_kit.data import read_dicom_series
from lkm_kit.data.scan import read_scan
from lkm_kit.errors import KitError, KitWarning


@pytest.fixture
def body():
    return np.random.default_rng(0).integers(-1000, 500, (5, 7, 4)).astype(np.float32)


def written(folder, body, **attributes):
    """A series of which every slice has these attributes; a function of k gives each its own."""

    def change(d, k):
        for name, value in attributes.items():
            setattr(d, name, value(k) if callable(value) else value)

    return save_dicom(folder, body, change=change)


def test_every_slice_has_its_own_scale(tmp_path, body):
    """PET and some MR and CT scale slice by slice: slope k + 1 is undone slice by slice."""
    folder = written(tmp_path / "s", body, RescaleSlope=lambda k: k + 1, RescaleIntercept=lambda k: -1024 * (k + 1) + 7)
    image, _ = read_dicom_series(folder)
    assert np.array_equal(image, body * np.arange(1, 5) + 7)


def test_late_decimals_are_no_difference(tmp_path, body):
    folder = written(
        tmp_path / "s", body,
        ImageOrientationPatient=lambda k: [1 - 2e-7 * k, 3e-6 * k, 0, 0, 1, 2e-7 * k],
        PixelSpacing=lambda k: [2 + 2e-7 * k, 3.0],
    )  # fmt: skip
    assert np.array_equal(read_dicom_series(folder)[0], body)
    with pytest.raises(KitError, match="differ in size, spacing or direction"):
        read_dicom_series(written(tmp_path / "t", body, PixelSpacing=lambda k: [2 + 0.01 * k, 3.0]))


def test_what_lies_beside_slices_is_skipped_and_said(tmp_path, body):
    folder = save_dicom(tmp_path / "s", body)
    for name in ("README", "Thumbs.db", "autorun.inf", "viewer.exe", "notes.txt"):
        (folder / name).write_bytes(b"not a slice")
    (folder / "DICOMDIR").write_bytes(b"")
    with pytest.warns(KitWarning, match="skipped beside the slices: .*DICOMDIR.*README.*Thumbs.db.*autorun.inf"):
        assert np.array_equal(read_dicom_series(folder)[0], body)
    (folder / "s009.dcm").write_bytes(b"not a slice either")
    with pytest.raises(KitError, match=r"s009\.dcm is not a readable DICOM file"):
        read_dicom_series(folder)


def test_a_real_dicomdir_is_skipped(tmp_path, body):
    folder = save_dicom(tmp_path / "s", body)
    directory = pydicom.dcmread(folder / "s000.dcm")
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    del directory.PixelData, directory.Rows
    directory.save_as(folder / "INDEX7")
    with pytest.warns(KitWarning, match="INDEX7"):
        assert np.array_equal(read_dicom_series(folder)[0], body)


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_preamble(tmp_path, body, implicit):
    """As old archives store them: the data set alone, its syntax to be guessed."""
    folder = written(tmp_path / "s", body, SOPClassUID="1.2.840.10008.5.1.4.1.1.2", SOPInstanceUID=lambda k: f"1.2.{k}")
    for file in folder.iterdir():
        found = pydicom.dcmread(file)
        found.preamble, found.file_meta = None, pydicom.dataset.FileMetaDataset()
        found.save_as(file, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert file.read_bytes()[128:132] != b"DICM"
    assert np.array_equal(read_scan(folder).image, body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ImageOrientationPatient", None),
        ("ImagePositionPatient", None),
        ("PixelSpacing", None),
        ("PixelSpacing", [2.0]),
        ("PixelSpacing", [0.0, 3.0]),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]),
        ("ImagePositionPatient", ["nan", 0, 0]),
        ("RescaleSlope", 0),
        ("RescaleSlope", 1e30),
        ("Rows", None),
        ("NumberOfFrames", 3),
        ("SamplesPerPixel", 3),
        ("PhotometricInterpretation", "PALETTE COLOR"),
        ("PhotometricInterpretation", "YBR_FULL"),
        ("Columns", 9),
        ("BitsAllocated", 12),
        ("Rows", 5),
        ("Columns", 3),
        ("PixelSpacing", [1e-5, 3.0]),
        ("PixelSpacing", [3000.0, 3000.0]),
        ("ImagePositionPatient", lambda k: [-10, -20, 500.0 * k]),
        ("ImagePositionPatient", lambda k: [-10 + 2 * (k == 1), -20, 4.0 * k]),
        ("Modality", lambda k: "CT" if k else "MR"),
        ("RescaleSlope", lambda k: 2 if k else None),
        ("RescaleIntercept", lambda k: None if k == 3 else -1024),
        ("HighBit", 14),
        ("BitsStored", 12),
        ("ModalityLUTSequence", [pydicom.Dataset()]),
        ("SharedFunctionalGroupsSequence", [pydicom.Dataset()]),
        ("ImagePositionPatient", lambda k: [-10, -20, 4.0 * max(1, k)]),
        ("ImagePositionPatient", lambda k: [-10, -20, 4.0 * (k // 2)]),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, body, name, value):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of values like these
        folder = written(tmp_path / "series", body, **{name: value})
        with pytest.raises(KitError, match="series") as error:
            read_dicom_series(folder)
    assert error.value.remedy


def test_twice_the_pixels_are_not_two_frames(tmp_path, body):
    folder = written(tmp_path / "s", body, BitsAllocated=8, BitsStored=8, HighBit=7)
    with pytest.raises(KitError, match="70 bytes for 7 rows of 5 pixels, which take 35"):
        read_dicom_series(folder)


def test_empty_attributes_that_leave_no_doubt_are_filled_in(tmp_path, body):
    folder = written(tmp_path / "s", body, SamplesPerPixel=None, PhotometricInterpretation=None, NumberOfFrames=1)
    assert np.array_equal(read_dicom_series(folder)[0], body)


def test_directions_that_rounding_made_too_long_change_no_size(tmp_path, body):
    folder = written(tmp_path / "s", body, ImageOrientationPatient=[1.005, 0, 0, 0, 0.995, 0])
    assert read_scan(folder).spacing == (3.0, 2.0, 4.0)


def test_slices_that_lie_at_one_place_are_named(tmp_path, body):
    folder = written(tmp_path / "s", body, ImagePositionPatient=lambda k: [-10, -20, 4.0 * min(2, k)])
    with pytest.raises(KitError, match=r"\(s002\.dcm and s003\.dcm: 0\)(.|\n)*there twice"):
        read_dicom_series(folder)


def test_an_mr_whose_large_values_are_dark_is_said(tmp_path, body):
    with pytest.warns(KitWarning, match="MONOCHROME1"):
        read_scan(written(tmp_path / "mr", body, PhotometricInterpretation="MONOCHROME1", Modality="MR"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Hounsfield units are what they are, however they are shown
        read_scan(written(tmp_path / "ct", body, PhotometricInterpretation="MONOCHROME1"))


def test_files_whose_preamble_alone_is_missing(tmp_path, body):
    folder = save_dicom(tmp_path / "s", body)
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[128:])
    assert np.array_equal(read_scan(folder).image, body)


def test_multi_frame_names_the_tool_that_converts(tmp_path, body):
    with pytest.raises(KitError, match=r"s000\.dcm holds 3 frames in one file(.|\n)*dcm2niix"):
        read_dicom_series(written(tmp_path / "s", body, NumberOfFrames=3))


@pytest.mark.parametrize("degrees", [20.0, -5.0])
def test_a_tilted_gantry_is_refused(tmp_path, body, degrees):
    """Slices turned about x, their positions moving straight along z: the grid is sheared."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    folder = written(tmp_path / "s", body, ImageOrientationPatient=[1, 0, 0, 0, round(c, 6), round(s, 6)])
    with pytest.raises(KitError, match=rf"sheared: its axes are {abs(degrees):g} degrees(.|\n)*dcm2niix"):
        read_dicom_series(folder)


@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept"])
def test_an_empty_scale(tmp_path, body, name):
    """An MR needs none; a CT whose values then show no air is not in Hounsfield units, and nobody can know."""
    image, _ = read_dicom_series(
        written(tmp_path / "mr", body, Modality="MR", RescaleSlope=None, RescaleIntercept=None)
    )
    assert np.array_equal(image, body + 1024)
    folder = written(tmp_path / "ct", body, **{name: None})
    if name == "RescaleIntercept":
        with pytest.raises(KitError, match="a CT without RescaleIntercept"):
            read_dicom_series(folder)
    else:
        assert np.array_equal(read_dicom_series(folder)[0], body)


@pytest.mark.parametrize(
    ("syntax", "offer"),
    [
        (JPEGLosslessSV1, "pip install pylibjpeg pylibjpeg-libjpeg ("),
        (JPEG2000Lossless, "pip install pylibjpeg pylibjpeg-openjpeg ("),
        (RLELossless, "the series is damaged"),  # pydicom decodes it by itself
    ],
)
def test_the_remedy_names_what_decodes_a_compression(tmp_path, body, syntax, offer):
    """By pydicom's own table, not by heart: pylibjpeg alone decodes nothing."""

    def change(d, k):
        d.file_meta.TransferSyntaxUID = syntax
        d.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 no picture"])
        d["PixelData"].is_undefined_length = True

    folder = save_dicom(tmp_path / "s", body, change=change)
    with pytest.raises(KitError, match="cannot be decoded") as error:
        read_dicom_series(folder)
    assert offer in error.value.remedy and ("dcm2niix" in error.value.remedy) == ("pip" in offer)
