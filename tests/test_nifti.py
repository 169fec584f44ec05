"""NIfTI headers as scanners and programs leave them: read right, or refused by name, with a remedy that helps."""

import gzip
import re
import warnings

import nibabel
import numpy as np
import pytest
from nibabel.processing import resample_to_output
from typer.testing import CliRunner

from lkm_kit import cli
from lkm_kit.data import make_phantom, read_case, read_image, write_segmentation
from lkm_kit.data.geometry import require_same_geometry, voxel_ml
from lkm_kit.data.nifti import image_geometry
from lkm_kit.data.scan import read_scan
from lkm_kit.errors import KitError, KitWarning

GRID = np.array([[-3.0, 0, 0, 40], [0, 3, 0, -50], [0, 0, 5, -600], [0, 0, 0, 1]])


def in_ras(shape):
    """GRID with its x axis turned round."""
    affine = np.diag([3.0, 3.0, 5.0, 1.0])
    affine[:3, 3] = 40 - 3 * (shape[0] - 1), -50, -600
    return affine


@pytest.fixture
def voxels():
    return make_phantom(shape=(14, 12, 6)).image.astype(np.int16)


def save(path, voxels, affine=GRID, *, unit=None, both=True, **fields):
    """A file whose qform and sform say the same, with header fields as given."""
    image = nibabel.Nifti1Image(voxels, affine)
    if both:
        image.set_qform(affine, 1)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    if fields:
        content = bytearray(path.read_bytes())
        header = nibabel.Nifti1Header(bytes(content[:348]))
        for name, value in fields.items():
            header[name] = value
        content[:348] = header.binaryblock
        path.write_bytes(content)
    return path


def silently(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return function(*arguments, **options)


@pytest.mark.parametrize("excess", [1e-6, 1e-4, 5e-3])
def test_a_quaternion_a_hair_too_long(tmp_path, voxels, excess):
    """The half turn of GRID is the quaternion (0, 1, 0): longer than 1, it has no root, and nibabel refuses it."""
    path = save(tmp_path / "a.nii", voxels, quatern_c=1 + excess)
    with pytest.raises(ValueError, match="w2 should be positive"):
        nibabel.load(path).get_qform()
    case = silently(read_scan, path)
    assert np.allclose(case.affine, in_ras(voxels.shape), atol=1e-4)
    alone = save(tmp_path / "b.nii", voxels, quatern_c=1 + excess, sform_code=0)
    assert np.allclose(silently(read_scan, alone).affine, case.affine, atol=1e-4)
    write_segmentation(tmp_path / "seg.nii.gz", np.zeros(case.shape, np.uint8), like=case)
    assert np.allclose(nibabel.load(tmp_path / "seg.nii.gz").affine, GRID, atol=1e-4)


def test_a_spoilt_form_beside_a_good_one(tmp_path, voxels):
    """All-zero sform, quaternion of nonsense: the other form holds, it is said, and what is written is sound."""
    zeros = {f"srow_{axis}": 0 for axis in "xyz"}
    for name, fields, words in (("s", zeros, "the qform is taken"), ("q", {"quatern_c": 3}, "the sform is taken")):
        path = save(tmp_path / f"{name}.nii", voxels, **fields)
        with pytest.warns(KitWarning, match=words):
            case = read_scan(path)
        assert case.spacing == (3.0, 3.0, 5.0)
        write_segmentation(tmp_path / f"{name}-seg.nii", np.zeros(case.shape, np.uint8), like=case)
        written = nibabel.load(tmp_path / f"{name}-seg.nii")
        assert np.allclose(written.affine, GRID, atol=1e-4) and np.allclose(written.get_qform(), GRID, atol=1e-4)
    with pytest.raises(KitError, match="cannot be inverted"):
        read_image(save(tmp_path / "none.nii", voxels, **zeros, qform_code=0))


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("micron", 1e3), ("meter", 1e-3)])
def test_units_are_converted_and_said(tmp_path, voxels, unit, factor):
    """One grid in three units gives one case; the segmentation lies on the file's own grid, in its own unit."""
    affine = np.diag([factor] * 3 + [1.0]) @ GRID
    path = save(tmp_path / "a.nii", voxels, affine, unit=unit)
    if unit == "mm":
        case = silently(read_case, path, modality="CT")
    else:
        with pytest.warns(KitWarning, match=r"a voxel measures 3 x 3 x 5 mm"):
            case = read_case(path, modality="CT")
    assert case.spacing == pytest.approx((3, 3, 5), rel=1e-5) and case.voxel_ml == pytest.approx(0.045, rel=1e-5)
    write_segmentation(tmp_path / "seg.nii", np.zeros(case.shape, np.uint8), like=case)
    written = nibabel.load(tmp_path / "seg.nii")
    assert np.allclose(written.affine, affine, rtol=1e-5) and written.header.get_xyzt_units()[0] == unit


