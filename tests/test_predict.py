"""lkm predict on scans of any geometry, and on every kind of file that it must refuse with nothing half-written."""

import dataclasses
import errno
import os
import shutil

import nibabel
import numpy as np
import pytest
import torch
from dicom_files import save_dicom
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

from lkm_kit import cli
from lkm_kit.data import LabelTable, make_phantom, normalize, write_segmentation
from lkm_kit.data.preprocess import looks_like
from lkm_kit.data.scan import doubts_about, read_scan
from lkm_kit.errors import KitError
from lkm_kit.evaluation import predict_case, predict_volume, score_slices
from lkm_kit.training import load_checkpoint

TABLE = LabelTable(("liver",))


class Bright(nn.Module):
    """Class 1 where the normalised image is above zero: soft tissue above 40 HU."""

    def forward(self, x):
        return torch.cat([-x, x], dim=1)


def lkm(*arguments):
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def affines(spacing, angles, order, flips):
    """A rotated grid whose axes come in any order and direction."""
    turn = np.eye(3)
    for (a, b), angle in zip(((0, 1), (0, 2), (1, 2)), angles):
        step = np.eye(3)
        step[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turn = step @ turn
    affine = np.eye(4)
    affine[:3, :3] = turn[:, order] * (np.asarray(flips) * np.asarray(spacing))
    affine[:3, 3] = 12.5, -80.25, 33.0
    return affine


geometries = st.builds(
    affines,
    spacing=st.tuples(*[st.sampled_from([0.7, 1.0, 2.5, 5.0])] * 3),
    angles=st.tuples(*[st.floats(-0.7, 0.7)] * 3),
    order=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
)


def save_scan(path, shape, affine, seed=0):
    stored = np.random.default_rng(seed).integers(-900, 400, shape).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(stored, affine), path)
    return stored


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(affine=geometries, shape=st.tuples(*[st.integers(3, 11)] * 3), planar=st.booleans())
def test_every_voxel_comes_back_to_its_place(tmp_path, affine, shape, planar):
    """At the scan's own spacing nothing is resampled: the labels must be those of the very voxels of the file."""
    stored = save_scan(tmp_path / "scan.nii.gz", shape, affine)
    case = read_scan(tmp_path / "scan.nii.gz")
    x, y, z = case.spacing
    window, spacing = ((8, 8), (x, y)) if planar else ((4, 8, 8), (z, x, y))
    labels = predict_case(Bright(), case, table=TABLE, spacing_mm=spacing, window=window, mirror=True)
    write_segmentation(tmp_path / "seg.nii.gz", labels, like=case)
    before, after = nibabel.load(tmp_path / "scan.nii.gz"), nibabel.load(tmp_path / "seg.nii.gz")
    assert after.shape == shape and np.array_equal(after.affine, before.affine)
    assert np.array_equal(np.asarray(after.dataobj), (stored > 40).astype(np.uint8))


@settings(max_examples=12, deadline=None)
@given(spacing=st.tuples(*[st.sampled_from([0.8, 1.5, 3.0, 4.0])] * 3), planar=st.booleans())
def test_resampled_there_and_back_an_organ_stays_where_it_was(spacing, planar):
    shape = tuple(round(48 / s) for s in spacing)
    x, y, z = (((np.arange(n) + 0.5) * s - 24) for n, s in zip(shape, spacing))
    ball = (x[:, None, None] - 3) ** 2 + (y[:, None] + 2) ** 2 + z**2 < 15**2
    phantom = make_phantom(shape=(8, 8, 8))
    case = type(phantom)(
        np.where(ball, 240, -160).astype(np.float32), None, spacing, np.diag([*spacing, 1.0]), "ball", "CT"
    )
    window = (16, 16) if planar else (8, 16, 16)
    found = predict_case(Bright(), case, table=TABLE, spacing_mm=3.0, window=window) == 1
    for axis in range(3):
        centres = [np.argwhere(mask)[:, axis].mean() * spacing[axis] for mask in (found, ball)]
        assert abs(centres[0] - centres[1]) < 1.0  # mm, for pixels of up to 4
    assert 2 * (found & ball).sum() / (found.sum() + ball.sum()) > 0.9


