"""What a study will cost and show: hours from operations, shared networks, and the power that a formula promises."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from lkm_kit.errors import KitError
from lkm_kit.studies import study
from lkm_kit.studies.costs import cost
from lkm_kit.studies.design import Device, detectable, distinct_networks, extrapolate, training_hours


def test_hours_by_hand():
    # 3 x 10 GFLOPs x 12 images x 1000 steps at 1 TFLOPS: 360 s
    assert training_hours(10, 12, 1000, tflops=1) == pytest.approx(0.1)
    assert training_hours(10, 12, 1000, tflops=1, share=0.5) == pytest.approx(0.2)


def test_a_row_an_arm():
    arms = [study("table3", "smoke").arm(name) for name in ("pim", "residual-unet")]
    table = extrapolate(arms, (96, 96), 7, 8, 400, Device("toy", 1.0, (0.25, 0.5)))
    assert (table["hours_high"] / table["hours_low"]).tolist() == pytest.approx([2, 2])
    about = cost(arms[0], (96, 96), 7)
    assert table.loc["pim", "hours_high"] == pytest.approx(training_hours(about["gflops"], 8, 400, 1.0, 0.25))
    # weights and momentum in float32, in two files
    assert table.loc["pim", "checkpoints_gb"] == pytest.approx(16 * about["parameters"] / 1e9)


@pytest.mark.parametrize(("tflops", "share"), [(0, (0.1, 0.2)), (1, (0.3, 0.2)), (1, (0, 0.2)), (1, (0.5, 1.5))])
def test_a_device_that_cannot_be(tflops, share):
    with pytest.raises(KitError, match="shares"):
        Device("toy", tflops, share)


def test_networks_that_studies_share():
    arms = [arm for name in ("table1", "table2", "table3") for arm in study(name, "paper").arms]
    groups = distinct_networks(arms)
    assert sum(map(len, groups.values())) == len(arms)
    assert groups["residual-unet"] == ["residual-unet"] * 3
    assert groups["lkm-unet"] == ["lkm-unet", "contiguous-large", "pim-pam-bim"]


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_the_formula_keeps_its_promise(seeds):
    """Draw many studies whose true difference is the one promised: four in five must show it, and no more."""
    random = np.random.default_rng(seeds)
    a, b = random.normal(size=(2, 4000, seeds))
    found = np.mean(ttest_ind(a + detectable(1.0, seeds), b, axis=1).pvalue < 0.05)
    assert 0.75 < found < 0.85


def test_one_seed_shows_nothing():
    with pytest.raises(KitError, match="no spread"):
        detectable(0.5, 1)
