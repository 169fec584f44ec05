"""The cohort: reproducible item by item, disjoint splits, image and label together, names kept by mirroring."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lkm_kit.data import CohortPatches, CohortSlices, CohortVolumes, LabelTable, make_phantom, normalize
from lkm_kit.data.case import Case
from lkm_kit.errors import KitError
from lkm_kit.training import TrainConfig
from lkm_kit.training.batches import make_datasets

TABLE = LabelTable(("liver", "right kidney", "spleen", "aorta", "stomach", "left kidney"))


@pytest.fixture(scope="module")
def source():
    return make_phantom()


def cohort(source, split="train", **options):
    settings = {"size": (64, 64), "spacing_mm": 4.5, "table": TABLE, "length": 24, "seed": 0, "case": source}
    return CohortSlices(split, **{**settings, **options})


def test_items_are_a_function_of_seed_split_and_index(source):
    a, b = cohort(source), cohort(source)
    for i in (0, 5):
        assert torch.equal(a[i]["image"], b[i]["image"]) and torch.equal(a[i]["label"], b[i]["label"])
    others = [cohort(source, "validation")[0], cohort(source, "test")[0], cohort(source, seed=1)[0], a[1]]
    assert all(not torch.equal(a[0]["image"], o["image"]) for o in others)


def test_volumes_are_whole_and_lie_still(source):
    """All slices that the others are drawn from, in one deformation; nothing of the order of slices is drawn."""
    settings = {"size": (64, 48), "spacing_mm": 4.5, "table": TABLE, "length": 2, "seed": 0, "case": source}
    volumes, again = CohortVolumes("test", **settings), CohortVolumes("test", **settings)
    first, last = volumes.heights
    classes = TABLE.to_classes(source.label)
    shown = [h for h in range(source.shape[2]) if len(np.unique(classes[:, :, h])) >= 4]  # three organs and air
    assert (first, last) == (shown[0], shown[-1] + 1)
    assert volumes[1]["label"].shape == (last - first, 64, 48) == volumes.size
    assert volumes.spacing == (source.spacing[2], 4.5, 4.5) and volumes.digest == again.digest
    assert torch.equal(volumes[1]["image"], again[1]["image"]) and not torch.equal(
        volumes[0]["image"], again[1]["image"]
    )
    patches = CohortPatches("test", **{**settings, "size": (last - first, 64, 48)})
    assert patches.digest != volumes.digest
    for index in range(
        2
    ):  # slice by slice the organs of the case's own slice, which lie still in the deepest direction
        found = {k: (volumes[index]["label"] == k).flatten(1).any(1).nonzero().flatten() for k in range(1, 7)}
        for k, slices in found.items():
            own = np.flatnonzero((classes[:, :, first:last] == k).any((0, 1)))
            assert abs(slices.float().mean().item() - own.mean()) < 3, k


def test_items_can_be_given_to_other_processes(source):
    """As in training with several processes, which are spawned."""
    for kind, size in ((CohortSlices, (64, 64)), (CohortPatches, (8, 32, 32))):
        data = kind("train", size=size, spacing_mm=4.5, table=TABLE, length=2, case=source)
        there = pickle.loads(pickle.dumps(data))
        assert torch.equal(there[1]["image"], data[1]["image"]) and there.digest == data.digest


def test_workers_change_nothing(source):
    data = cohort(source, length=4)
    plain = torch.cat([b["image"] for b in DataLoader(data, batch_size=2)])
    workers = torch.cat([b["image"] for b in DataLoader(data, batch_size=2, num_workers=2)])
    assert torch.equal(plain, workers)


def test_shapes_types_and_classes(source):
    item = cohort(source)[0]
    assert item["image"].shape == (1, 64, 64) and item["image"].dtype == torch.float32
    assert item["label"].shape == (64, 64) and item["label"].dtype == torch.int64
    assert item["label"].max() <= 6
    volume = CohortPatches("train", size=(8, 32, 32), spacing_mm=9, table=TABLE, length=2, case=source)[1]
    assert volume["image"].shape == (1, 8, 32, 32) and volume["label"].shape == (8, 32, 32)


def test_image_and_label_are_warped_together():
    """A source whose intensities are its labels: after any warp, class and intensity must agree inside the organs."""
    phantom = make_phantom()
    values = np.where(phantom.label == 1, 200.0, -150.0).astype(np.float32)
    coded = Case(values, phantom.label, phantom.spacing, phantom.affine, "coded", "CT")
    for item in (cohort(coded, spacing_mm=3.0)[i] for i in range(6)):
        liver = item["label"] == 1
        if liver.sum() > 50:
            inside = item["image"][0][liver].mean() - item["image"][0][item["label"] == 0].mean()
            assert inside > 2.0


def test_mirroring_keeps_the_names_and_happens(source):
    """The right kidney stays on the liver's side; in about half of the items that side is the image's other half."""
    liver_on_high_x, kidneys = [], 0
    data = cohort(source, size=(112, 96), spacing_mm=3.0, length=40)
    for i in range(40):
        label = data[i]["label"].numpy()
        where = {k: np.argwhere(label == k)[:, 0].mean() for k in (1, 2, 3, 6) if (label == k).sum() > 8}
        if 1 not in where or 3 not in where:
            continue
        liver_on_high_x.append(where[1] > where[3])
        for kidney, side, other in ((2, 1, 3), (6, 3, 1)):
            if kidney in where:
                kidneys += 1
                assert abs(where[kidney] - where[side]) < abs(where[kidney] - where[other]), "kidneys were exchanged"
    assert len(liver_on_high_x) >= 10 and kidneys >= 6
    assert 0.15 < np.mean(liver_on_high_x) < 0.85


def test_slabs_keep_their_distance(source):
    train, held_out = cohort(source, slab="train"), cohort(source, slab="held-out")
    apart = np.abs(train._heights[:, None] - held_out._heights[None]).min() * source.spacing[2]
    assert apart >= 9.0


@pytest.mark.parametrize(("kind", "size"), [(CohortSlices, (48, 48)), (CohortPatches, (16, 32, 32))])
def test_warped_items_read_nothing_beyond_their_slab(kind, size):
    """Deformation and thickness move points along the body: count the planes that are read, not the nominal heights."""
    phantom = make_phantom(shape=(48, 40, 60), spacing=(6.0, 6.0, 3.0))
    depth = None if kind is CohortSlices else (np.arange(size[0]) - (size[0] - 1) / 2) * phantom.spacing[2]
    read = {}
    for slab in ("train", "held-out"):
        table = LabelTable(("aorta",))
        data = kind("train", size=size, spacing_mm=4.5, table=table, length=30, case=phantom, slab=slab)
        heights = np.concatenate([data._warp(data._rng(i), depth)[2].ravel() for i in range(30)])
        read[slab] = np.unique(np.concatenate([np.floor(heights), np.ceil(heights)]))  # linear interpolation reads both
    assert np.abs(read["train"][:, None] - read["held-out"][None]).min() * phantom.spacing[2] >= 9.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "no split 'dev'"),
        ({"size": (64, 64, 8)}, "size"),
        ({"spacing_mm": 0}, "spacing_mm"),
        ({"spacing_mm": float("nan")}, "spacing_mm"),
        ({"slab": "upper"}, "no slab"),
        ({"table": LabelTable(("esophagus",))}, "holds none of esophagus"),
    ],
)
def test_bad_input(source, options, message):
    with pytest.raises(KitError, match=message):
        cohort(source, **options)


def test_a_case_without_labels(source):
    bare = Case(source.image, None, source.spacing, source.affine, "bare", "CT")
    with pytest.raises(KitError, match="bare has no labels"):
        cohort(bare)


def test_a_dataset_says_whose_it_is_and_what_decides_its_items(source):
    """Two data sets with one digest have the same items; whatever changes an item changes the digest."""
    data = cohort(source)
    assert data.source == source.source and data.source.is_phantom
    assert data.digest == cohort(make_phantom("another name")).digest
    volumes = CohortPatches("train", size=(8, 64, 64), spacing_mm=4.5, table=TABLE, length=24, case=source)
    others = [
        cohort(source, "validation"),
        cohort(source, seed=1),
        cohort(source, size=(64, 32)),
        cohort(source, spacing_mm=3.0),
        cohort(source, length=23),
        cohort(source, slab="train"),
        cohort(source, table=LabelTable(TABLE.names[::-1])),
        cohort(make_phantom(seed=1)),
        cohort(dataclasses.replace(source, modality="MR")),
        cohort(dataclasses.replace(source, spacing=(3.0, 3.0, 6.0))),
        volumes,
    ]
    assert len({data.digest, *(other.digest for other in others)}) == len(others) + 1
    assert data.spacing == (4.5, 4.5) and volumes.spacing == (5.0, 4.5, 4.5)


def of_blocks(modality: str, low: float, high: float, side: int) -> CohortSlices:
    """Warps of two plateaus, the liver on one: what is no plateau in an item was added to it."""
    image = np.full((64, 64, 24), low, np.float32)
    image[16:48] = high
    label = np.zeros(image.shape, np.uint8)
    label[16:48, :, 10:14] = 1
    case = Case(image, label, (4.0, 4.0, 5.0), np.diag([4.0, 4.0, 5.0, 1.0]), "blocks", modality)
    return CohortSlices("train", size=(side, side), spacing_mm=4.0, table=LabelTable(("liver",)), length=16, case=case)


@pytest.mark.parametrize(("modality", "low", "high"), [("CT", 40.0, 60.0), ("MR", 100.0, 300.0)])
def test_beyond_the_scan_there_is_air(modality, low, high):
    """CT: -1000 HU, clipped to the window's lower end; MR: the scan's darkest value, not -1000."""
    data = of_blocks(modality, low, high, 160)
    air = normalize(np.float32([-1000]), "CT")[0] if modality == "CT" else data._normalize(np.float32([low]))[0]
    for item in (data[i] for i in range(8)):
        corner = item["image"][0, :16, :16]
        assert corner.mean() == pytest.approx(air, abs=0.25 if modality == "MR" else 1e-6)  # MR: bias field and noise
        assert not item["label"][:16, :16].any()


@pytest.mark.parametrize(("modality", "low", "high"), [("CT", 40.0, 60.0), ("MR", 100.0, 300.0)])
def test_items_have_the_stated_noise(modality, low, high):
    """5 to 25 HU in CT, a tenth of the scan's spread in MR: measured by neighbouring pixels, robust to edges."""
    data = of_blocks(modality, low, high, 32)
    steps = [torch.diff(data[i]["image"][0], dim=0).abs().median() for i in range(16)]
    spread = np.array(steps) / 0.6745 / np.sqrt(2)
    if modality == "CT":
        assert spread.min() > 4 / 90 and spread.max() < 27 / 90 and spread.max() > 1.5 * spread.min()
    else:
        assert spread == pytest.approx(0.1, abs=0.02)


def test_mr_is_another_training_than_ct():
    ct, mr = (make_datasets(TrainConfig(modality=modality, image_size=(64, 64)))["train"] for modality in ("CT", "MR"))
    assert (ct.case.modality, mr.case.modality) == ("CT", "MR") and ct.digest != mr.digest
    assert not torch.equal(ct[0]["image"], mr[0]["image"])
    body = mr[0]["image"][0][mr[0]["label"] > 0]
    assert abs(float(body.mean())) < 3, "an MR is normalised by itself, not by a CT's window"
