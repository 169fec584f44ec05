"""Published numbers and the arms of the studies: what they must be, arm by arm."""

import functools
import importlib.util
import json

import pytest
import torch
from combinations import first

from lkm_kit.blocks import BiM
from lkm_kit.errors import KitError
from lkm_kit.networks import build_network, describe, network_names
from lkm_kit.profiles import profile
from lkm_kit.studies import Arm, Study, published, study, study_names
from lkm_kit.studies.arms import CONTROL, KERNEL_SIZES, STEP_SHARE
from lkm_kit.studies.costs import parameter_matched_features
from lkm_kit.studies.job import make_job

HAS_EINOPS = importlib.util.find_spec("einops") is not None
SIZES = ["laptop", "paper"]


def meta(arm):
    return _meta(arm.network, json.dumps(arm.overrides))


@functools.cache  # most tests ask for the same arms, and none changes a network
def _meta(network, overrides):
    with torch.device("meta"):
        return build_network(network, input_channels=1, num_classes=14, **json.loads(overrides))


def tokens(arm, size, column="tokens"):
    return describe(meta(arm), profile(size).image_size)[column].tolist()


def test_published_tables_agree_with_each_other():
    t1, t2, t3 = published.table1, published.table2, published.table3
    assert t1.shape == (7, 4)
    assert t2.shape == (3, 2)
    assert t3.shape == (7, 2)
    mr = t1["MR"]
    assert mr.loc["LKM-UNet"].tolist() == t2.iloc[-1].tolist() == t3.loc["PiM+PaM+BiM"].tolist()
    assert mr.loc["nnU-Net"].tolist() == t3.loc["Baseline"].tolist()
    assert t1["CT"].loc["U-Mamba"].tolist() == [86.38, 89.80]
    assert t3.loc["PaM"].tolist() == [76.22, 82.59]
    # NSD is above DSC in every published cell, and the full network leads every table
    assert (mr["NSD"] > mr["DSC"]).all()
    assert all((table.max() == table.loc[best]).all() for table, best in [(mr, "LKM-UNet"), (t3, "PiM+PaM+BiM")])


def test_the_mr_baselines_stand_in_an_older_table():
    same = published.same_as_swin_umamba()
    assert same.shape == (6, 2) and same.all(axis=None)
    older, table = published.swin_umamba, published.table3["DSC"]
    assert set(older.index) - set(same.index) == {"U-Mamba_Bot", "Swin-UMamba, ImageNet"}
    assert older.loc["U-Mamba_Bot", "DSC"] - table["Baseline"] == pytest.approx(1.38)
    assert older.loc["Swin-UMamba, ImageNet", "DSC"] > table["PiM+PaM+BiM"]


def test_umambas_scores_stand_in_its_own_paper():
    own = published.umamba
    ours = published.table1.xs("DSC", axis=1, level=1)
    assert own.loc["U-Mamba_Enc"].tolist() == ours.loc["U-Mamba", ["CT", "MR"]].tolist()
    assert own.loc["nnU-Net", "CT"] == ours.loc["nnU-Net", "CT"]
    assert own.loc["U-Mamba_Bot", "CT"] > ours.loc["LKM-UNet", "CT"]


@pytest.mark.parametrize("size", first(SIZES))
@pytest.mark.parametrize("name", ["table1", "table2", "table3"])
def test_every_arm_builds_at_every_size_and_knows_its_published_row(name, size):
    plan = study(name, size)
    rows = getattr(published, plan.published).index
    assert {arm.published for arm in plan.arms if arm.published} == set(rows)
    table, row = plan.published_control
    assert row in getattr(published, table).index
    for arm in plan.arms:
        assert arm.network in network_names()
        if HAS_EINOPS or "unetr" not in arm.name:
            meta(arm)
    assert plan.pairs()[: len(plan.arms) - 1] == [(a.name, CONTROL) for a in plan.arms if a.name != CONTROL]


@pytest.mark.parametrize("size", first(SIZES))
def test_table_3_switches_one_part_after_the_other(size):
    plan = study("table3", size)
    count = {arm.name: sum(p.numel() for p in meta(arm).parameters()) for arm in plan.arms}
    has = {}
    for arm in plan.arms:
        mixer = meta(arm).encoder.mixers[0]
        part = [getattr(mixer, name, None) for name in ("pim", "pam")]
        of_bim = [isinstance(p and p.bim, BiM) for p in part]
        has[arm.name] = [(2 if p.bim.bidirectional else 1) if is_bim else bool(p) for p, is_bim in zip(part, of_bim)]
    mixed = {name: [True, True] for name in ("pim-pam-depthwise", "pim-pam-mean", "pim-pam-attention")}
    assert has == mixed | {
        "plain-unet": [False, False], "residual-unet": [False, False], "wide-residual-unet": [False, False],
        "pim": [1, False], "pam": [False, 1], "pim-bim": [2, False], "pam-bim": [False, 2],
        "pim-pam": [1, 1], "pim-pam-bim": [2, 2], "pim-bim-shuffled": [2, False],
    } | ({"pim-pam-bim-equal-time": [2, 2]} if size == "laptop" else {})  # fmt: skip
    assert count["plain-unet"] < count["residual-unet"] < count["pim"] < count["pim-bim"] < count["pim-pam-bim"]
    assert count["pim-bim-shuffled"] == count["pim-bim"]
    assert count["wide-residual-unet"] == pytest.approx(count["pim-pam-bim"], rel=0.01)
    for name in mixed:  # the mixers' own share is a third of the network's; theirs is within a third of BiM's
        assert count[name] - count[CONTROL] == pytest.approx(count["pim-pam-bim"] - count[CONTROL], rel=0.35)