@pytest.mark.parametrize(("unit", "size"), [("mm", 3000.0), ("mm", 0.003), ("micron", 3.0), ("meter", 3.0)])
def test_a_unit_that_cannot_be_true(tmp_path, voxels, unit, size):
    path = save(tmp_path / "a.nii", voxels, np.diag([size] * 3 + [1.0]), unit=unit)
    with pytest.raises(KitError, match=r"a\.nii says that a voxel measures") as error:
        read_image(path)
    assert "set_xyzt_units" in error.value.remedy


def test_trailing_axes_of_one(tmp_path, voxels):
    path = save(tmp_path / "a.nii.gz", voxels[..., None, None])
    case = silently(read_scan, path)
    shape, affine = image_geometry(path)
    assert shape == case.shape and np.array_equal(affine, case.affine)
    assert case.shape == voxels.shape and np.array_equal(case.image[::-1], voxels)
    write_segmentation(tmp_path / "seg.nii.gz", np.zeros(case.shape, np.uint8), like=case)
    assert nibabel.load(tmp_path / "seg.nii.gz").shape == voxels.shape
    with pytest.raises(KitError, match="4 axes"):
        read_image(save(tmp_path / "b.nii", np.stack([voxels] * 2, axis=-1)))


def sheared(degrees):
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    affine[1, 2], affine[2, 2] = 5 * np.sin(np.radians(degrees)), 5 * np.cos(np.radians(degrees))
    return affine


@pytest.mark.parametrize("degrees", [18.0, 5.0, 2.0])
def test_a_sheared_grid_is_refused_and_the_remedy_helps(tmp_path, voxels, degrees):
    path = save(tmp_path / "a.nii", voxels, sheared(degrees))
    with pytest.raises(KitError, match=f"{degrees:g} degrees from square") as error:
        read_scan(path)
    image = nibabel.load(path)
    call = re.search(r"resample_to_output\(image, .*?min\(\)\)", error.value.remedy)[0]
    nibabel.save(eval(call, {"resample_to_output": resample_to_output, "image": image}), tmp_path / "b.nii")
    assert silently(read_scan, tmp_path / "b.nii").spacing == pytest.approx((2, 2, 5), rel=0.06)


def test_millilitres_are_determinants(tmp_path, voxels):
    assert voxel_ml(sheared(18)) == pytest.approx(0.02 * np.cos(np.radians(18)))
    slight = sheared(0.9)
    case = read_case(save(tmp_path / "a.nii", voxels, slight), modality="CT")
    assert case.voxel_ml == pytest.approx(abs(np.linalg.det(slight[:3, :3])) / 1000, rel=1e-6)
    read_scan(tmp_path / "a.nii")  # its qform knows no shear: that is no disagreement


def test_lkm_predict_counts_millilitres_of_the_grid(tmp_path):
    phantom = make_phantom(shape=(40, 36, 4), spacing=(6.0, 6.0, 6.0))
    affine = np.diag([6.0, 6.0, 6.0, 1.0]) @ sheared(0.9) @ np.diag([1 / 2, 1 / 2, 1 / 5, 1.0])
    path = save(tmp_path / "a.nii", phantom.image.astype(np.int16), affine)
    text = CliRunner().invoke(cli.app, ["predict", str(path), "-o", str(tmp_path / "s.nii"), "--run", "tiny-2d"]).output
    liver = (np.asarray(nibabel.load(tmp_path / "s.nii").dataobj) == 1).sum()
    said = float(next(line for line in text.splitlines() if " liver " in line).split()[-2])
    assert liver and said == pytest.approx(liver * abs(np.linalg.det(affine[:3, :3])) / 1000, abs=0.06)


