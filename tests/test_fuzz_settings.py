"""Descriptions spoilt at random: training configs, ``--set``, label tables, data sets' own words, archives.

Each ends in a result or in a KitError with a remedy; nothing half-written stays. ``LKM_FUZZ`` and seeds as in
``test_fuzz.py``.
"""

import json
import shutil
import tarfile
import zipfile
from io import BytesIO

import archives
import numpy as np
import pytest
import torch
from own_data import make_data
from test_fuzz import BATCH, INPUTS, batches
from typer.testing import CliRunner

from lkm_kit import cli
from lkm_kit.data import DataSet, LabelTable, check_dataset, prepare_amos_mr
from lkm_kit.data.sample import SOURCE, _extract
from lkm_kit.errors import KitError
from lkm_kit.networks import network_names
from lkm_kit.training import TrainConfig, initial_network

pytestmark = [pytest.mark.fuzz, pytest.mark.filterwarnings("ignore")]

ODD = [
    None, True, False, 0, 1, -1, 2, 3, 7, 13, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e-9, 1e9, 1e308, float("nan"),
    float("inf"), -float("inf"), "", " ", "0", "1", "liver", "Liver", "CT", "cohort", "nan", "é", "\ud800", "\0",
    "x" * 300, [], [0], [1, 2], [96, 96], [[1]], ["liver"], ["liver", "liver"], ["liver", None], {}, {"": 1},
    {"a": {"b": []}}, {"pim": False}, {"windows": [[3, 3]]}, {"strides": 2}, {"mixer": "nothing"},
]  # fmt: skip
"""What a JSON file can hold in the wrong place, and what Python can."""


