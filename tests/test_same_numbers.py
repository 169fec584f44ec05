"""An unchanged config gives the numbers it always gave: to the bit where they were recorded, to rounding elsewhere.

``python tests/test_same_numbers.py`` records them anew, in ``tests/recorded/smoke_runs.json``; that is right only after
a change which is meant to change numbers, and which the CHANGELOG names.
"""

import hashlib
import json
import platform
import sys
import tempfile
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_training import Squares

from lkm_kit.data import CohortPatches, CohortSlices, LabelTable, make_phantom
from lkm_kit.training import TrainConfig, train

RECORD = Path(__file__).with_name("recorded") / "smoke_runs.json"
SMALL = {"features_per_stage": [4, 8], "strides": [[1, 1], [2, 2]], "windows": [8, 4]}
UNET = {key: SMALL[key] for key in ("features_per_stage", "strides")}
RUNS = {
    "contiguous": ("lkm-unet/tiny-2d", SMALL),
    "dilated": ("lkm-unet/tiny-2d", {**SMALL, "partition": "dilated", "pools": [2, 2]}),
    "count": ("lkm-unet/tiny-2d", {**SMALL, "windows": [4, 4], "partition": "count"}),
    "one direction": ("lkm-unet/tiny-2d", {**SMALL, "bidirectional": False}),
    "shuffled": ("shuffled-lkm-unet/tiny-2d", SMALL),
    "residual": ("residual-unet/tiny-2d", UNET),
    "plain": ("plain-unet/tiny-2d", UNET),
    "umamba-bot": ("umamba-bot/tiny-2d", UNET),
    "segresnet": ("segresnet/tiny-2d", {}),
    "reference backend": ("lkm-unet/tiny-2d", {**SMALL, "backend": "reference"}),
}


def machine() -> str:
    """What the last bits of a float32 sum depend on."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.system()} {platform.machine()} {capability}, torch {torch.__version__}"


def numbers(name: str) -> dict:
    """Losses, validation and weights of six steps on two synthetic organs, on one thread."""
    network, overrides = RUNS[name]
    config = TrainConfig(
        network=network, network_overrides=overrides, organs=("liver", "spleen"), image_size=(32, 32), batch_size=2,
        iterations=6, validate_every=3, train_slices=12, validation_slices=4, optimizer="sgd",
    )  # fmt: skip
    data = {"train": Squares(12, seed=1, size=32), "validation": Squares(4, seed=2, size=32)}
    threads, losses = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            watch = lambda step, loss, history: losses.append(loss)  # noqa: E731
            result = train(config, folder, data=data, device="cpu", progress=False, watch=watch)
            state = result.network.state_dict()
    finally:
        torch.set_num_threads(threads)
    weights = hashlib.sha256()
    for key in sorted(state):
        weights.update(key.encode() + state[key].contiguous().numpy().tobytes())
    return {"losses": losses, "DSC": result.history["DSC"].tolist(), "weights": weights.hexdigest()}


def items() -> dict:
    """Mean and bytes of a few items of the cohort, made of the phantom."""
    table, phantom = LabelTable(("liver", "spleen", "left kidney")), make_phantom()
    slices = CohortSlices("train", size=(64, 64), spacing_mm=4.5, table=table, length=8, seed=0, case=phantom)
    patches = CohortPatches("test", size=(8, 32, 32), spacing_mm=9, table=table, length=2, seed=0, case=phantom)
    found = {}
    for name, item in {"slice 0": slices[0], "slice 5": slices[5], "patch 1": patches[1]}.items():
        image, label = item["image"].contiguous(), item["label"].contiguous()
        digest = hashlib.sha256(image.numpy().tobytes() + label.numpy().tobytes()).hexdigest()
        found[name] = {"mean": float(image.mean()), "foreground": int((label > 0).sum()), "digest": digest}
    return found


def test_the_cohort_is_what_it_was():
    record = json.loads(RECORD.read_text())
    now, before = items(), record["items"]
    assert [item["mean"] for item in now.values()] == pytest.approx(
        [item["mean"] for item in before.values()], abs=1e-3
    )
    if machine() == record["machine"]:
        assert now == before


@pytest.mark.parametrize("name", RUNS)
def test_an_unchanged_config_gives_unchanged_numbers(name):
    record = json.loads(RECORD.read_text())
    now, before = numbers(name), record["runs"][name]
    assert now["losses"] == pytest.approx(before["losses"], rel=1e-4)
    if machine() == record["machine"]:
        assert now == before


if __name__ == "__main__":
    runs = {name: numbers(name) for name in RUNS}
    RECORD.write_text(json.dumps({"machine": machine(), "items": items(), "runs": runs}, indent=1) + "\n")
