"""State-space models: Section 2 of the paper, one idea a file."""

import lkm_kit.ssm.flops  # noqa: F401  (registers the operators' formulas)
from lkm_kit.ssm.causal_conv import causal_conv_silu
from lkm_kit.ssm.linear import causal_convolution, convolution_kernel, discretize, exact_response, recurrence
from lkm_kit.ssm.mamba import Mamba, mix
from lkm_kit.ssm.mamba2 import Mamba2
from lkm_kit.ssm.mingru import MinGRU, gated_average
from lkm_kit.ssm.s4d import S4D, s4d_kernel
from lkm_kit.ssm.selective_scan import scan_backends, selective_scan
from lkm_kit.ssm.ssd import ssd, ssd_recurrence

__all__ = [
    "S4D",
    "Mamba",
    "Mamba2",
    "MinGRU",
    "causal_conv_silu",
    "causal_convolution",
    "convolution_kernel",
    "discretize",
    "exact_response",
    "gated_average",
    "mix",
    "recurrence",
    "s4d_kernel",
    "scan_backends",
    "selective_scan",
    "ssd",
    "ssd_recurrence",
]
