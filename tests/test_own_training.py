"""Own data through the same doors as the cohort: train, resume, evaluate by case; the record says what was used."""

import dataclasses
import json

import archives
import numpy as np
import pandas as pd
import pytest
import torch
from combinations import first
from own_data import LABELS, NAME, at_home, make_case, make_data, write

from lkm_kit.data import DataSet, LabelTable, find_dataset
from lkm_kit.data.prepared import Recipe, make_recipe
from lkm_kit.errors import KitError
from lkm_kit.evaluation import predict_case, score_dataset, settings_of, trained_cases
from lkm_kit.networks import build_network
from lkm_kit.networks.fitting import fit_geometry, fit_overrides, fit_size
from lkm_kit.training import TrainConfig, load_checkpoint, make_datasets, run_folder, train


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("made") / NAME, cases=4, test=2)


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    return at_home(made, tmp_path, monkeypatch)


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
    for wrong in ({"data": "cohort"}, {"input_channels": 1}, {"label_table": {}}, {"training_digest": "0"}):
        with pytest.raises(KitError, match=f"{next(iter(wrong))} is what the files of"):
            TrainConfig.for_data(DataSet(folder), "smoke", **wrong)
    for size in ([8], [0, 8], [8, 8, 8]):
        with pytest.raises(KitError, match=r"image_size is \[.*have 2 axes(.|\n)*give 2 whole numbers"):
            TrainConfig.for_data(DataSet(folder), "smoke", image_size=size)
    volume = TrainConfig.for_data(DataSet(folder), "smoke", network="lkm-unet/tiny-3d")
    assert volume.image_size == (16, 32, 32) and volume.spacing_mm == (2.5, 1.0, 1.5)
    assert volume.network_overrides["kernel_sizes"][:2] == [[1, 3, 3], [3, 3, 3]]


@pytest.mark.parametrize(
    ("name", "size"),
    [("lkm-unet/tiny-2d", (40, 56)), ("lkm-unet/tiny-3d", (16, 24, 40)), ("unetr/tiny-2d", (64, 96)),
     ("residual-unet/tiny-2d", (24, 40)), ("umamba-bot/tiny-3d", (8, 16, 24)),
     ("nnformer/tiny-2d", (64, 96)), ("nnformer/tiny-2d", (160, 32)), ("nnformer/tiny-3d", (32, 64, 32))],
)  # fmt: skip
def test_networks_are_fitted_to_small_images(name, size):
    network = build_network(name, input_channels=2, num_classes=3, **fit_overrides(name, size))
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 2, *size)).shape == (1, 3, *size)
    assert fit_size(name, size) == size or name.startswith(("unetr", "nnformer"))


@pytest.mark.parametrize("name", ["lkm-unet", "residual-unet", "umamba-bot", "umamba-enc"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.0, 1.0), (1.0, 3.0, 1.0)])
def test_strides_and_kernels_of_tiny_networks_follow_the_voxels(name, spacing):
    size, name = (32, 32, 32), f"{name}/tiny-3d"
    overrides = fit_overrides(name, size, spacing_mm=spacing)
    network = build_network(name, input_channels=1, num_classes=3, **overrides)
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 1, *size)).shape == (1, 3, *size)
    total = np.prod(overrides["strides"], axis=0)
    voxels = total * spacing
    assert min(total) > 1 and max(voxels) < 2 * min(voxels), "nearly cubes at the bottom"
    assert overrides["kernel_sizes"][0] == [1 if step > 2 else 3 for step in spacing]


def test_strides_that_were_given_stay_and_odd_maps_are_not_halved():
    given = {"strides": [(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)]}
    assert "strides" not in fit_overrides("plain-unet/tiny-3d", (16, 24, 40), given, 1.0)
    assert "strides" not in fit_overrides("lkm-unet/paper-3d", (40, 224, 192), None, 1.0)
    assert fit_geometry((12, 16, 20), 1.0, 4)["strides"] == [[1, 1, 1], [2, 2, 2], [1, 2, 2], [1, 1, 1]]


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
    with pytest.raises(KitError, match="are not those of this config"):
        run_folder(config)
    assert run_folder(TrainConfig.for_data(DataSet(folder), "smoke", **FAST)) != first, "a label was corrected"
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
    for look in (find_dataset, DataSet):
        with pytest.raises(KitError, match=r"no (data set|folder) xxx"):
            look("x" * 300)
    assert "Dataset009_Lobes" in caught.value.remedy


