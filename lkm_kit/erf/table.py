"""All measures of effective receptive fields as one table, a row a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lkm_kit.erf import mass as of
from lkm_kit.erf.maps import ErfMap
from lkm_kit.errors import KitError

if TYPE_CHECKING:
    import pandas as pd

SHARES = (0.2, 0.5, 0.9, 0.99)


def measures(
    maps: ErfMap | Sequence[ErfMap] | Mapping[str, ErfMap],
    *,
    spacing: Sequence[float] | None = None,
    shares: Sequence[float] = SHARES,
) -> pd.DataFrame:
    """Measure maps: :func:`measure` of each, a row a map.

    Args:
        maps: one, several, or name → map (the names become the index).
        spacing: size of a pixel of the image per axis, in mm; default 1, that is, pixels.
        shares: t of the area, box and memory columns, between 0 and 1.

    Returns:
        a column a measure.

    Raises:
        KitError: no map, or what :func:`measure` refuses; pandas is not installed.

    >>> table = measures({"point": ErfMap.at(np.eye(1, 9, 4).reshape(3, 3))}, shares=[0.5])
    >>> table.loc["point", ["own_pixel", "n_eff", "box_50", "sigma_0"]].round(3).tolist()
    [1.0, 1.0, 0.111, 0.0]
    """
    if isinstance(maps, ErfMap):
        maps = [maps]
    named = isinstance(maps, Mapping)
    chosen = list(maps.values()) if named else list(maps)
    if not chosen:
        raise KitError("there is no map to measure", remedy="pass the result of erf(network, images, probe)")
    try:
        import pandas as pd
    except ImportError:
        what = "a table of measures is a DataFrame, and pandas is not installed"
        raise KitError(what, remedy="pip install pandas; measure() gives those of one map as a dict") from None
    index = pd.Index(list(maps), name="map") if named else pd.RangeIndex(len(chosen), name="map")
    return pd.DataFrame([measure(m, spacing=spacing, shares=shares) for m in chosen], index=index)


def measure(m: ErfMap, *, spacing: Sequence[float] | None = None, shares: Sequence[float] = SHARES) -> dict[str, Any]:
    """Every measure of one map; nothing changes when a network's output is multiplied by a constant.

    Args:
        m: the map.
        spacing: size of a pixel of the image per axis, in mm; default 1, that is, pixels.
        shares: t of the area, box and memory measures, between 0 and 1.

    Returns:
        ``pixels`` of the image; ``own_pixel`` m(q); ``n_eff``. Per t in %: ``area_t`` R(t), ``box_mm_t`` half side and
        ``box_t`` share of the image of B(t), ``memory_t`` τ(t) in tokens. Per axis i: ``centroid_i`` from the probe,
        ``sigma_i``, ``fwhm_i`` (mm) and ``direction_i`` α. ``direction_scan``: α along the probe's own sequence (its
        window, its dilated grid, or the whole map). With ``Probe.window`` also ``locality``, ``enrichment`` and
        ``seam_index``. With ``Probe.stride`` also ``lattice``. What does not apply is NaN. Where the mass lies on the
        probe's own pixel alone, ``locality`` and ``lattice`` are NaN.

    Raises:
        KitError: a signed or empty map, a spacing of another rank.

    Source: the definitions are those of :mod:`lkm_kit.erf.mass`, all on raw mass, without a logarithm.

    >>> round(float(measure(ErfMap.at(np.ones((10, 10))))["area_50"]), 3)
    0.5
    """
    values, tokens, shares = m.array, m.tokens, list(shares)
    percent = [f"{100 * t:g}" for t in shares]
    own = of.own_share(values, m.cell)
    row: dict[str, Any] = {"layer": m.probe.layer, "pixels": values.size, "own_pixel": own, "n_eff": of.n_eff(values)}
    row |= {f"area_{t}": r for t, r in zip(percent, of.area_curve(values, shares))}
    for t, half, share in zip(percent, *of.box_curve(values, m.center, shares, spacing)):
        row |= {f"box_mm_{t}": half, f"box_{t}": share}
    for axis, widths in enumerate(of.axis_widths(values, m.center, spacing)):
        row |= {f"{name}_{axis}": value for name, value in widths.items()}
    row |= {f"direction_{axis}": alpha for axis, alpha in enumerate(of.directions(tokens, m.place))}
    sequence, at = of.own_sequence(m.grid, m.place, m.window, m.stride)
    along = tokens.ravel()[sequence]
    row["direction_scan"] = of.scan_direction(along, at)
    row |= {f"memory_{t}": n for t, n in zip(percent, of.memory_length(along, at, shares))}
    alone = np.count_nonzero(tokens) == 1 and tokens[m.place] > 0
    row["locality"], row["enrichment"] = (
        (np.nan, np.nan) if m.window is None or alone else of.locality(tokens, m.place, m.window)
    )
    window = m.probe.window_sides(m.grid)
    row["seam_index"] = np.nan if window is None else of.seam_index(tokens, window)
    row["lattice"] = np.nan if m.stride is None or alone else of.lattice_share(tokens, m.place, m.stride)
    return row
