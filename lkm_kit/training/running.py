"""One training from its config to its result: found, resumed or begun, in one process or several."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from lkm_kit.errors import KitError
from lkm_kit.files import sha256
from lkm_kit.memory import keep_memory
from lkm_kit.training.batches import StepSampler, make_datasets, train_loader, validation_loader
from lkm_kit.training.checkpoint import TrainResult, load_result, publish
from lkm_kit.training.config import TrainConfig
from lkm_kit.training.fabric import make_fabric, outside_rank
from lkm_kit.training.identity import Identity, counted_processes, data_digest, start_digest
from lkm_kit.training.loop import Watch, fit
from lkm_kit.training.start import freeze_encoder, take_weights, weights_of
from lkm_kit.training.store import Diverged, Run, State, place, runs_root

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train(
    config: TrainConfig,
    run_dir: str | Path | None = None,
    *,
    network: nn.Module | None = None,
    data: Mapping[str, Dataset] | None = None,
    device: str = "auto",
    processes: int = 1,
    workers: int = 0,
    progress: bool = True,
    watch: Watch | None = None,
    start: str | Path | None = None,
) -> TrainResult:
    """Train, or resume, or fetch the finished result: whichever the run's folder calls for.

    A second call for the same folder, in another process, waits for the first and then returns its result.

    Args:
        config: what to compute.
        run_dir: folder of the run; default :func:`run_folder`.
        network: train this one instead of ``config.network``; it keeps its initial weights, which are part of the
            run's identity: seed before you build it, or the next call begins another run.
        data: ``{"train": dataset, "validation": dataset}`` instead of the config's; items as in
            :func:`lkm_kit.training.batches.make_datasets`. How they are told apart:
            :func:`lkm_kit.training.identity.data_digest`.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        processes: >1 trains data-parallel (DDP), one process a GPU, or that many on the CPU. Under torchrun or Slurm,
            give the number of processes that these start, on one node.
        workers: DataLoader processes; 0 makes the batches in this one.
        progress: draw a progress bar.
        watch: called for every step as ``watch(step, loss, history)``, in the first process; on a GPU for ten steps at
            a time, after the last of them.
        start: a finished run, or a packaged checkpoint, whose weights the network begins with where they fit, see
            :func:`lkm_kit.training.start.take_weights`; they are part of the run's identity.

    Returns:
        the finished run, also when it was finished before.

    Raises:
        Diverged: the loss or its gradients are no longer finite, now or in an earlier call.
        KitError: CUDA asked for and absent, a folder with another run, or one that is damaged.

    On one machine and device, a run that was killed and resumed ends in the same bits as one that was not. On CUDA that
    holds as far as its kernels are deterministic. Several processes give the losses of one, up to rounding, where the
    network has neither dropout nor batch normalisation.

    >>> result = train(TrainConfig.from_profile("smoke"), progress=False)  # doctest: +SKIP
    """
    data = make_datasets(config) if data is None else data
    if run_dir is None:
        run_dir = run_folder(config, data=data, network=network, processes=processes, start=start)
    run = Run(run_dir, identity(config, data, network, processes, start))
    rank = outside_rank(processes)
    if rank is None and run.state().name == "trained":
        return load_result(run.folder, network)
    with run.held() if not rank else contextlib.nullcontext():
        return carry_out(run, config, network, data, device, processes, workers, progress, watch, start)


def run_folder(
    config: TrainConfig,
    study: str = "train",
    root: str | Path | None = None,
    *,
    data: Mapping[str, Dataset] | None = None,
    network: nn.Module | None = None,
    processes: int = 1,
    start: str | Path | None = None,
) -> Path:
    """Folder of a run: where it is, else ``<root>/<study>/<network>-<first digits of its digest>``.

    Args:
        config, data, network, processes, start: as in :func:`train`.
        study: a folder name.
        root: default :func:`lkm_kit.training.store.runs_root`.

    >>> run_folder(TrainConfig(), root="runs", data={}).parts[:2]
    ('runs', 'train')
    """
    data = data or make_datasets(config)
    name, who = re.sub("[/:]", "-", config.network), identity(config, data, network, processes, start)
    parent = (runs_root() if root is None else Path(root)) / study
    return place(parent / f"{name}-{who.digest[:10]}", who, f"{name}-*").folder


def identity(
    config: TrainConfig,
    data: Mapping[str, Dataset],
    network: nn.Module | None = None,
    processes: int = 1,
    start: str | Path | None = None,
) -> Identity:
    """What decides the numbers of a training; arguments as in :func:`train`."""
    if processes > 1:
        with torch.random.fork_rng(devices=[]):
            processes = counted_processes(network or initial_network(config), processes)
    items = {split: data[split] for split in ("train", "validation") if split in data}
    begin = start_digest(network) if start is None else sha256(weights_of(start))
    return config.identity(data_digest(items), begin, processes)


def carry_out(
    run: Run,
    config: TrainConfig,
    network: nn.Module | None,
    data: Mapping[str, Dataset],
    device: str,
    processes: int,
    workers: int,
    progress: bool,
    watch: Watch | None = None,
    start: str | Path | None = None,
) -> TrainResult:
    """Bring a run, which the caller holds, to its end; arguments and errors as in :func:`train`."""
    if processes < 1 or workers < 0:
        raise KitError(
            f"{processes} processes and {workers} workers were asked for",
            remedy="give processes from 1 on, and workers from 0 on (0: batches are made in this process)",
        )
    StepSampler(config, 1, processes=processes)  # refuses a batch that they cannot share
    rank = outside_rank(processes)
    begin = _opened(run) if not rank else None
    if rank is None:
        if isinstance(begin, KitError):
            raise begin
        if begin.name == "trained":
            return load_result(run.folder, network)
    fabric = make_fabric(config, device, processes, unused=network is not None or not config.deep_supervision)
    with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        how = {"run": run, "begin": begin, "config": config, "data": data}
        how |= {"workers": workers, "progress": progress, "watch": watch, "start": start}
        fabric.launch(partial(_train_process, **how), network)  # only a network in plain sight is given fresh memory
    if run.state().name == "diverged":
        run.open()  # raises, with the message that the training left
    return load_result(run.folder, network)


def initial_network(config: TrainConfig) -> nn.Module:
    """The network of a config with the weights that its training begins with.

    >>> initial_network(TrainConfig(deep_supervision=False)).num_classes
    14
    """
    from lkm_kit.networks import build_network

    torch.manual_seed(config.seed)
    return build_network(
        config.network,
        input_channels=config.input_channels,
        num_classes=config.table.num_classes,
        **{**config.network_overrides, "deep_supervision": config.deep_supervision},
    )


def _opened(run: Run) -> State | KitError:
    """For the first process: the state of its folder, or what keeps it from being worked on, to tell the others."""
    try:
        return run.open()
    except KitError as error:
        return error


def _train_process(
    fabric: Fabric,
    network: nn.Module | None,
    *,
    run: Run,
    begin: State | KitError | None,
    config: TrainConfig,
    data: Mapping[str, Dataset],
    workers: int,
    progress: bool,
    watch: Watch | None,
    start: str | Path | None,
) -> None:
    """What each process runs: build, fit, publish. Only the first one writes."""
    begin = fabric.broadcast(begin)
    if isinstance(begin, KitError):
        raise begin
    if begin.name == "trained":
        return
    if fabric.device.type == "cpu":
        keep_memory()
    built = network is None
    if built:
        network = initial_network(config)
    taken = None if start is None else take_weights(network, start)
    if config.freeze_encoder:
        freeze_encoder(network)
    torch.manual_seed(config.seed + fabric.global_rank)
    share = {"workers": workers, "rank": fabric.global_rank, "processes": fabric.world_size}
    validation = list(validation_loader(config, data["validation"], **{**share, "workers": 0}))
    first = fabric.is_global_zero
    try:
        with _Watcher(config, run, progress and first, watch if first else None) as seen:
            share["pin"] = fabric.device.type == "cuda"
            batches = lambda step: train_loader(config, data["train"], step, **share)  # noqa: E731
            network = fit(fabric, config, run, network, batches, validation, seen)
    except Diverged as error:  # in all processes at once; an exception would not come through from a spawned one
        if first:
            run.diverge(error)
    except RuntimeError as error:
        if not (config.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))):
            raise
        raise KitError(
            f"torch.compile fails here: {str(error).strip().splitlines()[0]}",
            remedy="train without --set compile=true; on a CPU it needs a C++ compiler, on a GPU triton",
        ) from error
    else:
        if first:
            publish(run, config, network.module, data["train"], from_registry=built, start=taken)
    fabric.barrier()


class _Watcher:
    """Progress bar and the caller's callback in one."""

    def __init__(self, config: TrainConfig, run: Run, progress: bool, watch: Watch | None):
        self.watch = watch
        self.bar = tqdm(
            total=config.iterations, desc="/".join(run.folder.parts[-2:]), unit="step", disable=not progress, leave=True
        )

    def __enter__(self) -> _Watcher:
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()

    def __call__(self, step: int, loss: float, history: list[dict[str, Any]]) -> None:
        self.bar.update(step - self.bar.n)
        score = {"DSC": f"{history[-1]['DSC']:.3f}"} if history else {}
        self.bar.set_postfix(loss=f"{loss:.3f}", **score, refresh=False)
        if self.watch is not None:
            self.watch(step, loss, history)
