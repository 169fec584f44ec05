"""The two ways to step: nnU-Net's SGD with poly decay, and AdamW with one cycle for small budgets."""

from __future__ import annotations

from torch import nn, optim

from lkm_kit.training.config import TrainConfig


def make_optimizer(config: TrainConfig, network: nn.Module) -> optim.Optimizer:
    """SGD with Nesterov momentum 0.99, or AdamW.

    Source: the released trainer is nnU-Net's: SGD, lr 1e-2, weight decay 3e-5, Nesterov momentum 0.99 (the paper calls
    it "Adam with momentum 0.99"). AdamW is this kit's choice for a few hundred steps, where a momentum of 0.99
    has hardly begun to move.

    >>> network = nn.Conv2d(1, 2, 1)
    >>> make_optimizer(TrainConfig(), network).defaults["nesterov"]
    True
    """
    # foreach: one call for all parameters, with the same numbers; on a CPU torch would call once for every tensor
    settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "foreach": True}
    if config.optimizer == "sgd":
        return optim.SGD(network.parameters(), momentum=0.99, nesterov=True, **settings)
    return optim.AdamW(network.parameters(), **settings)


def make_schedule(config: TrainConfig, optimizer: optim.Optimizer) -> optim.lr_scheduler.LRScheduler:
    """Poly decay ``lr · (1 − step/iterations)^0.9`` for SGD, one cycle for AdamW; call ``step()`` after every update.

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
    return optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config.learning_rate, total_steps=config.iterations)
