"""Names of mamba_ssm and causal_conv1d, computed by the kit: code written for them runs on a CPU without a change.

Functions and layers have their packages' signatures and parameter names. What the kit cannot compute is refused by
name; no argument is ignored. :func:`install` lets ``import mamba_ssm`` find them where the packages are absent::

    import lkm_kit.compat

    lkm_kit.compat.install()
    from mamba_ssm import Mamba

Source: mamba_ssm 2.3, causal_conv1d 1.5; the forks of ``mamba_simple.py`` that Vim and SegMamba bring.
"""

from lkm_kit.compat.convolution import causal_conv1d_fn, causal_conv1d_ref
from lkm_kit.compat.mamba import Mamba
from lkm_kit.compat.mamba2 import Mamba2
from lkm_kit.compat.scan import (
    bimamba_inner_fn,
    mamba_inner_fn,
    mamba_inner_fn_no_out_proj,
    mamba_inner_ref,
    selective_scan_fn,
    selective_scan_ref,
)
from lkm_kit.compat.stand_in import install, uninstall

__all__ = [
    "Mamba",
    "Mamba2",
    "bimamba_inner_fn",
    "causal_conv1d_fn",
    "causal_conv1d_ref",
    "install",
    "mamba_inner_fn",
    "mamba_inner_fn_no_out_proj",
    "mamba_inner_ref",
    "selective_scan_fn",
    "selective_scan_ref",
    "uninstall",
]