def test_mirroring_averages_the_two_directions():
    class Slope(nn.Module):
        def forward(self, x):
            return torch.linspace(0, 1, x.shape[2])[:, None].expand_as(x) + x

    image = torch.randn(1, 1, 8, 8)
    plain, mirrored = (predict_volume(Slope(), image, window=(8, 8), mirror_axes=axes) for axes in ((), (0,)))
    torch.testing.assert_close(mirrored, image + 0.5)
    assert not torch.allclose(plain, mirrored)


class Where(Bright):
    """Remembers where it was sent to."""

    def __init__(self):
        super().__init__()
        self.weight, self.sent = nn.Parameter(torch.zeros(1)), []

    def to(self, device):
        self.sent.append(str(device))
        return super().to(device)


@pytest.mark.parametrize("window", [(8, 8), (2, 8, 8)])
def test_the_callers_network_stays_where_it_is(window):
    """Without a device the network's own is taken; with another one it comes back, also from an error."""
    case, network = make_phantom(shape=(8, 8, 3)), Where()
    how = {"table": TABLE, "spacing_mm": 3.0, "window": window}
    plain = predict_case(network, case, **how)
    score_slices(
        network, [{"image": torch.zeros(1, 8, 8), "label": torch.zeros(8, 8).long()}], table=TABLE, spacing_mm=3.0
    )
    assert network.sent == []
    assert np.array_equal(predict_case(network, case, device="cpu:0", **how), plain)
    with pytest.raises(KitError, match="classes"):
        predict_case(network, case, device="cpu:0", **{**how, "table": LabelTable(("liver", "spleen"))})
    assert network.sent == ["cpu:0", "cpu"] * 2


def test_mirroring_turns_left_and_right_alone():
    """Of x, y and z only x was mirrored in training: a network that sees where it is must be averaged along x."""

    class Places(nn.Module):
        def forward(self, x):
            first = torch.linspace(0, 1, x.shape[-2])[:, None].expand_as(x)
            second = torch.linspace(0, 1, x.shape[-1]).expand_as(x)
            return torch.cat([second * 0 + 0.5 + 0.1 * (second - 0.25), first], dim=1)

    case = dataclasses.replace(make_phantom(shape=(8, 8, 3)), image=np.zeros((8, 8, 3), np.float32))
    for window in ((8, 8), (3, 8, 8)):
        how = {"table": TABLE, "spacing_mm": (5.0, 3.0, 3.0)[-len(window) :], "window": window}
        plain, mirrored = (predict_case(Places(), case, mirror=mirror, **how) == 1 for mirror in (False, True))
        assert plain[6:].any() and not plain[:3].any(), "without mirroring, x decides"
        # along x both classes are 1/2 everywhere; what remains is the weak slope along y, which must not be averaged
        assert mirrored[:, 0].all() and not mirrored[:, -1].any()


def test_one_command_on_nifti_and_dicom(tmp_path):
    phantom = make_phantom(shape=(40, 36, 10), spacing=(6.0, 6.0, 6.0))
    image = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(phantom.image.astype(np.int16), phantom.affine), image)
    folder = save_dicom(tmp_path / "series", phantom.image[..., :4])
    for source, name in ((image, "a"), (folder, "b")):
        done = lkm("predict", source, "-o", tmp_path / f"{name}.nii.gz", "--run", "tiny-2d-control", "--mirror")
        assert done.exit_code == 0 and "liver" in done.output, done.output
        assert {p.name for p in tmp_path.glob(f"{name}.*")} == {f"{name}.nii.gz", f"{name}.labels.json", f"{name}.png"}
    assert nibabel.load(tmp_path / "a.nii.gz").shape == phantom.image.shape
    assert nibabel.load(tmp_path / "b.nii.gz").shape == (40, 36, 4)


