"""Hold a learner's answer against the right one: numbers, texts, arrays, tensors and several of these together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def compare(got: Any, target: Any, *, rtol: float, atol: float) -> str:
    """Say how ``got`` differs from ``target``: kind, then shape, then value; empty when they agree.

    ``@`` marks the place where a caller may put the number of the case.

    >>> compare(4, 6, rtol=0, atol=0)
    'the value is not right yet@: yours 4, expected 6.'
    """
    if isinstance(target, (tuple, list)):
        parts = _parts(got, target)
        if parts is None or len(parts) != len(target):
            size = f"one {type(got).__name__}" if parts is None else _things(len(parts))
            return f"return {_things(len(target))}, yours returns {size}@."
        got = parts
        for position, (a, b) in enumerate(zip(got, target), start=1):
            if problem := compare(a, b, rtol=rtol, atol=atol):
                return f"part {position} of {len(target)}: {problem}"
        return ""
    if isinstance(target, str) or target is None:
        same = isinstance(got, type(target)) and got == target
        return "" if same else f"the value is not right yet@: yours {got!r}, expected {target!r}."
    try:
        a, b = as_array(got), as_array(target)
    except (TypeError, ValueError, RuntimeError):  # the last one: a tensor without numbers
        return f"expected numbers, yours is a {type(got).__name__}@."
    if a.shape != b.shape:
        return f"the shape is not right yet@: yours {a.shape}, expected {b.shape}."
    close = np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return ""
    if isinstance(target, bool):
        return f"the value is not right yet@: yours {got!r}, expected {target!r}."
    if a.ndim == 0:
        return f"the value is not right yet@: yours {a:.6g}, expected {b:.6g}."
    if np.isnan(a).any() and not np.isnan(b).any():
        return f"shape {a.shape} is right, but {np.isnan(a).sum()} of {a.size} values are nan@."
    worst = np.unravel_index(np.argmax(np.where(close, 0, np.nan_to_num(np.abs(a - b), nan=np.inf))), a.shape)
    place = ", ".join(str(i) for i in worst)
    return (
        f"shape {a.shape} is right, the values are not yet@: {(~close).sum()} of {a.size} differ, most at [{place}]: "
        f"yours {a[worst]:.6g}, expected {b[worst]:.6g}."
    )


def other_kind(got: Any, target: Any) -> str:
    """Say where right values are of another kind than asked, floats for whole numbers or complex ones; else empty.

    >>> other_kind(4.0, 4)
    'the value is right, but a whole number is asked, and yours is a float: // or int()'
    >>> other_kind(np.array([4]), [4.0]) or other_kind(1, True)
    ''
    """
    if isinstance(target, (tuple, list)):
        return next(filter(None, map(other_kind, _parts(got, target) or (), target)), "")
    given, asked = _kind(got), _kind(target)
    if given == "c" and asked in "bif":
        return "the values are right, but yours are complex numbers: take .real"
    if asked == "i" and given == "f":
        many = bool(np.ndim(target))
        what = (
            "whole numbers are asked, and yours are floats" if many else "a whole number is asked, and yours is a float"
        )
        return f"the value{'s are' if many else ' is'} right, but {what}: // or int()"
    if asked == "b" and given in "if" and np.ndim(target):
        return "the values are right, but True and False are asked, and yours are numbers: compare, as in x > 0"
    return ""


def _kind(value: Any) -> str:
    """NumPy's letter: b for bool, i for whole numbers with or without sign, f for floats, c for complex ones."""
    if isinstance(value, torch.Tensor):
        kind = "c" if value.is_complex() else "f" if value.is_floating_point() else "i"
        return "b" if value.dtype == torch.bool else kind
    if isinstance(value, (list, tuple)) and value:
        return max(map(_kind, value), key="bifc".find)
    return np.asarray(value).dtype.kind.replace("u", "i")


def changed(now: Any, before: Any) -> bool:
    """Whether an argument's numbers are no longer those of before; what is no data, such as a network, may change.

    >>> changed([1, 2], [1, 2]), changed(np.ones(2), np.zeros(2))
    (False, True)
    """
    if isinstance(before, torch.Tensor):
        return changed(as_array(now), as_array(before))
    if isinstance(before, np.ndarray):
        return now.shape != before.shape or now.tobytes() != before.tobytes()
    if isinstance(before, dict):
        return now.keys() != before.keys() or any(changed(now[key], before[key]) for key in before)
    if isinstance(before, (list, tuple)):
        return len(now) != len(before) or any(map(changed, now, before))
    return isinstance(before, (int, float, str)) and repr(now) != repr(before)  # a nan is not equal to itself


def _parts(value: Any, target: Sequence[Any]) -> list[Any] | None:
    """What several results come in does not matter: a tuple, a list, a range, or stacked in an array or tensor."""
    if hasattr(value, "__array__"):  # a series or index of pandas, too
        value = value if isinstance(value, torch.Tensor) else np.asarray(value)
        return list(value) if value.ndim and all(np.ndim(part) == value.ndim - 1 for part in target) else None
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else None


def _things(count: int) -> str:
    return f"{count} thing{'s' * (count != 1)}"


def as_array(value: Any) -> np.ndarray:
    """Numbers of any kind as an array of floats or complex numbers; a text is none, even if it could be read as one.

    >>> as_array([1, torch.tensor(2)]).tolist()
    [1.0, 2.0]
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.to(torch.complex128 if value.is_complex() else torch.float64).numpy()
    elif isinstance(value, (list, tuple)):
        value = [as_array(part) for part in value]
    array = np.asarray(value)
    if array.dtype.kind in "US":
        raise TypeError("text")
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)
