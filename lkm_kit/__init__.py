"""lkm-kit: learn, reproduce and question LKM-UNet (Wang et al., MICCAI 2024, arXiv 2403.07332).

The package tells the paper's story folder by folder: ``ssm`` (Section 2), ``blocks`` (Section 3.2), ``networks``
(Section 3.1), then ``data``, ``training`` and ``evaluation`` (Section 4). Importing it costs nothing beyond torch.
"""

import os

# torch's OpenMP threads spin while they wait. Beside any other busy process that makes a training step several times
# slower than sleeping does; it has to be said before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"
