"""Sliding windows, predictions on a case's own grid, scores of slices."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from toy_training import Squares

from lkm_kit.data import Case, LabelTable, normalize
from lkm_kit.errors import KitError
from lkm_kit.evaluation import (
    evaluate_case,
    predict_case,
    predict_volume,
    score_case,
    score_slices,
    score_volumes,
)

TABLE = LabelTable(("liver", "left kidney"))


class Thresholds(nn.Module):
    """Class 1 above +cut, class 2 below -cut, as logits that no neighbourhood changes."""

    def __init__(self, cut=0.5, heads=1):
        super().__init__()
        self.cut, self.heads = cut, heads
        self.seen = []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        logits = torch.cat([torch.full_like(x, self.cut), x, -x], dim=1)
        return logits if self.heads == 1 else [logits, logits[..., ::2, ::2]]


class WholeTile(nn.Module):
    """Depends on all of the tile: tells where tiles begin and how they are blended."""

    def forward(self, x):
        return torch.cat([x, x.mean(dim=(2, 3), keepdim=True).expand_as(x)], dim=1)


@pytest.mark.parametrize("size", [(40, 56), (16, 16), (10, 70), (33, 17)])
@pytest.mark.parametrize("heads", [1, 2])
def test_tiles_of_a_pixelwise_network_join_without_a_seam(size, heads):
    torch.manual_seed(0)
    image = torch.randn(3, 1, *size)
    network = Thresholds(heads=heads)
    logits = predict_volume(network, image, window=(16, 16))
    assert logits.shape == (3, 3, *size)
    assert torch.allclose(logits[:, 1:2], image, atol=1e-5)
    assert {shape[1:] for shape in network.seen} == {(1, 16, 16)}


def test_tiles_in_three_dimensions():
    image = torch.randn(1, 1, 20, 17, 9)
    logits = predict_volume(nn.Conv3d(1, 2, 1), image, window=(8, 8, 8))
    assert logits.shape == (1, 2, 20, 17, 9)


def test_overlapping_tiles_are_blended_with_more_weight_in_their_middle():
    image = torch.zeros(1, 1, 16, 24)
    image[..., :8] = 1.0  # first tile (columns 0..15): mean 1/2; second one (columns 8..23): mean 0
    blended = predict_volume(WholeTile(), image, window=(16, 16))[0, 1, 8]  # along the middle row
    assert blended[0] == 0.5 and blended[23] == 0.0
    assert (blended[8:16].diff() < 0).all() and blended[8] > 0.25 > blended[15]


def test_evaluation_mode_for_the_prediction_only():
    network = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(1, 2, 1))
    image = torch.randn(1, 1, 16, 16)
    network.train()
    first = predict_volume(network, image, window=(16, 16))
    assert network.training and torch.equal(first, predict_volume(network, image, window=(16, 16)))


def test_a_network_that_gives_nan_segments_nothing():
    """Its largest logit would be class 0 or any other: a whole scan of background, and nobody told."""
    network = nn.Conv2d(1, 3, 1)
    nn.init.constant_(network.bias[1:2].data, float("nan"))
    with pytest.raises(KitError, match="NaN instead of logits"):
        predict_volume(network.train(), torch.zeros(1, 1, 8, 8), window=(8, 8))
    assert network.training


def test_wrong_rank_is_named():
    with pytest.raises(KitError, match=r"\(1, 1, 8, 8, 8\)"):
        predict_volume(nn.Conv2d(1, 2, 1), torch.zeros(1, 1, 8, 8, 8), window=(8, 8))


def block_case(shape=(30, 40, 6), spacing=(3.0, 3.0, 5.0)):
    """Soft-tissue background, a bright block (liver) and a dark one (left kidney)."""
    image = np.full(shape, 0.0, np.float32)
    label = np.zeros(shape, np.uint8)
    image[4:14, 6:20, 1:4], label[4:14, 6:20, 1:4] = 400.0, 1
    image[18:26, 24:34, 2:6], label[18:26, 24:34, 2:6] = -400.0, 13
    return Case(image, label, spacing, np.diag([*spacing, 1.0]), "blocks", "CT")


@pytest.fixture
def cut():
    """Halfway between background and blocks after the kit's normalisation; both blocks must lie beyond it."""
    image = normalize(block_case().image, "CT")
    low, middle, high = (float(image[p]) for p in ((20, 26, 3), (0, 0, 0), (5, 7, 2)))
    assert low < middle < high
    return middle, (high - middle) / 2