@pytest.mark.parametrize(
    "how", first([pytest.param([], id="2d"), pytest.param(["--network", "lkm-unet/tiny-3d"], id="3d")])
)
def test_two_channels_and_five_labels_by_three_commands(folder, capsys, tmp_path, how):
    """Check, train, evaluate: what is printed and written is by case, whole, with the data's own labels."""
    assert archives.lkm("data", "check", str(folder), "--report", str(tmp_path / "report")) == 0
    small = ["--iterations", "2", "--set", "batch_size=2", "--set", "validation_slices=2", "--no-mamba"]
    assert archives.lkm("train", "--data", str(folder), "--holdout", "0.25", *small, *how, "--workers", "0") == 0
    said = capsys.readouterr().out
    assert "licence: made up" in said and "cite: nobody" in said and "labels: body, left lobe" in said
    assert archives.lkm("evaluate", "-o", str(tmp_path / "rows.csv")) == 0
    said = capsys.readouterr().out
    assert "test: 2 cases" in said and "median of the cases" in said and "worst cases" in said
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert set(rows["organ"]) == {name for name in LABELS if name != "background"}
    assert (
        rows["case"].nunique() == 2
        and {"DSC", "NSD"} <= set(rows)
        and set(rows["source"]) == {"phantom: made up, no patient"}
    )
    assert archives.lkm("evaluate", "--split", "validation", "-o", str(tmp_path / "v.csv")) == 0
    assert pd.read_csv(tmp_path / "v.csv")["case"].nunique() == 1
    assert archives.lkm("evaluate", "--split", "wrong", "-o", str(tmp_path / "w.csv")) == 2
    assert archives.lkm("erf", "--images", "1", "-o", str(tmp_path / "erf")) == 0
    caption = json.loads((tmp_path / "erf" / "erf.json").read_text())
    volume = len(caption["config"]["size"]) == 3
    assert ("random noise" if volume else "held-out slices; phantom: made up, no patient") in caption["text"]


