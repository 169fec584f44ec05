"""Checkpoints that explain themselves: by name, whole, of one format, never a pickle."""

import json
import shlex
import shutil

import pytest
import torch
from own_data import make_data

from lkm_kit import cli
from lkm_kit.data import DataSet
from lkm_kit.errors import KitError
from lkm_kit.model_card import CARD, model_card, training_command
from lkm_kit.training import TrainConfig, load_checkpoint, load_result, packaged_checkpoints
from lkm_kit.training.record import PACKAGED


@pytest.mark.parametrize("name", packaged_checkpoints())
def test_packaged_networks_load_and_segment(name):
    network, record = load_checkpoint(name)
    with torch.no_grad():
        logits = network(torch.zeros(1, 1, *record["preprocessing"]["image_size"]))
    assert logits.shape[:2] == (1, record["network"]["num_classes"]) and torch.isfinite(logits).all()
    result = load_result(name)
    assert result.config.seed == 0 and len(result.history) >= 3
    assert result.history["DSC liver"].iloc[-1] > 0.7  # an untrained one has about 0.03


def test_the_package_holds_each_partition_and_a_control_in_5_mb():
    records = [json.loads((PACKAGED / name / "weights.json").read_text()) for name in packaged_checkpoints()]
    overrides = [record["network"]["overrides"] for record in records]
    assert {"dilated", "count"} <= {o.get("partition") for o in overrides} and {"pim": False, "pam": False} in overrides
    assert sum(path.stat().st_size for path in PACKAGED.rglob("*") if path.is_file()) < 5e6
    assert not [path for path in PACKAGED.rglob("*") if path.suffix in (".pt", ".pth", ".pkl", ".ckpt")]


def test_a_data_set_in_the_place_of_a_run_is_told_where_it_belongs(tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(KitError, match="lkm evaluate --data"):
        load_checkpoint(tmp_path)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(PACKAGED / "tiny-2d-control", tmp_path / "copy")


def change(folder, edit):
    record = json.loads((folder / "weights.json").read_text())
    edit(record)
    (folder / "weights.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda r: r.update(format=0), "format 0"),
        (lambda r: r.pop("format"), "format None"),
        (lambda r: r.pop("preprocessing"), "incomplete"),
        (lambda r: r["label_table"]["labels"].pop(), "label table of 6"),
        (lambda r: r["label_table"]["labels"][0].update({"class": 9}), "label table"),
        (lambda r: r["preprocessing"].update(modality="PET"), "PET"),
        (lambda r: r["preprocessing"].update(normalization="z-score"), "z-score"),
        (lambda r: r["preprocessing"].update(spacing_mm=0), "spacing of 0"),
        (lambda r: r["preprocessing"].update(spacing_mm=[3.0]), "spacing"),
        (lambda r: r["training"]["config"].update(seed=1), "digest"),
        (lambda r: r["network"]["overrides"].update(features_per_stage=[8, 16, 32, 32]), "do not fit"),
        (lambda r: r.update(sha256="0" * 64), "sha256"),
    ],
)
def test_a_record_that_is_wrong_is_refused(copy, edit, words):
    load_checkpoint(copy)
    change(copy, edit)
    with pytest.raises(KitError, match=words) as error:
        load_checkpoint(copy)
    assert error.value.remedy


@pytest.mark.parametrize("name", packaged_checkpoints())
def test_a_packaged_network_has_its_card_beside_it(name):
    card = PACKAGED / name / CARD
    assert card.read_text(encoding="utf-8") == model_card(name), f"run: lkm card {name} --write"


class Asked(Exception):
    """The training that a command would begin."""


def asked_for(words, monkeypatch):
    """The config that ``lkm train`` makes of a command line."""

    def instead(config, *_, **__):
        raise Asked(config)

    monkeypatch.setattr("lkm_kit.training.train", instead)
    with pytest.raises(Asked) as asked:
        cli.app(words, standalone_mode=False)
    return asked.value.args[0]


@pytest.mark.parametrize("name", packaged_checkpoints())
def test_the_command_on_a_card_asks_for_that_training(name, monkeypatch, tmp_path):
    monkeypatch.setenv("LKM_RUNS", str(tmp_path))
    (line,) = (line for line in model_card(name).splitlines() if line.startswith("    lkm train "))
    assert asked_for(shlex.split(line)[1:], monkeypatch) == load_result(name).config


def test_so_does_that_of_a_network_for_other_data(monkeypatch, tmp_path):
    data = DataSet(make_data(tmp_path / "Dataset007_Mine", cases=5, test=1))
    config = TrainConfig.for_data(data, "smoke", fold=1, learning_rate=0.02, organs=data.table.names[:1], axis=1)
    monkeypatch.setenv("LKM_RUNS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert asked_for(shlex.split(training_command(config))[1:], monkeypatch) == config


def test_a_card_names_data_licence_and_limits(copy):
    card = model_card(copy)
    said = ("Licence of the data: Apache-2.0", "| liver | 0.", "No medical device", "It knows one patient")
    assert all(part in card for part in said)
    assert "Not learnt" not in card and "whatever the one who trained it says" in card
    change(copy, lambda record: record["training"]["last"].update({"DSC aorta": 0.02}))
    assert "Not learnt: aorta." in model_card(copy)


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(b"\x80\x04 whatever")
    with pytest.raises(KitError, match="pickle"):
        load_checkpoint(path)


def test_an_unknown_name_offers_the_known_ones():
    with pytest.raises(KitError) as error:
        load_checkpoint("tiny-4d")
    assert "tiny-2d" in error.value.remedy
