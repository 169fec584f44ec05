"""The selective scan and the causal convolution by mamba_ssm's and causal_conv1d's CUDA kernels, where installed.

Nothing of theirs is imported before a scan asks for it, but for the compiled scan itself: one that was built for
another torch does not load, and must not be chosen. They know one direction only, so ``reverse`` costs flipped copies.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from lkm_kit.ssm.backends.operators import Scan


def why_not() -> str | None:
    """Why mamba_ssm's scan cannot run here, or None if it should.

    It can be installed without the compiled scan of Mamba-1 (from July 2026 on its sources leave it out unless asked),
    hence the look for the extension itself.
    """
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if importlib.util.find_spec("mamba_ssm") is None:
        return "mamba-ssm is not installed (triton does without)"
    if importlib.util.find_spec("selective_scan_cuda") is None:
        return "this mamba-ssm was built without its CUDA scan (selective_scan_cuda)"
    try:
        importlib.import_module("selective_scan_cuda")
    except (ImportError, OSError) as error:
        return f"mamba-ssm's CUDA scan does not load, so it was built for another torch ({str(error)[:200]})"
    return None


STAND_IN = "lkm_kit.compat"
"""Origin of the modules by which the kit itself stands in for absent packages."""


def has_convolution() -> bool:
    """Whether causal_conv1d is installed; without it torch's convolution serves."""
    spec = importlib.util.find_spec("causal_conv1d")
    return spec is not None and spec.origin != STAND_IN


def selective_scan(scan: Scan) -> tuple[Tensor, Tensor]:
    """See :func:`lkm_kit.ssm.backends.reference.selective_scan`. Source: ``mamba_ssm.ops.selective_scan_interface``."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # pyright: ignore[reportMissingImports]

    u, delta, A, B, C, D, z, delta_bias, softplus, reverse = scan
    if reverse:
        u, delta = u.flip(-1), delta.flip(-1)
        B, C = (t if t.ndim == 2 else t.flip(-1) for t in (B, C))
        z = None if z is None else z.flip(-1)
    # its kernel wants these in float32, whatever the tokens are, and complex numbers of tokens as pairs
    if A.is_complex():
        B, C = (t if t.ndim == 2 else torch.view_as_real(t).flatten(-2).to(u.dtype) for t in (B, C))
    else:
        A, B, C = A.float(), *(t.float() if t.ndim == 2 else t for t in (B, C))
    D, delta_bias = (None if t is None else t.float() for t in (D, delta_bias))
    y, last_state = selective_scan_fn(
        u, delta, A, B, C, D=D, z=z, delta_bias=delta_bias, delta_softplus=softplus, return_last_state=True
    )
    return (y.flip(-1) if reverse else y), last_state.detach()


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    """See :func:`lkm_kit.ssm.causal_conv.causal_conv_silu`. Source: ``causal_conv1d.causal_conv1d_fn``."""
    from causal_conv1d import causal_conv1d_fn  # pyright: ignore[reportMissingImports]

    y = causal_conv1d_fn(x.flip(-1) if reverse else x, weight.to(x.dtype), bias.to(x.dtype), activation="silu")
    return y.flip(-1) if reverse else y