def test_labels_that_a_scale_factor_has_rounded(tmp_path, voxels):
    scan = save(tmp_path / "scan.nii", voxels)
    label = np.arange(voxels.size, dtype=np.int16).reshape(voxels.shape) % 3
    slope = {"scl_slope": 0.99997, "scl_inter": 0}
    path = save(tmp_path / "label.nii", label, **slope)
    with pytest.warns(KitWarning, match=r"label\.nii holds numbers up to 6e-05 from whole ones"):
        case = read_case(scan, path, modality="CT")
    assert np.array_equal(case.label[::-1], label)
    with pytest.raises(KitError, match=r"0\.99, which is not a whole number"):
        read_case(scan, save(tmp_path / "off.nii", label, scl_slope=0.99, scl_inter=0), modality="CT")


DAMAGED = {
    "datatype": 77, "bitpix": 13, "dim": [3, -14, 12, 6, 1, 1, 1, 1], "magic": b"ni1", "vox_offset": -4.0,
    "scl_slope": np.nan, "sizeof_hdr": 12,
}  # fmt: skip


@pytest.mark.parametrize("field", DAMAGED)
def test_header_fields_that_nibabel_refuses_name_the_file(tmp_path, voxels, field):
    """One class of error, whatever class nibabel raises; an absurd scale alone may be read as no scale."""
    path = save(tmp_path / "spoilt.nii", voxels, **{field: DAMAGED[field]})
    try:
        array, _, _ = read_image(path)
    except KitError as error:
        assert "spoilt.nii" in str(error) and error.remedy
    else:
        assert field in ("scl_slope", "bitpix") and array.shape == voxels.shape


def test_a_changed_bit_in_a_compressed_file_is_noticed(tmp_path):
    """Most changes still decompress, to other voxels: only the checksum at the end of the file tells."""
    rng = np.random.default_rng(0)
    voxels = (40 * np.indices((24, 24, 12)).sum(axis=0) + rng.normal(0, 5, (24, 24, 12))).astype(np.int16)
    content = save(tmp_path / "a.nii.gz", voxels).read_bytes()
    for _ in range(30):
        spoilt = bytearray(content)
        spoilt[rng.integers(300, len(content))] ^= 1 << rng.integers(8)
        (tmp_path / "b.nii.gz").write_bytes(spoilt)
        with pytest.raises(KitError, match=r"b\.nii\.gz is (truncated or damaged|not a readable)") as error:
            read_image(tmp_path / "b.nii.gz")
        assert error.value.remedy
    assert np.array_equal(read_image(tmp_path / "a.nii.gz")[0][::-1], voxels)


def test_a_type_that_contradicts_its_bits_is_said(tmp_path, voxels):
    with pytest.warns(KitWarning, match="16 bits a voxel, and a type of 8"):
        read_image(save(tmp_path / "a.nii", voxels, datatype=2))


def test_a_code_that_nifti_does_not_know_is_said(tmp_path, voxels):
    other = GRID + np.diag([0, 0, 0, 0])
    other[0, 3] += 100  # where the qform, which holds now, does not put it
    path = save(tmp_path / "a.nii", voxels, sform_code=77, srow_x=other[0])
    with pytest.warns(KitWarning, match="sform_code is 77, which NIfTI does not know; the sform is not taken"):
        assert np.allclose(read_image(path)[1], in_ras(voxels.shape))


def test_bytes_behind_the_last_voxel_are_said(tmp_path, voxels):
    path = save(tmp_path / "a.nii", voxels, dim=[3, *voxels.shape[:2], voxels.shape[2] - 1, 1, 1, 1, 1])
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    for name in ("a.nii", "a.nii.gz"):
        with pytest.warns(KitWarning, match=rf"goes on for {2 * voxels[..., 0].size} bytes behind its last voxel"):
            assert np.array_equal(read_image(tmp_path / name)[0][::-1], voxels[..., :-1])


