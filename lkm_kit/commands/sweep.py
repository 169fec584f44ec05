"""``lkm study sweep``: which learning rate is each arm's own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from lkm_kit.commands.options import Phantoms, Threads
from lkm_kit.commands.study import (
    Arms,
    Changes,
    Concurrent,
    Data,
    Device,
    Devices,
    Dims,
    File,
    Launcher,
    ProfileName,
    Root,
    Slurm,
    StudyName,
    Workers,
    _launch,
    _plan,
    _study,
)

EPILOG = (
    "Examples:  lkm study sweep table3 --profile laptop --rates 0.003,0.01,0.02 --warmups 0.1  |  "
    "lkm study sweep table3 --arms residual-unet,pim --seeds 3  |  "
    "lkm study run table3 --profile laptop --best-of runs/table3-sweep/laptop/report"
)


def sweep(
    study: StudyName = None,
    file: File = None,
    profile: ProfileName = None,
    rates: Annotated[str, typer.Option(help="Learning rates, separated by commas.")] = "0.003,0.01,0.02",
    warmups: Annotated[
        str | None,
        typer.Option(help="Shares of the steps in which one cycle rises, separated by commas; default the profile's."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds: 1000, 1001, ..., which no study uses.")] = 2,
    arms: Arms = None,
    set_: Changes = None,
    root: Root = None,
    data: Data = None,
    dims: Dims = 2,
    launcher: Launcher = "serial",
    processes: Concurrent = 2,
    slurm: Slurm = None,
    device: Device = "auto",
    devices: Devices = 1,
    workers: Workers = None,
    threads: Threads = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder; default report/ in the sweep's.")] = None,
    again: Annotated[
        Path | None, typer.Option("--again", help="A written sweep's folder: table and picture anew from sweep.csv.")
    ] = None,
    phantoms: Phantoms = False,
) -> None:
    """Train every arm at every learning rate, score on validation items alone, and name each arm's best rate.

    The same command again resumes. Test items are not read.
    """
    from lkm_kit.files import read_json
    from lkm_kit.studies.sweep import curves, make_sweep, read_sweep
    from lkm_kit.studies.sweep_report import sweep_text, write_sweep

    if again is not None:
        whole, table = _study(study, file, profile), read_sweep(again)
        caption = read_json(again / "sweep.json", "caption of a sweep's picture")
        about, out = {key: caption[key] for key in ("config", "profile", "seed")}, out or again
    else:
        plan = _plan(study, file, profile, None, arms, set_, root, data, None, dims)
        mine = make_sweep(plan, _numbers("--rates", rates), _numbers("--warmups", warmups or ""), seeds)
        _launch(mine, launcher, processes, slurm, device, devices, workers, threads)
        whole, table, out = plan.study, curves(mine), out or mine.folder / "report"
        about = {"config": mine.protocol(), "profile": mine.size.name, "seed": list(mine.seeds)}
    folder = write_sweep(table, whole, out, about)
    print(f"{sweep_text(table, whole)}\nwritten to {folder}")
    if again is None:
        print(f"each arm at its own best: lkm study run {plan.called} --best-of {shlex.quote(str(folder))}")


def _numbers(option: str, text: str) -> list[float]:
    from lkm_kit.errors import KitError

    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise KitError(f"{option} {text}", remedy=f"give numbers separated by commas: {option} 0.1,0.3") from None
