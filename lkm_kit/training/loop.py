"""The training loop: read :func:`fit` first, the rest of the file serves it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from lkm_kit.errors import KitError
from lkm_kit.memory import keep_memory
from lkm_kit.training.batches import make_datasets, train_loader, validation_loader
from lkm_kit.training.checkpoint import Run, TrainResult, load_result, run_folder
from lkm_kit.training.config import TrainConfig
from lkm_kit.training.fabric import make_fabric
from lkm_kit.training.loss import make_loss
from lkm_kit.training.optim import make_optimizer, make_schedule

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Watch = Callable[[int, float, list[dict[str, Any]]], None]


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
) -> TrainResult:
    """Train, or resume, or fetch the finished result: whichever the run's folder calls for.

    Args:
        config: what to compute.
        run_dir: folder of the run; default :func:`run_folder` of the config.
        network: train this one instead of ``config.network``; it keeps its initial weights.
        data: ``{"train": dataset, "validation": dataset}`` instead of the config's; items as in
            :func:`lkm_kit.training.batches.make_datasets`.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        processes: >1 trains data-parallel (DDP), one process a GPU, or that many on the CPU. Under torchrun or Slurm,
            give the number of processes of a node.
        workers: DataLoader processes; 0 makes the batches in this one.
        progress: draw a progress bar.
        watch: called after every step as ``watch(step, loss, history)``, in the first process.

    Returns:
        the finished run, also when it was finished before.

    Raises:
        KitError: CUDA asked for and absent, a folder with another config, or a loss that is no longer finite.

    On one machine and device, a run that was killed and resumed ends in the same bits as one that was not; on CUDA as
    far as its kernels are deterministic.

    >>> result = train(TrainConfig.from_profile("smoke"), progress=False)  # doctest: +SKIP
    """
    run = Run(run_dir or run_folder(config), config)
    if not run.done:
        fabric = make_fabric(config, device, processes)
        with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
            fabric.launch(_train_process, run, network, data, workers, progress, watch)
    return load_result(run.folder, network)


def fit(
    fabric: Fabric,
    config: TrainConfig,
    run: Run,
    network: nn.Module,
    batches: Callable[[int], DataLoader],
    validation: list[dict[str, Tensor]],
    watch: Watch,
) -> nn.Module:
    """The loop: forward, loss, backward, clip, step; and every ``validate_every`` steps a score and a checkpoint."""
    loss_function = make_loss(config.batch_dice)
    network, optimizer = fabric.setup(network, make_optimizer(config, network))
    schedule = make_schedule(config, optimizer)
    now = restore(fabric, run, network, optimizer, schedule)
    losses, norms, started = [], [], time.perf_counter()

    network.train()
    for batch in fabric.setup_dataloaders(batches(now["step"]), use_distributed_sampler=False):
        loss = loss_function(network(batch["image"]), batch["label"])
        value = float(fabric.all_reduce(loss.detach()))
        check_finite("loss", value, now["step"], config)
        fabric.backward(loss)
        norm = fabric.clip_gradients(network, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        check_finite("norm of the gradients", float(norm), now["step"], config)
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

        now["step"] += 1
        losses.append(value)
        norms.append(float(norm))
        if now["step"] % config.validate_every == 0 or now["step"] == config.iterations:
            row = {"step": now["step"], "learning_rate": rate, "train_loss": mean(losses), "gradient_norm": mean(norms)}
            row |= validate(fabric, network, validation, config)
            now["seconds"] += time.perf_counter() - started
            now["history"].append(row | {"seconds": round(now["seconds"], 2)})
            save(fabric, run, network, optimizer, schedule, now)
            losses, norms, started = [], [], time.perf_counter()
        watch(now["step"], value, now["history"])
    return network


@torch.no_grad()
def validate(fabric: Fabric, network: nn.Module, batches: list, config: TrainConfig) -> dict[str, float]:
    """DSC of each organ over all validation slices together: voxels are counted first, then divided (nnU-Net's
    "pseudo Dice": good for watching; the scores of :mod:`lkm_kit.evaluation` count case by case).

    Returns:
        ``DSC`` (mean over the organs that occur) and ``DSC <organ>``; nan for an organ that is in neither.
    """
    network.eval()
    classes = config.table.num_classes
    counts = torch.zeros(3, classes, dtype=torch.int64, device=fabric.device)
    for batch in batches:
        logits = network(batch["image"].to(fabric.device))
        found = (logits[0] if isinstance(logits, (list, tuple)) else logits).argmax(1).flatten()
        truth = batch["label"].to(fabric.device).flatten()
        for row, labels in enumerate((truth[found == truth], found, truth)):
            counts[row] += torch.bincount(labels, minlength=classes)
    both, found, truth = fabric.all_reduce(counts, reduce_op="sum").double()[:, 1:]
    dice = (2 * both / (found + truth)).cpu()
    network.train()
    scores = {f"DSC {name}": float(value) for name, value in zip(config.table.names, dice)}
    return {"DSC": float(dice.nanmean()), **scores}


def check_finite(what: str, value: float, step: int, config: TrainConfig) -> None:
    """Stop before a NaN reaches the weights; the last checkpoint stays as it was.

    Raises:
        KitError: ``value`` is NaN or infinite; the message names the step.
    """
    if math.isfinite(value):
        return
    bf16 = "precision='32-true', " if config.precision != "32-true" else ""
    raise KitError(
        f"the {what} is {value} at step {step} (precision {config.precision}, peak learning rate "
        f"{config.learning_rate:g}); training stopped, the last checkpoint is from before",
        remedy=f"try {bf16}a learning rate ten times smaller, a smaller clip_norm, and look for NaN in the images",
    )


def restore(fabric: Fabric, run: Run, network, optimizer, schedule) -> dict[str, Any]:
    """Bring everything back to the last checkpoint, if there is one; returns step, history and seconds so far."""
    state = run.load_state()
    if state is None:
        return {"step": 0, "history": [], "seconds": 0.0}
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    if len(state["random"]) == fabric.world_size:
        torch.set_rng_state(state["random"][fabric.global_rank])
        if fabric.device.type == "cuda" and state["random_cuda"]:
            torch.cuda.set_rng_state(state["random_cuda"][fabric.global_rank], fabric.device)
    run.write_history(state["history"])
    return {key: state[key] for key in ("step", "history", "seconds")}


def save(fabric: Fabric, run: Run, network, optimizer, schedule, now: dict[str, Any]) -> None:
    """Write the state; the first process writes, all give their random state."""
    on_cuda = fabric.device.type == "cuda"
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "random": _of_all_processes(fabric, torch.get_rng_state()),
        "random_cuda": _of_all_processes(fabric, torch.cuda.get_rng_state(fabric.device)) if on_cuda else [],
        **now,
    }
    if fabric.is_global_zero:
        run.save_state(state)
    fabric.barrier()


def mean(values: list[float]) -> float:
    """Plain average of one or more numbers."""
    return sum(values) / len(values)


def initial_network(config: TrainConfig) -> nn.Module:
    """The network of a config with the weights that its training begins with.

    >>> initial_network(TrainConfig(deep_supervision=False)).num_classes
    14
    """
    from lkm_kit.networks import build_network

    torch.manual_seed(config.seed)
    return build_network(
        config.network,
        input_channels=1,
        num_classes=config.table.num_classes,
        **{**config.network_overrides, "deep_supervision": config.deep_supervision},
    )


def _train_process(fabric: Fabric, run: Run, network, data, workers: int, progress: bool, watch: Watch | None) -> None:
    """What each process runs: build, fit, publish."""
    config = run.config
    if fabric.device.type == "cpu":
        keep_memory()
    built = network is None
    if built:
        network = initial_network(config)
    torch.manual_seed(config.seed + fabric.global_rank)
    data = make_datasets(config) if data is None else data
    share = {"workers": workers, "rank": fabric.global_rank, "processes": fabric.world_size}
    validation = list(validation_loader(config, data["validation"], **{**share, "workers": 0}))
    with _Watcher(config, run, progress and fabric.is_global_zero, watch if fabric.is_global_zero else None) as watcher:
        network = fit(
            fabric,
            config,
            run,
            network,
            lambda step: train_loader(config, data["train"], step, **share),
            validation,
            watcher,
        )
    if fabric.is_global_zero:
        last = run.load_state()
        training = {
            "steps": last["step"],
            "seconds": round(last["seconds"], 2),
            "device": fabric.device.type,
            "processes": fabric.world_size,
            "torch": torch.__version__,
            "last": {k: v if math.isfinite(v) else None for k, v in last["history"][-1].items()},
        }
        spacing = getattr(data["train"], "spacing", (config.spacing_mm,) * len(config.image_size))
        run.publish(network.module, training, spacing=spacing, from_registry=built)
    fabric.barrier()


class _Watcher:
    """Progress bar and the caller's callback in one."""

    def __init__(self, config: TrainConfig, run: Run, progress: bool, watch: Watch | None):
        self.watch = watch
        self.bar = tqdm(total=config.iterations, desc=run.folder.name, unit="step", disable=not progress, leave=True)

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


def _of_all_processes(fabric: Fabric, state: Tensor) -> list[Tensor]:
    gathered = fabric.all_gather(state)
    return list(gathered.cpu().reshape(fabric.world_size, -1))
