"""The checks of chapters 09 and 10: the solution passes; nothing, and a typical mistake, fail with the right words."""

import numpy as np
import pytest

from lkm_kit.course import check_holm, check_interval, check_paired, check_tokens
from lkm_kit.errors import KitError
from lkm_kit.studies.reference import reference_results
from lkm_kit.studies.statistics import holm


def paired(a, b):
    both = ~(np.isnan(a) | np.isnan(b))
    return (a[both] - b[both]).sum() / both.sum()


def interval(differences, draws):
    means = sorted(sum(differences[i] for i in row) / len(row) for row in draws)
    return np.quantile(means, 0.025), np.quantile(means, 0.975)


def tokens(side, k, partition):
    per_axis = k if partition == "contiguous" else side // k
    return per_axis * per_axis


CASES = [
    (check_paired, paired, lambda a, b: np.nanmean(a) - np.nanmean(b), "a gap out of"),
    (check_paired, paired, lambda a, b: paired(b, a), "arm minus control"),
    (check_holm, holm, lambda p: [min(1, x * len(p)) for x in p], "Bonferroni"),
    (check_holm, holm, lambda p: sorted(holm(p)), "in the order"),
    (check_interval, interval, lambda d, i: tuple(np.quantile(d, [0.025, 0.975])), "of the cases"),
    (check_interval, interval, lambda d, i: tuple(np.quantile(d[i].mean(1), [0.05, 0.95])), "on *each* side"),
    (check_tokens, tokens, lambda s, k, p: k * k, "windows only"),
    (check_tokens, tokens, lambda s, k, p: tokens(s, k, "dilated" if p == "contiguous" else "contiguous"), "exchanged"),
]


@pytest.mark.parametrize(("check", "solution", "mistake", "words"), CASES)
def test_solution_passes_and_mistake_is_named(check, solution, mistake, words):
    assert check(solution), check(solution).message
    assert not check(lambda *arguments: None)
    result = check(mistake)
    assert not result and words in result.message, result.message


@pytest.mark.parametrize("name", ["table1", "table2", "table3"])
def test_reference_results_are_whole_and_follow_from_their_rows(name):
    from lkm_kit.studies.statistics import compare_arms

    found = reference_results(name)
    assert found.seeds and found.picture.is_file() and "Hardware:" in found.text
    assert set(found.table.index) == set(found.per_case["arm"])
    pairs = list(dict.fromkeys(zip(found.comparisons["arm"], found.comparisons["versus"])))
    for score, committed in found.comparisons.groupby("score"):
        again = compare_arms(found.per_case, pairs, score)
        ours = 100 * again.set_index(["arm", "versus"])[["difference", "low", "high"]]
        theirs = committed.set_index(["arm", "versus"])[["difference", "low", "high"]]
        np.testing.assert_allclose(ours.loc[theirs.index], theirs, rtol=1e-3, atol=2e-3)


def test_missing_reference_results_say_how_to_make_them(tmp_path):
    with pytest.raises(KitError, match="no reference results of table2 at profile 'gpu'") as error:
        reference_results("table2", "gpu", tmp_path)
    assert "lkm study table2 --profile gpu" in error.value.remedy
