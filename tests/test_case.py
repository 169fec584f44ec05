"""Cases: geometry survives reading, writing and resampling; every kind of bad file gets a message."""

import errno
import gzip

import nibabel
import numpy as np
import pytest

from lkm_kit.data import Case, LabelTable, Source, make_phantom, normalize, read_case, resample_case, write_segmentation
from lkm_kit.data.organs import look_up, to_kit_ids
from lkm_kit.errors import KitError

ORIENTATIONS = ["RAS", "LPS", "PIR", "SAL"]


def save(path, array, affine, orientation="RAS"):
    image = nibabel.Nifti1Image(array, affine)
    start = nibabel.orientations.io_orientation(image.affine)
    end = nibabel.orientations.axcodes2ornt(orientation)
    image = image.as_reoriented(nibabel.orientations.ornt_transform(start, end))
    nibabel.save(image, path)
    return path


@pytest.fixture
def phantom():
    return make_phantom(shape=(30, 26, 10), spacing=(3.0, 4.0, 5.0))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_round_trip_keeps_the_geometry(tmp_path, phantom, orientation):
    image = save(tmp_path / "i.nii.gz", phantom.image, phantom.affine, orientation)
    label = save(tmp_path / "l.nii.gz", phantom.label, phantom.affine, orientation)
    case = read_case(image, label, modality="CT")
    np.testing.assert_array_equal(case.label, phantom.label)
    np.testing.assert_allclose(case.image, phantom.image)
    assert case.spacing == phantom.spacing
    table = LabelTable(("liver", "spleen"))
    write_segmentation(tmp_path / "out.nii.gz", case.label, like=case, table=table)
    written, given = nibabel.load(tmp_path / "out.nii.gz"), nibabel.load(label)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(given.dataobj))
    np.testing.assert_allclose(written.affine, given.affine, atol=1e-6)
    assert LabelTable.from_json((tmp_path / "out.labels.json").read_text()) == table


def test_resampling_keeps_the_place_of_organs(phantom):
    fine = resample_case(phantom, 1.5)
    for organ in (1, 3):
        centres = [(c.affine @ [*np.argwhere(c.label == organ).mean(0), 1])[:3] for c in (phantom, fine)]
        np.testing.assert_allclose(*centres, atol=1.0)
    volumes = [np.prod(c.spacing) * (c.label == 1).sum() for c in (phantom, fine)]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.05)
    uneven = resample_case(phantom, 4.7)  # divides no side: the voxels are as large as makes them fill the same space
    assert np.multiply(uneven.spacing, uneven.shape) == pytest.approx(np.multiply(phantom.spacing, phantom.shape))
    assert uneven.spacing == pytest.approx(np.linalg.norm(uneven.affine[:3, :3], axis=0))


def test_normalize():
    assert normalize(np.array([40.0]), "CT") == 0
    z = normalize(np.random.default_rng(0).gamma(2, 100, (20, 20)), "MR")
    assert abs(z.mean()) < 1e-5 and z.std() == pytest.approx(1, abs=1e-4)
    with pytest.raises(KitError, match="PET"):
        normalize(np.zeros(3), "PET")


def test_amos_look_up():
    assert look_up("amos").tolist() == [0, 3, 2, 13, 9, 10, 1, 11, 5, 6, 4, 7, 8, 12, 0, 0]


def test_bad_files(tmp_path, phantom):
    good = save(tmp_path / "good.nii.gz", phantom.image, phantom.affine)
    with pytest.raises(KitError, match="there is no file"):
        read_case(tmp_path / "none.nii.gz", modality="CT")
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"not a scan at all" * 100))
    with pytest.raises(KitError, match="not a readable NIfTI"):
        read_case(tmp_path / "text.nii.gz", modality="CT")
    (tmp_path / "short.nii.gz").write_bytes(good.read_bytes()[:-3000])
    with pytest.raises(KitError, match="truncated"):
        read_case(tmp_path / "short.nii.gz", modality="CT")
    four = save(tmp_path / "four.nii.gz", np.zeros((4, 4, 4, 2), np.float32), np.eye(4))
    with pytest.raises(KitError, match="4 axes"):
        read_case(four, modality="CT")
    hole = phantom.image.copy()
    hole[0, 0, 0] = np.nan
    with pytest.raises(KitError, match="NaN"):
        read_case(save(tmp_path / "nan.nii.gz", hole, phantom.affine), modality="CT")


def test_labels_that_do_not_belong(tmp_path, phantom):
    image = save(tmp_path / "i.nii.gz", phantom.image, phantom.affine)
    shifted = phantom.affine.copy()
    shifted[0, 3] += 4
    label = save(tmp_path / "l.nii.gz", phantom.label, shifted)
    with pytest.raises(KitError, match="4 mm apart"):
        read_case(image, label, modality="CT")
    small = save(tmp_path / "s.nii.gz", phantom.label[:-1], phantom.affine)
    with pytest.raises(KitError, match="voxels"):
        read_case(image, small, modality="CT")
    with pytest.raises(KitError, match="17"):
        to_kit_ids(np.array([0, 17]))
    with pytest.raises(KitError, match=r"1\.5"):
        to_kit_ids(np.array([0, 1.5]))


def test_a_full_disk_leaves_nothing_behind(tmp_path, phantom, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(KitError, match="no space left"):
        write_segmentation(tmp_path / "out.nii.gz", phantom.label, like=phantom)
    assert list(tmp_path.iterdir()) == []


def test_a_case_carries_its_source_through_every_step(tmp_path, phantom):
    assert phantom.source.is_phantom and resample_case(phantom, 6.0).source == phantom.source
    nibabel.save(nibabel.Nifti1Image(phantom.image, phantom.affine), tmp_path / "scan.nii.gz")
    assert read_case(tmp_path / "scan.nii.gz", modality="CT").source.labels == "unknown"
    human = Source("my hospital", "human")
    assert read_case(tmp_path / "scan.nii.gz", modality="CT", source=human).source == human
    with pytest.raises(KitError, match="guessed"):
        Source("x", "guessed")


def test_a_coarser_grid_is_smoothed_first():
    """Stripes finer than the new grid can show vanish; unsmoothed, every third voxel would draw stripes of its own."""
    stripes = np.zeros((30, 30, 30), np.float32)
    stripes[::2] = 100
    case = Case(stripes, None, (1.0, 1.0, 1.0), np.eye(4), "stripes", "CT")
    coarse = resample_case(case, 3.0).image[2:-2]
    assert coarse.shape[1:] == (10, 10) and np.abs(coarse - 50).max() < 2
    np.testing.assert_array_equal(resample_case(case, 1.0).image, stripes)


def test_an_mr_is_scaled_between_its_percentiles():
    """The 0.5 and 99.5 percentiles, as nnU-Net: what is brighter, such as a wire, does not set the scale."""
    image = np.linspace(0, 1, 1001, dtype=np.float32).reshape(7, 11, 13)
    image.flat[-2:] = 1e6
    within = np.clip(image, 0.005, 0.995)
    np.testing.assert_allclose(normalize(image, "MR"), (within - within.mean()) / within.std(), rtol=1e-4, atol=1e-5)
