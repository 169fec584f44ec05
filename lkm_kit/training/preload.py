"""What a run imports on its way; a process from which runs are forked imports this, and each run starts at once.

For ``multiprocessing``'s fork server, which must have imported everything and computed nothing.
"""

# ruff: noqa: F401
import lightning_fabric.strategies
import numba
import safetensors.torch

import lkm_kit.evaluation
import lkm_kit.training.loop
from lkm_kit.monai_parts import monai_part

for _name in ("inferers", "losses", "metrics", "transforms"):
    monai_part(_name)
