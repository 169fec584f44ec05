"""The metrics: known answers, the two rules, agreement with DeepMind's surface-distance."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from lkm_kit.data.labels import LabelTable
from lkm_kit.data.organs import ORGANS
from lkm_kit.errors import KitError
from lkm_kit.evaluation import METRICS, About, compare, dice, evaluate_case, hausdorff95, organ_table, surface_dice
from lkm_kit.evaluation.folders import case_table
from lkm_kit.monai_parts import monai_part
from lkm_kit.plots.training import plot_organ_scores

surface_distance = pytest.importorskip("surface_distance")


def blob(shape, seed, shift=0.0):
    """A smooth random region somewhere in the middle."""
    random = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    center = random.uniform(-0.3, 0.3, len(shape)) + shift
    radius = random.uniform(0.3, 0.5, len(shape))
    wobble = 0.25 * np.sin(sum(g * f for g, f in zip(grid, random.uniform(3, 8, len(shape)))))
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, center, radius)) < 1 + wobble


def deepmind(prediction, truth, spacing, tolerance):
    distances = surface_distance.compute_surface_distances(truth, prediction, spacing)
    return surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "shape, spacing",
    [((40, 36), (1.5, 1.5)), ((33, 41), (0.8, 2.0)), ((24, 20, 16), (1, 1, 1)), ((22, 26, 9), (0.9, 0.9, 5.0))],
)
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.5])
def test_nsd_agrees_with_deepmind(seed, shape, spacing, tolerance):
    truth, prediction = blob(shape, seed), blob(shape, seed, shift=0.08)
    ours = surface_dice(prediction, truth, spacing, tolerance)
    assert ours == pytest.approx(deepmind(prediction, truth, spacing, tolerance), abs=1e-6)


def test_nsd_agrees_with_deepmind_at_the_border_of_the_image():
    truth, prediction = np.zeros((12, 12, 8), bool), np.zeros((12, 12, 8), bool)
    truth[:, :6], prediction[:, :7] = True, True
    expected = deepmind(np.pad(prediction, 2), np.pad(truth, 2), (2.0, 1.0, 3.0), 0.5)
    assert surface_dice(prediction, truth, (2.0, 1.0, 3.0), 0.5) == pytest.approx(expected, abs=1e-6)


def test_known_answers():
    square = np.zeros((30, 30), bool)
    square[10:20, 10:20] = True
    moved = np.roll(square, 2, axis=1)
    assert dice(moved, square) == pytest.approx(0.8)
    assert surface_dice(moved, square, (1.0, 1.0), 2.0) == 1.0
    assert surface_dice(moved, square, (1.0, 2.0), 2.0) < 1.0  # the same two pixels are 4 mm now
    empty = np.zeros_like(square)
    assert math.isnan(dice(empty, empty)) and math.isnan(surface_dice(empty, empty, (1, 1), 1))
    assert dice(empty, square) == 0 and surface_dice(empty, square, (1, 1), 1) == 0 == surface_dice(
        square, empty, (1, 1), 1
    )


def test_good_beats_bad():
    truth = blob((40, 40, 12), 3)
    near, far = np.roll(truth, 1, axis=0), np.roll(truth, 6, axis=0)
    assert dice(near, truth) > dice(far, truth)
    assert surface_dice(near, truth, (1, 1, 2), 2) > surface_dice(far, truth, (1, 1, 2), 2)


@pytest.mark.parametrize(("shape", "spacing"), [((33, 41), (0.8, 2.0)), ((22, 26, 9), (0.9, 0.9, 5.0))])
@pytest.mark.parametrize("seed", range(3))
def test_hd95_is_monais_on_the_whole_image(seed, shape, spacing):
    truth, prediction = blob(shape, seed), blob(shape, seed, shift=0.08)
    prediction[0, :4] = True  # far away, and at the border of the image
    whole = (torch.from_numpy(mask)[None, None] for mask in (prediction, truth))
    how = {"include_background": True, "percentile": 95, "spacing": list(spacing)}
    theirs = monai_part("metrics").compute_hausdorff_distance
    assert hausdorff95(prediction, truth, spacing) == float(theirs(*whole, **how))


def test_hd95_known_answers():
    square = np.zeros((30, 40), bool)
    square[10:20, 10:20] = True
    assert hausdorff95(square, square, (1.0, 2.0)) == 0
    assert hausdorff95(np.roll(square, 3, axis=1), square, (1.0, 2.0)) == pytest.approx(6.0)
    empty = np.zeros_like(square)
    assert math.isnan(hausdorff95(empty, empty, (1.0, 2.0)))
    diagonal = math.hypot(29, 2 * 39)
    assert hausdorff95(empty, square, (1, 2)) == hausdorff95(square, empty, (1, 2)) == pytest.approx(diagonal)
    corners = np.zeros((2, 30, 40), bool)
    corners[0, 0, 0] = corners[1, -1, -1] = True
    assert hausdorff95(corners[0], corners[1], (1, 2)) == pytest.approx(diagonal)  # nothing is farther


def volume_share(prediction, truth, spacing, label):
    """Volume predicted for each of the truth's: an own metric."""
    return prediction.sum() / truth.sum() if truth.any() else np.nan


