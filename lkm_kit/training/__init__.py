"""Training a network: configuration, loss, optimiser, loop, checkpoints (paper Section 4.2 and nnU-Net's trainer)."""

from lkm_kit.training.checkpoint import TrainResult, load_checkpoint, load_result, run_folder
from lkm_kit.training.config import TrainConfig
from lkm_kit.training.loop import initial_network, train
from lkm_kit.training.loss import DeepSupervision, make_loss
from lkm_kit.training.optim import make_optimizer, make_schedule
from lkm_kit.training.record import packaged_checkpoints

__all__ = [
    "DeepSupervision",
    "TrainConfig",
    "TrainResult",
    "initial_network",
    "load_checkpoint",
    "load_result",
    "make_loss",
    "make_optimizer",
    "make_schedule",
    "packaged_checkpoints",
    "run_folder",
    "train",
]
