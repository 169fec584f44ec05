"""A user's own labelled scans: what is listed, split, prepared and drawn, and every way in which a folder is wrong."""

import gzip
import json
import os
import pickle
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from own_data import LABELS, make_case, make_data, write

from lkm_kit.data import ORGANS, DataSet, Label, LabelTable, check_dataset
from lkm_kit.data.dataset_items import DataSetItems
from lkm_kit.data.persons import persons_by_name, split_cases
from lkm_kit.data.prepared import Channel, Prepared, Recipe, make_recipe
from lkm_kit.errors import KitError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("made") / "Dataset009 Läppchen")


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    monkeypatch.setenv("LKM_DATA", str(tmp_path / "cache"))
    return Path(shutil.copytree(made, tmp_path / made.name))


def items(folder, side="train", dims=2, size=(32, 32), names=None, **how):
    data = DataSet(folder)
    split = data.split(fold=0)
    recipe = make_recipe(data, split.train, dims=dims)
    table = data.table.subset(names) if names else data.table
    return DataSetItems(data, side, split, recipe, table, size, 20, **how)


def test_the_folder_describes_itself(folder):
    data = DataSet(folder)
    data.require()
    assert data.channels == ("T1", "T2") and len(data.training) == 5 and len(data.test) == 1
    assert data.table.by_id == {number: name for name, number in LABELS.items() if number}
    assert data.table.entries[0] == Label("body", 1, 2.0)
    assert data.table.mirrored_classes().tolist() == [0, 1, 3, 2, 4, 5], "the lobes are partners by their names"
    assert data.median == ((30, 26, 14), (1.0, 1.5, 2.5))
    assert data.source.labels == "phantom" and data.source.licence == "made up"
    case = data.read(data.training[0])
    assert case.image.shape == (2, 30, 26, 14) and case.label.shape == (30, 26, 14) and case.source == data.source


def test_axes_are_turned_to_ras_before_anything_is_said(folder):
    for path in folder.glob("*Tr/Fall 0*"):
        image = nibabel.load(path)
        turned = image.as_reoriented(np.array([[1, 1], [2, -1], [0, 1]]))
        nibabel.save(nibabel.Nifti1Image(np.asarray(turned.dataobj), turned.affine), path)
    data = DataSet(folder)
    assert data.geometry(data.training[0]) == ((30, 26, 14), (1.0, 1.5, 2.5))
    _, label = make_case(0)
    np.testing.assert_array_equal(data.read(data.training[0]).label, label)


def test_the_digest_names_every_file_label_and_person(folder):
    digests = {DataSet(folder).digest}
    (folder / "persons.csv").write_text("case,person\n" + "".join(f"Fall {i}é,p{i // 2}\n" for i in range(6)))
    digests.add(DataSet(folder).digest)
    write(next(folder.glob("labelsTr/*")), make_case(77)[1])
    digests.add(DataSet(folder).digest)
    assert len(digests) == 3
    moved = folder.rename(folder.with_name("elsewhere"))
    assert DataSet(moved).digest in digests


def test_persons_stay_together(folder):
    (folder / "persons.csv").write_text("case,person\n" + "".join(f"Fall {i}é,p{i // 2}\n" for i in range(6)))
    data = DataSet(folder)
    held = [data.split(fold=k).validation for k in range(3)]
    assert sorted(map(len, held)) == [1, 2, 2] and len({name for names in held for name in names}) == 5
    split = data.split(holdout=0.3)
    people = [{data.persons[name] for name in side} for side in (split.train, split.validation)]
    assert not people[0] & people[1] and "1 of 3 persons" in split.how
    assert data.split(holdout=0.3, seed=0) == split
    texts = [f.text for f in check_dataset(folder).findings if f.kind == "leakage"]
    assert texts == ["p2 is in imagesTr (Fall 4é) and in imagesTs (Fall 5é): tested on whom was trained on"]
    (folder / "persons.csv").write_text("case,person\nFall 0é,p1\n")
    with pytest.raises(KitError, match=r"persons\.csv does not say whom Fall 1é"):
        DataSet(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"case,person\nFall 0\xc3\xa9\n", "line 2: a case or a person is missing"),
        (b"case,person\nFall 0,a\nFall 0,b\n", "line 3: Fall 0 is a and b"),
        (b"case,person\nFall 0\xe9,a\n", "cannot be read"),
        (b"name,who\na,b\n", "has the columns name, who"),
    ],
)
def test_a_list_of_persons_that_cannot_be_used(folder, content, message):
    (folder / "persons.csv").write_bytes(content)
    with pytest.raises(KitError, match=message) as caught:
        DataSet(folder)
    assert "persons.csv" in str(caught.value) and "case,person" in caught.value.remedy


