"""Loss, optimisers, batches, the loop and its run folder."""

import dataclasses
import json
import math
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional
from toy_training import Poisoned, Squares, TwoHeads, start, toy_config, toy_data, toy_network

from lkm_kit.commands.train import train as train_command
from lkm_kit.data import CohortSlices, make_phantom
from lkm_kit.errors import KitError
from lkm_kit.files import digest_of
from lkm_kit.networks import build_network
from lkm_kit.profiles import PROFILES
from lkm_kit.training import (
    Diverged,
    TrainConfig,
    fabric,
    load_checkpoint,
    load_result,
    loop,
    make_loss,
    make_optimizer,
    make_schedule,
    run_folder,
    running,
    train,
)
from lkm_kit.training.batches import StepSampler, batch_indices, train_loader
from lkm_kit.training.identity import data_digest
from lkm_kit.training.loss import deep_supervision_weights
from lkm_kit.training.record import PACKAGED
from lkm_kit.training.running import identity
from lkm_kit.training.store import Run


def by_hand(logits, label, batch_dice=True):
    """Dice + cross-entropy written out (nnU-Net's: background only in the cross-entropy)."""
    p = logits.softmax(1)
    t = functional.one_hot(label, logits.shape[1]).movedim(-1, 1).float()
    axes = (0, 2, 3) if batch_dice else (2, 3)
    both, total = (p * t).sum(axes), (p + t).sum(axes)
    dice = ((2 * both + 1e-5) / (total + 1e-5))[..., 1:]
    return (1 - dice).mean() + functional.cross_entropy(logits, label)


@pytest.mark.parametrize("batch_dice", [True, False])
def test_loss_is_dice_plus_cross_entropy(batch_dice):
    torch.manual_seed(0)
    logits, label = torch.randn(3, 4, 10, 12), torch.randint(0, 4, (3, 10, 12))
    assert torch.allclose(make_loss(batch_dice)(logits, label), by_hand(logits, label, batch_dice), atol=1e-6)


