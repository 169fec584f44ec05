"""How an argument that the kit cannot serve is named."""

from __future__ import annotations

from typing import NoReturn

from lkm_kit.errors import KitError


def refuse(what: str, argument: str, remedy: str) -> NoReturn:
    """Raise a KitError for an argument of a function or a layer.

    >>> refuse("Mamba", "inference_params", "pass whole sequences")
    Traceback (most recent call last):
        ...
    lkm_kit.errors.KitError: lkm_kit.compat.Mamba does not take inference_params
      -> pass whole sequences
    """
    raise KitError(f"lkm_kit.compat.{what} does not take {argument}", remedy=remedy)
