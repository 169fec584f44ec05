"""What a first CUDA machine is asked to run: on paper, in the interpreter, and to its end whatever fails."""

import json
import math
import sys

import archives
import pytest
import torch

from lkm_kit.bench import gpu_check, gpu_steps, roofline
from lkm_kit.bench.kernels import Kernel, kernels_of
from lkm_kit.blocks import PaM, PiM
from lkm_kit.errors import KitError
from lkm_kit.networks import build_network
from lkm_kit.networks.convolutions import ConvNorm


def test_a_kernel_takes_the_longer_of_its_bytes_and_its_operations():
    card = roofline.Card(bandwidth=8.0, float32=4.0, tensor_cores=16.0, memory=1.0)
    assert card.seconds(Kernel("", bytes=8, operations=2)) == 1.0
    assert card.seconds(Kernel("", bytes=8, operations=8)) == 2.0
    assert card.seconds(Kernel("", bytes=8, operations=8, tensor_cores=True)) == 1.0


def test_each_tensor_counts_once_and_views_and_empty_tensors_not_at_all():
    x, y = (torch.empty(5, 4, device="meta") for _ in range(2))
    z, row = torch.empty_like(x), torch.empty(4, device="meta")
    cases = {
        "view": (lambda: x.t().reshape(4, 5).unsqueeze(0), []),
        "room": (lambda: torch.empty(9, device="meta"), []),
        "both read, one written": (lambda: x + y, [60]),
        "in place": (lambda: x.add_(y), [60]),
        "out": (lambda: torch.add(x, y, out=z), [60]),
        "not read before": (lambda: (x.copy_(y), x.zero_()), [40, 20]),
        "a value that repeats": (lambda: x + row.expand(5, 4), [44]),
        "lists": (lambda: torch._foreach_add_([x, y], [y, x]), [120]),
    }
    for name, (run, values) in cases.items():
        assert [k.bytes for k in kernels_of(run)] == [4 * each for each in values], name
    (product,) = kernels_of(lambda: torch.nn.functional.conv2d(x[None, None], x[None, None, :3, :3]))
    assert product.tensor_cores and product.operations == 2 * 9 * (3 * 2)


def test_kernels_of_a_layer_move_and_compute_what_can_be_counted_by_hand():
    """Two windows of ten tokens, 32 inner channels, two states, one direction: what training moves, in float32."""
    layer = PiM(16, window=(2, 5), bidirectional=False, d_state=2, backend="triton")
    found = roofline.layer_kernels(layer, (1, 16, 2, 10))
    ahead, back = ({k.name.split()[0]: k for k in found[name]} for name in ("forward", "backward"))
    tokens, rates, order = 20 * 32, 32 * 2 + 32 + 32, 20  # 20 * 32 numbers each of x, z, delta, y; A, D and bias
    kept = 2 * 32 * 2  # a state before each window
    assert ahead["kernels.forward"].bytes == 4 * (4 * tokens + 2 * 20 * 2 + rates + order + kept)
    assert ahead["kernels.forward"].operations == 7 * tokens * 2
    assert ahead["conv_kernels.forward"].bytes == 4 * (2 * tokens + 32 * 4 + 32 + order)
    sums = 32 * 2 + 32 + 32  # gradients of A, D and the bias, of both windows
    assert back["kernels.backward"].bytes == 4 * (
        7 * tokens + 4 * 20 * 2 + rates + order + kept + 2 * sums
    )  # x, delta, z, dy and their gradients; those of B and C
    assert back["kernels.backward"].operations == 23 * tokens * 2
    products = {k.name.split()[1]: k for k in found["forward"] if "→" in k.name}
    assert list(products) == ["16→64", "32→5", "1→32", "32→16"], "in, x, delta and out"
    assert products["16→64"][1:3] == (4 * (20 * 16 + 16 * 64 + 20 * 64), 2 * 20 * 16 * 64)
    assert "native_layer_norm" in ahead and "native_layer_norm_backward" in back


def test_the_passes_over_chunks_are_counted():
    layer = PaM(8, pool=1, bidirectional=False, backend="triton")
    found = roofline.layer_kernels(layer, (1, 8, 8, 8))
    names = [k.name for kernels in found.values() for k in kernels if k.name.startswith("kernels")]
    assert names == [
        f"kernels.{name}" for name in ("forward", "carry", "forward", "state_gradient", "carry", "backward")
    ]
    effects, _, output = (k for k in found["forward"] if k.name.startswith("kernels"))
    assert effects.bytes < 0.7 * output.bytes  # neither z nor C is read, and no y written


