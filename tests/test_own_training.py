"""Own data through the same doors as the cohort: train, resume, evaluate by case; the record says what was used."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from own_data import LABELS, make_case, make_data, write

from lkm_kit.data import DataSet, LabelTable, find_dataset
from lkm_kit.data.prepared import Recipe
from lkm_kit.errors import KitError
from lkm_kit.networks import build_network
from lkm_kit.networks.fitting import fit_overrides, fit_size
from lkm_kit.training import TrainConfig, load_checkpoint, make_datasets, run_folder, train


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("made") / "Dataset009 Läppchen", cases=4, test=2)


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    for name in ("LKM_DATA", "LKM_RUNS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("LKM_PROFILE", "smoke")
    monkeypatch.delenv("nnUNet_raw", raising=False)
    return Path(shutil.copytree(made, tmp_path / made.name))


FAST = {"iterations": 2, "batch_size": 2, "network_overrides": {"pim": False, "pam": False}, "validation_slices": 2}


def test_the_config_takes_from_the_data_what_they_decide(folder):
    config = TrainConfig.for_data(DataSet(folder), "smoke", fold=1)
    assert config.table == DataSet(folder).table and config.input_channels == 2
    assert config.image_size == (32, 32) and config.spacing_mm == (1.0, 1.5) and config.axis == 2
    assert config.network_overrides["windows"][0] == [8, 8], "a quarter of the map, as in the preset"
    assert TrainConfig.from_json(config.to_json()) == config
    some = TrainConfig.for_data(DataSet(folder), "smoke", organs=["lesion"])
    assert some.table.names == ("lesion",) and some.table.labels == (7,)
    with pytest.raises(KitError, match="did you mean 'lesion'"):
        TrainConfig.for_data(DataSet(folder), "smoke", organs=["lesions"])
    volume = TrainConfig.for_data(DataSet(folder), "smoke", network="lkm-unet/tiny-3d")
    assert volume.image_size == (16, 32, 32) and volume.spacing_mm == (2.5, 1.0, 1.5)


@pytest.mark.parametrize(
    ("name", "size"),
    [("lkm-unet/tiny-2d", (40, 56)), ("lkm-unet/tiny-3d", (16, 24, 40)), ("unetr/tiny-2d", (64, 96)),
     ("residual-unet/tiny-2d", (24, 40)), ("umamba-bot/tiny-3d", (8, 16, 24))],
)  # fmt: skip
def test_networks_are_fitted_to_small_images(name, size):
    network = build_network(name, input_channels=2, num_classes=3, **fit_overrides(name, size))
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 2, *size)).shape == (1, 3, *size)
    assert fit_size(name, size) == size or name.startswith("unetr")


def test_train_and_the_record(folder):
    config = TrainConfig.for_data(DataSet(folder), "smoke", **FAST)
    result = train(config, progress=False)
    record = result.record
    assert record["network"]["input_channels"] == 2
    assert LabelTable.from_json(record["label_table"]) == DataSet(folder).table
    about = record["training"]["data"]
    split = DataSet(folder).split()
    assert about["digest"] == DataSet(folder).digest and about["split"]["validation"] == list(split.validation)
    assert record["training"]["source"]["licence"] == "made up"
    recipe = Recipe.from_json(record["preprocessing"]["recipe"])
    assert [channel.name for channel in recipe.channels] == ["T1", "T2"] and recipe.spacing_mm == (1.0, 1.5)
    columns = {column for column in result.history if column.startswith("DSC ")}
    assert columns == {f"DSC {name}" for name in LABELS if name != "background"}
    network, _ = load_checkpoint(result.run_dir)
    assert network(torch.zeros(1, 2, 32, 32)).shape == (1, 6, 32, 32)


def test_other_data_never_return_an_old_run(folder):
    config = TrainConfig.for_data(DataSet(folder), "smoke", **FAST)
    first = run_folder(config)
    assert run_folder(config) == first
    write(DataSet(folder).training[0].label, make_case(50)[1])
    assert run_folder(config) != first, "a label was corrected"
    assert run_folder(TrainConfig.for_data(DataSet(folder), "smoke", fold=1, **FAST)) != first
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**about, "labels": {**LABELS, "new": 9}}))
    with pytest.raises(KitError, match="are not those of this config"):
        make_datasets(config)


def test_a_data_set_by_its_name(folder, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(folder.parent))
    folder.rename(folder.with_name("Dataset009_Lobes"))
    assert find_dataset("lobes").name == find_dataset("Dataset009_Lobes").name == "Dataset009_Lobes"
    with pytest.raises(KitError, match="no data set lungs") as caught:
        find_dataset("lungs")
    assert "Dataset009_Lobes" in caught.value.remedy
