"""ema_decay: what is validated, kept and scored is a moving average of the weights, and nothing else changes."""

import torch
from safetensors.torch import load_file
from toy_training import start, start_and_die, toy_config, toy_data, toy_network

from lkm_kit.networks import build_network
from lkm_kit.training import TrainConfig, load_result, train

DECAY = 0.75
CONFIG = toy_config(iterations=6, validate_every=3, ema_decay=DECAY)
PLAIN = toy_config(iterations=6, validate_every=3)


def trained(config, folder):
    """The result, and the weights after every step."""
    network, weights = toy_network(), []

    def watch(step, loss, history):
        weights.append({name: value.detach().clone() for name, value in network.state_dict().items()})

    result = train(config, folder, network=network, data=toy_data(config), device="cpu", progress=False, watch=watch)
    return result, weights


def test_the_kept_weights_are_the_average_and_the_steps_are_the_same(tmp_path):
    result, steps = trained(CONFIG, tmp_path / "ema")
    plain, same_steps = trained(PLAIN, tmp_path / "plain")
    for mine, theirs in zip(steps, same_steps, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    kept = load_file(tmp_path / "ema" / "weights.safetensors")
    assert kept.keys() == steps[0].keys()
    for name, value in kept.items():
        expected = steps[0][name].double()
        for weights in steps[1:]:
            expected = DECAY * expected + (1 - DECAY) * weights[name].double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    last = load_file(tmp_path / "plain" / "weights.safetensors")
    assert all(torch.equal(last[name], steps[-1][name]) for name in last)
    assert not all(torch.equal(last[name], kept[name]) for name in last)
    columns = ["train_loss", "gradient_norm"]
    assert result.history[columns].equals(plain.history[columns])


def test_the_average_is_what_is_validated(tmp_path):
    result, _ = trained(CONFIG, tmp_path)
    items = [toy_data(CONFIG)["validation"][i] for i in range(CONFIG.validation_slices)]
    truth = torch.stack([item["label"] for item in items])
    with torch.no_grad():
        found = (
            load_result(tmp_path, toy_network()).network(torch.stack([item["image"] for item in items]))[0].argmax(1)
        )
    both = ((found == 1) & (truth == 1)).sum().item()
    expected = 2 * both / ((found == 1).sum() + (truth == 1).sum()).item()
    assert abs(result.history["DSC liver"].iloc[-1] - expected) < 1e-9


def test_killed_and_resumed_is_the_same_to_the_bit(tmp_path):
    start(CONFIG, tmp_path / "whole")
    start_and_die(CONFIG, tmp_path / "killed", 5)
    start(CONFIG, tmp_path / "killed")
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_lkm_unet_is_averaged_and_read_again(tmp_path):
    config = TrainConfig(
        iterations=2, validate_every=2, batch_size=2, train_slices=4, validation_slices=2, ema_decay=0.9,
        image_size=(16, 16), organs=("liver", "spleen"),
        network_overrides={"features_per_stage": [4, 8], "strides": [[1, 1], [2, 2]], "windows": [8, 4]},
    )  # fmt: skip
    result = train(config, tmp_path, data=toy_data(config), device="cpu", progress=False)
    again = build_network(config.network, input_channels=1, num_classes=3, **config.network_overrides)
    assert not result.network.training and result.network.state_dict().keys() == again.state_dict().keys()


def test_the_average_is_validated_at_the_trainings_precision(tmp_path):
    kinds = set()
    network = toy_network()
    for layer in network.modules():
        layer.register_forward_hook(lambda layer, inputs, output: kinds.add((layer.training, _kind(output))))
    config = toy_config(iterations=2, validate_every=2, ema_decay=DECAY, precision="bf16-mixed")
    train(config, tmp_path, network=network, data=toy_data(config), device="cpu", progress=False)
    assert {(True, torch.bfloat16), (False, torch.bfloat16)} <= kinds


def _kind(output):
    return (output[0] if isinstance(output, (list, tuple)) else output).dtype


def test_the_digest_of_a_run_without_an_average_is_what_it_was():
    assert TrainConfig(ema_decay=0.0).digest() == TrainConfig().digest() != TrainConfig(ema_decay=0.99).digest()
