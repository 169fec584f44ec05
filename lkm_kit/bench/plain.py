"""The scan's forward pass in plain numba: loops, and LLVM left to find the vectors in them.

It is here to be measured beside the kit's kernel, which :mod:`lkm_kit.ssm.backends.vector_ir` writes vector by vector.
Forward it nearly keeps up: that channels lie side by side is all that LLVM has to see. The backward pass also sums over
channels, for the gradients of B and C, and there plain numba falls behind.
"""

from __future__ import annotations

import functools
import math

import numba
import numpy as np
import torch
from torch import Tensor

from lkm_kit.ssm.backends.vector_ir import exp2_coefficients

TOKENS = 16
"""Of a tile."""

_1, _2, _126 = np.float32(1), np.float32(2), np.float32(126)
_LOG2E = np.float32(1 / math.log(2))
_MAGIC = np.float32(1.5 * 2.0**23)
_Q = tuple(np.float32(q) for q in exp2_coefficients(double=False))
_SERIES = tuple(np.float32(2 / (2 * k + 1)) for k in range(8))
_compiled = numba.njit(inline="always", fastmath={"contract"}, error_model="numpy")


@_compiled
def _six(x, c):
    """The first six terms of a polynomial."""
    return c[0] + x * (c[1] + x * (c[2] + x * (c[3] + x * (c[4] + x * c[5]))))


@_compiled
def _exp2(x):
    """2^x as the kit's kernel computes it."""
    x = min(max(x, -_126), _126)
    whole = (x + _MAGIC) - _MAGIC
    r = x - whole
    power = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (_1 + r * _six(r, _Q)) * power


@_compiled
def _softplus(x):
    e = _exp2(-abs(x) * _LOG2E)
    s = e / (e + _2)
    x2 = s * s
    last = x2 * x2 * x2 * x2 * x2 * x2 * (_SERIES[6] + x2 * _SERIES[7])
    return max(x, np.float32(0)) + s * (_six(x2, _SERIES) + last)


@functools.cache
def _compiled_scan(channels):
    """For blocks of so many channels."""

    @numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
    def scan(u, delta, A2, B, C, D, y):
        """u, delta, y (batch, length, d); A2 (blocks, n, channels of a block); B, C (batch, length, n)."""
        batch, length, _ = u.shape
        blocks, n, _ = A2.shape
        dt, du, out = np.empty((3, TOKENS, channels), np.float32)
        h = np.empty((n, channels), np.float32)
        for b in range(batch):
            for block in range(blocks):
                c = block * channels
                h[:] = 0
                for start in range(0, length, TOKENS):
                    rows = min(TOKENS, length - start)
                    for t in range(rows):
                        for w in range(channels):
                            dt[t, w] = _softplus(delta[b, start + t, c + w])
                            du[t, w] = dt[t, w] * u[b, start + t, c + w]
                            out[t, w] = D[c + w] * u[b, start + t, c + w]
                    for i in range(n):
                        for t in range(rows):
                            B_here, C_here = B[b, start + t, i], C[b, start + t, i]
                            for w in range(channels):
                                state = _exp2(dt[t, w] * A2[block, i, w]) * h[i, w] + du[t, w] * B_here
                                h[i, w] = state
                                out[t, w] += state * C_here
                    for t in range(rows):
                        for w in range(channels):
                            y[b, start + t, c + w] = out[t, w]

    return scan


def plain_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The forward pass, with softplus of Δ, on one thread and without gradients.

    Args:
        u, delta, A, B, C, D: float32, of :func:`lkm_kit.ssm.selective_scan`; d a multiple of 16.

    Returns:
        y (batch, d, length).

    >>> u, delta, A, B = torch.ones(1, 16, 3), torch.zeros(1, 16, 3), -torch.ones(16, 2), torch.ones(1, 2, 3)
    >>> plain_scan(u, delta, A, B, B, torch.zeros(16))[0, 0]
    tensor([1.3863, 2.0794, 2.4260])
    """
    rows = [t.detach().transpose(1, 2).contiguous().numpy() for t in (u, delta, B, C)]
    channels = 32 if len(A) % 32 == 0 else 16
    A2 = (A.detach() / math.log(2)).unflatten(0, (-1, channels)).transpose(1, 2).contiguous().numpy()
    y = np.empty_like(rows[0])
    _compiled_scan(channels)(rows[0], rows[1], A2, rows[2], rows[3], D.detach().numpy(), y)
    return torch.from_numpy(y).transpose(1, 2)
