"""The kit's own error: what is wrong, with which thing, and what to do about it."""

from __future__ import annotations


class KitError(ValueError):
    """An error the reader can act on. The message names the thing; ``remedy`` says what to do.

    It is a ``ValueError`` so that callers who know nothing of the kit can catch it; the command line prints it
    without a traceback.

    >>> raise KitError("label 17 is not in the label table", remedy="use ids 0..13, see lkm_kit.data.ORGANS")
    Traceback (most recent call last):
        ...
    lkm_kit.errors.KitError: label 17 is not in the label table
      -> use ids 0..13, see lkm_kit.data.ORGANS
    """

    def __init__(self, message: str, *, remedy: str | None = None):
        self.message = message
        self.remedy = remedy
        super().__init__(message if remedy is None else f"{message}\n  -> {remedy}")