def test_deep_supervision_weighs_the_heads():
    torch.manual_seed(0)
    label = torch.randint(0, 3, (2, 16, 16))
    heads = [torch.randn(2, 3, 16 // 2**i, 16 // 2**i) for i in range(4)]
    small = [
        functional.interpolate(label[:, None].float(), h.shape[2:], mode="nearest-exact")[:, 0].long() for h in heads
    ]
    weights = torch.tensor([1, 1 / 2, 1 / 4, 0]) / 1.75
    expected = sum(w * by_hand(h, s) for w, h, s in zip(weights, heads, small))
    assert torch.allclose(make_loss()(heads, label), expected, atol=1e-6)
    assert deep_supervision_weights(4) == pytest.approx(weights.tolist())


def test_good_prediction_costs_less_than_bad():
    label = Squares(1)[0]["label"][None]
    right = 10 * functional.one_hot(label, 3).movedim(-1, 1).float()
    loss = make_loss()
    assert loss(right, label) < 0.01 < loss(torch.zeros_like(right), label) < loss(-right, label)


@pytest.mark.parametrize(
    "logits, label, words",
    [
        (torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 9, dtype=torch.long), "(2, 8, 9)"),
        (torch.zeros(2, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long), "(1, 8, 8)"),
        (torch.zeros(2, 3, 8, 8), torch.full((2, 8, 8), 3), "class 3"),
        (torch.zeros(2, 3, 8, 8), torch.full((2, 8, 8), -1), "class -1"),
    ],
)
def test_loss_names_what_does_not_fit(logits, label, words):
    with pytest.raises(KitError) as error:
        make_loss()(logits, label)
    assert words in str(error.value)


def test_sgd_is_nnunets():
    optimizer = make_optimizer(TrainConfig(), torch.nn.Linear(2, 2))
    assert isinstance(optimizer, torch.optim.SGD)
    expected = {"lr": 1e-2, "momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}
    assert {k: optimizer.defaults[k] for k in expected} == expected


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_schedule_over_its_whole_length(optimizer):
    config = toy_config(optimizer=optimizer, iterations=50, learning_rate=0.02)
    made = make_optimizer(config, torch.nn.Linear(2, 2))
    rates = rates_of(made, make_schedule(config, made), config.iterations)
    if optimizer == "sgd":
        assert rates == pytest.approx([0.02 * (1 - s / 50) ** 0.9 for s in range(50)])
    else:
        assert max(rates) == pytest.approx(0.02, rel=1e-2) and rates[0] < 0.002 and rates[-1] < 1e-4


def rates_of(made, schedule, iterations):
    rates = []
    for _ in range(iterations):
        rates.append(schedule.get_last_lr()[0])
        made.step()
        schedule.step()
    return rates


def cycle(warmup, iterations):
    config = toy_config(optimizer="adamw", iterations=iterations, learning_rate=0.02, warmup=warmup)
    made = make_optimizer(config, torch.nn.Linear(2, 2))
    return rates_of(made, make_schedule(config, made), iterations)


def test_the_cycle_rises_in_the_share_of_steps_that_is_asked_for():
    peaks = {warmup: int(np.argmax(cycle(warmup, 100))) for warmup in (0.05, 0.1, 0.3, 0.9)}
    assert peaks == {0.05: 4, 0.1: 9, 0.3: 29, 0.9: 89}
    rates = cycle(0.1, 10)  # one step of rise, of which torch cannot draw a line
    assert rates[0] < 0.001 and rates[1] == max(rates) == pytest.approx(0.02, rel=0.05)


def test_warmup_changes_the_digest_only_where_it_is_not_the_usual_one():
    before = TrainConfig().identity().counted()
    assert "warmup" not in before["config"] and TrainConfig(warmup=0.3).digest() == TrainConfig().digest()
    assert TrainConfig(warmup=0.1).digest() != TrainConfig().digest()
    made = make_optimizer(toy_config(optimizer="adamw"), torch.nn.Linear(2, 2))
    usual = torch.optim.lr_scheduler.OneCycleLR(made, max_lr=0.02, total_steps=50)
    assert cycle(0.3, 50) == rates_of(made, usual, 50)


def test_every_pass_takes_each_item_once():
    taken = [i for step in range(6) for i in batch_indices(step, length=8, batch_size=4, seed=3)]
    rounds = [taken[i : i + 8] for i in (0, 8, 16)]
    assert all(sorted(r) == list(range(8)) for r in rounds) and rounds[0] != rounds[1]
    assert batch_indices(1, length=8, batch_size=4, seed=4) != taken[4:8]


def test_order_depends_on_the_step_alone():
    config = toy_config()
    whole = list(StepSampler(config, 32))
    assert list(StepSampler(config, 32, first_step=7)) == whole[7:]
    shares = [list(StepSampler(config, 32, rank=r, processes=2)) for r in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*shares)] == [sorted(batch) for batch in whole]
    with pytest.raises(KitError, match="3 processes"):
        StepSampler(config, 32, processes=3)


def test_workers_do_not_change_the_batches():
    config = toy_config(iterations=3)
    alone, helped = (list(train_loader(config, Squares(32), 0, workers=w)) for w in (0, 2))
    assert all(
        torch.equal(a["image"], b["image"]) and torch.equal(a["label"], b["label"]) for a, b in zip(alone, helped)
    )
    state = torch.get_rng_state()
    next(iter(train_loader(config, Squares(32), 0)))
    assert torch.equal(state, torch.get_rng_state())  # nothing is taken from the global random numbers


def test_training_learns_and_leaves_its_folder(tmp_path):
    config = toy_config(iterations=60, validate_every=20)
    seen, network, state = [], toy_network(), torch.get_rng_state()
    result = train(
        config, tmp_path / "run", network=network, data=toy_data(config), device="cpu", progress=False,
        watch=lambda step, loss, history: seen.append((step, loss, len(history))),
    )  # fmt: skip
    assert result.history["DSC"].iloc[-1] > 0.8 > result.history["train_loss"].iloc[-1]
    assert torch.equal(state, torch.get_rng_state())  # the caller's random numbers go on as if nothing had happened
    assert list(result.history["step"]) == [20, 40, 60]
    assert {"DSC liver", "DSC spleen", "learning_rate", "gradient_norm", "seconds"} <= set(result.history)
    assert [s for s, _, _ in seen] == list(range(1, 61)) and seen[-1][2] == 3
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.json", "history.csv", "weights.safetensors", "weights.json", "done.json"}
    record = json.loads((tmp_path / "run" / "weights.json").read_text())
    assert record["label_table"]["labels"][1].items() >= {"class": 2, "name": "spleen", "label": 3}.items()
    assert record["preprocessing"]["spacing_mm"] == 3.0 and record["training"]["steps"] == 60
    assert record["network"]["class"].endswith("TwoHeads") and record["network"]["name"] is None


def test_a_batch_in_parts_makes_the_same_steps_where_the_loss_is_a_mean_over_slices(tmp_path):
    """Batch Dice is no such mean: over parts it is another loss."""
    norms = {}
    for batch_dice in (False, True):
        for parts in (1, 2):
            config = toy_config(iterations=3, validate_every=3, batch_dice=batch_dice, accumulate=parts)
            how = {"data": toy_data(config), "device": "cpu", "progress": False}
            result = train(config, tmp_path / f"{batch_dice}-{parts}", network=toy_network(), **how)
            norms[batch_dice, parts] = result.history[["train_loss", "gradient_norm"]].to_numpy()
    np.testing.assert_allclose(norms[False, 1], norms[False, 2], rtol=1e-5)
    assert not np.allclose(norms[True, 1], norms[True, 2], rtol=1e-4)


def test_validation_dsc_is_counted_over_all_slices(tmp_path):
    config = toy_config(iterations=1, validate_every=1, validation_slices=6)
    data = toy_data(config)
    result = train(config, tmp_path, network=toy_network(), data=data, device="cpu", progress=False)
    with torch.no_grad():
        items = [data["validation"][i] for i in range(6)]
        found = result.network(torch.stack([item["image"] for item in items]))[0].argmax(1)
        truth = torch.stack([item["label"] for item in items])
    both = ((found == 1) & (truth == 1)).sum()
    expected = float(2 * both / ((found == 1).sum() + (truth == 1).sum()))
    assert result.history["DSC liver"].iloc[0] == pytest.approx(expected)


def test_registered_network_trains_and_loads(tmp_path):
    config = toy_config(
        network="lkm-unet/tiny-2d", iterations=2, validate_every=1, batch_size=2, image_size=(16, 16),
        network_overrides={"features_per_stage": [4, 8], "strides": [[1, 1], [2, 2]], "windows": [8, 4]},
    )  # fmt: skip
    result = train(config, tmp_path, data=toy_data(config), device="cpu", progress=False)
    image = Squares(1)[0]["image"][None]
    again, record = load_checkpoint(tmp_path)
    assert record["network"]["name"] == config.network
    with torch.no_grad():
        assert again(image).shape == (1, 3, 16, 16)  # without deep supervision
        assert torch.equal(again(image), result.network(image))


def test_finished_run_is_not_repeated(tmp_path):
    config = toy_config()
    first = train(config, tmp_path, network=toy_network(), data=toy_data(config), device="cpu", progress=False)
    stamp = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    how = {"network": toy_network(), "data": toy_data(config), "device": "cpu"}
    again = train(config, tmp_path, **how, watch=lambda *_: pytest.fail("trained again"))
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == stamp
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), again.network.parameters()))
    pd.testing.assert_frame_equal(first.history, again.history)