def test_an_own_metric_is_in_every_table(monkeypatch):
    volume_share.about = About(best=1.0, scale=1.0, unit="ml/ml", difference="ml/ml")
    monkeypatch.setitem(METRICS, "share", volume_share)
    truth = volume(liver=slice(2, 8), aorta=slice(2, 8))
    prediction = truth.copy()
    prediction[..., 5:][truth[..., 5:] == 1] = 0
    rows = evaluate_case(prediction, truth, (2.0, 2.0, 3.0), TABLE, case="one")
    assert rows.columns.tolist() == ["case", "organ", "DSC", "NSD", "HD95", "share"]
    assert organ_table(rows)["share"].to_dict() == {"liver": 0.5, "aorta": 1.0, "mean": 0.75}
    assert compare({"a": rows, "b": rows}).loc["mean", ("share", "b")] == 0.75
    assert case_table(rows).loc["one", "share"] == 0.75
    figure = plot_organ_scores({"test": compare({"a": rows, "b": rows})})
    assert [ax.get_xlabel() for ax in figure.axes] == ["DSC", "NSD", "HD95 (mm)", "share (ml/ml)"]


def test_tables_of_before_a_metric_are_read_without_it():
    old = rows("a", liver=0.8, aorta=0.4)
    assert organ_table(old).columns.tolist() == ["DSC", "NSD", "cases"]
    both = compare({"old": old, "new": old.assign(HD95=2.0)})
    assert both.columns.get_level_values(0).unique().tolist() == ["DSC", "NSD"]
    with pytest.raises(KitError, match="lacks DSC, NSD, HD95"):
        organ_table(old.drop(columns=["DSC", "NSD"]))


def test_under_the_official_rule_hd95_stays_plain():
    truth = volume(liver=slice(2, 8), aorta=slice(2, 8))
    beyond = truth.copy()
    beyond[..., 9][truth[..., 2] == 5] = 5  # aorta found above its end
    for rule in ("plain", "official"):
        rows = evaluate_case(beyond, truth, (2.0, 2.0, 3.0), TABLE, rule).set_index("organ")["HD95"]
        assert rows["liver"] == 0 < rows["aorta"] and np.isnan(rows["spleen"])
    both = {name: evaluate_case(truth, truth, (2.0, 2.0, 3.0), TABLE, "official") for name in "ab"}
    means = compare(both).loc["mean"]  # the spleen is nowhere: 1 by the rule for DSC, and without any HD95
    assert means["DSC", "a"] == 1.0 and means["HD95", "a"] == 0.0


def volume(**organs):
    """Kit ids on (20, 20, 10); each organ is a box over the given slices."""
    labels = np.zeros((20, 20, 10), np.uint8)
    ids = {each.name.replace(" ", "_"): each.label for each in ORGANS}
    for number, (name, slices) in enumerate(organs.items()):
        labels[3 + 4 * number : 6 + 4 * number, 5:12, slices] = ids[name]
    return labels


TABLE = LabelTable(("liver", "aorta", "spleen"))


def scores(prediction, truth, rule):
    rows = evaluate_case(prediction, truth, (2.0, 2.0, 3.0), TABLE, rule, case="one").set_index("organ")
    return rows[["DSC", "NSD"]]


def test_rules_differ_only_where_they_should():
    truth = volume(liver=slice(2, 8), aorta=slice(2, 8))
    plain, official = scores(truth, truth, "plain"), scores(truth, truth, "official")
    assert plain.loc["liver"].tolist() == official.loc["liver"].tolist() == [1.0, 1.0]
    assert plain.loc["spleen"].isna().all()
    assert official.loc["spleen"].tolist() == [1.0, 1.0]  # in neither: left out, or 1


def test_prediction_of_an_organ_that_is_not_there_scores_zero():
    truth, prediction = volume(liver=slice(2, 8)), volume(liver=slice(2, 8), aorta=slice(2, 4))
    for rule in ("plain", "official"):
        assert scores(prediction, truth, rule).loc["aorta"].tolist() == [0.0, 0.0]
        assert scores(truth, prediction, rule).loc["aorta"].tolist() == [0.0, 0.0]