def test_a_dicom_series_is_read_as_it_lies(tmp_path):
    image = np.random.default_rng(0).integers(-1000, 500, (5, 7, 3)).astype(np.float32)
    case = read_scan(save_dicom(tmp_path / "series", image))
    assert np.array_equal(case.image, image) and case.spacing == (3.0, 2.0, 4.0) and case.modality == "CT"
    assert read_scan(save_dicom(tmp_path / "mr", image, modality="MR")).modality == "MR"
    write_segmentation(tmp_path / "seg.nii.gz", (image > 0).astype(np.uint8), like=case)
    stored = nibabel.load(tmp_path / "seg.nii.gz")
    assert nibabel.aff2axcodes(stored.affine) == ("L", "P", "S")  # the series' own order
    assert np.array_equal(np.asarray(stored.dataobj), (image > 0)[::-1, ::-1])


def nifti(path, array, **forms):
    image = nibabel.Nifti1Image(array, np.diag([3.0, 3.0, 5.0, 1.0]))
    for name, (affine, code) in forms.items():
        getattr(image, f"set_{name}")(affine, code)
    nibabel.save(image, path)
    return path


def bad_inputs(folder):
    """name -> (path, words of the message)."""
    body = make_phantom(shape=(12, 12, 6)).image.astype(np.float32)
    grid = np.diag([3.0, 3.0, 5.0, 1.0])
    moved = grid.copy()
    moved[0, 3] = 9
    hole, endless = body.copy(), body.copy()
    hole[0, 0, 0], endless[0, 0, 0] = np.nan, np.inf
    colour = np.zeros((4, 4, 4), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    short = nifti(folder / "short.nii.gz", body)
    short.write_bytes(short.read_bytes()[:-500])
    flat = nifti(folder / "flat.nii", body)
    content = bytearray(flat.read_bytes())
    content[80:92] = bytes(12)  # pixdim 1..3
    content[252:256], content[280:328] = bytes(4), bytes(48)  # form codes, sform
    flat.write_bytes(content)
    two = save_dicom(folder / "two", body[..., :3])
    save_dicom(two, body[..., :3], uid="1.2.4", name="t")
    return {
        "4D": (nifti(folder / "four.nii.gz", np.zeros((4, 4, 4, 2), np.float32)), "4 axes"),
        "RGB": (nifti(folder / "rgb.nii.gz", colour), "one number per voxel"),
        "two geometries": (nifti(folder / "forms.nii.gz", body, qform=(moved, 1), sform=(grid, 1)), "up to 9 mm"),
        "zero spacing": (flat, "0 x 0 x 0 mm"),
        "NaN": (nifti(folder / "nan.nii.gz", hole), "NaN or infinite"),
        "Inf": (nifti(folder / "inf.nii.gz", endless), "NaN or infinite"),
        "empty": (nifti(folder / "empty.nii.gz", np.zeros((5, 5, 5), np.int16)), "is empty"),
        "truncated": (short, "truncated"),
        "two series": (two, "2 series"),
        "missing slice": (save_dicom(folder / "gap", body[..., :4], heights=[0, 1, 3, 4]), "evenly spaced"),
        "ultrasound": (save_dicom(folder / "us", body[..., :3], modality="US"), "modality US"),
        "no DICOM": (folder / "nothing", "neither a NIfTI scan nor a DICOM slice"),
        "absent": (folder / "absent.nii.gz", "there is no file"),
    }


KINDS = (
    "4D", "RGB", "two geometries", "zero spacing", "NaN", "Inf", "empty", "truncated", "two series", "missing slice",
    "ultrasound", "no DICOM", "absent",
)  # fmt: skip


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "nothing").mkdir()
    found = bad_inputs(folder)
    assert tuple(found) == KINDS
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_one_message_with_a_remedy_and_no_file(faulty, kind, tmp_path):
    path, words = faulty[kind]
    with pytest.raises(KitError) as error:
        lkm("predict", path, "-o", tmp_path / "seg.nii.gz", "--run", "tiny-2d-control")
    assert words in str(error.value) and error.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def scan(tmp_path):
    (tmp_path / "out").mkdir()
    return nifti(tmp_path / "scan.nii.gz", make_phantom(shape=(20, 18, 3)).image.astype(np.int16))


def test_a_scan_smaller_than_the_window(scan, tmp_path):
    lkm("predict", scan, "-o", tmp_path / "out" / "seg.nii.gz", "--run", "tiny-2d-control")
    assert nibabel.load(tmp_path / "out" / "seg.nii.gz").shape == (20, 18, 3)


