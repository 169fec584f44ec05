"""The benchmarks: they compare like with like, count what they say, and their tables can be read."""

from typing import NamedTuple

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from lkm_kit.bench import block, floor, growth, scan
from lkm_kit.bench import step as bench_step
from lkm_kit.bench import train as bench_train
from lkm_kit.bench.floor import Rates
from lkm_kit.bench.timing import medians
from lkm_kit.blocks import BiM
from lkm_kit.cli import app
from lkm_kit.errors import KitError
from lkm_kit.training import TrainConfig


def test_medians_take_turns():
    order = []
    medians({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3)
    assert order == ["a", "b"] * 4  # once to warm up, three times timed


def test_a_floor_is_below_what_is_measured():
    """The least time for the exponentials of a scan, against the scan: a floor far above it is counted wrongly."""
    p = scan.operands(8, 64, 400, 16)
    floors, scans = [], []
    for _ in range(3):  # another process may hold the cores during a measurement: the shortest times are the truest
        floors.append(floor.measure(repeats=3).scan_seconds(8 * 64 * 400 * 16, **floor.FORWARD))
        with torch.no_grad():
            scans.append(medians({"cpu": lambda: scan.contestants(peers=False)["cpu"](p)}, repeats=3)["cpu"])
    assert 0 < min(floors) < 2 * min(scans)  # on a busy machine they differ by a third; a wrong count, by 2 or 16


def test_the_floor_adds_up():
    rates = floor.Rates(exponentials=1e9, fmas=2e9, bytes=1.0)
    assert rates.scan_seconds(1e9, exponentials=1, fmas=3) == pytest.approx(1 + 1.5)


def test_peers_compute_the_same_scan():
    p = scan.operands(2, 16, 33, 4)
    values = [run(p) for run in scan.contestants().values()]
    assert len(values) >= 2
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], atol=1e-4, rtol=1e-4)


def test_products_are_those_of_the_block():
    """FLOPs of BiM's linear layers, counted by torch, against those of the benchmark's bare products."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as bare:
        block.products(2, 32, 16)()
    reference = BiM(16, backend="reference")
    tokens = torch.randn(2, 32, 16, requires_grad=True)
    with FlopCounterMode(display=False) as whole:
        reference(tokens).sum().backward()
    counts = whole.get_flop_counts()["Global"]
    linear = sum(n for operation, n in counts.items() if "convolution" not in str(operation))
    assert bare.get_total_flops() == linear


def test_attention_keeps_the_square_and_bim_does_not():
    table = growth.table((64, 256), repeats=1, channels=16).set_index("tokens")
    growths = table.loc[256] / table.loc[64]
    assert growths["self-attention MiB"] > 8 and growths["BiM MiB"] < 5


def test_the_command_prints_and_writes(tmp_path):
    csv = tmp_path / "growth.csv"
    result = CliRunner().invoke(app, ["bench", "growth", "--repeats", "1", "--csv", str(csv)])
    assert result.exit_code == 0 and "threads" in result.output
    assert list(pd.read_csv(csv)["tokens"]) == [64, 256, 1024, 4096]
    assert {"scan", "block", "network", "memory", "growth"} <= set(CliRunner().invoke(app, ["bench"]).output.split())


class Event(NamedTuple):
    name: str
    self_cpu_time_total: float
    cpu_parent: object = None


def test_a_step_is_divided_by_what_an_operation_belongs_to():
    """An operation counts once, under what is above it: a product inside the mixer is Mamba, another one the rest."""
    mixer = Event("lkm_kit::mamba_mix_cpu", 2000.0)
    update = Event("step: update", 100.0)
    events = [mixer, Event("aten::mm", 500.0, mixer), Event("aten::mm", 300.0), update]
    events += [Event("aten::norm", 50.0, update), Event("ConvolutionBackward0", 10.0), Event("step: batch", 70.0)]
    found = bench_step.by_part(events)
    assert found["Mamba (fused mixer)"] == 2.5 and found["the rest"] == 0.3
    others = found[["clipping and AdamW", "convolutions", "making the batch"]]
    assert others.to_list() == pytest.approx([0.15, 0.01, 0.07])


def test_the_parts_of_a_real_step_add_up_and_only_lkm_unet_has_mamba(a_slab, monkeypatch):
    counted, by_part = [], bench_step.by_part

    def listen(events):
        counted.append(sum(event.name == "step: batch" for event in events))
        return by_part(events)

    monkeypatch.setattr(bench_step, "by_part", listen)
    config = TrainConfig.from_profile("smoke", batch_size=1)
    whole = bench_step.table(repeats=1, config=config)
    table = whole.set_index("part")
    assert counted == [1, 1]  # the first steps, which compile and allocate, are not in it
    assert table.loc["Mamba (fused mixer)", "no Mamba ms"] == 0 < table.loc["Mamba (fused mixer)", "LKM-UNet ms"]
    assert (table.loc["convolutions"] > 0).all()
    assert table.drop(index="sum").sum().sub(table.loc["sum"]).abs().max() < 1
    assert "Mamba at best: scans" in whole.attrs["note"]


def test_the_floor_of_mamba_counts_every_scan_of_a_step(monkeypatch):
    monkeypatch.setattr(bench_step, "measure", lambda repeats: Rates(1e9, 1e12, 1e9))
    base = {"image_size": (32, 32), "batch_size": 3}
    one_way = {"windows": [[8, 8]] * 4, "pam": False, "bidirectional": False}
    found = []
    for overrides in (one_way, {**one_way, "bidirectional": True}):
        config = TrainConfig.from_profile("smoke", **base, network_overrides={**overrides, "pad": True})
        found.append(bench_step.floor(config, 1))
    # pixels of the four stages, padded to windows, times inner width (twice 8, 16, 32, 64 channels), times 16 states
    updates = 3 * 16 * sum(side**2 * 2 * width for side, width in ((32, 8), (16, 16), (8, 32), (8, 64)))
    assert found[0]["scans"] == pytest.approx(1000 * updates * (2 / 1e9 + 14 / 1e12))
    assert found[1]["scans"] == pytest.approx(2 * found[0]["scans"])
    assert found[1]["bytes"] == pytest.approx(found[0]["bytes"]) and found[1]["products"] > 0


@pytest.mark.thorough
def test_a_training_is_timed_alone_and_beside_a_busy_process(monkeypatch):
    monkeypatch.setattr(bench_train, "NETWORKS", {"no Mamba": ["--no-mamba"]})
    (row,) = bench_train.table(repeats=1, steps=2, profile="smoke").to_dict("records")
    assert row["alone s"] > 0 and row["beside s"] > 0 and set(row["threads alone, beside"]) <= set("12345678, or")
    with pytest.raises(KitError, match="no profile"):
        bench_train.table(repeats=1, profile="huge")