def test_another_config_is_refused_with_its_fields(tmp_path):
    config = toy_config()
    train(config, tmp_path, network=toy_network(), data=toy_data(config), device="cpu", progress=False)
    with pytest.raises(KitError) as error:
        other = toy_config(learning_rate=0.5, seed=3)
        train(other, tmp_path, network=toy_network(), data=toy_data(other), device="cpu")
    assert "learning_rate: 0.01 there, 0.5 now" in str(error.value) and "seed: 0 there, 3 now" in str(error.value)
    assert "batch_size" not in str(error.value)


def test_numbers_that_are_read_later_are_the_same(tmp_path, monkeypatch):
    """As on a GPU, which is not waited for after every step: the last steps before a checkpoint are fewer."""
    config, results = toy_config(iterations=14, validate_every=7), []
    for between in (1, 3):
        monkeypatch.setattr(loop, "steps_between_reads", lambda device, between=between: between)
        seen, reads = [], []
        monkeypatch.setattr(loop, "check_finite", lambda what, value, step, config, reads=reads: reads.append(step))
        result = start(config, tmp_path / str(between), watch=lambda *told, seen=seen: seen.append(told[:2]))
        results.append((seen, reads, result))
    (seen, reads, one), (seen_later, reads_later, later) = results
    assert seen == seen_later and [step for step, _ in seen] == list(range(1, 15)) and reads == reads_later
    columns = ["step", "train_loss", "gradient_norm", "DSC"]
    pd.testing.assert_frame_equal(one.history[columns], later.history[columns], check_exact=True)
    assert all(torch.equal(a, b) for a, b in zip(one.network.parameters(), later.network.parameters()))


