"""Every kernel of a computation, with the bytes that it moves and the operations that it does: found by shapes alone.

On torch's ``meta`` device a tensor has no numbers, and each operation comes by with its tensors. As torch runs it, an
operation is a kernel, unless it makes a view or an empty tensor. The fused mixer is looked into; its launches of
Triton kernels are told of instead of made (:func:`lkm_kit.ssm.backends.triton.listening`). So passes over chunks,
copies between layouts and sums of gradients are counted because they are there, not because somebody thought of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from lkm_kit.ssm.backends import mixer, triton, triton_mixer

NO_KERNEL = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "_unsafe_view"}
"""Operations that are no views and move nothing either."""
WRITE_ONLY = {"copy_", "fill_", "zero_"}
"""Operations in place that do not read what was there."""
_ENGINE = triton_mixer.Engine()
_INSIDE = {
    "mamba_mix_triton": partial(mixer.forward, _ENGINE),
    "mamba_mix_triton_backward": partial(mixer.backward, _ENGINE),
}
_OF_A_STATE = {"triton_kernels.forward": 7, "triton_kernels.state_gradient": 7, "triton_kernels.backward": 23}
"""Operations of a scan's update of one state of one channel: an exponential counts as one, a multiply-add as two (see
``bench.floor``)."""
_OF_A_TAP = {"triton_conv_kernels.forward": 3, "triton_conv_kernels.backward": 6}
"""Operations of the causal convolution for each value and tap, SiLU included."""
_UNREAD_BY_EFFECTS = (2, 5, 6, 10)
"""Arguments z, C, D and y of the scan's pass that looks only at what a chunk does to the state."""


class Kernel(NamedTuple):
    """What one kernel moves and computes.

    Args:
        name: torch's name of the operation, or the place of a Triton kernel.
        bytes: that it reads or writes, each tensor once; of a tensor whose values repeat, each value once.
        operations: additions and multiplications, a multiply-add being two. Of what is neither a product, a
            convolution nor a scan, one for each value.
        tensor_cores: whether torch runs it on them unasked: convolutions, in TF32.
    """

    name: str
    bytes: float
    operations: float
    tensor_cores: bool = False


def kernels_of(run: Callable[[], object]) -> list[Kernel]:
    """All kernels of ``run``, in their order.

    Args:
        run: computes with tensors on the ``meta`` device; layers of the kit on the ``triton`` backend.

    >>> x = torch.empty(10, 4, device="meta")
    >>> [tuple(kernel) for kernel in kernels_of(lambda: (x @ x.t()).relu_().view(100))]
    [('mm 4→10', 720, 800, False), ('relu_', 800, 100, False)]
    """
    counting = _Counting()
    with triton.listening(counting.launched), counting:
        run()
    return counting.found


class _Counting(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found: list[Kernel] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        if steps := _INSIDE.get(name):
            with self:
                return steps(*args)
        result = func(*args, **kwargs)
        if not func.is_view and name not in NO_KERNEL:
            kernel = _counted(func, name, args, kwargs, result)
            self.found += [kernel] if kernel.bytes else []  # nothing is launched for tensors without values
        return result

    def launched(self, kernel: str, arguments: Sequence[Any], flags: Mapping[str, Any]) -> None:
        unread = _UNREAD_BY_EFFECTS if flags.get("OUTPUT") is False else ()
        # who has no tensor for a place gives another one there a second time
        touched = {id(t): t for at, t in enumerate(arguments) if torch.is_tensor(t) and at not in unread}
        moved = sum(map(_bytes, touched.values()))
        if flags.get("ADD"):  # y is read, too
            moved += _bytes(arguments[10])
        if kernel in _OF_A_STATE:
            each = _OF_A_STATE[kernel] * arguments[3].shape[1]
        else:
            each = _OF_A_TAP[kernel] * flags["K"] if kernel in _OF_A_TAP else 3
        operations = each * arguments[0].numel()
        self.found.append(Kernel(kernel.removeprefix("triton_"), moved, operations))


def _counted(func, name: str, args: tuple, kwargs: dict[str, Any], result: Any) -> Kernel:
    changed, read = [], []
    for argument, value in _named(func, args, kwargs):
        tensors = [t for t in tree_leaves(value) if torch.is_tensor(t)]
        written = argument.alias_info is not None and argument.alias_info.is_write
        changed += tensors if written else []
        read += [] if written and (name in WRITE_ONLY or argument.is_out) else tensors
    made = [t for t in tree_leaves(result) if torch.is_tensor(t) and all(t is not other for other in changed)]
    values = max(sum(t.numel() for t in side) for side in (read, [*made, *changed]))
    moved = sum(map(_bytes, [*read, *made, *changed]))
    if name in ("mm", "matmul", "addmm", "addmm_", "bmm"):
        inner, columns = args[-2].shape[-1], args[-1].shape[-1]
        return Kernel(f"{name} {inner}→{columns}", moved, 2 * result.numel() * inner)
    if count := flop_registry.get(func.overloadpacket):
        return Kernel(name, moved, count(*args, **kwargs, out_val=result), "convolution" in name)
    return Kernel(name, moved, values)


def _named(func, args: tuple, kwargs: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    for number, argument in enumerate(func._schema.arguments):
        if number < len(args):
            yield argument, args[number]
        elif argument.name in kwargs:
            yield argument, kwargs[argument.name]


def _bytes(t: Tensor) -> int:
    return t.element_size() * math.prod(size for size, stride in zip(t.shape, t.stride()) if stride)