def any_of(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def spoilt(value, rng, depth=0):
    """The value with one of its parts replaced, left out or added."""
    if depth < 4 and isinstance(value, dict) and value and rng.random() < 0.85:
        key, how = any_of(rng, list(value)), rng.random()
        if how < 0.15:
            return {k: v for k, v in value.items() if k != key}
        if how < 0.25:
            return {**value, any_of(rng, ["", "0", "liver", key + " ", key.upper(), "é"]): any_of(rng, ODD)}
        return {**value, key: spoilt(value[key], rng, depth + 1)}
    if depth < 4 and isinstance(value, list) and value and rng.random() < 0.7:
        at = int(rng.integers(len(value)))
        return [*value[:at], spoilt(value[at], rng, depth + 1), *value[at + 1 :]]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.4:
        return any_of(rng, [value + 1, -value, value * 1000, value / 2 if abs(value) < 1e300 else 0, str(value)])
    return any_of(rng, ODD)


def many_spoilt(value, rng):
    for _ in range(int(rng.integers(1, 4))):
        value = spoilt(value, rng)
    return value


def as_text(value, rng):
    """JSON, now and then cut off, with a byte changed, or nested without end."""
    text = json.dumps(value)
    how = rng.random()
    if how < 0.06:
        return text[: int(rng.integers(len(text) + 1))]
    if how < 0.12 and text:
        at = int(rng.integers(len(text)))
        return text[:at] + any_of(rng, ["\0", "}", '"', "é", "9" * 5000, "[" * 100_000]) + text[at + 1 :]
    return text


def seeds(kind, first):
    for seed in range(first, min(first + BATCH, INPUTS)):
        yield seed, np.random.default_rng([kind, seed])


OVERRIDES = [
    "features_per_stage", "strides", "windows", "pools", "kernel_sizes", "n_blocks_per_stage", "n_blocks_decoder",
    "partition", "pim", "pam", "bidirectional", "pad", "backend", "mixer", "d_state", "d_conv", "expand",
    "deep_supervision", "input_channels", "num_classes", "spatial_dims", "feature_size", "img_size", "depths",
]  # fmt: skip


def odd_overrides(rng):
    """Arguments of networks: small numbers and nests of them where others belong."""
    numbers = [
        -1,
        0,
        1,
        2,
        3,
        1.5,
        True,
        None,
        "2",
        [],
        [2, 2],
        [[3, 3], [3, 3]],
        [[1, 1], [2, 2]],
        [8, 16],
        [[0, 0]],
        {},
    ]
    return {
        any_of(rng, OVERRIDES): any_of(rng, [*numbers, "contiguous", "auto", "mamba", "nothing"])
        for _ in range(rng.integers(1, 3))
    }


@batches
def test_training_configs(first):
    base = TrainConfig(network_overrides={"pim": False}).to_dict()
    own = TrainConfig(label_table=json.loads(LabelTable().to_json()), data="folder", fold=1, axis=2).to_dict()
    for seed, rng in seeds(3, first):
        value = many_spoilt(any_of(rng, [base, own]), rng)
        if rng.random() < 0.5:
            network = any_of(rng, [name for name in network_names() if "tiny-2d" in name])
            value = {**base, "network": network, "network_overrides": odd_overrides(rng)}
        try:
            config = TrainConfig.from_json(value if rng.random() < 0.5 else as_text(value, rng))
        except KitError as error:
            assert error.remedy, f"seed {seed}: {error}"
            continue
        again = TrainConfig.from_json(config.to_json())
        assert again == config and again.digest() == config.digest(), f"seed {seed}"
        assert config.table.num_classes == len(config.organs) + 1, f"seed {seed}"
        try:
            network = initial_network(config)
        except KitError as error:
            assert error.remedy, f"seed {seed}: {error}"
            continue
        assert network.num_classes == config.table.num_classes, f"seed {seed}"


@batches
def test_values_of_set(first, tmp_path, monkeypatch):
    """As a user types them; up to the first step, of which the network's forward pass is tried."""
    fields = list(TrainConfig().to_dict())

    def begin(config, folder, **_):
        network = initial_network(config)
        if np.prod(config.image_size, dtype=float) <= 96 * 96:
            with torch.no_grad():
                network(torch.zeros(1, config.input_channels, *config.image_size))
        raise KitError("begun", remedy="none")

    monkeypatch.setattr("lkm_kit.training.train", begin)
    for seed, rng in seeds(4, first):
        options = []
        for _ in range(int(rng.integers(1, 3))):
            name = any_of(rng, [*fields, any_of(rng, fields)[:-1], "", "network", "network_overrides"])
            value = any_of(rng, [v for v in ODD if not (isinstance(v, str) and v in ("\0", "\ud800"))])
            value = any_of(rng, network_names()) if name == "network" and rng.random() < 0.7 else value
            text = value if isinstance(value, str) and rng.random() < 0.5 else as_text(value, rng).replace("\0", "")
            options += ["--set", f"{name}={text}" if rng.random() < 0.95 else text]
        words = ["train", "--profile", "smoke", "--run-dir", str(tmp_path / "run"), *options]
        done = CliRunner().invoke(cli.app, words)
        assert isinstance(done.exception, (KitError, SystemExit)), f"seed {seed}: {options} {done.exception!r}"
        assert not isinstance(done.exception, KitError) or done.exception.remedy, f"seed {seed}: {options}"
    assert not list(tmp_path.rglob("*")), "nothing was trained"


@batches
def test_label_tables(first):
    base = json.loads(LabelTable().subset(["liver", "left kidney", "right kidney"]).to_json())
    old = {"organs": [{"class": 1, "name": "liver", "label": 1}, {"class": 2, "name": "spleen", "label": 3}]}
    for seed, rng in seeds(5, first):
        value = many_spoilt(any_of(rng, [base, old]), rng)
        try:
            table = LabelTable.from_json(value if rng.random() < 0.5 else as_text(value, rng))
        except KitError as error:
            assert error.remedy, f"seed {seed}: {error}"
            continue
        assert LabelTable.from_json(table.to_json()) == table, f"seed {seed}"
        classes = np.arange(table.num_classes)
        assert np.array_equal(table.to_classes(table.to_kit(classes)), classes), f"seed {seed}"
        table.mirrored_classes()


@pytest.fixture(scope="module")
def lobes(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("lobes") / "Dataset009_Lobes", cases=3)


@batches
def test_what_a_data_set_says_of_itself(first, tmp_path, monkeypatch, lobes):
    """dataset.json, splits_final.json and persons.csv: the ids of what is read are those of the files."""
    monkeypatch.setenv("LKM_DATA", str(tmp_path / "cache"))
    folder = tmp_path / lobes.name
    shutil.copytree(lobes, folder)
    about, names = json.loads((folder / "dataset.json").read_text()), [c.name for c in DataSet(folder).training]
    splits = [{"train": names[1:], "val": names[:1]}, {"train": names[:2], "val": names[2:]}]
    about["persons"] = {name: name for name in [*names, "Fall 3é"]}
    about["partners"] = {"left lobe": "right lobe", "right lobe": "left lobe"}
    persons = "case,person\n" + "".join(f"{name},{name}\n" for name in [*names, "Fall 3é"])
    for seed, rng in seeds(6, first):
        what = rng.integers(4)
        texts = {"dataset.json": json.dumps(about), "splits_final.json": json.dumps(splits)}
        if what == 0:
            texts["splits_final.json"] = as_text(many_spoilt(splits, rng), rng)
        elif what == 1:
            at = int(rng.integers(len(persons)))
            texts["persons.csv"] = (
                persons[:at]
                + any_of(rng, ["", "\n", '"', ",", "\0", "x,y,z\n", "\r"])
                + persons[at + int(rng.integers(20)) :]
            )
        else:
            texts["dataset.json"] = as_text(many_spoilt(about, rng), rng)
        (folder / "persons.csv").unlink(missing_ok=True)
        for name, text in texts.items():
            content = text.encode("utf-8", "surrogatepass")
            if rng.random() < 0.05:
                content = content[:40] + bytes([int(rng.integers(128, 256))]) + content[40:]
            (folder / name).write_bytes(content)
        try:
            data = DataSet(folder)
            data.require()
            split = data.split(fold=any_of(rng, [None, 0, 1]))
            str(data), data.digest
        except KitError as error:
            assert error.remedy, f"seed {seed}: {error}"
        else:
            assert split.train and split.validation and not set(split.train) & set(split.validation), f"seed {seed}"
            stated = json.loads((folder / "dataset.json").read_text())["labels"]
            assert {label.name: label.id for label in data.table} == {k: v for k, v in stated.items() if v}, (
                f"seed {seed}"
            )
            config = TrainConfig.for_data(data, "smoke")
            assert TrainConfig.from_json(config.to_json()) == config, f"seed {seed}"
        if seed % 10 == 0:
            try:
                str(check_dataset(folder))
            except KitError as error:
                assert error.remedy, f"seed {seed}: {error}"


@pytest.fixture(scope="module")
def amos():
    return archives.amos22()


def spoilt_archive(path, files, rng):
    """A zip or a tar with members left out, renamed, doubled or spoilt; then cut or changed as a whole."""
    members = list(files.items())
    for _ in range(int(rng.integers(0, 3))):
        at, how = int(rng.integers(len(members))), rng.integers(6)
        name, content = members[at]
        if how == 0:
            members.pop(at)
        elif how == 1:
            outside = [
                "../x.nii.gz",
                "/etc/x",
                "a/../../x",
                "C:\\x",
                "..\\x",
                "a\0b",
                "",
                ".",
                "./" + name,
                name + "/",
                "é" * 80,
                "x" * 300,
                name.upper(),
            ]
            members[at] = (any_of(rng, outside), content)
        elif how == 2:
            members.append((name, content))
        elif how == 3 and content:
            content = bytearray(content)
            content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
            members[at] = (name, bytes(content))
        elif how == 4:
            members[at] = (name, content[: int(rng.integers(len(content) + 1))])
        else:
            members[at] = (name, b"")
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", int(rng.choice([0, 8]))) as archive:
                for name, content in members:
                    archive.writestr(zipfile.ZipInfo(name), content)
        else:
            with tarfile.open(path, any_of(rng, ["w", "w:gz"])) as archive:
                for name, content in members:
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    if rng.random() < 0.03:
                        info.type, info.linkname = (
                            any_of(rng, [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]),
                            "/etc/hostname",
                        )
                    archive.addfile(info, BytesIO(content))
    except (ValueError, IndexError):  # a name that cannot be written
        path.write_bytes(b"")
    whole = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(0, 3))):
        if whole and rng.random() < 0.7:
            near_end = rng.random() < 0.5
            whole[int(rng.integers(len(whole) - 400 if near_end and len(whole) > 400 else 0, len(whole)))] = int(
                rng.integers(256)
            )
        elif whole and rng.random() < 0.5:
            del whole[int(rng.integers(len(whole))) :]
    path.write_bytes(bytes(whole))