def test_a_person_in_two_splits_by_the_names_is_warned_of():
    names = ["p1_left", "p1_right", "p2_1", "p2_2", "p3_1", "p4", "p5", "p6"]
    assert set(persons_by_name(names).values()) == {"p1", "p2", "p3", "p4", "p5", "p6"}


def test_splits_final_json_is_followed(folder):
    names = [case.name for case in DataSet(folder).training]
    path = folder / "splits_final.json"
    path.write_text(json.dumps([{"train": names[:3], "val": names[3:]}]))
    split = DataSet(folder).split(fold=0)
    assert split.train == tuple(names[:3]) and split.validation == tuple(names[3:]) and len(split.test) == 1
    for content, message in (
        ([{"train": names[:3], "val": ["nobody"]}], "nobody is no training case"),
        ([{"train": names[:3], "val": names[:1]}], "Fall 0é is on both sides"),
        ([{"train": names}], "no lists train and val"),
        ([{"train": [*names[:3], names[0]], "val": names[3:]}], "Fall 0é is twice in train"),
        ([{"train": names[:3], "val": names[3:] * 2}], "Fall 3é is twice in val"),
        ({"train": names}, "cannot be read"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(KitError, match=message):
            DataSet(folder).split(fold=0)
    path.write_text(json.dumps([{"train": names[:3], "val": names[3:]}]))
    with pytest.raises(KitError, match="there is no fold 1"):
        DataSet(folder).split(fold=1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_as_windows_editors_save_it(folder, encoding):
    before = DataSet(folder)
    names = [case.name for case in before.training]
    for name, content in (("dataset", before.about), ("splits_final", [{"train": names[:3], "val": names[3:]}])):
        (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    after = DataSet(folder)
    assert after.digest == before.digest and after.split().train == tuple(names[:3])


def test_what_operating_systems_leave_in_a_folder_is_no_fault(folder):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._Fall 0é_0000.nii.gz"):
        (folder / "imagesTr" / name).write_bytes(b"\0\5\x16\7")
    assert not DataSet(folder).problems and len(DataSet(folder).training) == 5


def test_a_label_may_be_called_as_a_column_is(folder):
    about = json.loads((folder / "dataset.json").read_text())
    labels = {"case" if name == "body" else "split" if name == "lesion" else name: i for name, i in LABELS.items()}
    (folder / "dataset.json").write_text(json.dumps({**about, "labels": labels, "tolerances_mm": {}}))
    volumes = check_dataset(folder).volumes
    assert set(volumes) == set(labels) - {"background"} and len(volumes) == 6
    assert (volumes > 0).all(axis=None)


def test_folds_and_shares_that_make_no_sense():
    persons = {name: name for name in "abc"}
    for how, message in (
        ({"fold": 0, "holdout": 0.2}, "together"),
        ({"fold": 3}, "there is no fold 3"),
        ({"holdout": 1.5}, "holdout is 1.5"),
    ):
        with pytest.raises(KitError, match=message):
            split_cases(list("abc"), [], persons, **how)
    with pytest.raises(KitError, match="show 1 person:"):
        split_cases(["a"], [], persons)


@pytest.mark.parametrize(("dims", "size"), [(2, (32, 24)), (3, (8, 32, 24))])
def test_items_depend_on_seed_and_index_alone(folder, dims, size):
    one, again, other = (items(folder, dims=dims, size=size, seed=seed) for seed in (0, 0, 1))
    first = one[7]
    assert first["image"].shape == (2, *size) and first["image"].dtype == torch.float32
    assert first["label"].shape == size and first["label"].dtype == torch.int64
    [again[i] for i in (3, 1)]
    for key, value in again[7].items():
        torch.testing.assert_close(value, first[key], rtol=0, atol=0)
    assert type(first["image"]) is torch.Tensor
    assert torch.equal(pickle.loads(pickle.dumps(one))[7]["image"], first["image"]), "another process draws the same"
    assert not torch.equal(other[7]["image"], first["image"])
    assert one.digest == again.digest != other.digest and one.source.labels == "phantom"
    assert {int(c) for i in range(20) for c in one[i]["label"].unique()} == {0, 1, 2, 3, 4, 5}


def test_a_mirrored_item_names_the_other_side(folder):
    """The left lobe is brighter: if mirrored labels kept their names, items would disagree which one is."""
    train = items(folder, size=(48, 40))
    brighter = []
    for i in range(20):
        image, label = train[i]["image"][0], train[i]["label"]
        left, right = (image[label == k] for k in (2, 3))
        if len(left) > 5 and len(right) > 5:
            side = np.sign(
                float((label == 2).nonzero()[:, 0].float().mean() - (label == 3).nonzero()[:, 0].float().mean())
            )
            brighter.append((bool(left.mean() > right.mean()), side))
    assert {which for which, _ in brighter} == {True, False}, "mirrored and not"
    assert all((side < 0) for _, side in brighter), "left is at small x, always"


def test_some_labels_only(folder):
    one = items(folder, names=["lesion"])
    assert {int(c) for i in range(20) for c in one[i]["label"].unique()} == {0, 1}
    lobe = items(folder, names=["left lobe"], seed=3)
    assert lobe.table.mirrored_classes() is None
    for i in range(20):
        label = lobe[i]["label"]
        body = lobe[i]["image"][0] > 0
        if (label == 1).sum() > 20:
            assert (label == 1).nonzero()[:, 0].float().mean() < body.nonzero()[:, 0].float().mean()


@pytest.mark.parametrize(
    ("shape", "spacing", "slices", "patches"),
    [
        ((35, 50, 35), (1.0, 1.0, 1.0), 0, 2),
        ((50, 35, 36), (1.0, 1.0, 1.0), 1, 2),
        ((40, 50, 40), (1.0, 1.0, 1.2), 2, 2),
        ((40, 50, 10), (2.0, 1.0, 1.0), 0, 0),
    ],
)
def test_slices_are_as_thick_and_then_as_large_as_can_be(folder, monkeypatch, shape, spacing, slices, patches):
    monkeypatch.setattr(DataSet, "median", (shape, spacing))
    assert [make_recipe(DataSet(folder), [], dims=dims).axis for dims in (2, 3)] == [slices, patches]


def test_slices_along_another_axis_and_another_spacing(folder):
    data = DataSet(folder)
    case = data.read(data.training[0])
    assert make_recipe(data, [], dims=2).order == (2, 0, 1), "the thickest axis"
    recipe = make_recipe(data, [], dims=2, axis=0, spacing_mm=(3.0, 2.5))
    image, label = recipe.apply(case)
    x, y, z = np.ptp(np.argwhere(case.label > 0), axis=0) + 1
    assert image.shape == (2, x, round(y / 2), z) and label.shape == image.shape[1:], "cropped to the ball, y halved"
    assert abs(float(image.mean())) < 1.5 and set(np.unique(label)) <= set(np.unique(case.label))
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    for wrong in ({"axis": 3}, {"spacing_mm": (1.0, 2.0, 3.0)}, {"spacing_mm": -1.0}):
        with pytest.raises(KitError):
            make_recipe(data, [], dims=2, **wrong)


def test_ct_is_normalised_by_the_labelled_voxels_of_the_training_cases(folder):
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**about, "channel_names": {"0": "CT", "1": "noNorm"}}))
    data = DataSet(folder)
    train = [case.name for case in data.training[:2]]
    inside = np.concatenate([(c := data.read(data.cases[name])).image[0][c.label > 0] for name in train])
    low, high, mean, sd = make_recipe(data, train, dims=2).channels[0].statistics
    np.testing.assert_allclose([low, high], np.percentile(inside, (0.5, 99.5)), rtol=0.02)
    np.testing.assert_allclose([mean, sd], [inside.mean(), inside.std()], rtol=0.02)
    assert Channel("noNorm").normalizer(np.array([0.0]))(np.array([5.0]))[0] == 5


def test_prepared_cases_are_kept_mapped_and_noticed_when_they_change(folder, capsys):
    data = DataSet(folder)
    recipe = make_recipe(data, [], dims=2)
    names = [case.name for case in data.training]
    prepared = Prepared(data, recipe, names)
    assert isinstance(prepared.image(names[0]), np.memmap)
    before = {path: path.stat().st_mtime_ns for path in prepared.folder.glob("*.npy")}
    Prepared(data, recipe, names)
    assert {path: path.stat().st_mtime_ns for path in prepared.folder.glob("*.npy")} == before
    _, label = make_case(99)
    write(data.training[1].label, label)
    again = Prepared(DataSet(folder), recipe, names)
    assert f"changed since they were prepared, prepared anew: {names[1]}" in capsys.readouterr().out
    touched = {p.name for p, t in before.items() if p.stat().st_mtime_ns != t}
    assert touched == {f"{names[1]}.{kind}.npy" for kind in ("image", "label", "places")}
    assert again.about[names[1]]["voxels"]["7"] == int((label == 7).sum())


def test_damaged_prepared_files_are_made_anew(folder, capsys):
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**about, "channel_names": {"0": "CT", "1": "T2"}}))
    data = DataSet(folder)
    name = data.training[0].name
    recipe = make_recipe(data, [name], dims=2)
    whole = Prepared(data, recipe, [name])
    image, kept = np.array(whole.image(name)), Path(os.environ["LKM_DATA"]) / "prepared"
    spoilt = [
        *((f"{name}.{kind}.npy", content) for kind in ("image", "label", "places") for content in (b"", b"\x93NUMPY")),
        *((f"{name}.json", content) for content in (b"", b"{", b"[]", b"{}", b'{"checksum": 3}')),
    ]
    for file, content in spoilt:
        (whole.folder / file).write_bytes(content)
        again = Prepared(DataSet(folder), recipe, [name])
        assert f"damaged, prepared anew: {name}" in capsys.readouterr().out, (file, content)
        assert np.array_equal(again.image(name), image) and again.about == whole.about and len(again.places(name)) == 5
    damage = {"fingerprints": (b"{", b"{}", b'{"channels": [[1]]}'), "checksums": (b"[", b'{"a": 3}')}
    for kind, contents in damage.items():
        (path,) = (kept / kind).iterdir()
        for content in (*contents, json.dumps(dict.fromkeys(json.loads(path.read_text()), 3)).encode()):
            path.write_bytes(content)
            assert make_recipe(DataSet(folder), [name], dims=2) == recipe