def test_equal_time_is_a_share_of_whatever_steps_there_are_and_of_the_same_batches():
    plan, size = study("table3", "laptop"), profile("laptop")
    whole, short = plan.arm("pim-pam-bim"), plan.arm("pim-pam-bim-equal-time")
    assert (whole.network, whole.overrides) == (short.network, short.overrides)
    for changes, steps in (({}, 400), ({"iterations": 600}, 600)):
        long, brief = (make_job(plan, arm, size, 0, changes).config for arm in (whole, short))
        assert (long.iterations, brief.iterations) == (steps, round(STEP_SHARE["tiny-2d"] * steps))
        assert {**long.to_dict(), "iterations": brief.iterations} == brief.to_dict()
    with pytest.raises(KitError, match="share of 0 of the steps"):
        Arm("a", "A", "plain-unet/tiny-2d", share=0)


def test_control_is_the_full_network_without_its_lm_blocks():
    plan = study("table3", "laptop")
    full, control = meta(plan.arm("pim-pam-bim")).state_dict(), meta(plan.arm(CONTROL)).state_dict()
    assert {k: v.shape for k, v in full.items() if "mixers" not in k} == {k: v.shape for k, v in control.items()}


@pytest.mark.thorough  # in small: the test of the laptop's kernel sizes
def test_table_2_settings_mean_three_things():
    plan = study("table2", "paper")
    settings = ("small", "medium", "large")
    first = {reading: [tokens(plan.arm(f"{reading}-{s}"), "paper")[0] for s in settings]
             for reading in ("contiguous", "dilated", "count")}  # fmt: skip
    assert first == {"contiguous": [100, 400, 1600], "dilated": [1024, 256, 64], "count": [1024, 256, 64]}


def test_the_largest_grid_with_its_small_pools_is_the_released_network():
    plan = study("table2", "paper")
    with torch.device("meta"):
        released = describe(build_network("lkm-unet/released-2d", input_channels=1, num_classes=14), (320, 320))
    own = describe(meta(plan.arm("dilated-large")), (320, 320))
    assert own.equals(released)
    assert [KERNEL_SIZES["paper-2d"][s] for s in ("small", "medium", "large")] == [
        [int(k) for k in row.strip("[]").split(",")] for row in published.table2.index
    ]


def test_tiny_kernel_sizes_fit_the_laptop_image_under_every_reading():
    plan = study("table2", "laptop")
    for reading in ("contiguous", "dilated", "count"):
        first = [tokens(plan.arm(f"{reading}-{s}"), "laptop")[0] for s in ("small", "medium", "large")]
        assert first == ([36, 144, 576] if reading == "contiguous" else [256, 64, 16])


def test_full_network_of_all_three_tables_is_the_same_one():
    wanted = study("table1", "laptop").arm("lkm-unet")
    others = [study("table2", "laptop").arm("contiguous-large"), study("table3", "laptop").arm("pim-pam-bim")]
    with torch.device("meta"):
        preset = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=14)
    digests = {make_job(study(name, "laptop"), arm, profile("laptop"), 0).config.digest() for name, arm in
               zip(study_names(), (wanted, *others))}  # fmt: skip
    assert len(digests) == 1  # so that one training serves all three
    for arm in (wanted, *others):
        assert describe(meta(arm), 96).equals(describe(preset, 96))


def test_widened_features_keep_their_proportions():
    features = parameter_matched_features("tiny-2d")
    assert [round(f / features[0]) for f in features] == [1, 2, 4, 8]


def test_orders_of_one_mixer_have_equal_parameters():
    plan = study("scans", "laptop")
    found = {arm.name: sum(p.numel() for p in meta(arm).parameters()) for arm in plan.arms}
    same = {found[name] for name in ("rows", "snake", "diagonal", "hilbert", "shuffled", "dilated", "local")}
    assert len(same) == 1
    assert found["cross-scan"] == pytest.approx(found["rows"], rel=0.03)
    assert all(found[name] == pytest.approx(found["rows"], rel=0.1) for name in ("mamba2", "s4d", "mingru"))
    assert found["residual-unet"] < found["one-way"] < found["rows"]


def test_unknown_names_offer_the_closest():
    assert study_names() == ["table1", "table2", "table3", "scans"]
    with pytest.raises(KitError, match="no study 'tabel2'") as error:
        study("tabel2", "smoke")
    assert "did you mean 'table2'" in error.value.remedy
    with pytest.raises(KitError, match="no arm of table3 'pimbim'") as error:
        study("table3", "smoke").arm("pimbim")
    assert "pim-bim" in error.value.remedy
    arm = Arm("a", "A", "plain-unet/tiny-2d")
    with pytest.raises(KitError, match="two arms of one name"):
        Study("s", "?", (arm, arm), control="a")
    with pytest.raises(KitError, match="no arm of s 'b'"):
        Study("s", "?", (arm,), control="b")
