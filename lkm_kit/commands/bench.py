"""``lkm bench``: how fast the kit is on this machine, as ratios against peers and against the machine's own floor."""

from __future__ import annotations

import platform
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Measure speed and memory on this machine. Trust the ratios of one run, not the milliseconds.",
    epilog="Examples:  lkm bench scan  |  lkm bench network --repeats 9  |  lkm bench growth --csv growth.csv",
)


def _writable(path: Path | None) -> Path | None:
    """Said before minutes of measuring."""
    from lkm_kit.files import require_writable

    return path and require_writable(path)


Repeats = Annotated[int, typer.Option(min=1, help="Timed repetitions; contestants take turns.")]
Csv = Annotated[Path | None, typer.Option(callback=_writable, help="Write the table there, too.")]


def machine() -> str:
    """Processor, cores, torch and device, in a line."""
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return f"{_processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}{gpu}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _show(table, csv: Path | None) -> None:
    print(machine())
    print(table.to_string(index=False))
    if "note" in table.attrs:
        print(table.attrs["note"])
    if csv is not None:
        from lkm_kit.files import write_text

        write_text(csv, table.to_csv(index=False))


@app.command()
def scan(repeats: Repeats = 3, peers: bool = True, csv: Csv = None) -> None:
    """The selective scan against plain numba, a torch loop, mambapy and the floor.

    With peers: some minutes and 6 GB of memory.
    """
    from lkm_kit.bench.scan import table

    _show(table(repeats=repeats, peers=peers), csv)


def _add(name: str, text: str) -> None:
    """A command that prints the table of ``lkm_kit.bench.NAME``."""

    def command(repeats: Repeats = 5, csv: Csv = None) -> None:
        _show(import_module(f"lkm_kit.bench.{name}").table(repeats=repeats), csv)

    app.command(name, help=text)(command)


for _name, _text in {
    "block": "BiM, forward + backward, against its matrix products and its bytes.",
    "train": "lkm train as it is called, alone and beside a busy process. A repetition takes a minute or two.",
    "step": "Where a training step's time goes: Mamba, convolutions, normalisation, loss, batch, AdamW; both networks.",
    "growth": "Time and memory against sequence length, beside self-attention.",
    "mixers": "Tokens a second and memory of every mixer, forward + backward, against sequence length.",
}.items():
    _add(_name, _text)


@app.command()
def network(
    repeats: Repeats = 5,
    busy: bool = True,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Slices a step, repeatable; default 1 and 8.")] = None,
    reference: Annotated[bool, typer.Option(help="The slow backend, too.")] = True,
    threads: Annotated[int | None, typer.Option(help="CPU threads; default all that this process has.")] = None,
    csv: Csv = None,
) -> None:
    """A training step of tiny-2d: both backends and the control, alone and beside a busy process."""
    from lkm_kit.bench.network import table
    from lkm_kit.devices import use_threads

    with use_threads(threads):
        _show(table(repeats=repeats, batch_sizes=tuple(batch or (1, 8)), busy=busy, reference=reference), csv)


@app.command()
def memory(csv: Csv = None) -> None:
    """Peak memory of the scan's forward + backward against its peers."""
    from lkm_kit.bench.memory import table

    _show(table(), csv)


@app.command()
def volume(csv: Csv = None, networks: bool = True) -> None:
    """lkm predict on 512 x 512 x 400 voxels; with networks: the paper's 3D networks on its patch, 6 GB. Minutes."""
    from lkm_kit.bench.volume import table

    _show(table() if networks else table(networks=()), csv)


@app.command()
def gpu(
    predict: Annotated[
        bool, typer.Option("--predict", help="What published rates of cards allow, kernel by kernel; needs no GPU.")
    ] = False,
    networks: Annotated[str | None, typer.Option(help="released-2d, paper-2d, paper-3d, by commas.")] = None,
    batch: Annotated[int | None, typer.Option(help="Instead of the paper's 24 (2D) and 2 (3D).", min=1)] = None,
    repeats: Repeats = 20,
    csv: Csv = None,
) -> None:
    """PiM and PaM at every stage of the paper's networks: over the map, through tokens, as released, and predicted.

    The prediction counts every kernel of them and of a whole training step.
    """
    from lkm_kit.bench import gpu, roofline
    from lkm_kit.errors import one_of

    names = [
        one_of(name.strip(), roofline.PAPER, "network") for name in (networks or ",".join(roofline.PAPER)).split(",")
    ]
    if predict:
        found = roofline.predict(names, batch=batch).round(3)
        found.attrs["note"] = roofline.summary(found).round(1).to_string(index=False)
    else:
        found = gpu.table(names, repeats=repeats, batch=batch)
    _show(found, csv)


@app.command("gpu-check")
def gpu_check(
    out: Annotated[Path, typer.Option("-o", "--out", help="The record, to be attached to a report.")] = Path(
        "gpu-check.json"
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tiny sizes on the CPU: tests the check itself.")] = False,
) -> None:
    """The first minutes on a CUDA machine: tests, parity, benchmarks, training in several ways, in a JSON file."""
    import json
    import os

    if dry_run:
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported
    from lkm_kit.bench.gpu_check import check
    from lkm_kit.errors import KitError
    from lkm_kit.files import require_writable, write_text

    require_writable(out)
    found = check(dry_run, keep=lambda so_far: write_text(out, json.dumps(so_far, indent=2) + "\n"))
    print(f"written to {out}")
    failed = [name for name, part in found["parts"].items() if not part["ok"]]
    if failed:
        raise KitError(f"failed: {', '.join(failed)}", remedy=f"{out} says how; attach it to a report")


@app.command()
def data(
    data: Annotated[Path | None, typer.Option(help="Folder or name of a data set; default the cohort.")] = None,
    profile: Annotated[str | None, typer.Option(help="smoke, laptop, gpu or paper.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="DataLoader processes to compare with none.")] = 2,
    csv: Csv = None,
) -> None:
    """Items a second, in this process and by workers, beside what a training step uses."""
    from lkm_kit.bench.data import table
    from lkm_kit.data import find_dataset
    from lkm_kit.training import TrainConfig

    own = None if data is None else TrainConfig.for_data(find_dataset(data), profile)
    _show(table(own or TrainConfig.from_profile(profile), workers=workers), csv)
