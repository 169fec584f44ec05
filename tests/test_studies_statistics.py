"""Known answers: exact permutations on tiny samples, simulated data with a known difference, textbook corrections."""

import itertools

import numpy as np
import pandas as pd
import pytest

from lkm_kit.errors import KitError
from lkm_kit.networks import describe
from lkm_kit.networks.umamba import MambaLayer
from lkm_kit.studies import study
from lkm_kit.studies.costs import cost
from lkm_kit.studies.intervals import bootstrap_interval
from lkm_kit.studies.statistics import (
    compare_arms,
    holm,
    mean_and_spread,
    not_learnt,
    paired_differences,
)


def make_rows(
    effect=0.0, *, seeds=3, cases=12, organs=("liver", "spleen"), noise=0.02, case_sd=0.1, random=0, arms="ab"
):
    """Arm "a" is better than arm "b" by ``effect`` on average; cases differ much, arms little."""
    rng = np.random.default_rng(random)
    case_level = rng.normal(0.7, case_sd, cases)
    rows = []
    for arm, seed, case, organ in itertools.product(arms, range(seeds), range(cases), organs):
        score = case_level[case] + (effect if arm == "a" else 0) + rng.normal(0, noise)
        rows.append((arm, seed, f"case {case}", organ, score, score - 0.1))
    return pd.DataFrame(rows, columns=["arm", "seed", "case", "organ", "DSC", "NSD"])


def test_holm_by_hand():
    # sorted 0.005·4, 0.01·3, 0.03·2, 0.04·1, made monotone
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_keeps_the_family_wise_error():
    rng = np.random.default_rng(0)
    families = rng.uniform(size=(2000, 8))  # eight true null hypotheses each
    wrong = np.mean([min(holm(p)) < 0.05 for p in families])
    assert wrong == pytest.approx(0.05, abs=0.015)
    assert np.mean(families.min(1) < 0.05) > 0.3  # uncorrected, every third family would "find" something


def test_mean_and_spread_by_hand():
    scores = {("x", "liver"): (0.8, 0.9), ("y", "liver"): (0.6, 0.9), ("x", "spleen"): (0.5, 0.7)}
    scores["y", "spleen"] = (np.nan, np.nan)  # in neither truth nor prediction
    rows = [("a", seed, *key, value) for key, values in scores.items() for seed, value in enumerate(values)]
    rows = pd.DataFrame(rows, columns=["arm", "seed", "case", "organ", "DSC"]).assign(NSD=0.5)
    table = mean_and_spread(rows)
    # seed 0: liver 0.7, spleen 0.5 -> 0.6; seed 1: liver 0.9, spleen 0.7 -> 0.8
    assert table.loc["a", ["seeds", "cases", "DSC", "NSD"]].tolist() == pytest.approx([2, 2, 0.7, 0.5])
    assert table.loc["a", "DSC sd"] == pytest.approx(np.std([0.6, 0.8], ddof=1))
    assert np.isnan(mean_and_spread(rows[rows["seed"] == 0]).loc["a", "DSC sd"])


def test_paired_differences_pair_seed_case_and_organ():
    rows = make_rows(0.05, noise=0.0)
    differences = paired_differences(rows, "a", "b")
    assert differences.shape == (3, 12)
    np.testing.assert_allclose(differences, 0.05)
    shuffled = rows.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(paired_differences(shuffled, "a", "b"), differences)
    # an organ without a number for one arm counts for neither
    gap = rows.copy()
    gap.loc[(gap["arm"] == "b") & (gap["organ"] == "spleen") & (gap["case"] == "case 0"), "DSC"] = np.nan
    gap.loc[(gap["arm"] == "a") & (gap["organ"] == "spleen") & (gap["case"] == "case 0"), "DSC"] = 0.0
    np.testing.assert_allclose(paired_differences(gap, "a", "b"), 0.05)


def test_an_invented_organ_counts_only_when_leaving_it_out_has_a_score():
    """Arm "a" invents a spleen (0) that "b" rightly leaves out (no number); in neither there is a gallbladder."""
    score = {"a": {"liver": 0.8, "spleen": 0.0}, "b": {"liver": 0.6, "spleen": np.nan}}
    rows = [(arm, 0, "c", organ, score[arm].get(organ, np.nan)) for arm in "ab" for organ in ("liver", "spleen", "gb")]
    rows = pd.DataFrame(rows, columns=["arm", "seed", "case", "organ", "DSC"])
    for (arm, control), sign in ((("a", "b"), 1), (("b", "a"), -1)):
        without = paired_differences(rows, arm, control).loc[0, "c"]
        counted = paired_differences(rows, arm, control, left_out=1.0).loc[0, "c"]
        assert without == pytest.approx(sign * 0.2)
        assert counted == pytest.approx(sign * (0.2 - 1.0) / 2)
    found = compare_arms(rows, [("a", "b")], left_out=1.0)
    assert found["difference"].item() == pytest.approx(-0.4)


