"""The checks of chapter 09: the solution passes; nothing, and a typical mistake, fail with the right words."""

import pytest
from scipy.stats import kendalltau

from lkm_kit.course import check_order_agreement, check_same_length


def tau(ours, theirs):
    return kendalltau(ours, theirs).statistic


CASES = [
    (check_same_length, lambda side, k: side / k, lambda side, k: k, "the same number means another length"),
    (check_same_length, lambda side, k: side // k, lambda side, k: (side // k) ** 2, "how many windows there are"),
    (check_order_agreement, tau, lambda a, b: (tau(a, b) + 1) / 2, "take off the share"),
    (check_order_agreement, tau, lambda a, b: -tau(a, b), "turned round"),
]


@pytest.mark.parametrize(("check", "solution", "mistake", "words"), CASES)
def test_solution_passes_and_mistake_is_named(check, solution, mistake, words):
    assert check(solution), check(solution).message
    assert not check(lambda *arguments: None)
    result = check(mistake)
    assert not result and words in result.message, result.message
