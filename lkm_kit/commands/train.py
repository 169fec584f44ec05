"""``lkm train``: train, resume, or say that it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lkm_kit.commands.options import Phantoms

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
    run_dir: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/train/NETWORK-DIGEST.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    processes: Annotated[int, typer.Option(help="Data-parallel processes, one a GPU.")] = 1,
    workers: Annotated[int | None, typer.Option(help="DataLoader processes; default from the profile.")] = None,
    phantoms: Phantoms = False,
) -> None:
    """Train a network on the cohort. The same command again resumes a run that was stopped, to the same bits."""
    from lkm_kit.data import sample_source
    from lkm_kit.files import require_writable
    from lkm_kit.profiles import profile as profile_of
    from lkm_kit.training import TrainConfig, run_folder
    from lkm_kit.training import train as run_training

    chosen = profile_of(profile)
    changes = dict(_assignment(text) for text in set_ or ())
    if no_mamba:
        changes["network_overrides"] = {**changes.get("network_overrides", {}), "pim": False, "pam": False}
    changes |= {k: v for k, v in {"network": network, "iterations": iterations, "seed": seed}.items() if v is not None}
    fields = TrainConfig.from_profile(chosen).to_dict()
    config = TrainConfig.from_json({**fields, **changes})
    folder = require_writable(run_dir or run_folder(config), folder=True)
    print(sample_source())
    print(f"profile {chosen.name}: {config.iterations} steps of {config.batch_size} slices, {config.network}")
    print(f"run {folder}")
    result = run_training(
        config, folder, device=device, processes=processes, workers=chosen.workers if workers is None else workers
    )
    print(result.history.round(4).tail(5).to_string(index=False))
    print(f"weights: {result.run_dir / 'weights.safetensors'}")


def _assignment(text: str, option: str = "--set") -> tuple[str, object]:
    """``"name=value"`` -> name and value; the value is JSON, and anything that is not JSON is text."""
    import json

    from lkm_kit.errors import KitError

    name, equals, value = text.partition("=")
    if not equals:
        form, example = {"--set": ("FIELD", "batch_size=4"), "--slurm": ("KEY", "slurm_partition=gpu")}[option]
        raise KitError(f"{option} {text}", remedy=f"write {option} {form}=VALUE, for instance {option} {example}")
    try:
        return name.strip(), json.loads(value)
    except json.JSONDecodeError:
        return name.strip(), value