def test_what_lies_around_a_small_scan_is_air_to_the_network():
    seen = []

    class Spy(Bright):
        def forward(self, x):
            seen.append(float(x[0, 0, 0, 0]))
            return super().forward(x)

    case = make_phantom(shape=(8, 8, 2))
    predict_case(Spy(), case, table=TABLE, spacing_mm=case.spacing[:2], window=(32, 32))
    assert seen and seen == pytest.approx([(-175 - 40) / 90] * len(seen))  # black, not the grey of soft tissue


@pytest.mark.parametrize("when", ["os.fsync", "lkm_kit.evaluation.predict_case"])
def test_stopped_in_the_middle_leaves_nothing(scan, tmp_path, monkeypatch, when):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(when, stop)
    done = lkm("predict", scan, "-o", tmp_path / "out" / "seg.nii.gz", "--run", "tiny-2d-control")
    assert done.exit_code == 130 and list((tmp_path / "out").iterdir()) == []


def test_a_folder_of_scans(tmp_path, scan):
    """Every scan is segmented under its case's name; one that cannot be read is named and costs the others nothing."""
    folder = tmp_path / "imagesTs"
    folder.mkdir()
    names = ["b_0000.nii.gz", "a $1$ 50%.nii.gz", os.fsdecode(b"caf\xe9.nii.gz")]
    for name in names:
        shutil.copy(scan, folder / name)
    done = lkm("predict", folder, "-o", tmp_path / "out", "--run", "tiny-2d-control")
    cases = {"b", "a $1$ 50%", os.fsdecode(b"caf\xe9")}
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert done.exit_code == 0
    assert written == {case + end for case in cases for end in (".nii.gz", ".labels.json", ".png")}
    for name in ("d.mha", "notes.txt"):
        (folder / name).write_bytes(b"not read")
    (folder / "b_0000.nii.gz").rename(folder / "B.NII.GZ")
    done = lkm("predict", folder, "-o", tmp_path / "upper", "--run", "tiny-2d-control", "--no-picture")
    assert "skipped beside the scans, convert them to .nii.gz: d.mha\n" in done.output
    assert (tmp_path / "upper" / "B.nii.gz").is_file()
    (folder / "B.NII.GZ").rename(folder / "b_0000.nii.gz")
    (folder / "c.nii.gz").write_bytes(b"no scan")
    with pytest.raises(KitError, match=r"1 of 4 scans were not segmented: c\.nii\.gz"):
        lkm("predict", folder, "-o", tmp_path / "again", "--run", "tiny-2d-control", "--no-picture")
    assert len(list((tmp_path / "again").glob("*.nii.gz"))) == 3
    for output, words in ((tmp_path / "one.nii.gz", "is one file"), (folder, "the scans' own folder")):
        with pytest.raises(KitError, match=words):
            lkm("predict", folder, "-o", output, "--run", "tiny-2d-control")
    with pytest.raises(KitError, match=r"holds no file(.|\n)* folders in it: again, imagesTs, out"):
        (tmp_path / "all").mkdir()
        for sub in ("again", "imagesTs", "out"):
            (tmp_path / "all" / sub).mkdir()
        lkm("predict", tmp_path / "all", "-o", tmp_path / "segmentations", "--run", "tiny-2d-control")
    save_dicom(folder, np.zeros((4, 4, 2)), name="slice")
    with pytest.raises(KitError, match=r"NIfTI scans \(a .*\) and DICOM files \(slice000\.dcm\)"):
        lkm("predict", folder, "-o", tmp_path / "both", "--run", "tiny-2d-control")


