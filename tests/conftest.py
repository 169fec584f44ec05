"""Without a GPU, Triton's kernels run in its interpreter; that is decided when triton is imported, hence up here."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
