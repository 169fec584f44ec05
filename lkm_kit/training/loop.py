"""The training loop: read :func:`fit` first, the rest of the file serves it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from lkm_kit.errors import KitError
from lkm_kit.training.config import TrainConfig
from lkm_kit.training.loss import make_loss
from lkm_kit.training.optim import make_optimizer, make_schedule
from lkm_kit.training.provenance import followed_by, made_with, own_sources
from lkm_kit.training.store import Diverged, Run

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Watch = Callable[[int, float, list[dict[str, Any]]], None]


def fit(
    fabric: Fabric,
    config: TrainConfig,
    run: Run,
    network: nn.Module,
    batches: Callable[[int], DataLoader],
    validation: list[dict[str, Tensor]],
    watch: Watch,
) -> nn.Module:
    """The loop: forward, loss, backward, clip, step; and every ``validate_every`` steps a score and a checkpoint.

    Returns:
        what holds the trained network as its ``module``: the network as Fabric wraps it, or the average of its weights.
    """
    loss_function = make_loss(config.batch_dice)
    if config.compile:
        network.compile()  # in place: the names of its weights stay
    network, optimizer = fabric.setup(network, make_optimizer(config, network))
    schedule = make_schedule(config, optimizer)
    average = averaged(config, network.module)
    learning = {"network": network, "optimizer": optimizer, "schedule": schedule}
    learning |= {} if average is None else {"average": average}
    now = restore(fabric, config, run, learning)
    losses, norms, unread, started = [], [], [], time.perf_counter()

    network.train()
    for batch in fabric.setup_dataloaders(batches(now["step"]), use_distributed_sampler=False):
        loss = 0.0
        for left, part in parts(batch, config.accumulate):
            with fabric.no_backward_sync(network, enabled=left > 0):
                share = loss_function(network(part["image"]), part["label"]) / config.accumulate
                fabric.backward(share)
            loss = loss + share.detach()
        norm = fabric.clip_gradients(network, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        unread.append(torch.stack((fabric.all_reduce(loss), norm)))
        due = (now["step"] + 1) % config.validate_every == 0 or now["step"] + 1 == config.iterations
        values = []
        if due or len(unread) == steps_between_reads(fabric.device):
            values, unread = torch.stack(unread).tolist(), []
        first = now["step"] + 1 - len(values)
        for step, (value, norm) in enumerate(values, first):
            check_finite("loss", value, step, config)
            check_finite("norm of the gradients", norm, step, config)
            losses.append(value)
            norms.append(norm)
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if average is not None:
            average.update_parameters(network.module)

        now["step"] += 1
        if due:
            row = {"step": now["step"], "learning_rate": rate, "train_loss": mean(losses), "gradient_norm": mean(norms)}
            row |= validate(fabric, network if average is None else average, validation, config)
            now["seconds"] += time.perf_counter() - started
            now["history"].append(row | {"seconds": round(now["seconds"], 2)})
            save(fabric, run, learning, now)
            losses, norms, started = [], [], time.perf_counter()
        for step, (value, _) in enumerate(values, first + 1):
            watch(step, value, now["history"])
    return network if average is None else average


def averaged(config: TrainConfig, network: nn.Module) -> AveragedModel | None:
    """The exponential moving average of a network's weights that a config asks for; its first update copies them.

    >>> averaged(TrainConfig(), nn.Conv2d(1, 2, 1)) is None
    True
    >>> network = nn.Linear(1, 1, bias=False)
    >>> average = averaged(TrainConfig(ema_decay=0.75), network)
    >>> for value in (0.0, 4.0):
    ...     network.load_state_dict({"weight": torch.tensor([[value]])}) and average.update_parameters(network)
    >>> average.module.weight.item()
    1.0
    """
    if not config.ema_decay:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))


def steps_between_reads(device: torch.device) -> int:
    """After how many steps their losses are looked at: a GPU's queue runs empty when the program waits for a number.

    They are looked at before every checkpoint, so that none holds what came of a NaN.

    >>> steps_between_reads(torch.device("cpu"))
    1
    """
    return 1 if device.type == "cpu" else 10


def parts(batch: dict[str, Tensor], number: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """A batch in equal parts, each with how many follow it.

    >>> [(left, part["label"].tolist()) for left, part in parts({"label": torch.arange(4)}, 2)]
    [(1, [0, 1]), (0, [2, 3])]
    """
    pieces = {name: tensor.chunk(number) for name, tensor in batch.items()}
    for i in range(number):
        yield number - 1 - i, {name: tensors[i] for name, tensors in pieces.items()}


@torch.no_grad()
def validate(fabric: Fabric, network: nn.Module, batches: list, config: TrainConfig) -> dict[str, float]:
    """DSC of each organ over all validation slices together: voxels are counted first, then divided (nnU-Net's
    "pseudo Dice": good for watching; the scores of :mod:`lkm_kit.evaluation` count case by case).

    Returns:
        ``DSC`` (mean over the organs that occur) and ``DSC <organ>``; nan for an organ that is in neither.
    """
    network.eval()
    with fabric.autocast():  # an average is not wrapped by Fabric
        counts = count_voxels(network, batches, config.table.num_classes, fabric.device)
    both, found, truth = fabric.all_reduce(counts, reduce_op="sum").double()[:, 1:]
    dice = (2 * both / (found + truth)).cpu()
    network.train()
    scores = {f"DSC {name}": float(value) for name, value in zip(config.table.names, dice)}
    return {"DSC": float(dice.nanmean()), **scores}


def count_voxels(network: nn.Module, batches: list, classes: int, device: torch.device) -> Tensor:
    """For every class the voxels that are found rightly, those that are found and those that are there: (3, classes).

    Nothing waits for the device: shapes do not depend on the values.

    >>> batch = {"image": torch.tensor([[[0.0, 1, 1]]]), "label": torch.tensor([[0, 0, 1]])}
    >>> count_voxels(lambda x: torch.cat([0.5 - x, x - 0.5], 1), [batch], 2, torch.device("cpu")).tolist()
    [[1, 1], [1, 2], [2, 1]]
    """
    counts = torch.zeros(3, classes, dtype=torch.int64, device=device)
    for batch in batches:
        logits = network(batch["image"].to(device))
        found = (logits[0] if isinstance(logits, (list, tuple)) else logits).argmax(1)
        truth = batch["label"].to(device)
        both = torch.where(found == truth, truth, classes)  # a class that is not counted
        for row, labels in enumerate((both, found, truth)):
            counts[row] += torch.stack([(labels == number).sum() for number in range(classes)])
    return counts


def check_finite(what: str, value: float, step: int, config: TrainConfig) -> None:
    """Stop at a NaN; the last checkpoint stays as it was. On a CPU, which looks at every step, no weight has it yet.

    Raises:
        Diverged: ``value`` is NaN or infinite; the message names the step.
    """
    if math.isfinite(value):
        return
    bf16 = "precision='32-true', " if config.precision != "32-true" else ""
    raise Diverged(
        f"the {what} is {value} at step {step} (precision {config.precision}, peak learning rate "
        f"{config.learning_rate:g}); training stopped, the last checkpoint is from before",
        remedy=f"try {bf16}a learning rate ten times smaller, a smaller clip_norm, and look for NaN in the images",
    )


def restore(fabric: Fabric, config: TrainConfig, run: Run, learning: dict[str, Any]) -> dict[str, Any]:
    """Bring everything back to the last checkpoint, if there is one.

    Args:
        learning: name → what has a ``state_dict``: network, optimizer, schedule; average, where there is one.

    Returns:
        step, history, seconds so far, and what the run was made with.

    Raises:
        KitError: the checkpoint is damaged, or another version's.
    """
    state = run.load_state()
    made = made_with(fabric.device, fabric.world_size, own_sources(learning["network"], config))
    if state is None:
        return {"step": 0, "history": [], "seconds": 0.0, "made_with": made}
    try:
        for name, part in learning.items():
            part.load_state_dict(state[name])
    except (RuntimeError, ValueError, KeyError) as error:
        raise KitError(
            f"the training state in {run.folder} was written by another version of the kit ({error})",
            remedy=f"delete {run.folder / 'state.pt'}: the run then starts from its first step",
        ) from error
    if len(state["random"]) == fabric.world_size:
        torch.set_rng_state(state["random"][fabric.global_rank])
        if fabric.device.type == "cuda" and state["random_cuda"]:
            torch.cuda.set_rng_state(state["random_cuda"][fabric.global_rank], fabric.device)
    if fabric.is_global_zero:
        run.write_history(state["history"])
    made = followed_by(state.get("made_with", {}), made)
    return {**{key: state[key] for key in ("step", "history", "seconds")}, "made_with": made}


def save(fabric: Fabric, run: Run, learning: dict[str, Any], now: dict[str, Any]) -> None:
    """Write the state; the first process writes, all give their random state."""
    on_cuda = fabric.device.type == "cuda"
    state = {
        **{name: part.state_dict() for name, part in learning.items()},
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


def _of_all_processes(fabric: Fabric, state: Tensor) -> list[Tensor]:
    gathered = fabric.all_gather(state)
    return list(gathered.cpu().reshape(fabric.world_size, -1))