def test_a_compiled_training_has_the_losses_of_another_up_to_rounding(tmp_path, monkeypatch):
    """Traced, and run as torch would: that needs no compiler here; the files keep the names of the weights."""
    compiler, compiled = torch.compile, []
    with_backend = lambda call: compiled.append(call) or compiler(call, backend="eager")  # noqa: E731
    monkeypatch.setattr(torch, "compile", with_backend)
    settings = {"iterations": 4, "validate_every": 2}
    plain, fast = (
        start(toy_config(compile=on, **settings), tmp_path / str(on), network=lambda: toy_network(dropout=0.0))
        for on in (False, True)
    )
    assert len(compiled) == 1 and plain.network.state_dict().keys() == fast.network.state_dict().keys()
    for column in ("train_loss", "gradient_norm", "DSC"):
        assert fast.history[column].tolist() == pytest.approx(plain.history[column].tolist(), rel=1e-4), column
    assert toy_config(compile=False).digest() == toy_config().digest() != toy_config(compile=True).digest()

    def fails(*given, **how):
        raise torch._dynamo.exc.TorchDynamoException("no C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", lambda call: fails)
    with pytest.raises(KitError, match=r"torch.compile fails here: no C\+\+ compiler"):
        start(toy_config(compile=True), tmp_path / "none")


def test_a_gpu_is_given_pinned_batches_and_waited_for_every_ten_steps(tmp_path, monkeypatch):
    config, taken = toy_config(iterations=2), []
    monkeypatch.setattr(running, "train_loader", lambda *a, **how: taken.append(how["pin"]) or train_loader(*a, **how))
    start(config, tmp_path)
    assert taken == [False] and loop.steps_between_reads(torch.device("cuda:1")) == 10
    with warnings.catch_warnings():  # there may be nothing here for which memory could be pinned
        warnings.simplefilter("ignore")
        assert train_loader(config, Squares(32), 0, pin=True).pin_memory


def test_the_second_gpu_is_taken_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(fabric, "resolve_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("lightning_fabric.Fabric", lambda **how: how)
    asked = fabric.make_fabric(toy_config(), "cuda:1")
    assert (asked["accelerator"], asked["devices"]) == ("cuda", [1])


def test_processes_on_several_nodes_are_refused(monkeypatch):
    launcher = {
        "RANK": 0,
        "LOCAL_RANK": 0,
        "GROUP_RANK": 0,
        "LOCAL_WORLD_SIZE": 4,
        "WORLD_SIZE": 8,
        "TORCHELASTIC_RUN_ID": 1,
    }
    for name, value in launcher.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(KitError, match="8 processes were started for a training by 4") as error:
        fabric.make_fabric(toy_config(), "cpu", 4)
    assert "one node" in error.value.remedy


@pytest.mark.parametrize("between", [1, 10])
def test_nan_stops_with_the_step_and_keeps_the_checkpoint(tmp_path, monkeypatch, between):
    monkeypatch.setattr(loop, "steps_between_reads", lambda device: between)
    config = toy_config(iterations=16, validate_every=3)
    bad_step = next(s for s in range(16) if Poisoned.bad in batch_indices(s, length=32, batch_size=4, seed=0))
    assert bad_step > 2
    with pytest.raises(Diverged) as error:
        train(config, tmp_path, network=toy_network(), data=toy_data(config, Poisoned), device="cpu", progress=False)
    assert f"nan at step {bad_step}" in str(error.value) and "learning rate" in error.value.remedy
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] <= bad_step and all(torch.isfinite(v).all() for v in state["network"].values())
    with pytest.raises(Diverged, match=f"diverged: the loss is nan at step {bad_step}"):
        load_checkpoint(tmp_path, toy_network())
    with pytest.raises(Diverged, match=f"nan at step {bad_step}"):  # not tried again: the same steps end there again
        train(config, tmp_path, network=toy_network(), data=toy_data(config, Poisoned), device="cpu", progress=False)


