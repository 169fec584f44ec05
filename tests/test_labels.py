"""Label tables: the published numberings, translation by organ name, and every value that does not belong."""

import json

import numpy as np
import pytest

from lkm_kit.data import ORGANS, Label, LabelTable, organ, organs_present
from lkm_kit.data.organs import TOTAL_IDS, look_up, to_kit_ids
from lkm_kit.errors import KitError
from lkm_kit.profiles import ALL_ORGANS, LARGE_ORGANS


def test_ids_and_tolerances_of_the_official_scripts():
    assert [each.label for each in ORGANS] == list(range(1, 14))
    assert tuple(each.name for each in ORGANS) == ALL_ORGANS
    assert [each.tolerance_mm for each in ORGANS] == [5, 3, 3, 5, 2, 2, 2, 2, 2, 3, 5, 7, 3]
    assert sorted(each.amos for each in ORGANS) == list(range(1, 14)), "every AMOS organ once"


@pytest.mark.parametrize(
    ("name", "ct", "mr"),
    [("aorta", 52, 23), ("inferior vena cava", 63, 24), ("duodenum", 19, 14), ("left kidney", 3, 3), ("liver", 5, 5)],
)
def test_ct_and_mr_models_number_organs_differently(name, ct, mr):
    label = organ(name).label
    assert look_up("total")[ct] == label and look_up("total_mr")[mr] == label
    for source, ids in TOTAL_IDS.items():
        assert set(ids) == {each.total for each in ORGANS}
        assert np.count_nonzero(look_up(source)) == len(ORGANS), "no other structure became an organ"


def test_reading_an_mr_label_with_the_ct_numbering_would_lose_organs():
    """Why the remapping goes by name: the MR model's aorta is a cyst in the CT model's map."""
    assert to_kit_ids(np.array([23]), "total_mr") == 5
    assert to_kit_ids(np.array([23]), "total") == 0


@pytest.mark.parametrize("names", [LARGE_ORGANS, ALL_ORGANS, ("left kidney", "liver")])
def test_table_round_trips(names):
    table = LabelTable(names)
    classes = np.arange(table.num_classes)
    np.testing.assert_array_equal(table.to_classes(table.to_kit(classes)), classes)
    assert LabelTable.from_json(table.to_json()) == table
    assert [label.tolerance_mm for label in table] == [organ(name).tolerance_mm for name in names]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([0, 14]), "14"),
        (np.array([-1, 0]), "-1"),
        (np.array([0.0, 2.5]), "not a whole number"),
        (np.array([0.0, 1e20], np.float32), r"holds 1e\+20"),
        (np.array([0.0, np.nan]), "not a whole number"),
        (np.array([1j]), "complex"),
    ],
)
def test_values_outside_the_table(value, message):
    with pytest.raises(KitError, match=message) as caught:
        to_kit_ids(value, where="seg.nii.gz")
    assert "seg.nii.gz" in str(caught.value) and caught.value.remedy


def test_tables_that_make_no_sense():
    for names, message in (((), "at least one"), (("liver", "liver"), "twice"), (("livr",), "did you mean 'liver'")):
        with pytest.raises(KitError, match=message):
            LabelTable(names)
    with pytest.raises(KitError, match="class 2"):
        LabelTable(("liver",)).to_kit(np.array([0, 2]))
    with pytest.raises(KitError, match="no label numbering"):
        look_up("brats")


def test_an_edited_table_file_is_noticed():
    old = {"organs": [{"class": 1, "name": "liver", "label": 1}, {"class": 2, "name": "spleen", "label": 3}]}
    assert LabelTable.from_json(old) == LabelTable(("liver", "spleen")), "as version 1.0 wrote it"
    old["organs"][1]["label"] = 4
    with pytest.raises(KitError, match="disagree"):
        LabelTable.from_json(old)
    content = json.loads(LabelTable(("liver", "spleen")).to_json())
    content["labels"][1]["class"] = 3
    with pytest.raises(KitError, match="not 1, 2, 3"):
        LabelTable.from_json(content)
    with pytest.raises(KitError, match="not a label table"):
        LabelTable.from_json("{}")


PELVIS = LabelTable(
    (
        Label("Prostate", 1, 2.0),
        Label("femur_L", 300, partner="femur_R"),
        Label("femur_R", 7, partner="femur_L"),
        Label("läsion 2", 4),
    )
)


def test_labels_of_any_name_and_id():
    classes = np.arange(5)
    ids = PELVIS.to_kit(classes)
    assert ids.tolist() == [0, 1, 300, 7, 4] and ids.dtype == np.uint16
    np.testing.assert_array_equal(PELVIS.to_classes(ids), classes)
    assert LabelTable.from_json(PELVIS.to_json()) == PELVIS
    assert organs_present(ids, PELVIS) == dict.fromkeys(PELVIS.names, 1)
    with pytest.raises(KitError, match="seg holds the value 5, which the label table does not name"):
        PELVIS.check(np.array([0, 5]), where="seg")


def test_a_label_without_tolerance_is_scored_with_the_voxels_diagonal():
    assert [label.tolerance((3.0, 4.0, 12.0)) for label in PELVIS] == [2, 13, 13, 13]


def test_a_mirrored_image_shows_the_partner():
    assert PELVIS.mirrored_classes().tolist() == [0, 1, 3, 2, 4]
    assert PELVIS.subset(["femur_L"]).mirrored_classes() is None, "its partner is not learnt: mirroring would lie"
    assert LabelTable(("right kidney", "left kidney", "aorta")).mirrored_classes().tolist() == [0, 2, 1, 3]


def test_some_of_the_labels():
    some = PELVIS.subset(["läsion 2", "Prostate"])
    assert some.to_classes(np.array([4, 1, 7, 300, 0])).tolist() == [1, 2, 0, 0, 0]
    with pytest.raises(KitError, match="did you mean 'Prostate'"):
        PELVIS.subset(["prostate"])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ((Label("a", 1), Label("b", 1)), "id 1 twice"),
        ((Label("a", 0),), "no label"),
        ((Label("a", 1, -2.0),), "no label"),
        ((Label("background", 1),), "no label"),
        ((Label("a", 1, partner="b"), Label("b", 2)), "partner"),
        ((3,), "no label"),
        ((Label("a", 2.7),), "2.7 is no label's id"),
        ((Label("a", "3"),), "'3' is no label's id"),
        ((Label("a", 1, float("inf")),), "no label"),
        ((Label("a\ud800", 1),), "no label"),
    ],
)
def test_labels_that_make_no_sense(entries, message):
    with pytest.raises(KitError, match=message):
        LabelTable(entries)
