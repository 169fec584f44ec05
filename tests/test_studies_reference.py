"""The committed reference results are whole, and follow from their rows."""

import numpy as np
import pytest

from lkm_kit.errors import KitError
from lkm_kit.evaluation.metrics import about
from lkm_kit.studies.reference import FOLDER, reference_results

COMMITTED = sorted(path.name for path in FOLDER.glob("table*-*"))


def test_every_table_has_reference_results():
    assert {f"table{n}-laptop" for n in (1, 2, 3)} <= set(COMMITTED)


@pytest.mark.parametrize("name", COMMITTED)
def test_reference_results_are_whole_and_follow_from_their_rows(name):
    from lkm_kit.studies.statistics import compare_arms

    study, profile, *data = name.split("-")
    found = reference_results(study, profile, data=data[0] if data else None)
    assert found.seeds and found.picture.is_file() and "Hardware:" in found.text
    assert set(found.table.index) == set(found.per_case["arm"])
    pairs = list(dict.fromkeys(zip(found.comparisons["arm"], found.comparisons["versus"])))
    for score, committed in found.comparisons.groupby("score"):
        again = compare_arms(found.per_case, pairs, score)
        ours = about(score).scale * again.set_index(["arm", "versus"])[["difference", "low", "high"]]
        theirs = committed.set_index(["arm", "versus"])[["difference", "low", "high"]]
        np.testing.assert_allclose(ours.loc[theirs.index], theirs, rtol=1e-3, atol=2e-3)


def test_missing_reference_results_say_how_to_make_them(tmp_path):
    with pytest.raises(KitError, match="no reference results of table2 at profile 'gpu'") as error:
        reference_results("table2", "gpu", tmp_path)
    assert "lkm study table2 --profile gpu" in error.value.remedy
