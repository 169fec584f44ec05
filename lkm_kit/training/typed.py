"""A value against the annotation of its field: converted where nothing is lost, else an error that names the field."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from lkm_kit.errors import KitError

_IN_WORDS = {
    int: "a whole number (of at most 63 bits)",
    float: "a finite number",
    str: "text",
    bool: "true or false",
    type(None): "null",
}


def typed(value: Any, hint: Any, name: str) -> Any:
    """The value as the annotation wants it: numpy's scalars and lists as Python's numbers and tuples.

    Args:
        value: as a user or a JSON file gives it.
        hint: bool, int, float, str, ``Literal``, ``tuple[int, ...]``, ``Mapping[str, Any]``, or a union of such.
        name: of the field, for the message.

    Raises:
        KitError: another type; the message says what is wanted.

    >>> typed([96, 96], tuple[int, ...], "image_size"), typed(1, float, "learning_rate")
    ((96, 96), 1.0)
    """
    try:
        return _converted(value, hint)
    except (TypeError, ValueError, OverflowError):
        remedy = f"{name} takes {_in_words(hint)}"
        raise KitError(f"{name} is {value!r}", remedy=remedy) from None


def _converted(value: Any, hint: Any) -> Any:
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        for choice in inner:
            try:
                return _converted(value, choice)
            except (TypeError, ValueError, OverflowError):
                continue
        raise TypeError
    if origin is Literal:
        if value not in inner:
            raise ValueError
        return value
    if origin is tuple:
        if isinstance(value, (str, Mapping)):
            raise TypeError
        return tuple(_converted(each, inner[0]) for each in value)
    if origin is not None and issubclass(origin, Mapping):
        return _plain(value, Mapping)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is int and type(value) is int and abs(value) >= 2**63:
        raise OverflowError  # lengths, steps and seeds are counted in machine words
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise TypeError
    return value


def _plain(value: Any, kind: type = object) -> Any:
    """What a JSON round trip would give: text for keys, lists for tuples, Python's numbers for numpy's."""
    if not isinstance(value, kind):
        raise TypeError
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    value = value.item() if hasattr(value, "item") else value
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise TypeError


def _in_words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (Union, types.UnionType):
        return " or ".join(_in_words(choice) for choice in inner)
    if origin is tuple:
        return f"a list, each entry {_in_words(inner[0])}"
    return _IN_WORDS.get(hint, 'names with values, such as {"pim": false}')
