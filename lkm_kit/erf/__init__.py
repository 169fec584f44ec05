"""Effective receptive fields: what a probe in a network sees, exactly and by gradient, and measures of it.

It knows only ``torch.nn.Module``: U-Nets of this kit, of MONAI, or your own. With :mod:`lkm_kit.plots.erf` it asks for
torch, numpy and matplotlib alone; only the table of :func:`measures` is one of pandas.
"""

from lkm_kit.erf.change import Change
from lkm_kit.erf.exact_support import support
from lkm_kit.erf.gradient import erf, stage_probes
from lkm_kit.erf.influence import influence_map
from lkm_kit.erf.jacobian import jacobian
from lkm_kit.erf.maps import ErfMap
from lkm_kit.erf.probe import Probe
from lkm_kit.erf.protocols import PROTOCOLS, luo_sigma, published_erf
from lkm_kit.erf.table import measure, measures

__all__ = [
    "PROTOCOLS",
    "Change",
    "ErfMap",
    "Probe",
    "erf",
    "influence_map",
    "jacobian",
    "luo_sigma",
    "measure",
    "measures",
    "published_erf",
    "stage_probes",
    "support",
]
