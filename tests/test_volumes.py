"""Volumes: the benchmark measures what it says, and the 3D network learns on patches of the cohort."""

import nibabel
import numpy as np
import pytest

from lkm_kit.bench import volume
from lkm_kit.data import CohortPatches, LabelTable, make_phantom
from lkm_kit.plots.volumes import Box, middle_of, plot_orthogonal
from lkm_kit.training import TrainConfig, load_checkpoint, train


def test_the_benchmark_s_scan_has_the_size_and_the_content_it_says(tmp_path):
    volume.make_scan(tmp_path / "scan.nii", (40, 30, 50))
    image = nibabel.load(tmp_path / "scan.nii")
    assert image.shape == (40, 30, 50) and image.get_data_dtype() == np.int16
    assert image.header.get_zooms() == pytest.approx((9.0, 10.0, 6.6))
    assert np.ptp(np.asarray(image.dataobj)) > 1000  # air and organs


@pytest.mark.thorough
def test_peak_memory_and_time_of_the_command():
    (row,) = volume.table(scan=(64, 64, 8), checkpoints=("tiny-2d-control",), networks=()).to_dict("records")
    assert row["voxels"] == "64 x 64 x 8" and row["seconds"] > 0
    assert 100 < row["peak MiB"] < 2000  # libraries alone


def test_a_3d_network_learns_on_patches_of_a_volume(tmp_path):
    """The real preset, its loop and its record; two steps here, the packaged tiny-3d had 500."""
    config = TrainConfig(
        network="lkm-unet/tiny-3d", organs=("liver",), image_size=(16, 32, 32), spacing_mm=9.0, batch_size=1,
        network_overrides={"features_per_stage": [2, 4, 4, 4], "windows": [4, 4, 2, 2]}, iterations=6,
        validate_every=6, train_slices=2, validation_slices=1, optimizer="adamw",
    )  # fmt: skip
    source = make_phantom(shape=(40, 36, 20), spacing=(8.0, 8.0, 6.0))
    data = {
        split: CohortPatches(
            split, size=config.image_size, spacing_mm=9.0, table=LabelTable(("liver",)), length=2, case=source
        )
        for split in ("train", "validation")
    }
    losses = []
    train(
        config, tmp_path, data=data, device="cpu", progress=False, watch=lambda step, loss, history: losses.append(loss)
    )
    assert losses[-1] < losses[0]
    network, record = load_checkpoint(tmp_path)
    assert network.dims == 3 and record["preprocessing"]["spacing_mm"] == [6.0, 9.0, 9.0]


def test_right_is_drawn_at_the_left_and_boxes_where_they_are_cut():
    image = np.zeros((4, 4, 4))
    image[3, 0, 3] = 1  # right, back, head
    boxes = [Box((0, 0, 0), (1, 2, 2)), Box((0, 0, 2), (1, 2, 4))]
    figure = plot_orthogonal(
        {"one": image.astype(int)}, image, (10, 10, 10), {1: "liver"}, grey=(0, 1), at=(3, 0, 3), boxes=boxes
    )
    axial, coronal, _ = figure.axes
    assert axial.images[0].get_array()[0, 0] == 1  # row 0 is drawn at the bottom: the back
    assert coronal.images[0].get_array()[3, 0] == 1  # the last row at the top: the head
    (patch,) = axial.patches
    assert patch.get_xy() == (3.0, 0.0)  # the left end of the patient's x axis lies at the right
    assert middle_of(image.astype(int)) == (3, 0, 3)
