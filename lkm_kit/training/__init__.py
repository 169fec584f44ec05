"""Training a network: configuration, loss, optimiser, loop, checkpoints (paper Section 4.2 and nnU-Net's trainer)."""

from lkm_kit.training.batches import make_datasets
from lkm_kit.training.checkpoint import TrainResult, load_checkpoint, load_result
from lkm_kit.training.config import TrainConfig
from lkm_kit.training.loss import DeepSupervision, make_loss
from lkm_kit.training.optim import make_optimizer, make_schedule
from lkm_kit.training.record import packaged_checkpoints
from lkm_kit.training.running import initial_network, run_folder, train
from lkm_kit.training.store import Diverged, runs_root

__all__ = [
    "DeepSupervision",
    "Diverged",
    "TrainConfig",
    "TrainResult",
    "initial_network",
    "load_checkpoint",
    "load_result",
    "make_datasets",
    "make_loss",
    "make_optimizer",
    "make_schedule",
    "packaged_checkpoints",
    "run_folder",
    "runs_root",
    "train",
]