def test_pairing_removes_what_cases_have_in_common():
    rows = make_rows(0.01, case_sd=0.2, noise=0.005, cases=30)
    low, high = bootstrap_interval(paired_differences(rows, "a", "b"))
    assert 0 < low < 0.01 < high < 0.02
    assert rows.groupby("arm")["DSC"].std().min() > 0.1  # unpaired, 0.01 would drown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[~((r["arm"] == "a") & (r["case"] == "case 3"))], "different cases"),
        (lambda r: r.assign(seed=r["seed"] + 10 * (r["arm"] == "a")), "share no seed"),
        (lambda r: pd.concat([r, r]), "two scores"),
    ],
)
def test_what_cannot_be_paired_is_refused(change, message):
    with pytest.raises(KitError, match=message):
        paired_differences(change(make_rows()), "a", "b")


def test_compare_arms_finds_a_real_difference_and_no_other():
    rows = pd.concat([make_rows(0.03, cases=30), make_rows(cases=30, arms="c", random=0, noise=0.01)])
    rows.loc[rows["arm"] == "c", ["DSC", "NSD"]] = (
        rows.loc[rows["arm"] == "b", ["DSC", "NSD"]].to_numpy()
        + np.random.default_rng(5).normal(0, 0.02, (90 * 2, 1))
    )  # fmt: skip
    table = compare_arms(rows, [("a", "b"), ("c", "b"), ("missing", "b")]).set_index("arm")
    assert table.index.tolist() == ["a", "c"]
    assert table.loc["a", "low"] > 0.02 and table.loc["a", "low bootstrap"] > 0.02
    assert table.loc["a", "p_holm"] < 0.05
    assert table.loc["c", "low"] < 0 < table.loc["c", "high"]
    assert table.loc["c", "p_holm"] > 0.05
    assert (table["p_holm"] >= table["p"]).all()
    assert (table["detectable"] > 0).all() and table.loc["a", "detectable"] < table.loc["a", "difference"]
    opposite = compare_arms(rows, [("b", "a")]).iloc[0]
    assert opposite["difference"] == pytest.approx(-table.loc["a", "difference"])
    assert compare_arms(rows, []).empty


def test_two_seeds_are_no_verdict_and_no_test_of_the_family():
    rows = pd.concat([make_rows(0.03, seeds=3), make_rows(seeds=2, arms="c", random=1)])
    table = compare_arms(rows, [("a", "b"), ("c", "b")]).set_index("arm")
    assert table.loc["c", ["p", "p_holm", "detectable"]].isna().all() and np.isfinite(table.loc["c", "low"])
    assert table.loc["a", "p_holm"] == table.loc["a", "p"] < 0.05


def test_what_some_seeds_learnt_and_others_not():
    rows = make_rows(seeds=4)
    lost = (rows["arm"] == "a") & (rows["organ"] == "spleen") & rows["seed"].isin([1, 3])
    rows.loc[lost, "DSC"] = 0.0
    rows.loc[(rows["arm"] == "b") & (rows["organ"] == "liver"), "DSC"] = 0.0  # too hard for all seeds alike
    assert not_learnt(rows).values.tolist() == [["a", "spleen", 2, 4]]


def test_costs_name_the_tokens_of_each_kind_of_layer():
    plan = study("table3", "smoke")
    plain = cost(plan.arm("plain-unet"), (96, 96), 7)
    assert plain["tokens"] == {}
    full = cost(plan.arm("pim-pam-bim"), (96, 96), 7)
    assert full["tokens"] == {"PiM": [576, 576, 144, 144], "PaM": [16, 4, 4, 1]}
    assert full["gflops"] > cost(plan.arm("pim-bim"), (96, 96), 7)["gflops"] > plain["gflops"]


def test_cost_of_umamba_counts_its_scans():
    plan = study("table1", "smoke")
    found = cost(plan.arm("umamba-enc"), (96, 96), 7)
    assert found["tokens"] == {"Mamba": [48 * 48, 12 * 12]}  # every second of four stages, the last one among them
    # by hand: 16 tokens; in_proj 8·32, convolution 16·4, x_proj 16·33, dt_proj 1·16, out_proj 16·8; scan 9·16·16
    counted = describe(MambaLayer(8), (4, 4), input_channels=8)["flops"].sum()
    assert counted == 2 * 16 * (256 + 64 + 528 + 16 + 128) + 16 * 9 * 16 * 16


def test_p_is_corrected_for_all_comparisons_of_the_study():
    random = np.random.default_rng(0)
    index = [(arm, seed, f"case {case}") for arm in "abcd" for seed in range(3) for case in range(6)]
    rows = pd.DataFrame(index, columns=["arm", "seed", "case"]).assign(
        organ="liver", DSC=random.normal(size=len(index))
    )
    table = compare_arms(rows, [(arm, "a") for arm in "bcd"])
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p"])) and (table["p_holm"] > table["p"]).any()
    alone = compare_arms(rows, [("b", "a")])  # who tests once, at a twentieth and not a sixtieth, can show less
    assert alone["detectable"][0] < 0.9 * table["detectable"][0]
