"""One process or several, on CPUs or GPUs, under torchrun, Slurm or neither: the Fabric that a training runs on."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

import torch

from lkm_kit.devices import resolve_device
from lkm_kit.errors import KitError
from lkm_kit.training.config import TrainConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def make_fabric(config: TrainConfig, device: str = "auto", processes: int = 1, unused: bool = True) -> Fabric:
    """A Fabric on the asked device; spawns its processes itself unless torchrun or Slurm already did.

    Args:
        config: its precision is used.
        device, processes: as in :func:`lkm_kit.training.train`.
        unused: the network may have parameters that take no part in the loss, such as heads below the first one without
            deep supervision. To look for them costs a moment a step.

    A Slurm job of one task (a study's, through submitit) counts as a plain machine: its processes are spawned too.

    Raises:
        KitError: the device is absent, there are fewer GPUs than processes, or processes were started on several nodes.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment
    from lightning_fabric.strategies import DDPStrategy

    chosen = resolve_device(device)
    if processes < 1 or (chosen.type == "cuda" and processes > torch.cuda.device_count()):
        raise KitError(
            f"{processes} processes were asked for on {chosen.type}",
            remedy=f"choose 1 to {torch.cuda.device_count()}" if chosen.type == "cuda" else "choose 1 or more",
        )
    if processes == 1:
        devices = [chosen.index or 0] if chosen.type == "cuda" else 1
        with warnings.catch_warnings():  # Lightning's hint to use srun means nothing for one process
            warnings.filterwarnings("ignore", message="The `srun` command is available")
            return Fabric(accelerator=chosen.type, devices=devices, precision=config.precision)
    how = {"accelerator": chosen.type, "devices": processes, "precision": config.precision}
    if outside_rank(processes) is not None:
        started = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or processes)
        if started != processes:
            raise KitError(
                f"{started} processes were started for a training by {processes}",
                remedy="a training runs on one node, by as many processes as it is asked for (--devices)",
            )
        return Fabric(strategy=DDPStrategy(find_unused_parameters=unused), **how)
    start = "fork" if hasattr(sys, "ps1") else "spawn"
    # the environment is named, or Fabric would see Slurm's variables in a job of one task and miss the other tasks
    strategy = DDPStrategy(start_method=start, find_unused_parameters=unused)
    return Fabric(strategy=strategy, plugins=LightningEnvironment(), **how)


def outside_rank(processes: int) -> int | None:
    """Number of this process where torchrun or Slurm started all that train together, else None.

    >>> outside_rank(1) is None
    True
    """
    from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    if processes == 1:
        return None
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment().global_rank()
    several = int(os.environ.get("SLURM_NTASKS") or 1) > 1
    return SLURMEnvironment().global_rank() if several and SLURMEnvironment.detect() else None
