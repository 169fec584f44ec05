"""State-space models: Section 2 of the paper, one idea a file."""

import lkm_kit.ssm.flops  # noqa: F401  (registers the operators' formulas)
from lkm_kit.ssm.causal_conv import causal_conv_silu
from lkm_kit.ssm.linear import causal_convolution, convolution_kernel, discretize, exact_response, recurrence
from lkm_kit.ssm.mamba import Mamba, mix
from lkm_kit.ssm.selective_scan import scan_backends, selective_scan

__all__ = [
    "Mamba",
    "causal_conv_silu",
    "causal_convolution",
    "convolution_kernel",
    "discretize",
    "exact_response",
    "mix",
    "recurrence",
    "scan_backends",
    "selective_scan",
]