class Threshold(torch.nn.Module):
    """Knows the made-up data: which label a pixel has, from its first channel alone."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.nn.Parameter(torch.tensor(values))

    def forward(self, image):
        first = image[:, :1]
        return -((first - self.values.reshape(1, -1, *[1] * (image.ndim - 2))) ** 2)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_prediction_comes_back_to_the_file_s_own_grid(folder, axis, dims):
    """A network that knows the answer scores high along every axis; one turn or channel too many, and it would not."""
    data = DataSet(folder)
    case = data.read(data.test[0])
    extra = {"network": "lkm-unet/tiny-3d"} if dims == 3 else {}
    config = TrainConfig.for_data(data, "smoke", axis=axis, **extra)
    recipe = make_recipe(data, [], dims=dims, axis=axis, spacing_mm=config.spacing_mm)
    own = recipe.channels[0].normalizer(case.image[0])(case.image[0])
    order = (0, *data.table.labels)
    values = [float(own[case.label == number].mean()) for number in order]
    record = {
        "label_table": json.loads(data.table.to_json()),
        "preprocessing": {"spacing_mm": config.spacing_mm, "image_size": config.image_size, "recipe": recipe.to_json()},
        "training": {},
    }
    network = Threshold(values)
    found = predict_case(network, case, **settings_of(record))
    assert found.shape == case.shape and found.dtype == np.uint8
    assert (found == case.label).mean() > 0.97
    scored = score_dataset(network, record, data, [case.name])
    large = scored.set_index("organ")["DSC"][["body", "left lobe", "right lobe"]]
    assert large.min() > 0.95 and set(scored["case"]) == {case.name}


def test_mirrored_prediction_exchanges_partners(folder):
    data = DataSet(folder)
    config = TrainConfig.for_data(data, "smoke")
    recipe = make_recipe(data, [], dims=2, spacing_mm=config.spacing_mm)
    record = {
        "label_table": json.loads(data.table.to_json()),
        "preprocessing": {"spacing_mm": config.spacing_mm, "image_size": config.image_size, "recipe": recipe.to_json()},
    }
    case = data.read(data.test[0])

    class LeftIsLeft(torch.nn.Module):
        def forward(self, image):
            logits = torch.zeros(len(image), 6, *image.shape[2:])
            half = image.shape[2] // 2
            logits[:, 2, :half], logits[:, 3, half:] = 1, 1
            return logits

    plain, mirrored = (predict_case(LeftIsLeft(), case, **settings_of(record), mirror=m) for m in (False, True))
    assert (plain == mirrored).mean() > 0.95 and set(np.unique(plain)) == {2, 3}
    one = {**record, "label_table": json.loads(data.table.subset(["left lobe"]).to_json())}
    with pytest.raises(KitError, match="partner of a label is not learnt"):
        predict_case(LeftIsLeft(), case, **settings_of(one), mirror=True)
    with pytest.raises(KitError, match="partner of a label is not learnt"):
        score_dataset(LeftIsLeft(), one, data, [case.name], mirror=True)
    with pytest.raises(KitError, match="has 1 channels, the network was trained on 2"):
        predict_case(LeftIsLeft(), dataclasses.replace(case, image=case.image[0]), **settings_of(record))


def test_which_cases_a_run_may_be_tested_on(folder):
    data = DataSet(folder)
    split = data.split()
    sides = {side: list(split.names(side)) for side in ("train", "validation", "test")}
    about = {"name": data.name, "digest": data.digest, "split": sides}
    record = {"training": {"data": about}}
    assert trained_cases(record, data, "test") == (list(split.test), [])
    names, notes = trained_cases(record, data, "validation")
    assert names == list(split.validation) and "watched" in notes[0]
    other = {"training": {"data": {**about, "name": "another"}}}
    assert trained_cases(other, data, "test")[0] == list(split.test)
    with pytest.raises(KitError, match="no labelled train case"):
        trained_cases(other, data, "train")
    (folder / "persons.csv").write_text("case,person\n" + "".join(f"{n},same\n" for n in data.cases))
    notes = trained_cases(record, DataSet(folder), "test")[1]
    assert "have changed since" in notes[0] and "has seen 1 of these persons, same" in notes[1]


def test_a_run_on_labels_that_the_data_set_has_not_is_told(folder):
    network, record = load_checkpoint("tiny-2d")
    with pytest.raises(KitError, match=r"was trained on liver, .*, which .* does not label(.|\n)*body, left lobe"):
        score_dataset(network, record, DataSet(folder), ["Fall 1é"])


def test_fine_tuning_takes_what_fits_and_says_what_does_not(folder, capsys, tmp_path):
    command = ["train", "--data", str(folder), "--iterations", "2", "--set", "batch_size=2", "--workers", "0"]
    assert archives.lkm(*command, "--start", "tiny-2d", "--run-dir", str(tmp_path / "fine")) == 0
    said = capsys.readouterr().out
    assert "start from tiny-2d:" in said and "begin anew: encoder.stem" in said, "two channels instead of one"
    network, record = load_checkpoint(tmp_path / "fine")
    assert record["training"]["start"]["run"] == "tiny-2d"
    assert any("seg_layers" in name for name in record["training"]["start"]["new"])
    assert archives.lkm(*command, "--run-dir", str(tmp_path / "fine")) == 2, "other weights: another run"
    assert "weights to start from" in capsys.readouterr().err
    frozen = [*command, "--start", "tiny-2d", "--freeze-encoder", "--run-dir", str(tmp_path / "frozen")]
    assert archives.lkm(*frozen) == 0
    fixed, _ = load_checkpoint(tmp_path / "frozen")
    before, _ = load_checkpoint("tiny-2d")
    own = before.state_dict()
    taken = {n: t for n, t in fixed.state_dict().items() if n in own and own[n].shape == t.shape}
    same = {name for name, tensor in taken.items() if torch.equal(tensor, own[name])}
    assert {name for name in taken if name.startswith("encoder.")} <= same
    assert not all(name in same for name in taken if name.startswith("decoder."))
    moved = network.state_dict()
    assert not all(torch.equal(moved[name], own[name]) for name in taken if name.startswith("encoder."))
    assert archives.lkm(*command, "--freeze-encoder") == 2


def test_weights_that_fit_nothing(folder):
    from lkm_kit.training.start import freeze_encoder, take_weights

    with pytest.raises(KitError, match="none of the weights"):
        take_weights(torch.nn.Linear(2, 2), "tiny-2d")
    with pytest.raises(KitError, match="has no encoder"):
        freeze_encoder(torch.nn.Linear(2, 2))


def test_predict_reads_every_channel_of_a_case(folder, tmp_path, capsys):
    config = TrainConfig.for_data(DataSet(folder), "smoke", **FAST)
    run = str(train(config, tmp_path / "run", progress=False).run_dir)
    out = tmp_path / "out"
    assert archives.lkm("predict", str(folder / "imagesTs"), "-o", str(out), "--run", run) == 0
    names = sorted(case.name for case in DataSet(folder).test)
    assert sorted(path.name for path in out.glob("*.nii.gz")) == [f"{name}.nii.gz" for name in names]
    assert LabelTable.from_json((out / f"{names[0]}.labels.json").read_text()) == DataSet(folder).table
    assert (out / f"{names[0]}.png").is_file()
    assert archives.lkm("evaluate", "--predictions", str(out), "--labels", str(folder / "labelsTs")) == 0
    capsys.readouterr()
    second = folder / "imagesTs" / f"{names[0]}_0001.nii.gz"
    assert archives.lkm("predict", str(second), "-o", str(tmp_path / "a.nii.gz"), "--run", run) == 2
    assert "was trained on 2" in capsys.readouterr().err
    second.unlink()
    first = second.with_name(f"{names[0]}_0000.nii.gz")
    assert archives.lkm("predict", str(first), "-o", str(tmp_path / "a.nii.gz"), "--run", run) == 2
    assert "give T1, T2, in this order" in capsys.readouterr().err


def test_items_a_second_are_measured(folder, tmp_path, capsys):
    csv = tmp_path / "items.csv"
    assert archives.lkm("bench", "data", "--data", str(folder), "--workers", "1", "--csv", str(csv)) == 0
    rows = pd.read_csv(csv)
    assert len(rows) == 3 and (rows["a second"] > 0).all() and "waits for its data" in capsys.readouterr().out
