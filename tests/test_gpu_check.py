"""What a first CUDA machine is asked to run: on paper, in the interpreter, and to its end whatever fails."""

import json
import sys

import archives
import pytest

from lkm_kit.bench import gpu_check, roofline
from lkm_kit.errors import KitError


def test_a_kernel_takes_the_longer_of_its_bytes_and_its_operations():
    card = roofline.Card(bandwidth=8.0, float32=4.0, memory=1.0)
    assert roofline.Kernel("", values=2, operations=2).seconds(card) == 1.0
    assert roofline.Kernel("", values=2, operations=8).seconds(card) == 2.0


def test_kernels_move_and_compute_what_can_be_counted_by_hand():
    kernels = {k.name: k for k in roofline.mixer_kernels(10, 16, directions=1, d_state=2)["forward"]}
    assert (kernels["in_proj"].values, kernels["in_proj"].operations) == (10 * (16 + 64), 2 * 10 * 16 * 64)
    assert kernels["scan"].values == 10 * (3 * 32 + 4) + 10 * 32, "x, delta, z, B, C in; y out"
    assert kernels["scan"].operations == 7 * 10 * 32 * 2


def test_the_prediction_halves_where_the_bandwidth_doubles(monkeypatch):
    slow = roofline.Card(1e12, float("inf"), 1.0)
    monkeypatch.setattr(roofline, "CARDS", {"slow": slow, "fast": slow._replace(bandwidth=2e12)})
    table = roofline.predict(["paper-2d"], ["slow", "fast"])
    assert (table["slow ms"] / table["fast ms"]).round(6).eq(2).all() and set(table["bound"]) == {"memory"}
    assert len(table) == 2 * len(set(table["stage"])) * 5
    sums = roofline.summary(table)
    assert sums["slow ms"].sum() == pytest.approx(table["slow ms"].sum())


def test_without_a_gpu_the_benchmark_offers_its_prediction(capsys):
    assert archives.lkm("bench", "gpu", "--networks", "paper-2d") != 0
    assert "--predict" in capsys.readouterr().err
    assert archives.lkm("bench", "gpu", "--predict", "--networks", "paper-2d") == 0
    assert "A100 ms" in capsys.readouterr().out


def test_the_check_runs_dry(tmp_path, capsys):
    pytest.importorskip("triton", reason="Triton is published for Linux alone")
    assert archives.lkm("bench", "gpu-check", "--dry-run", "-o", tmp_path / "found.json") == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["parts"]) == list(gpu_check.SECONDS) and found["dry run"]
    parity = found["parts"]["parity"]["result"]
    assert {"reference", "triton", "PiM over the map"} <= set(parity) and max(parity.values()) < 1e-4
    assert "collected" in found["parts"]["tests"]["result"] and found["hardware"]["backends"]["reference"] == "ok"
    assert "triton" in found["hardware"]["packages"]


def test_a_part_that_fails_crashes_or_hangs_does_not_stop_the_others(monkeypatch, tmp_path, capsys):
    ends = {
        "tests": "print('on the way'); print(7)",
        "parity": "raise RuntimeError('out of registers')",
        "small benchmark": "import os; os.abort()",
        "large benchmark": "import time; time.sleep(60)",
        "training": "print(8)",
    }
    assert list(ends) == list(gpu_check.SECONDS) and sum(gpu_check.SECONDS.values()) < 600
    monkeypatch.setattr(gpu_check, "_command", lambda name, device: [sys.executable, "-c", ends[name]])
    monkeypatch.setattr(gpu_check, "SECONDS", {**gpu_check.SECONDS, "large benchmark": 0.1})
    assert archives.lkm("bench", "gpu-check", "--dry-run", "-o", tmp_path / "found.json") != 0
    assert "failed: parity, small benchmark, large benchmark" in capsys.readouterr().err
    parts = json.loads((tmp_path / "found.json").read_text())["parts"]
    assert [part["ok"] for part in parts.values()] == [True, False, False, False, True]
    assert (parts["tests"]["result"], parts["training"]["result"]) == (7, 8)
    assert "out of registers" in parts["parity"]["error"] and "exit" in parts["small benchmark"]["error"]
    assert "stopped after" in parts["large benchmark"]["error"]


def test_what_is_found_is_kept_after_every_part(monkeypatch):
    monkeypatch.setattr(gpu_check, "_apart", lambda command, limit: {"ok": True, "result": 1})
    numbers = []
    gpu_check.check(dry_run=True, say=lambda line: None, keep=lambda found: numbers.append(len(found["parts"])))
    assert numbers == [1, 2, 3, 4, 5]


@pytest.mark.skipif(gpu_check.torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_told_so():
    with pytest.raises(KitError, match="no CUDA device"):
        gpu_check.check()
