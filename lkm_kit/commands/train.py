"""``lkm train``: train, resume, or say that it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lkm_kit.commands.options import Phantoms, Threads

EPILOG = (
    "Examples:  lkm train  |  lkm train --no-mamba  |  lkm train --profile gpu --device cuda --workers 8  |  "
    'lkm train --set learning_rate=0.001 --set organs=\'["liver", "spleen"]\''
)


def train(
    profile: Annotated[
        str | None, typer.Option(help="smoke, laptop, gpu or paper; default LKM_PROFILE, else by the machine.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Network by name, such as lkm-unet/tiny-2d.")] = None,
    no_mamba: Annotated[
        bool, typer.Option("--no-mamba", help="The control: the same network without PiM and PaM.")
    ] = False,
    iterations: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the weights and of the batches' order.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE of the training config (JSON), as often as needed.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of a data set (or its name in nnUNet_raw); default the kit's cohort.")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Of the data set, to validate on; default 0.")] = None,
    holdout: Annotated[float | None, typer.Option(help="Validate on this share of its persons instead.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Begin with the weights of this run, or packaged checkpoint, where they fit.")
    ] = None,
    freeze: Annotated[bool, typer.Option("--freeze-encoder", help="With --start: train the decoder alone.")] = False,
    run_dir: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/train/NETWORK-DIGEST.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    processes: Annotated[int, typer.Option(min=1, help="Data-parallel processes, one a GPU.")] = 1,
    workers: Annotated[int | None, typer.Option(min=0, help="DataLoader processes; default from the profile.")] = None,
    threads: Threads = None,
    phantoms: Phantoms = False,
) -> None:
    """Train on the cohort or on your own data. The same command again resumes a stopped run, to the same bits."""
    from lkm_kit.data import find_dataset, sample_source
    from lkm_kit.devices import use_threads
    from lkm_kit.errors import KitError
    from lkm_kit.files import require_writable
    from lkm_kit.networks.registry import network_recipe
    from lkm_kit.profiles import profile as profile_of
    from lkm_kit.training import TrainConfig, initial_network, make_datasets, run_folder
    from lkm_kit.training import train as run_training
    from lkm_kit.training.start import take_weights
    from lkm_kit.training.threads import choose_threads

    chosen = profile_of(profile)
    changes = TrainConfig.checked(dict(_assignment(text) for text in set_ or ()))
    if no_mamba:
        changes["network_overrides"] = {**changes.get("network_overrides", {}), "pim": False, "pam": False}
    changes |= {k: v for k, v in {"network": network, "iterations": iterations, "seed": seed}.items() if v is not None}
    if "network" in changes:
        network_recipe(changes["network"])  # a misspelt name ends here: no scan is fetched, no run begun
    if freeze and start is None:
        raise KitError("--freeze-encoder without --start keeps random weights", remedy="add --start RUN")
    changes |= {"freeze_encoder": True} if freeze else {}
    changes |= {k: v for k, v in {"fold": fold, "holdout": holdout}.items() if v is not None}
    if data is None:
        config = TrainConfig.from_json({**TrainConfig.from_profile(chosen).to_dict(), **changes})
        print(sample_source())
    else:
        own = find_dataset(data)
        config = TrainConfig.from_json(TrainConfig.for_data(own, chosen, **changes).to_dict())
        print(own)
    items = make_datasets(config)
    folder = require_writable(run_dir or run_folder(config, data=items, processes=processes, start=start), folder=True)
    kind = "slices" if len(config.image_size) == 2 else "patches"
    size = "x".join(map(str, config.image_size))
    print(f"profile {chosen.name}: {config.iterations} steps of {config.batch_size} {kind} of {size}, {config.network}")
    print(f"run {folder}")
    if start is not None:
        print(take_weights(initial_network(config), start))
    before = (folder / "done.json").stat().st_mtime_ns if (folder / "done.json").exists() else None
    workers = chosen.workers if workers is None else workers
    how = {"device": device, "processes": processes, "workers": workers, "start": start}
    if threads is None and processes == 1:
        threads = choose_threads(config, folder, device)
        print(f"CPU threads: {threads}, by measurement; --threads sets them" if threads else "CPU threads: all")
    with use_threads(threads, processes):
        result = run_training(config, folder, data=items, **how)
    print(result.history.round(4).tail(5).to_string(index=False))
    print(f"weights: {result.run_dir / 'weights.safetensors'}")
    if before == (result.run_dir / "done.json").stat().st_mtime_ns:
        print("this run had finished before: nothing was trained now; another --seed or --run-dir trains anew")


def _assignment(text: str, option: str = "--set") -> tuple[str, object]:
    """``"name=value"`` -> name and value; the value is JSON, and anything that is not JSON is text."""
    from lkm_kit.errors import KitError
    from lkm_kit.files import parse_json

    name, equals, value = text.partition("=")
    if not equals:
        form, example = {"--set": ("FIELD", "batch_size=4"), "--slurm": ("KEY", "slurm_partition=gpu")}[option]
        raise KitError(f"{option} {text}", remedy=f"write {option} {form}=VALUE, for instance {option} {example}")
    try:
        return name.strip(), parse_json(value)
    except ValueError:
        return name.strip(), value