def test_a_cache_that_cannot_be_written(folder, monkeypatch):
    data = DataSet(folder)

    def refuse(*_args, **_how):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("lkm_kit.data.prepared.locked", refuse)
    with pytest.raises(KitError, match="cannot be kept") as caught:
        Prepared(data, make_recipe(data, [], dims=2), [])
    assert "LKM_DATA" in caught.value.remedy
    monkeypatch.setattr("lkm_kit.data.prepared.write_json", refuse)
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**about, "channel_names": {"0": "CT", "1": "T2"}}))
    data = DataSet(folder)
    with pytest.raises(KitError, match="cannot be kept"):  # the intensities that a CT's normalisation needs
        make_recipe(data, [data.training[0].name], dims=2)


def change(path, how):
    image = nibabel.load(path)
    array, affine = how(np.asarray(image.dataobj), image.affine.copy())
    write(path, array, affine=affine)


def rgb(array, affine):
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    return np.zeros(array.shape, kind), affine


BAD = {
    "label outside": ("labelsTr", lambda a, m: (np.where(a == 4, 9, a).astype(np.uint8), m), "holds the value 9"),
    "float label": ("labelsTr", lambda a, m: (a + np.float32(0.5), m), "not a whole number"),
    "4D": ("imagesTr", lambda a, m: (np.stack([a, a], -1), m), "has 4 axes"),
    "RGB": ("imagesTr", rgb, "save it with one number per voxel"),
    "label elsewhere": ("labelsTr", lambda a, m: (a, m + 3 * np.outer([1, 0, 0, 0], [0, 0, 0, 1])), "mm apart"),
    "label of another shape": ("labelsTr", lambda a, m: (a[:-1], m), "voxels"),
    "channel of another shape": ("imagesTr", lambda a, m: (a[:, :-2], m), "voxels"),
    "not finite": ("imagesTr", lambda a, m: (np.where(a > 900, np.nan, a), m), "NaN or infinite"),
    "one value": ("imagesTr", lambda a, m: (a * 0, m), "every voxel of channel T1 is 0"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_is_named_in_training_and_in_the_check(folder, fault):
    sub, how, message = BAD[fault]
    change(sorted(folder.glob(f"{sub}/Fall 1*"))[0], how)
    data = DataSet(folder)
    with pytest.raises(KitError, match="Fall 1é") as caught:
        Prepared(data, make_recipe(data, [], dims=2), [case.name for case in data.training])
    assert message in str(caught.value) and caught.value.remedy
    findings = [f for f in check_dataset(folder).findings if f.level == "error"]
    assert {f.case for f in findings} == {"Fall 1é"}, findings


def test_noise_in_a_header_is_tolerated_and_told(folder):
    def shift(array, affine):
        affine[0, 3] += 0.05
        return array, affine

    change(sorted(folder.glob("labelsTr/Fall 1*"))[0], shift)
    data = DataSet(folder)
    data.read(data.cases["Fall 1é"])
    report = check_dataset(folder)
    assert report.ok and "less than a tenth of a voxel" in str(report)


def test_headers_that_are_odd_or_spoilt_are_told_by_case(folder):
    """A scale factor's rounding is a warning, a type that does not exist an error; each names its case."""
    change(sorted(folder.glob("labelsTr/Fall 1*"))[0], lambda a, m: (a.astype(np.float32) * np.float32(0.99997), m))
    path = sorted(folder.glob("imagesTr/Fall 2*"))[0]
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[70:72] = (77).to_bytes(2, "little")
    path.write_bytes(gzip.compress(bytes(content)))
    found = {(f.level, f.case, f.kind) for f in check_dataset(folder).findings if f.case and f.kind != "duplicate"}
    assert found == {("warning", "Fall 1é", "headers"), ("error", "Fall 2é", "files")}


def test_spacings_that_differ_by_ten(folder):
    for path in folder.glob("*Tr/Fall 2*"):
        change(path, lambda a, m: (a, m @ np.diag([20, 20, 20, 1])))
    data = DataSet(folder)
    with pytest.raises(KitError, match=r"Fall 2é_0000\.nii\.gz has voxels of 20 x 30 x 50 mm"):
        make_recipe(data, [], dims=2)
    assert make_recipe(data, [], dims=2, spacing_mm=2.0).spacing_mm == (2.0, 2.0), "said explicitly, it is taken"
    assert ("Fall 2é", "spacing", "error") in {(f.case, f.kind, f.level) for f in check_dataset(folder).findings}


def test_files_without_a_partner(folder):
    first = DataSet(folder).training[0]
    first.images[1].unlink()
    DataSet(folder).training[1].label.unlink()
    (folder / "imagesTr" / "notes.txt").write_text("x")
    with pytest.raises(KitError, match=r"_0001\.nii\.gz is missing \(T2\)") as caught:
        DataSet(folder).require()
    assert "lkm data check" in caught.value.remedy
    texts = [f.text for f in check_dataset(folder).findings]
    assert any("notes.txt" in text for text in texts) and any("no label in labelsTr" in text for text in texts)


def test_one_case_only(tmp_path):
    folder = make_data(tmp_path / "one", cases=1, test=0)
    with pytest.raises(KitError, match="show 1 person") as caught:
        DataSet(folder).split(fold=0)
    assert "persons.csv" in caught.value.remedy
    assert any("nobody is left to validate on" in f.text for f in check_dataset(folder).findings)


def test_a_fold_without_some_label(folder, capsys):
    data = DataSet(folder)
    split = data.split(fold=0)
    for name in split.train:
        change(data.cases[name].label, lambda a, m: (np.where(a == 7, 0, a).astype(np.uint8), m))
    with pytest.raises(KitError, match="none of the 4 training cases of this split has a voxel of lesion"):
        items(folder)
    items(folder, names=["body"])
    for name in split.validation:
        change(data.cases[name].label, lambda a, m: (np.where(a == 1, 0, a).astype(np.uint8), m))
    items(folder, side="validation")
    assert "no validation case of this split shows body" in capsys.readouterr().out


def test_an_empty_label_is_an_error_of_the_check_and_no_crash(folder):
    change(sorted(folder.glob("labelsTr/Fall 1*"))[0], lambda a, m: (a * 0, m))
    assert any(f.text == "the label is empty" for f in check_dataset(folder).findings)
    train = items(folder)
    assert len([train[i] for i in range(20)]) == 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_names": None, "modality": {"0": "MRI"}}, "Decathlon's form"),
        ({"tolerances_mm": {"liver": 1}}, "tolerances_mm names 'liver', which is no label"),
        ({"labels": {**LABELS, "whole": [1, 2]}}, "no regions"),
        ({"labels": {**LABELS, "twin": 2}}, "id 2 twice"),
        ({"label_source": "robot"}, "robot"),
        ({"tolerances_mm": ["body"]}, "tolerances_mm is no table"),
        ({"persons": ["a"]}, "persons is no table"),
        ({"channel_names": {"0": "T1", "1": None}}, "channels are numbered"),
        ({"labels": {**LABELS, "some": True}}, "True is no label's id"),
        ({"labels": {"0": "background", "1": "body", "2": "left lobe"}}, r'turn them round: {"background": 0, "body"'),
        ({"labels": {**LABELS, "lesion": "7"}}, "'7' is no whole number(.|\n)*without quotation marks"),
        ({"labels": {**LABELS, "ignore": 8}}, "8 is the ignore label"),
        ({"file_ending": None}, 'has no file_ending(.|\n)*add "file_ending": ".nii.gz"'),
    ],
)
def test_descriptions_that_cannot_be_used(folder, changes, message):
    about = {**json.loads((folder / "dataset.json").read_text()), **changes}
    (folder / "dataset.json").write_text(json.dumps({k: v for k, v in about.items() if v is not None}))
    with pytest.raises(KitError, match=message):
        DataSet(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_only_be_read(folder):
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o555)
    try:
        assert items(folder)[0]["image"].shape == (2, 32, 32)
    finally:
        for path in [folder, *folder.iterdir()]:
            path.chmod(0o755)


def test_the_kit_s_organs_keep_their_tolerances(folder):
    organs = {"background": 0, **{organ.name.replace(" ", "_").title(): organ.label for organ in ORGANS}}
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**about, "labels": organs, "tolerances_mm": {}}))
    assert DataSet(folder).table == LabelTable(), "as the paper's folders are scored"


def test_files_are_read_once_for_their_checksums(folder, monkeypatch):
    before = DataSet(folder).digest
    read = []
    monkeypatch.setattr("lkm_kit.data.checksums.sha256", lambda path: read.append(path) or "0" * 64)
    assert DataSet(folder).digest == before and not read
    label = DataSet(folder).training[0].label
    label.write_bytes(label.read_bytes() + b"\0")
    assert DataSet(folder).digest != before and read == [label]


def test_many_cases_do_not_hold_their_files_open(folder):
    from lkm_kit.data.dataset_items import DataSetItems

    assert DataSetItems._arrays.cache_parameters()["maxsize"] * 2 < 1024, "the usual limit of open files"
