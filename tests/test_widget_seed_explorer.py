"""Studies drawn of a known truth: intervals are the library's, errors are as rare as they promise, controls redraw."""

import dataclasses

import numpy as np
import pytest

from lkm_kit.studies.intervals import bootstrap_interval, simulated_differences, student_interval, student_p
from lkm_kit.studies.reference import reference_results
from lkm_kit.studies.statistics import paired_differences
from lkm_kit.widgets.seed_explorer import RESAMPLES, SHOWN, SIMULATED, SeedExplorer

OF_STUDIES = ["difference", "low", "high", "low bootstrap", "high bootstrap"]


@pytest.fixture(scope="module")
def reference():
    """A committed study, without the arms that no test looks at."""
    found = reference_results("table3", data="hippocampus")
    arms = ["wide-residual-unet", "pim-pam-bim", "residual-unet"]
    few = {name: getattr(found, name) for name in ("per_case", "comparisons")}
    return dataclasses.replace(found, **{name: table[table["arm"].isin(arms)] for name, table in few.items()})


def shown(explorer):
    return [t.get_text() for t in explorer.figure.axes[0].get_yticklabels()]


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_without_a_difference_one_interval_in_twenty_leaves_out_zero(seeds):
    rng = np.random.default_rng(0)
    drawn = [simulated_differences(rng, seeds, 20, seed_sd=2.0, case_sd=1.0) for _ in range(400)]
    wrong = [low > 0 or high < 0 for low, high in map(student_interval, drawn)]
    assert 0.01 < np.mean(wrong) < 0.075
    assert wrong == [student_p(table) < 0.05 for table in drawn]  # the verdict is the interval's


def test_a_study_of_the_explorer_is_that_of_the_library():
    explorer = SeedExplorer(seed=7)
    explorer.difference.value, explorer.cases.value = 1.5, 30
    explorer.draw(2)
    scatter = {"seed_sd": explorer.seed_sd.value, "case_sd": explorer.case_sd.value, "difference": 1.5}
    table = simulated_differences(np.random.default_rng([7, 3]), 3, 30, **scatter)
    wanted = [table.mean(), *student_interval(table), *bootstrap_interval(table, resamples=RESAMPLES)]
    assert explorer.found.loc[3, OF_STUDIES].tolist() == pytest.approx(wanted)
    assert explorer.found["seeds"].tolist() == [3, 3, 3] and explorer.counts["studies"] == 3
    again = SeedExplorer(seed=7)
    again.difference.value, again.cases.value = 1.5, 30
    again.draw(2)
    assert again.found.equals(explorer.found)


def test_counts_are_those_of_the_drawn_studies():
    explorer = SeedExplorer()
    explorer.seeds.value, explorer.difference.value = 5, -1.0
    explorer.many.click()
    explorer.one.click()
    found, counts = explorer.found, explorer.counts
    assert counts["studies"] == len(found) == SHOWN + 2
    assert shown(explorer) == [str(number) for number in range(3, SHOWN + 3)]
    assert counts["Student covers"] == sum(r["low"] <= -1 <= r["high"] for _, r in found.iterrows())
    assert counts["worse"] == sum(found["high"] < 0) == counts["Student excludes 0"] > 0 == counts["better"]
    assert counts["detectable"] == found["detectable"].median()
    assert f"{counts['worse']} worse" in explorer.message.value and "worse than the control" in explorer.message.value


def test_every_control_redraws_and_few_seeds_get_no_verdict():
    explorer = SeedExplorer()
    explorer.draw()
    moves = [("difference", 0.7), ("seed_sd", 1.5), ("case_sd", 3.0), ("seeds", 2), ("cases", 10)]
    for name, value in moves:
        figure, found = explorer.figure, explorer.found
        getattr(explorer, name).value = value
        assert explorer.figure is not figure and not explorer.found.equals(found) and len(explorer.found) == 2, name
    assert explorer.found["p"].isna().all() and explorer.counts["better"] == explorer.counts["worse"] == 0
    assert "no verdict from 2 seeds" in explorer.message.value and "a verdict takes 3 seeds" in explorer.message.value


def test_the_axis_does_not_follow_the_number_of_seeds_and_an_arrow_says_that_an_interval_goes_on():
    explorer = SeedExplorer()
    explorer.seeds.value = 10
    ax = explorer.figure.axes[0]
    assert {line.get_marker() for line in ax.lines}.isdisjoint("<>")
    explorer.seeds.value = 2
    explorer.draw(10)
    assert explorer.figure.axes[0].get_xlim() == ax.get_xlim()
    assert {"<", ">"} <= {line.get_marker() for line in explorer.figure.axes[0].lines}


def test_some_seeds_of_a_committed_study(reference):
    """All of its seeds and cases give its own interval; fewer are rows of its table."""
    explorer = SeedExplorer({"patients": reference})
    assert explorer.pair.layout.display == "none" and explorer.difference.layout.display is None
    explorer.source.value = "patients"
    assert explorer.pair.layout.display is None and explorer.difference.layout.display == "none"
    explorer.pair.value = pair = ("wide-residual-unet", "residual-unet")
    table = 100 * paired_differences(reference.per_case, *pair)
    assert (explorer.seeds.max, explorer.cases.max) == table.shape and explorer.truth == pytest.approx(
        table.mean().mean()
    )
    explorer.seeds.value, explorer.cases.value = table.shape
    committed = reference.comparisons.query("score == 'DSC'").set_index(["arm", "versus"]).loc[pair]
    names = ["difference", "low", "high"]
    assert explorer.found.loc[1, names].tolist() == pytest.approx(committed[names].tolist(), abs=1e-4)
    explorer.seeds.value = 3
    explorer.draw(9)
    assert explorer.found["difference"].nunique() > 3  # other seeds, another study
    means = table.mean(axis=1).to_numpy()
    rings = [line.get_xdata() for line in explorer.figure.axes[0].lines if line.get_marker() == "o"]
    assert all(len(ring) == 3 and np.isin(ring.round(9), means.round(9)).all() for ring in rings if len(ring))
    explorer.source.value = SIMULATED
    assert explorer.seeds.max == 10 and explorer.truth == 0 and "the control" in explorer.message.value


def test_seeds_that_did_not_learn_an_organ_are_named():
    explorer = SeedExplorer({"untuned": reference_results("table3")})
    explorer.source.value = "untuned"
    explorer.pair.value = ("pim-pam-bim", "residual-unet")
    assert "PiM+PaM+BiM: aorta not learnt in 1 of 3 seeds" in explorer.message.value