def test_the_channels_of_a_case_lie_beside_each_other(tmp_path, scan, monkeypatch):
    """A network of two channels takes CASE_0000 and CASE_0001, in a folder and beside a file; one alone is refused."""
    folder = tmp_path / "imagesTs"
    folder.mkdir()
    first, second = (np.asarray(nibabel.load(scan).dataobj) + shift for shift in (0, 7))
    for case in ("a", "b"):
        nifti(folder / f"{case}_0000.nii.gz", first)
        nifti(folder / f"{case}_0001.nii.gz", second)
    network, record = load_checkpoint("tiny-2d-control")
    record["network"]["input_channels"] = 2
    seen = []

    def spy(network, case, **how):
        seen.append(case.image)
        return np.zeros(case.shape, np.uint8)

    monkeypatch.setattr("lkm_kit.training.load_checkpoint", lambda *_: (network, record))
    monkeypatch.setattr("lkm_kit.evaluation.predict_case", spy)
    lkm("predict", folder, "-o", tmp_path / "out", "--run", "tiny-2d-control")
    assert len(list((tmp_path / "out").glob("*.png"))) == 2, "the first channel is pictured"
    lkm("predict", folder / "b_0000.nii.gz", "-o", tmp_path / "out" / "c.nii.gz", "--run", "any", "--no-picture")
    assert {path.name for path in (tmp_path / "out").glob("*.nii.gz")} == {"a.nii.gz", "b.nii.gz", "c.nii.gz"}
    assert len(seen) == 3 and all(np.array_equal(image, np.stack([first, second])) for image in seen)


def test_a_picture_that_cannot_be_drawn_costs_no_segmentation(scan, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no font")

    monkeypatch.setattr("lkm_kit.plots.volumes.plot_orthogonal", broken)
    done = lkm("predict", scan, "-o", tmp_path / "out" / "seg.nii.gz", "--run", "tiny-2d-control")
    assert done.exit_code == 0 and "no picture could be drawn (no font)" in done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"seg.nii.gz", "seg.labels.json"}


@pytest.mark.parametrize("written_before", [0, 1, 2])
def test_a_disk_that_fills_up_leaves_nothing(scan, tmp_path, monkeypatch, written_before):
    calls, fsync = [], os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) > written_before:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(KitError, match="no space left"):
        lkm("predict", scan, "-o", tmp_path / "out" / "seg.nii.gz", "--run", "tiny-2d-control")
    assert list((tmp_path / "out").iterdir()) == []


def test_doubts_are_told(scan, tmp_path):
    mr = nifti(tmp_path / "mr.nii.gz", np.random.default_rng(0).integers(0, 900, (16, 16, 2)).astype(np.int16))
    text = lkm("predict", mr, "-o", tmp_path / "out" / "seg.nii.gz", "--run", "tiny-2d-control").output
    assert "look like MR" in text
    text = lkm(
        "predict", scan, "-o", tmp_path / "out" / "s.nii.gz", "--run", "tiny-2d-control", "--modality", "MR"
    ).output
    assert "is MR" in text
    assert doubts_about(read_scan(scan), "CT") == [] and looks_like(read_scan(scan).image) == "CT"
    unknown = nifti(tmp_path / "u.nii.gz", np.arange(-999, 1, dtype=np.int16).reshape(10, 10, 10), sform=(None, 0))
    assert "how the patient lies" in doubts_about(read_scan(unknown), "CT")[0]


def test_the_scan_itself_is_not_overwritten(scan):
    before = scan.read_bytes()
    with pytest.raises(KitError, match="overwritten"):
        lkm("predict", scan, "-o", scan, "--run", "tiny-2d-control")
    assert scan.read_bytes() == before


@pytest.mark.parametrize("window", [(16, 16), (8, 16, 16)])
def test_what_the_network_sees_of_a_fine_scan_is_smoothed(window):
    """White noise of 1 mm on a grid of 3 mm: means over neighbours along every axis, not every third voxel."""
    seen = []

    class Spy(Bright):
        def forward(self, x):
            seen.append(float(x.std()))
            return super().forward(x)

    noise = np.random.default_rng(0).normal(40, 30, (48, 48, 24)).astype(np.float32)
    case = dataclasses.replace(make_phantom(shape=(8, 8, 8)), image=noise, label=None, spacing=(1.0, 1.0, 1.0))
    predict_case(Spy(), case, table=TABLE, spacing_mm=3.0, window=window)
    whole = float(normalize(noise, "CT").std())
    assert max(seen) < whole * (0.3 if len(window) == 2 else 0.15)