def test_no_map_is_copied_where_an_activation_follows_a_norm():
    with torch.device("meta"):
        y = ConvNorm(2, 4, (3, 3), (1, 1))(torch.empty(3, 2, 8, 8))
    names = {kernel.name for kernel in kernels_of(lambda: y.sum().backward())}
    assert {"leaky_relu_backward", "native_batch_norm_backward"} <= names
    assert not names & {"copy_", "clone", "new_zeros"}


@pytest.mark.parametrize("network", [*roofline.PAPER, "released-3d"])
def test_the_first_layer_of_the_papers_networks_is_counted_at_its_size(network):
    size, batch = roofline.PAPER.get(network, roofline.PAPER["paper-3d"])
    with torch.device("meta"):
        _, layer, extent = roofline.mamba_layers(network, size, backend="triton")[0]
    found = roofline.layer_kernels(layer, (batch, layer.bim.channels, *extent))
    inner = batch * math.prod(extent) * 2 * layer.bim.channels
    scans = [k.bytes for k in found["forward"] if k.name == "kernels.forward"]
    assert len(scans) == 2 and 4 * 4 * inner < scans[0] < 4 * 8 * inner and scans[1] - scans[0] == 4 * inner
    # dB and dC are not written once for each block of channels and then added up: 1.8 GB at released-3d's first stage
    backward = max(k.bytes for k in found["backward"] if k.name == "kernels.backward")
    sums = max(k.bytes for k in found["backward"] if k.name == "sum")
    assert sums < (0.02 if network == "released-3d" else 0.2) * backward
    assert all(roofline.CARDS["RTX 3090"].seconds(k) > 0 for kernels in found.values() for k in kernels)


def test_the_prediction_halves_where_the_bandwidth_doubles_and_knows_the_whole_step(monkeypatch):
    monkeypatch.setattr(roofline, "PAPER", {"tiny-2d": ((96, 96), 2)})
    slow = roofline.Card(1e12, math.inf, math.inf, 1.0)
    table = roofline.predict(["tiny-2d"], {"slow": slow, "fast": slow._replace(bandwidth=2e12)})
    assert (table["slow ms"] / table["fast ms"]).round(6).eq(2).all() and set(table["bound"]) == {"memory"}
    step = table["stage"] == roofline.STEP
    assert set(table[step]["pass"]) == {"forward", "backward", "update"} and set(table[~step]["stage"]) == {
        f"{stage} {layer}" for stage in range(4) for layer in ("PiM", "PaM")
    }
    sums = roofline.summary(table).set_index(["of", "pass"])
    for name in ("forward", "backward"):
        # a step has the layers' kernels, and the convolutions, norms and heads around them
        part, whole = sums.loc[("PiM and PaM", name), "MB"], sums.loc[(roofline.STEP, name), "MB"]
        assert 0.2 < part / whole < 0.9
        assert (
            sums.loc[("PiM and PaM", name), "scan, % of slow ms"]
            > sums.loc[(roofline.STEP, name), "scan, % of slow ms"]
        )
    assert sums["slow ms"].sum() == pytest.approx(table["slow ms"].sum())
    optimizer = table[step & (table["pass"] == "update")]
    network = build_network("lkm-unet/tiny-2d", input_channels=1, num_classes=14)
    numbers = sum(p.numel() for p in network.parameters())
    # SGD with momentum reads weight, gradient and momentum and writes two of them, the norm reads the gradient
    assert optimizer["MB"].sum() > 4e-6 * 6 * numbers