@batches
def test_archives(first, tmp_path, amos):
    """A data set that is whole and has its own geometry, or none that anybody would take for one."""
    for seed, rng in seeds(7, first):
        place = tmp_path / str(seed)
        place.mkdir()
        path = place / any_of(rng, ["amos22.zip", "amos22.tar"])
        spoilt_archive(path, amos, rng)
        try:
            written = prepare_amos_mr(path, place / "raw")
        except KitError as error:
            assert error.remedy, f"seed {seed}: {error}"
            assert not list(place.rglob("dataset.json")), f"seed {seed}"
        else:
            archives.require_nnunet_layout(written.folder)
        assert {each.name for each in place.iterdir()} <= {path.name, "raw"}, f"seed {seed}"
        assert not [each for each in place.rglob(".*") if not each.name.endswith(".lock")], f"seed {seed}"
        shutil.rmtree(place)


@batches
def test_archives_of_the_sample(first, tmp_path, monkeypatch):
    """Members are taken with the published checksum or not at all."""
    import hashlib

    members = {f"{k}.nii.gz": bytes([k]) * 500 for k in range(3)}
    published = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    monkeypatch.setitem(SOURCE, "members", published)
    for seed, rng in seeds(8, first):
        path, folder = tmp_path / f"{seed}.tar.gz", tmp_path / str(seed)
        spoilt_archive(path, {f"{SOURCE['folder']}/{name}": content for name, content in members.items()}, rng)
        try:
            _extract(path, folder)
        except KitError as error:
            assert error.remedy, f"seed {seed}: {error}"
        else:
            assert {p.name for p in folder.iterdir()} == set(members), f"seed {seed}"
        for file in folder.glob("*") if folder.exists() else ():
            assert file.read_bytes() == members[file.name], f"seed {seed}"