def test_gradients_that_overflow_stop_too(tmp_path):
    class Overflow(TwoHeads):
        def forward(self, x):
            heads = super().forward(x)
            heads[0].register_hook(lambda g: g * torch.inf)
            return heads

    config = toy_config()
    with pytest.raises(KitError, match="norm of the gradients is nan at step 0"):
        train(config, tmp_path, network=Overflow(), data=toy_data(config), device="cpu", progress=False)


def test_bf16_trains(tmp_path):
    config = toy_config(precision="bf16-mixed", iterations=40, validate_every=40)
    result = train(config, tmp_path, network=toy_network(), data=toy_data(config), device="cpu", progress=False)
    assert result.history["DSC"].iloc[-1] > 0.6
    assert all(p.dtype == torch.float32 for p in result.network.parameters())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_asked_for_and_absent(tmp_path):
    with pytest.raises(KitError, match="CUDA is not available") as error:
        train(toy_config(), tmp_path / "run", network=toy_network(), data={}, device="cuda")
    assert "use cpu" in error.value.remedy


@pytest.mark.parametrize("numbers", [{"workers": -2}, {"processes": 0}, {"processes": -1}])
def test_numbers_of_processes_that_are_none(numbers, tmp_path):
    with pytest.raises(KitError, match=r"processes and -?\d+ workers were asked for"):
        train(toy_config(), tmp_path / "run", network=toy_network(), data={}, **numbers)
    with pytest.raises(KitError, match="cannot be shared by 7 processes"):
        train(toy_config(), tmp_path / "run", network=toy_network(), data={}, processes=7)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["gpu0", "xpu", "meta"])
def test_unknown_device(device, tmp_path):
    with pytest.raises(KitError, match="cpu"):
        train(toy_config(), tmp_path / "run", network=toy_network(), data={}, device=device)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"optimizer": "adam"}, "adamw"),
        ({"precision": "16-mixed"}, "bf16-mixed"),
        ({"iterations": 0}, "iterations"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"organs": ("liver", "spleeen")}, "spleen"),
        ({"image_size": (96,)}, "image_size"),
        ({"image_size": "96"}, "image_size takes a list, each entry a whole number"),
        ({"image_size": ["96", "96"]}, "image_size is"),
        ({"image_size": 96}, "image_size is"),
        ({"organs": "liver"}, "organs takes a list"),
        ({"iterations": 2.5}, "iterations takes a whole number"),
        ({"iterations": True}, "iterations takes a whole number"),
        ({"iterations": "12"}, "iterations takes a whole number"),
        ({"learning_rate": "fast"}, "learning_rate takes a finite number"),
        ({"learning_rate": math.nan}, "learning_rate takes a finite number"),
        ({"learning_rate": math.inf}, "learning_rate takes a finite number"),
        ({"spacing_mm": [3, 3]}, "spacing_mm is"),
        ({"spacing_mm": [-3]}, "spacing_mm is"),
        ({"spacing_mm": "thin"}, "spacing_mm takes a finite number or a list"),
        ({"fold": 1}, "the cohort has none of them"),
        ({"clip_norm": None}, "clip_norm takes a finite number"),
        ({"deep_supervision": 1}, "deep_supervision takes true or false"),
        ({"batch_dice": "no"}, "batch_dice takes true or false"),
        ({"network": 3}, "network takes text"),
        ({"network_overrides": ["pim"]}, "network_overrides takes names with values"),
        ({"network_overrides": {"windows": math.nan}}, "network_overrides takes names with values"),
        ({"optimizer": ["sgd"]}, "optimizer takes one of sgd, adamw"),
        ({"seed": -1}, "seed is -1"),
        ({"data_seed": 2**64}, "data_seed is"),
        ({"weight_decay": -0.1}, "weight_decay is"),
        ({"warmup": 0}, "warmup is 0"),
        ({"warmup": 1}, "warmup is 1"),
        ({"accumulate": 3}, "in 3 equal parts"),
        ({"ema_decay": 1}, "ema_decay is 1"),
        ({"ema_decay": -0.5}, "ema_decay is -0.5"),
    ],
)
def test_config_names_the_bad_field(change, words):
    with pytest.raises(KitError, match=words):
        toy_config(**change)


def test_numbers_of_numpy_and_lists_are_taken():
    config = toy_config(iterations=np.int64(5), learning_rate=1, image_size=np.array([8, 8]), organs=["liver"])
    assert config == toy_config(iterations=5, learning_rate=1.0, image_size=(8, 8), organs=("liver",))
    assert type(config.iterations) is int and type(config.learning_rate) is float