def test_without_a_gpu_the_benchmark_offers_its_prediction(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert archives.lkm("bench", "gpu", "--networks", "paper-2d") != 0
    assert "--predict" in capsys.readouterr().err
    monkeypatch.setattr(roofline, "mamba_layers", lambda *given, **how: [])
    step = {"forward": [Kernel("mm", 4e9, 1.0), Kernel("kernels.forward", 4e9, 1.0)]}
    counted = lambda network, size, batch: {**step, "update": step["forward"] * batch}  # noqa: E731
    monkeypatch.setattr(roofline, "step_kernels", counted)
    assert archives.lkm("bench", "gpu", "--predict", "--networks", "paper-2d", "--batch", "3") == 0
    printed = capsys.readouterr().out
    assert "A100 ms" in printed and "12000.0" in printed and "scan, % of RTX 3090 ms" in printed


@pytest.mark.thorough  # forty seconds of computing, half of them for torch.compile
def test_the_check_runs_dry(tmp_path, monkeypatch):
    """Parity in a process of its own, as every part has one; the others here, where libraries are imported."""
    pytest.importorskip("triton", reason="Triton is published for Linux alone")
    apart = gpu_check._apart

    def here(command, limit):
        *_, name, device = command
        if name == "parity":
            return apart(command, limit)
        return {"ok": True, "result": gpu_check._PARTS[name](torch.device(device))}

    monkeypatch.setattr(gpu_check, "_apart", here)
    assert archives.lkm("bench", "gpu-check", "--dry-run", "-o", tmp_path / "found.json") == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["parts"]) == list(gpu_check.SECONDS) and found["dry run"]
    parity = found["parts"]["parity"]["result"]
    assert {"reference", "triton", "PiM over the map"} <= set(parity) and max(parity.values()) < 1e-4
    assert "collected" in found["parts"]["tests"]["result"] and found["hardware"]["backends"]["reference"] == "ok"
    assert "triton" in found["hardware"]["packages"]
    training, paper, ways = (found["parts"][name]["result"] for name in ("training", "paper", "ways"))
    assert list(paper) == ["tiny-2d, float32", "tiny-2d, bf16"] and paper["tiny-2d, float32"]["predicted MiB"] > 0
    assert training["predicted ms"] > 0 and training["predicted MiB"] > 0
    assert list(ways) == list(gpu_steps.WAYS) and not [way for way in ways.values() if "error" in way]
    losses = [way["first loss"] for way in ways.values()]  # layout and compiler change nothing, bf16 a little
    assert losses == pytest.approx([losses[0]] * len(losses), rel=0.02) and losses[1] == pytest.approx(
        losses[0], rel=1e-5
    )


def test_a_way_that_fails_leaves_the_others(monkeypatch):
    def steps(device, *given, compiled=False, **how):
        if compiled:
            raise RuntimeError("no compiler")
        return {"ms a step": 1.0}

    monkeypatch.setattr(gpu_steps, "_steps", steps)
    found = gpu_steps.ways(torch.device("cpu"))
    assert [name for name, way in found.items() if "error" in way] == [n for n in gpu_steps.WAYS if "compiled" in n]
    monkeypatch.setattr(gpu_steps, "WAYS", {"float32": {"compiled": True}})
    with pytest.raises(RuntimeError, match="no compiler"):
        gpu_steps.ways(torch.device("cpu"))


def test_a_part_that_fails_crashes_or_hangs_does_not_stop_the_others(monkeypatch, tmp_path, capsys):
    ends = {
        "tests": "print('on the way'); print(7)",
        "parity": "raise RuntimeError('out of registers')",
        "small benchmark": "import os; os.abort()",
        "large benchmark": "import time; time.sleep(60)",
        "training": "print(8)",
        "paper": "print(10)",
        "ways": "print(9)",
    }
    assert list(ends) == list(gpu_check.SECONDS) and sum(gpu_check.SECONDS.values()) < 600
    monkeypatch.setattr(gpu_check, "_command", lambda name, device: [sys.executable, "-c", ends[name]])
    monkeypatch.setattr(gpu_check, "SECONDS", {**gpu_check.SECONDS, "large benchmark": 0.1})
    assert archives.lkm("bench", "gpu-check", "--dry-run", "-o", tmp_path / "found.json") != 0
    assert "failed: parity, small benchmark, large benchmark" in capsys.readouterr().err
    parts = json.loads((tmp_path / "found.json").read_text())["parts"]
    assert [part["ok"] for part in parts.values()] == [True, False, False, False, True, True, True]
    assert (parts["tests"]["result"], parts["training"]["result"]) == (7, 8)
    assert "out of registers" in parts["parity"]["error"] and "exit" in parts["small benchmark"]["error"]
    assert "stopped after" in parts["large benchmark"]["error"]


def test_what_a_part_said_before_it_was_stopped_is_kept(monkeypatch):
    def stopped(command, **how):
        raise gpu_check.subprocess.TimeoutExpired(command, 3, output=b'{"float32": 1}\n', stderr=b"slow")

    monkeypatch.setattr(gpu_check.subprocess, "run", stopped)
    part = gpu_check._apart([], 3)
    assert part == {"ok": False, "error": "slow\nstopped after 3 seconds", "so far": '{"float32": 1}\n'}


def test_what_is_found_is_kept_after_every_part(monkeypatch):
    monkeypatch.setattr(gpu_check, "_apart", lambda command, limit: {"ok": True, "result": 1})
    numbers = []
    gpu_check.check(dry_run=True, say=lambda line: None, keep=lambda found: numbers.append(len(found["parts"])))
    assert numbers == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_told_so():
    with pytest.raises(KitError, match="no CUDA device"):
        gpu_check.check()
