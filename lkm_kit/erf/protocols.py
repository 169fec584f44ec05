"""Published ways to measure an effective receptive field, under their names, so that printed numbers can be compared.

All leave normalisation layers as they are ("live"), and all probe the centre, size // 2. They disagree in what they
do with signs and scale:

==========  ==========================================  ==============================================================
name        scalar and ρ                                map and numbers
==========  ==========================================  ==============================================================
luo         Σ_c f_c; signed gradient                    mean; σ per axis; √(pixels above 4.55 % of the centre)
replknet    Σ_c relu(f_c); relu of gradient             log10(mean + 1) / max; square that holds 20, 30, 50, 99 % of it
vmamba      as replknet                                 mean^0.2 / max; the same squares
openerf     mean_c f_c; relu of the channels' mean      sum over images / total; mass within a radius; centre of mass
==========  ==========================================  ==============================================================

The squares of replknet and vmamba are measured *after* log or power. So they change when the network's output is
multiplied by a constant (replknet), and a faint background weighs as much as the peak (both). :func:`measures` uses raw
mass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from lkm_kit.erf.gradient import Reduce, erf
from lkm_kit.erf.maps import ErfMap
from lkm_kit.erf.mass import axis_widths
from lkm_kit.erf.probe import Probe
from lkm_kit.errors import KitError, one_of

THRESHOLDS = (0.2, 0.3, 0.5, 0.99)
RADII = (5, 10, 20, 30, 40, 60, 80)


@dataclasses.dataclass(frozen=True, eq=False)
class Published:
    """Result of a published protocol.

    Args:
        name: of the protocol.
        raw: mean over images, before the protocol's scaling.
        map: (H, W) as the publication draws it.
        numbers: what it reports, by quantity.
    """

    name: str
    raw: ErfMap
    map: np.ndarray
    numbers: dict[str, float]


def published_erf(
    name: str, network: nn.Module, images: Tensor, layer: str = "logit", *, batch_size: int = 8
) -> Published:
    """Measure a network as a publication did.

    Args:
        name: "luo", "replknet", "vmamba" or "openerf".
        network: 2D, in evaluation mode.
        images: (batch, channels, H, W). The publications take: luo random noise (and random weights, over which the
            caller averages ``raw``), replknet and vmamba 50 images of 1024×1024, openerf 1000 of 224×224.
        layer: the last feature map in the publications.
        batch_size: images per pass.

    Raises:
        KitError: an unknown name, a network that is not 2D, or what :func:`lkm_kit.erf.erf` refuses.

    Source: Luo et al. 2016; RepLKNet ``erf/visualize_erf.py`` and ``erf/analyze_erf.py``; VMamba
    ``analyze/utils.py``; the package openerf (``erf.py``, ``metrics.py``). Deviation: replknet skips images whose
    gradient is NaN; here they are an error.

    >>> import torch
    >>> published_erf("replknet", nn.Conv2d(1, 1, 3, padding=1), torch.zeros(1, 1, 9, 9)).map.shape
    (9, 9)
    """
    protocol = PROTOCOLS[one_of(name, PROTOCOLS, "protocol")]
    raw = erf(
        network,
        images,
        Probe(layer=layer, rule=protocol.rule),
        reduce=protocol.reduce,
        norm_stats="live",
        batch_size=batch_size,
    )
    if raw.values.ndim != 2:
        raise KitError(
            f"protocol {name!r} is for 2D maps, this one has {raw.values.ndim} axes", remedy="use measures()"
        )
    drawn = protocol.scale(raw.array)
    return Published(name, raw, drawn, {quantity: float(value) for quantity, value in protocol.report(drawn).items()})


def luo_sigma(kernel: int, layers: int) -> float:
    """σ of a stack of ``layers`` convolutions with even k-pixel kernels, per axis: √(n(k² − 1) / 12) pixels.

    Source: Luo et al. 2016 (arXiv 1701.04128).

    >>> round(luo_sigma(3, 6), 6)
    2.0
    """
    return math.sqrt(layers * (kernel**2 - 1) / 12)


def _divided(values: np.ndarray, by: float) -> np.ndarray:
    """A map that is zero everywhere stays so."""
    return values / by if by > 0 else values


def _log_scale(values: np.ndarray) -> np.ndarray:
    logs = np.log10(values + 1)
    return _divided(logs, logs.max())


def _power_scale(values: np.ndarray) -> np.ndarray:
    powers = np.power(values, 0.2)
    return _divided(powers, powers.max())


def _luo_numbers(values: np.ndarray) -> dict[str, float]:
    """ERF size and widths; σ of the magnitudes, which for kernels without negative weights is that of the theory."""
    middle = tuple(s // 2 for s in values.shape)
    above = np.abs(values) > (1 - 0.9545) * abs(values[middle])
    rows, columns = axis_widths(np.abs(values), middle)
    return {"erf_size": math.sqrt(above.sum()), "sigma_rows": rows["sigma"], "sigma_columns": columns["sigma"]}


def _squares(values: np.ndarray) -> dict[str, float]:
    """Side and share of the image of the first odd square around the centre with more than each share; else NaN."""
    h, w = values.shape
    row, column, total = h // 2, w // 2, values.sum()
    halves = range(1, h // 2)
    inside = [values[row - i : row + i + 1, max(column - i, 0) : column + i + 1].sum() for i in halves]
    found = {}
    for threshold in THRESHOLDS:
        half = next((i for i, s in zip(halves, inside) if s / total > threshold), math.nan) if total > 0 else math.nan
        side = 2 * half + 1
        found |= {f"side_{100 * threshold:g}": side, f"area_{100 * threshold:g}": side / h * side / w}
    return found


def _radial(values: np.ndarray) -> dict[str, float]:
    row, column = np.indices(values.shape)
    middle = tuple(s // 2 for s in values.shape)
    distance = np.hypot(row - middle[0], column - middle[1])
    found = {"center_value": values[middle], "com_x": (column * values).sum(), "com_y": (row * values).sum()}
    return found | {f"within_{radius}": values[distance <= radius].sum() for radius in RADII}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a publication makes a scalar, a map and numbers."""

    rule: str
    reduce: str | Reduce
    scale: Callable[[np.ndarray], np.ndarray]
    report: Callable[[np.ndarray], dict[str, float]]


PROTOCOLS = {
    "luo": Protocol("sum", "signed", lambda values: values, _luo_numbers),
    "replknet": Protocol("relu", "relu", _log_scale, _squares),
    "vmamba": Protocol("relu", "relu", _power_scale, _squares),
    "openerf": Protocol("sum", lambda g: g.mean(1).relu(), lambda v: _divided(v, v.sum()), _radial),
}
"""How a published receptive field was measured, by name: what :func:`published_erf` takes."""