@pytest.mark.parametrize("level", [0, 9])
def test_what_is_compressed_is_never_taken_for_voxels(tmp_path, level):
    """A compressed file as large as its voxels: stored without compression, or with another file behind it."""
    voxels = np.random.default_rng(0).integers(-900, 900, (14, 12, 6)).astype(np.int16)
    content = gzip.compress(save(tmp_path / "a.nii", voxels).read_bytes(), level)
    (tmp_path / "a.nii.gz").write_bytes(content * (1 if level == 0 else 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KitWarning)
        assert np.array_equal(read_image(tmp_path / "a.nii.gz")[0][::-1], voxels)


def test_voxels_do_not_begin_within_the_header(tmp_path, voxels):
    for offset in (0, 8, 348):
        with pytest.raises(KitError, match=r"a\.nii is not a readable NIfTI file"):
            read_image(save(tmp_path / "a.nii", voxels, vox_offset=offset))


@pytest.mark.parametrize("sign", [-1, -1.0001, -7])
def test_a_handedness_is_a_sign(tmp_path, voxels, sign):
    """nibabel takes any number but -1 for 1, which turns the slices round; NIfTI's own reader looks at the sign."""
    path = save(tmp_path / "a.nii", voxels, pixdim=[sign, 3, 3, 5, 1, 1, 1, 1], sform_code=0)
    affine = nibabel.load(save(tmp_path / "b.nii", voxels, pixdim=[-1, 3, 3, 5, 1, 1, 1, 1], sform_code=0)).affine
    case = silently(read_scan, path)
    write_segmentation(tmp_path / "seg.nii", np.zeros(case.shape, np.uint8), like=case)
    assert np.allclose(nibabel.load(tmp_path / "seg.nii").affine, affine)


def test_what_nibabel_logs_is_said_once(tmp_path, voxels, capfd):
    with pytest.raises(KitError, match="data code 77"):
        read_image(save(tmp_path / "a.nii", voxels, datatype=77))
    assert capfd.readouterr() == ("", "")


def test_a_scale_that_no_scanner_has(tmp_path, voxels):
    with pytest.raises(KitError, match=r"a\.nii: values from .* which no scanner gives"):
        read_case(save(tmp_path / "a.nii", voxels, scl_slope=1e30), modality="MR")


def test_one_slice_is_answered_by_what_makes_a_volume(tmp_path, voxels):
    path = save(tmp_path / "a.nii", voxels[..., 0])
    with pytest.raises(KitError, match="2 axes") as error:
        read_image(path)
    image = nibabel.load(path)
    call = re.search(r"nibabel\.Nifti1Image\(.*?affine\)", error.value.remedy)[0]
    nibabel.save(eval(call, {"nibabel": nibabel, "image": image, "affine": image.affine}), tmp_path / "b.nii")
    assert read_image(tmp_path / "b.nii")[0].shape == (*voxels.shape[:2], 1)


def test_a_header_that_claims_a_terabyte(tmp_path, voxels):
    for name in ("a.nii", "a.nii.gz"):
        path = save(tmp_path / "a.nii", voxels, dim=[3, 30000, 30000, 600, 1, 1, 1, 1])
        if name.endswith("gz"):
            (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
        with pytest.raises(KitError, match=r"claims 1,080,000,000,000 bytes"):
            read_image(tmp_path / name)


def test_the_command_line_says_notes_in_one_line(tmp_path, voxels, monkeypatch, capsys):
    path = save(tmp_path / "a.nii", voxels, np.diag([3e3, 3e3, 5e3, 1]), unit="micron")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # put back afterwards
    with pytest.raises(SystemExit) as stop:
        cli.main(["predict", str(path), "-o", str(tmp_path / "seg.nii.gz"), "--run", "tiny-2d"])
    said = capsys.readouterr()
    assert (
        stop.value.code == 0 and "note: " in said.err and "is in microns" in said.err and "KitWarning" not in said.err
    )


def test_nearly_equal_grids(monkeypatch):
    """Rounding is silent, a tenth of a voxel is said, more needs the reader's word."""
    shape, near = (10, 10, 10), np.diag([1.0, 1.0, 1.0, 1.0])
    near[0, 3] = 0.005
    silently(require_same_geometry, shape, np.eye(4), shape, near, "scan", "label")
    near[0, 3] = 0.018
    with pytest.warns(KitWarning, match=r"scan and label lie up to 0\.018 mm apart"):
        require_same_geometry(shape, np.eye(4), shape, near, "scan", "label")
    near[0, 3] = 0.4
    with pytest.raises(KitError, match=r"0\.4 mm apart(.|\n)*LKM_GEOMETRY_TOLERANCE_MM=0\.4$"):
        require_same_geometry(shape, np.eye(4), shape, near, "scan", "label")
    monkeypatch.setenv("LKM_GEOMETRY_TOLERANCE_MM", "0.4")
    with pytest.warns(KitWarning):
        require_same_geometry(shape, np.eye(4), shape, near, "scan", "label")
    monkeypatch.setenv("LKM_GEOMETRY_TOLERANCE_MM", "much")
    with pytest.raises(KitError, match="'much'"):
        require_same_geometry(shape, np.eye(4), shape, near, "scan", "label")
