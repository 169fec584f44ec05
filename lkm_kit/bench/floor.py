"""What the machine could do at best: exponentials, multiply-adds and bytes per second, measured in this run.

A scan kernel can be no faster than its exponentials and multiply-adds at the rate of the vector units. Both are
measured with the kit's own instructions on registers, on as many threads as torch has, and so is the memory's speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from lkm_kit.bench.timing import medians
from lkm_kit.ssm.backends.threads import run_ranges
from lkm_kit.ssm.backends.vector_ir import LANES, Emitter

_CHAINS = 12  # independent vectors: enough to hide the latency of one instruction behind the others


class Rates(NamedTuple):
    """Peak rates of this machine.

    Args:
        exponentials: 2^x of float32 numbers per second.
        fmas: float32 multiply-adds per second.
        bytes: bytes read and written per second by ``torch.add`` on vectors larger than the caches.
    """

    exponentials: float
    fmas: float
    bytes: float

    def scan_seconds(self, updates: float, *, exponentials: int, fmas: int) -> float:
        """Floor of a scan with ``updates`` = batch × channels × tokens × states state updates, in seconds."""
        return updates * (exponentials / self.exponentials + fmas / self.fmas)


# Per state update. Forward: h = Āh + (Δu)B and y += Ch are two multiply-adds, Δu·B one multiplication more. Backward
# repeats h, and does dh, dh·B, dh·Δu, G·h, A·dh·Āh, Δ·dh·Āh and dh·Ā: counted from the equations, not from the kernel.
FORWARD = {"exponentials": 1, "fmas": 3}
BACKWARD = {"exponentials": 1, "fmas": 11}


def _loop(exp2: bool, rounds: int):
    """An intrinsic: load ``_CHAINS`` vectors, apply 2^x - 1 or a multiply-add to each ``rounds`` times, store them."""

    @intrinsic
    def apply(typingctx, start, out):
        def codegen(context, builder, sig, args):
            e = Emitter(builder, double=False)
            values = [e.load(e.address(args[0], 4 * LANES * i)) for i in range(_CHAINS)]
            for _ in range(rounds):
                for i, x in enumerate(values):
                    values[i] = e.sub(e.exp2(x), e.const(1.0)) if exp2 else e.fma(x, e.const(0.999), e.const(1e-3))
            for i, x in enumerate(values):
                e.store(x, e.address(args[1], 4 * LANES * i))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return apply


_EXP2_ROUNDS, _FMA_ROUNDS = 4, 64  # so many that loads and stores do not count
_exp2_step, _fma_step = _loop(True, _EXP2_ROUNDS), _loop(False, _FMA_ROUNDS)


@njit(nogil=True)
def _exponentials(memory, repeats):
    for _ in range(repeats):
        _exp2_step(memory, memory)


@njit(nogil=True)
def _fmas(memory, repeats):
    for _ in range(repeats):
        _fma_step(memory, memory)


def measure(repeats: int = 5) -> Rates:
    """Measure the rates, medians of a few short runs each.

    >>> measure(1).exponentials > 1e7
    True
    """
    threads = torch.get_num_threads()
    scratch = torch.full((threads, 2048), 0.5)
    count = 50_000

    def rate(kernel: Callable[[int, int], None], operations: int) -> float:
        def on_each_thread(first: int, last: int) -> None:
            for thread in range(first, last):
                kernel(scratch[thread].data_ptr(), count)

        run = {"kernel": lambda: run_ranges(on_each_thread, threads)}
        return threads * operations / medians(run, repeats)["kernel"]

    exponentials = rate(_exponentials, _EXP2_ROUNDS * count * _CHAINS * LANES)
    fmas = rate(_fmas, _FMA_ROUNDS * count * _CHAINS * LANES)
    a, b, c = (torch.zeros(16_000_000) for _ in range(3))
    seconds = medians({"add": lambda: torch.add(a, b, out=c)}, repeats)["add"]
    return Rates(exponentials, fmas, 3 * a.nbytes / seconds)
