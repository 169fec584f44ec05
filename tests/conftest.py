"""Without a GPU, Triton's kernels run in its interpreter; that is decided when triton is imported, hence up here.

Tests run without a network too: phantoms may stand in for the sample scans.
"""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("LKM_PHANTOMS", "1")
