"""Measures of where a map's mass lies: numpy in, numbers out; nothing depends on the map's scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lkm_kit.errors import KitError


def mass(values: np.ndarray, without: tuple[slice, ...] | None = None) -> np.ndarray:
    """m = A / ΣA, or m₀: the same without some pixels, renormalised.

    Raises:
        KitError: negative or non-finite values, or nothing left. (A pixel alone has no m₀: see :func:`own_share`.)

    >>> mass(np.array([1.0, 3.0])).tolist()
    [0.25, 0.75]
    """
    values = np.array(values, dtype=np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise KitError(
            "the map has negative or non-finite values, which are no mass",
            remedy='take erf(..., reduce="l1"), or measure abs(values) of a signed map',
        )
    if without is not None:
        values[without] = 0
    total = values.sum()
    if total == 0:
        raise KitError(
            "the map is zero everywhere: the probe's gradient has underflowed, or nothing reaches it",
            remedy="look at support(network, image, probe), and compute in float64: network.double()",
        )
    return values / total


def own_share(values: np.ndarray, cell: tuple[slice, ...]) -> float:
    """m(q), the share of the mass on the probe's own pixel (0.92 to 0.97 for one PiM layer: its residual path)."""
    return float(mass(values)[cell].sum())


def area_curve(values: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """R(t): the smallest share of the image, of any shape, that holds mass t, for every t in ``shares``.

    >>> area_curve(np.array([[0.1, 0.6], [0.3, 0.0]]), [0.5, 0.9]).tolist()
    [0.25, 0.5]
    """
    largest_first = np.sort(mass(values).ravel())[::-1]
    return _first_reaching(largest_first, shares) / largest_first.size


def box_curve(
    values: np.ndarray, center: Sequence[float], shares: Sequence[float], spacing: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """B(t): the smallest cube around the probe, cut off at the image's edge, that holds mass t.

    Args:
        values: (*spatial).
        center: of the box, in pixel indices.
        shares: t.
        spacing: size of a pixel per axis in mm; the box is a cube in mm.

    Returns:
        (half of the box's side in mm, from the probe to the centre of the last pixel; share of the image's pixels).

    >>> half, share = box_curve(np.ones((5, 5)), (2, 2), [9 / 25], (1.0, 1.0))
    >>> half.tolist(), share.tolist()
    ([1.0], [0.36])
    """
    m = mass(values)
    distance = np.zeros(m.shape)
    for axis, offset in enumerate(_offsets(m.shape, center, spacing)):
        shape = [1] * m.ndim
        shape[axis] = -1
        distance = np.maximum(distance, np.abs(offset).reshape(shape))
    order = np.argsort(distance, axis=None, kind="stable")
    sorted_distance = distance.ravel()[order]
    last = _first_reaching(m.ravel()[order], shares) - 1
    half = sorted_distance[last]
    return half, np.searchsorted(sorted_distance, half, side="right") / m.size


def n_eff(values: np.ndarray) -> float:
    """1 / Σm², the number of pixels that would hold the mass if it were even.

    >>> n_eff(np.ones((4, 4)))
    16.0
    """
    return float(1 / np.square(mass(values)).sum())


def axis_widths(
    values: np.ndarray, center: Sequence[float], spacing: Sequence[float] | None = None
) -> list[dict[str, float]]:
    """Per axis: centroid (from ``center``), σ, and full width at half maximum of the mass, in mm.

    The half-maximum points are interpolated linearly between pixels; a side that stays above half the maximum ends at
    the image's edge.

    >>> [axis["sigma"] for axis in axis_widths(np.ones((3, 1)), (1, 0))]
    [0.816..., 0.0]
    """
    m = mass(values)
    spacing = [1.0] * m.ndim if spacing is None else spacing
    found = []
    for axis, offset in enumerate(_offsets(m.shape, center, spacing)):
        profile = m.sum(tuple(a for a in range(m.ndim) if a != axis))
        centroid = float(profile @ offset)
        sigma = math.sqrt(float(profile @ np.square(offset - centroid)))
        found.append({"centroid": centroid, "sigma": sigma, "fwhm": _fwhm(profile) * spacing[axis]})
    return found


def locality(tokens: np.ndarray, place: Sequence[int], window: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """L = Σ m₀ over the probe's own window, and the enrichment L·|Ω|/|W| (about 1 where windows mean nothing).

    >>> locality(np.ones((4, 4)), (0, 0), [(0, 2), (0, 2)])
    (0.2, 0.8)
    """
    inside = tuple(slice(a, b) for a, b in window)
    share = float(_without(tokens, place)[inside].sum())
    return share, share * tokens.size / math.prod(b - a for a, b in window)


def lattice_share(tokens: np.ndarray, place: Sequence[int], stride: Sequence[int]) -> float:
    """D = Σ m₀ over p ≡ q modulo the stride: near 1 for a dilated scan, 1/∏stride where there is no lattice."""
    grid = tuple(slice(q % k, None, k) for q, k in zip(place, stride))
    return float(_without(tokens, place)[grid].sum())


def directions(tokens: np.ndarray, place: Sequence[int]) -> list[float]:
    """α = (M_before − M_after) / (M_before + M_after) along every axis; 0 where neither has mass.

    >>> directions(np.array([[3.0, 9.0, 1.0]]), (0, 1))
    [0.0, 0.5]
    """
    found = []
    for axis, q in enumerate(place):
        profile = mass(tokens).sum(tuple(a for a in range(tokens.ndim) if a != axis))
        found.append(_asymmetry(profile[:q].sum(), profile[q + 1 :].sum()))
    return found


def own_sequence(
    grid: Sequence[int],
    place: Sequence[int],
    window: Sequence[tuple[int, int]] | None = None,
    stride: Sequence[int] | None = None,
) -> tuple[np.ndarray, int]:
    """The probe's own sequence in scan order: flat indices of its tokens, and the probe's place among them.

    Those of its window, or of its dilated grid, or of the whole map, row by row (last axis fastest).

    >>> own_sequence((4, 4), (3, 2), window=[(2, 4), (2, 4)])
    (array([10, 11, 14, 15]), 2)
    """
    member = np.zeros(grid, dtype=bool)
    if stride is not None:
        member[tuple(slice(q % k, None, k) for q, k in zip(place, stride))] = True
    elif window is not None:
        member[tuple(slice(a, b) for a, b in window)] = True
    else:
        member[...] = True
    tokens = np.flatnonzero(member)
    return tokens, int(np.searchsorted(tokens, np.ravel_multi_index(tuple(place), tuple(grid))))


def scan_direction(sequence: np.ndarray, at: int) -> float:
    """α in scan order: 1 when only earlier tokens count (a forward scan), -1 when only later ones do.

    >>> scan_direction(np.array([1.0, 1.0, 5.0, 0.0]), 2)
    1.0
    """
    return _asymmetry(sequence[:at].sum(), sequence[at + 1 :].sum())


def memory_length(sequence: np.ndarray, at: int, shares: Sequence[float]) -> np.ndarray:
    """τ(t): the least n such that the n tokens before the probe hold share t of the past's mass; NaN without a past.

    >>> memory_length(np.array([1.0, 1.0, 2.0, 7.0]), 3, [0.5, 0.75]).tolist()
    [1.0, 2.0]
    """
    past = sequence[:at][::-1]
    if past.sum() == 0:
        return np.full(len(shares), np.nan)
    return _first_reaching(past / past.sum(), shares).astype(float)


def seam_index(tokens: np.ndarray, window: Sequence[int]) -> float:
    """How much more neighbours differ across a window's border than inside a window: 0 no seams, 1 nothing but seams.

    The relative jump of two neighbours is |a − b| / (a + b), between 0 and 1 whatever the scale. The index is its mean
    over pairs that a border separates minus its mean over all others. Pairs of zeros count as no jump. NaN where no
    pair lies on either side.

    >>> seam_index(np.kron(np.eye(2), np.ones((3, 3))), (3, 3))
    1.0
    """
    across, inside = [], []
    for axis, k in enumerate(window):
        a = np.moveaxis(mass(tokens), axis, 0)
        a, b = a[:-1], a[1:]
        jump = np.divide(np.abs(a - b), a + b, out=np.zeros_like(a), where=a + b > 0)
        border = np.arange(1, len(jump) + 1) % k == 0
        across.append(jump[border].ravel())
        inside.append(jump[~border].ravel())
    across, inside = np.concatenate(across), np.concatenate(inside)
    return float(across.mean() - inside.mean()) if across.size and inside.size else math.nan


def _without(tokens: np.ndarray, place: Sequence[int]) -> np.ndarray:
    return mass(tokens, without=tuple(slice(q, q + 1) for q in place))


def _asymmetry(before: float, after: float) -> float:
    return float((before - after) / (before + after)) if before + after > 0 else 0.0


def _first_reaching(masses: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Least number of leading entries that sum to each share, forgiving rounding."""
    wanted = np.asarray(shares, dtype=np.float64)
    if ((wanted <= 0) | (wanted > 1)).any():
        raise KitError(f"shares of mass are {wanted.tolist()}", remedy="give numbers above 0, up to 1")
    reached = np.searchsorted(np.cumsum(masses), wanted * (1 - 1e-12)) + 1
    return np.minimum(reached, np.flatnonzero(masses)[-1] + 1)


def _offsets(shape: Sequence[int], center: Sequence[float], spacing: Sequence[float] | None) -> list[np.ndarray]:
    """Distance of every index from the centre along each axis, in mm."""
    spacing = [1.0] * len(shape) if spacing is None else spacing
    if len(spacing) != len(shape) or min(spacing) <= 0:
        raise KitError(f"spacing {spacing} does not suit {len(shape)} axes", remedy="give one size in mm per axis")
    return [(np.arange(n) - c) * s for n, c, s in zip(shape, center, spacing)]


def _fwhm(profile: np.ndarray) -> float:
    half, peak, last = profile.max() / 2, int(profile.argmax()), len(profile) - 1

    def reach(step: int) -> float:
        """Pixels from the peak to where the profile falls to half, interpolated."""
        i = peak
        while 0 <= i + step <= last and profile[i + step] >= half:
            i += step
        if not 0 <= i + step <= last:
            return abs(i - peak) + 0.5  # to the outer edge of the last pixel
        return abs(i - peak) + (profile[i] - half) / (profile[i] - profile[i + step])

    return float(reach(-1) + reach(1))
