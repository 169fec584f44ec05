"""How tensors go into the CPU kernels: by name, each as an address with the strides of the loops over it.

A kernel trusts its addresses. With ``LKM_CHECK_KERNELS=1`` in the environment every call is checked first: what the
kernel is going to touch, by the call's own sizes, must lie in the memory of the tensor.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lkm_kit.ssm.backends.threads import run_ranges


class Operand(NamedTuple):
    """Memory that a kernel walks over, in bytes.

    tensor: whose memory it is, kept alive by this; None where the kernel gets no such operand.
    place: address and strides, as the kernel takes them; the address alone without loops.
    counts: steps of each loop.
    run: bytes in a row at every place.
    """

    tensor: Tensor | None
    place: tuple[int, ...] | int
    counts: tuple[int, ...] = ()
    run: int = 0


def kernel_kind(dtype: torch.dtype, *counts: int) -> tuple:
    """What chooses a kernel by its type: an array of the dtype, and a tuple of zeros for each count."""
    import numpy as np

    return np.zeros(0, np.float64 if dtype == torch.float64 else np.float32), *((0,) * count for count in counts)


def rows_operand(t: Tensor | None, reverse: bool, batch: int, length: int, channels: int) -> Operand:
    """(batch, length, channels) with contiguous channels, in the order of the scan: place (address, batch, token)."""
    if t is None:
        return Operand(None, (0, 0, 0))
    b, l, _ = (s * t.element_size() for s in t.stride())
    place = (t.data_ptr() + (length - 1) * l, b, -l) if reverse else (t.data_ptr(), b, l)
    return Operand(t, place, (batch, length), channels * t.element_size())


def flat_operand(t: Tensor | None, *shape: int) -> Operand:
    """A contiguous tensor of this shape: place address."""
    return Operand(None, 0) if t is None else Operand(t, t.data_ptr(), (), math.prod(shape) * t.element_size())


def call_kernel(kernel: Callable, kind: tuple, tasks: int, **arguments: Any) -> None:
    """Run a kernel on tasks 0..tasks-1, a range at a time, on several threads.

    Args:
        kernel: takes what ``kind`` holds, the first task, the one after the last, and ``arguments`` by name.
        kind: what chooses dtype and width by its type.
        tasks: their number.
        arguments: numbers, and :class:`Operand` for memory.

    Raises:
        IndexError: with ``LKM_CHECK_KERNELS=1``, an operand that does not lie in its tensor's memory.
    """
    if os.environ.get("LKM_CHECK_KERNELS") == "1":
        for name, argument in arguments.items():
            if isinstance(argument, Operand):
                _check(f"{kernel.__module__}.{kernel.__name__}: {name}", argument)
    places = {name: a.place if isinstance(a, Operand) else a for name, a in arguments.items()}

    def run(first: int, last: int) -> None:
        _ = arguments  # the tensors live as long as a thread is in here
        kernel(*kind, first, last, **places)

    if tasks:
        run_ranges(run, tasks)


def _check(what: str, operand: Operand) -> None:
    tensor, place, counts, run = operand
    if tensor is None or 0 in counts:
        return
    address, *strides = (place,) if isinstance(place, int) else place
    reach = [(count - 1) * stride for count, stride in zip(counts, strides, strict=True)]
    memory = tensor.untyped_storage()
    first = address + sum(min(0, r) for r in reach) - memory.data_ptr()
    last = address + sum(max(0, r) for r in reach) + run - memory.data_ptr()
    if first < 0 or last > memory.nbytes():
        raise IndexError(
            f"{what} of shape {tuple(tensor.shape)} would be touched from byte {first} to {last} of {memory.nbytes()}"
        )