class Centered(Thresholds):
    def __init__(self, middle, cut):
        super().__init__(cut)
        self.middle = middle

    def forward(self, x):
        return super().forward(x - self.middle)


@pytest.mark.parametrize("window", [(16, 16), (4, 16, 16)])
def test_prediction_lies_on_the_cases_grid(window, cut):
    case = block_case(spacing=(3.0, 3.0, 3.0))
    found = predict_case(Centered(*cut), case, table=TABLE, spacing_mm=3.0, window=window)
    assert found.dtype == np.uint8 and np.array_equal(found, case.label)


def test_finer_scan_comes_back_on_its_own_grid(cut):
    coarse = block_case()
    fine = block_case(spacing=(1.0, 1.5, 5.0))
    fine = dataclasses.replace(
        fine, image=coarse.image.repeat(3, 0).repeat(2, 1), label=coarse.label.repeat(3, 0).repeat(2, 1)
    )
    found = predict_case(Centered(*cut), fine, table=TABLE, spacing_mm=3.0, window=(16, 16))
    assert found.shape == (90, 80, 6)
    off = np.argwhere(found != fine.label)
    assert len(off) / fine.label.astype(bool).sum() < 0.25  # only along the edges
    rows = score_case(Centered(*cut), fine, table=TABLE, spacing_mm=3.0, window=(16, 16)).set_index("organ")
    assert (rows["DSC"] > 0.9).all() and (rows["NSD"] == 1).all()


def test_left_and_right_are_not_exchanged(cut):
    case = block_case()
    found = predict_case(Centered(*cut), case, table=TABLE, spacing_mm=3.0, window=(16, 16))
    center = {name: np.argwhere(found == label).mean(0) for name, label in (("liver", 1), ("kidney", 13))}
    assert center["liver"][0] < center["kidney"][0] and center["liver"][1] < center["kidney"][1]


def test_classes_that_are_not_the_tables():
    with pytest.raises(KitError, match="3 classes, the label table 2"):
        predict_case(Thresholds(), block_case(), table=LabelTable(("liver",)), spacing_mm=3.0, window=(16, 16))


def test_score_slices_counts_each_item_as_a_case():
    table, data = LabelTable(("liver", "spleen")), Squares(5)
    rows = score_slices(Thresholds(), data, table=table, spacing_mm=3.0, batch_size=2)
    assert sorted(rows["case"].unique()) == [f"warp {i}" for i in range(5)] and len(rows) == 10
    assert (rows["DSC"].dropna() > 0.95).all() and (rows["NSD"].dropna() == 1).all()
    nothing = score_slices(Thresholds(cut=100.0), data, table=table, spacing_mm=3.0)
    assert (nothing["DSC"].dropna() == 0).all()


class Boxes:
    """Two warps (8 slices of 16 x 16): a bright box of class 1 and a dark one of class 2, in a few slices each."""

    table, spacing, size = LabelTable(("liver", "spleen")), (5.0, 3.0, 3.0), (8, 16, 16)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        label = torch.zeros(self.size, dtype=torch.long)
        label[1 : 4 + index, 2:9, 2:9], label[3:7, 9:14, 3:9] = 1, 2
        return {"image": ((label == 1).float() - (label == 2).float())[None], "label": label}


@pytest.mark.parametrize("window", [(16, 16), (4, 8, 8)])
def test_volumes_are_cases_with_one_score_in_three_dimensions(window):
    rows = score_volumes(Thresholds(), Boxes(), window=window)
    assert rows[["case", "organ"]].values.tolist() == [[f"warp {i}", o] for i in (0, 1) for o in ("liver", "spleen")]
    assert (rows["DSC"] == 1).all() and (rows["NSD"] == 1).all() and (rows["HD95"] == 0).all()
    volumes = Boxes()
    shifted = [{**volumes[i], "label": volumes[i]["label"].roll(1, 0)} for i in range(2)]
    volumes.__class__ = type("Shifted", (Boxes,), {"__getitem__": lambda self, index: shifted[index]})
    rows = score_volumes(Thresholds(), volumes, window=window).set_index(["case", "organ"])
    assert rows.loc[("warp 1", "liver"), "DSC"] == pytest.approx(2 * 3 / (4 + 4))  # four slices, one off
    assert (rows["HD95"] == 5.0).all()  # one slice, in mm
    masks = (Boxes.table.to_kit(Boxes()[0]["label"].roll(n, 0).numpy()) for n in (0, 1))
    own = evaluate_case(*masks, Boxes.spacing, Boxes.table)
    assert own["NSD"].tolist() == rows.loc["warp 0", "NSD"].tolist() and own["NSD"].min() < 1
