"""The made-up data set: persons are told apart, what is written can be read back, and a program can learn it."""

import numpy as np

from lkm_kit.data import check_dataset
from lkm_kit.data.lobes import LABELS, lobes_case, write_lobes


def test_two_visits_are_more_alike_than_two_persons():
    first = {(p, v): lobes_case(p, v)[0][0].ravel() for p in range(6) for v in range(2)}
    alike = {(a, b): np.corrcoef(first[a], first[b])[0, 1] for a in first for b in first if a < b}
    same = [r for (a, b), r in alike.items() if a[0] == b[0]]
    other = [r for (a, b), r in alike.items() if a[0] != b[0]]
    assert min(same) > np.mean(other) and np.mean(same) - np.mean(other) > 3 * np.std(same)
    assert all(not np.array_equal(lobes_case(p, 0)[1], lobes_case(p, 1)[1]) for p in range(6))


def test_the_folder_is_right_and_says_that_it_is_made_up(tmp_path):
    data = write_lobes(tmp_path / "Dataset005_Lobes", persons=3, test_persons=1)
    assert check_dataset(data.folder).ok
    assert data.table.names == tuple(LABELS) and data.channels == ("T1", "T2") and "phantom" in data.source.text
    case = data.read(data.cases["p01_1"])
    channels, label = lobes_case(1, 1)
    np.testing.assert_array_equal(case.label, label)
    np.testing.assert_array_equal(case.image, np.stack(channels))
    assert case.spacing == (1.0, 1.5, 2.5)
    again = write_lobes(tmp_path / "again", persons=3, test_persons=1)
    assert again.digest == data.digest


def test_left_is_left():
    for person in range(8):
        label = lobes_case(person)[1]
        left, right = (np.argwhere(label == LABELS[f"{side} lobe"])[:, 0].mean() for side in ("left", "right"))
        assert left < right
        assert set(np.unique(label)) == {0, *LABELS.values()}
