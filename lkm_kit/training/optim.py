"""The two ways to step: nnU-Net's SGD with poly decay, and AdamW with one cycle for small budgets."""

from __future__ import annotations

from typing import Any

from torch import nn, optim
from torch.nn.modules.conv import _ConvNd

from lkm_kit.training.config import TrainConfig


def make_optimizer(config: TrainConfig, network: nn.Module) -> optim.Optimizer:
    """SGD with Nesterov momentum 0.99 on all parameters, or AdamW in the two groups of :func:`decay_groups`.

    Source: the released trainer is nnU-Net's: SGD, lr 1e-2, weight decay 3e-5, Nesterov momentum 0.99 (the paper
    names Adam, with a momentum of 0.99). AdamW is this kit's choice for a few hundred steps, where a momentum of 0.99
    has hardly begun to move.

    >>> network = nn.Conv2d(1, 2, 1)
    >>> make_optimizer(TrainConfig(), network).defaults["nesterov"]
    True
    """
    # foreach: one call for all parameters, with the same numbers; on a CPU torch would call once for every tensor
    settings = {"lr": config.learning_rate, "foreach": True}
    if config.optimizer == "sgd":
        decay = config.weight_decay
        return optim.SGD(network.parameters(), momentum=0.99, nesterov=True, weight_decay=decay, **settings)
    return optim.AdamW(decay_groups(network, config.weight_decay), **settings)


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters for AdamW: the matrices of convolutions and linear layers decay, everything else does not.

    So Mamba's ``A_log`` and ``D``, biases, norms and tables of positions keep their size: shrinking ``A_log`` would
    pull all states towards one decay rate.

    Source: nanoGPT's ``configure_optimizers``, which goes by ``ndim >= 2``; ``A_log`` has two axes and is no matrix.

    >>> [len(group["params"]) for group in decay_groups(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), 0.01)]
    [1, 3]
    """
    modules = [m for m in network.modules() if isinstance(m, (nn.Linear, _ConvNd))]
    matrices = {id(module.weight) for module in modules}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in network.parameters():
        groups[id(parameter) in matrices].append(parameter)
    return [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]


def make_schedule(config: TrainConfig, optimizer: optim.Optimizer) -> optim.lr_scheduler.LRScheduler:
    """Poly decay ``lr · (1 − step/iterations)^0.9`` for SGD, one cycle for AdamW; call ``step()`` after every update.

    The cycle rises to its peak in the share ``config.warmup`` of the steps.

    Deviation: nnU-Net changes the rate once an epoch (250 steps), here every step.

    >>> network = nn.Conv2d(1, 2, 1)
    >>> config = TrainConfig(iterations=10)
    >>> optimizer = make_optimizer(config, network)
    >>> schedule = make_schedule(config, optimizer)
    >>> for _ in range(5):
    ...     optimizer.step(); schedule.step()
    >>> round(schedule.get_last_lr()[0] / 1e-2, 4) == round(0.5 ** 0.9, 4)
    True
    """
    if config.optimizer == "sgd":
        return optim.lr_scheduler.PolynomialLR(optimizer, total_iters=config.iterations, power=0.9)
    share, steps = config.warmup, config.iterations
    if share * steps == 1:  # torch would divide by the zero steps between its first one and the peak
        share += 1e-9
    return optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config.learning_rate, total_steps=steps, pct_start=share)