@pytest.mark.parametrize("change", ["iterations=true", "image_size=96", "organs=liver", "learning_rate=NaN", "seed=-1"])
def test_the_command_says_which_value_is_wrong(change, monkeypatch):
    with pytest.raises(KitError, match=change.split("=")[0]) as error:
        train_command(profile="smoke", set_=[change])
    assert error.value.remedy


def test_a_new_field_with_a_default_changes_no_digest(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Later(TrainConfig):
        mirrored: bool = False

    old, new = toy_config(), Later(**toy_config().to_dict())
    assert new.digest() == old.digest() != Later(**old.to_dict(), mirrored=True).digest()
    run = Run(tmp_path / "run", old.identity("data"))
    run.open()
    assert not new.identity("data").differences(json.loads((run.folder / "config.json").read_text()))
    assert list(Later(**old.to_dict(), mirrored=True).identity().differences(old.to_dict())) == ["mirrored"]


def test_what_decides_the_numbers_is_in_the_digest():
    config, data = toy_config(), toy_data(toy_config())
    same = identity(config, data, toy_network())
    assert same.digest == identity(toy_config(), toy_data(config), toy_network()).digest
    assert same.digest == identity(config, {**data, "test": Squares(3)}, toy_network()).digest
    others = [
        identity(toy_config(clip_norm=1.0), data, toy_network()),
        identity(config, {**data, "train": Poisoned(config.train_slices, seed=1)}, toy_network()),
        identity(config, {**data, "validation": Squares(config.validation_slices, seed=3)}, toy_network()),
        identity(config, data, toy_network(seed=1)),
        identity(config, data, toy_network(), processes=2),  # it has dropout
        identity(config, data),
    ]
    assert len({other.digest for other in (same, *others)}) == 7
    for network in (torch.nn.Conv2d(1, 3, 1), torch.nn.InstanceNorm2d(3)):
        assert identity(config, data, network, processes=2).digest == identity(config, data, network).digest


def test_a_phantom_is_not_the_scan():
    config = TrainConfig.from_profile("smoke")
    how = {"size": config.image_size, "spacing_mm": 3.0, "table": config.table, "length": 2}
    first, second, again = (CohortSlices("train", case=make_phantom(seed=seed), **how) for seed in (0, 1, 0))
    assert data_digest({"train": first}) == data_digest({"train": again}) != data_digest({"train": second})


def test_data_without_a_digest_are_told_apart_by_a_few_items():
    class Noise(torch.utils.data.Dataset):
        def __init__(self, length, last=0):
            self.length, self.last = length, last

        def __len__(self):
            return self.length

        def __getitem__(self, index):
            image = torch.rand(1, 4, 4) + (self.last if index == self.length - 1 else 0)
            return {"image": image, "label": np.full((4, 4), index)}

    state = torch.get_rng_state()
    digests = [data_digest({"train": items}) for items in (Noise(5), Noise(5), Noise(6), Noise(5, last=1), [])]
    assert digests[0] == digests[1] and len(set(digests)) == 4
    assert torch.equal(state, torch.get_rng_state())


def as_version_0_1(folder, target):
    """The same weights as version 0.1 wrote a run: its digest is over all fields, config.json holds nothing else."""
    fields = [
        "network", "network_overrides", "organs", "image_size", "spacing_mm", "data", "modality", "train_slices",
        "validation_slices", "data_seed", "batch_size", "iterations", "optimizer", "learning_rate", "weight_decay",
        "clip_norm", "deep_supervision", "batch_dice", "precision", "validate_every", "seed",
    ]  # fmt: skip
    target.mkdir(parents=True)
    config, done, record = (json.loads((folder / f"{name}.json").read_text()) for name in ("config", "done", "weights"))
    config = {**{name: config[name] for name in fields}, "learning_rate": 3e-3}
    ran = {name: done[name] for name in ("steps", "seconds", "device", "processes", "torch", "last")}
    digest, labels = digest_of(config), record["label_table"]["labels"]
    organs = [{name: label[name] for name in ("class", "name", "label")} for label in labels]
    record |= {
        "format": 1, "training": {**ran, "config": config, "digest": digest}, "label_table": {"organs": organs},
    }  # fmt: skip
    for name, content in {"config": config, "done": {"digest": digest, **ran}, "weights": record}.items():
        (target / f"{name}.json").write_text(json.dumps(content))
    for name in ("weights.safetensors", "history.csv"):
        shutil.copy(folder / name, target)
    return digest


def test_a_finished_run_of_version_0_1_is_fetched(tmp_path):
    old = tmp_path / "train" / "lkm-unet-tiny-2d-51dd9b3795"
    assert as_version_0_1(PACKAGED / "tiny-2d", old).startswith("51dd9b3795")  # which it had at its rate then
    config = load_result(old).config
    folder = run_folder(config, root=tmp_path, data=toy_data(config))
    assert folder == old
    result = train(config, folder, data=toy_data(config), watch=lambda *_: pytest.fail("trained again"))
    assert len(result.history) == 8


def test_gradients_are_clipped(tmp_path):
    """SGD moves by rate times gradient: clipped to next to nothing, next to nothing moves."""
    for clip, moved in ((1e-6, False), (12.0, True)):
        config = toy_config(optimizer="sgd", clip_norm=clip, iterations=4, weight_decay=0.0)
        trained = start(config, tmp_path / f"{clip}").network.state_dict()
        before = toy_network().state_dict()
        largest = max((trained[name] - before[name]).abs().max().item() for name in before)
        assert (largest > 1e-3) is moved and largest > 0


def test_adamw_decays_matrices_alone():
    network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=3)
    decays, stays = make_optimizer(toy_config(weight_decay=0.1), network).param_groups
    assert (decays["weight_decay"], stays["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decays, stays = ({names[id(p)] for p in group["params"]} for group in (decays, stays))
    assert decays | stays == set(names.values()) and not decays & stays
    assert all(name.endswith("weight") for name in decays)
    assert {name.rsplit(".", 1)[-1] for name in stays} >= {"A_log", "D", "bias"}
    assert any(name.endswith("x_proj.weight") for name in decays) and any("conv" in name for name in decays)
    assert all(dict(network.named_parameters())[name].ndim >= 2 for name in decays)


def test_config_round_trip_and_digest():
    config = TrainConfig.from_profile("laptop", network_overrides={"windows": ((8, 8), (4, 4))})
    assert TrainConfig.from_json(config.to_json()) == config
    assert TrainConfig.from_json(config.to_json()).digest() == config.digest()
    assert config.digest() != TrainConfig.from_profile("laptop").digest()
    with pytest.raises(KitError, match="iterations"):
        TrainConfig.from_json({"iteration": 5})
    with pytest.raises(KitError, match="not a training config"):
        TrainConfig.from_json("{")


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_makes_a_config(name):
    config = TrainConfig.from_profile(name)
    assert config.iterations == PROFILES[name].iterations and config.table.num_classes == len(PROFILES[name].organs) + 1


def test_run_folder_follows_config_and_environment(tmp_path, monkeypatch):
    config = toy_config()
    monkeypatch.setenv("LKM_RUNS", str(tmp_path))
    assert run_folder(config, data={}).parent == tmp_path / "train"
    assert run_folder(config, data={}) != run_folder(toy_config(seed=1), data={})


def test_published_weights_hold_no_pickle_and_are_checked(tmp_path):
    config = toy_config(iterations=2, validate_every=2)
    train(config, tmp_path, network=toy_network(), data=toy_data(config), device="cpu", progress=False)
    path = tmp_path / "weights.safetensors"
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert {name for name in header if name != "__metadata__"} == set(toy_network().state_dict())
    path.write_bytes(content[:-10])
    with pytest.raises(KitError, match="sha256"):
        load_checkpoint(tmp_path, toy_network())
    path.write_bytes(content)
    with pytest.raises(KitError, match="do not fit"):
        load_checkpoint(tmp_path, TwoHeads(classes=5))
    with pytest.raises(KitError, match="TwoHeads"):
        load_result(tmp_path)
    with pytest.raises(KitError, match="no training run"):
        load_checkpoint(tmp_path / "elsewhere")


def test_poly_rate_never_turns_complex():
    config = toy_config(optimizer="sgd", iterations=3)
    optimizer = make_optimizer(config, torch.nn.Linear(1, 1))
    schedule = make_schedule(config, optimizer)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    assert math.isfinite(schedule.get_last_lr()[0]) and schedule.get_last_lr()[0] == pytest.approx(0.0)
