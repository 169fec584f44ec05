"""State-space models: Section 2 of the paper, one idea a file."""

from lkm_kit.ssm.mamba import Mamba
from lkm_kit.ssm.selective_scan import scan_backends, selective_scan

__all__ = ["Mamba", "scan_backends", "selective_scan"]