def test_official_rule_looks_at_the_truths_slices_without_the_last():
    truth = volume(liver=slice(2, 8), aorta=slice(2, 8))
    last_only = truth.copy()
    last_only[..., 7][truth[..., 7] == 5] = 0  # aorta missed on the truth's last slice
    assert scores(last_only, truth, "official").loc["aorta", "DSC"] == 1.0
    assert scores(last_only, truth, "plain").loc["aorta", "DSC"] == pytest.approx(2 * 5 / 11)
    beyond = truth.copy()
    beyond[..., 9][truth[..., 2] == 5] = 5  # aorta found above its end
    assert scores(beyond, truth, "official").loc["aorta", "DSC"] == 1.0
    assert scores(beyond, truth, "plain").loc["aorta", "DSC"] < 1.0
    liver_missed = truth.copy()
    liver_missed[..., 7][truth[..., 7] == 1] = 0  # no slice rule for the liver
    assert scores(liver_missed, truth, "official").loc["liver", "DSC"] == pytest.approx(2 * 5 / 11, abs=5e-5)


def test_official_rule_gives_nan_for_an_aorta_on_one_slice_and_rounds():
    truth = volume(liver=slice(2, 9), aorta=slice(4, 5))
    assert scores(truth, truth, "official").loc["aorta"].isna().all()
    prediction = np.roll(truth, 1, axis=1)
    value = scores(prediction, truth, "official").loc["liver", "DSC"]
    assert value == round(2 * 6 / 14, 4) != 2 * 6 / 14


def test_tolerances_are_those_of_the_organs():
    truth = volume(liver=slice(2, 8), aorta=slice(2, 8))
    moved = np.roll(truth, 2, axis=1)  # 4 mm: within the liver's 5, beyond the aorta's 2
    nsd = scores(moved, truth, "plain")["NSD"]
    assert nsd["liver"] == 1.0 and nsd["aorta"] < 1.0


@pytest.mark.parametrize(
    "change, words",
    [
        ({"rule": "nicest"}, "nicest"),
        ({"prediction": np.zeros((20, 20, 9), np.uint8)}, "(20, 20, 9)"),
        ({"prediction": np.full((20, 20, 10), 77, np.uint8)}, "77"),
        ({"spacing": (0.0, 1.0, 1.0)}, "spacing"),
    ],
)
def test_bad_input_is_named(change, words):
    arguments = {"prediction": volume(), "case_label": volume(), "spacing": (1, 1, 1), "table": TABLE, "rule": "plain"}
    with pytest.raises(KitError) as error:
        evaluate_case(**{**arguments, **change})
    assert words in str(error.value) and error.value.remedy


def test_official_rule_wants_a_volume():
    with pytest.raises(KitError, match="slices"):
        evaluate_case(np.zeros((8, 8), int), np.zeros((8, 8), int), (1, 1), TABLE, "official")


def rows(case, **scores):
    return pd.DataFrame([{"case": case, "organ": o, "DSC": d, "NSD": d / 2} for o, d in scores.items()])


def test_organ_table_leaves_absent_organs_out():
    table = organ_table(pd.concat([rows("a", liver=0.8, aorta=np.nan, spleen=np.nan), rows("b", liver=0.6, aorta=0.5)]))
    assert list(table.index) == ["liver", "aorta", "mean"]
    assert table.loc["liver", "DSC"] == pytest.approx(0.7) and table.loc["liver", "cases"] == 2
    assert table.loc["aorta", "DSC"] == 0.5 and table.loc["aorta", "cases"] == 1
    assert table.loc["mean", "DSC"] == pytest.approx(0.6) and table.loc["mean", "NSD"] == pytest.approx(0.3)


def test_compare_takes_the_mean_over_common_organs():
    both = compare({"with": rows("a", liver=0.8, aorta=0.2), "without": rows("a", liver=0.6, aorta=np.nan)})
    assert both.loc["mean", ("DSC", "with")] == 0.8 and both.loc["mean", ("DSC", "without")] == 0.6
    assert both.loc["aorta", ("DSC", "with")] == 0.2


def test_the_worst_case_is_the_first_whatever_the_metric():
    rows = pd.DataFrame({"case": list("abc"), "organ": "liver", "HD95": [3.0, 20.0, 7.0]})
    assert case_table(rows).index.tolist() == ["b", "c", "a"]
    assert case_table(rows.rename(columns={"HD95": "DSC"})).index.tolist() == ["a", "c", "b"]


def test_compare_refuses_different_cases():
    with pytest.raises(KitError, match="other cases"):
        compare({"with": rows("a", liver=0.8), "without": rows("b", liver=0.6)})
