"""The kit's own error: what is wrong, with which thing, and what to do about it."""

from __future__ import annotations

import contextlib
import difflib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import TypeVar

Choice = TypeVar("Choice")


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


class KitWarning(UserWarning):
    """Something that the reader should know; the work goes on. The command line prints it as a note."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end, or its terminal was closed: cleaned up after as after Ctrl-C."""


@contextlib.contextmanager
def ending_as_ctrl_c() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise :class:`Terminated` and end child processes too, as a terminal's Ctrl-C does.

    A signal that is ignored, as SIGHUP is under nohup, stays so. In other threads than the first one, which alone may
    listen to signals, nothing changes.

    >>> try:
    ...     with ending_as_ctrl_c():
    ...         signal.raise_signal(signal.SIGTERM)
    ... except KeyboardInterrupt as end:
    ...     print(type(end).__name__)
    Terminated
    """
    owner = os.getpid()

    def end(number: int, _frame: object) -> None:
        if os.getpid() != owner:  # a fork that was given this handler: it ends as it would have
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if number != signal.SIGTERM:  # shell and system both send it: a second one must not disturb the cleaning up
            signal.signal(number, signal.SIG_IGN)
        processes = sys.modules.get("multiprocessing")  # imported by whoever has children; the kit itself starts light
        for child in processes.active_children() if processes else ():
            child.terminate()
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in asked if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def note(message: str) -> None:
    """Say something that is no error, as a :class:`KitWarning`."""
    warnings.warn(message, KitWarning, stacklevel=3)


def one_of(
    value: Choice, choices: Iterable[Choice], what: str, *, message: str | None = None, remedy: str | None = None
) -> Choice:
    """Return ``value`` if it is one of ``choices``; otherwise say so, and offer the closest.

    Args:
        value: what was asked for.
        choices: what there is: names, or a table whose keys are the names.
        what: the kind of thing, as in "there is no profile 'smok'".
        message: the whole first line, where "there is no {what} {value}" is not English.
        remedy: what to do after "did you mean ...?"; default: "choose one of" and all of them.

    Raises:
        KitError: it is none of them.

    >>> one_of("smok", ["smoke", "laptop"], "profile")
    Traceback (most recent call last):
        ...
    lkm_kit.errors.KitError: there is no profile 'smok'
      -> did you mean 'smoke'? choose one of smoke, laptop
    """
    choices = list(choices)
    if value in choices:
        return value
    names = [str(choice) for choice in choices]
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise KitError(
        message or f"there is no {what} {value!r}", remedy=hint + (remedy or f"choose one of {', '.join(names)}")
    )


def needs(what: str, *packages: str, extra: str) -> None:
    """Stop, and say what to install, where a package of an extra is not there.

    Args:
        what: thing and verb, as the message begins.
        packages: by the names under which they are imported.
        extra: of ``pyproject.toml``, that brings them.

    Raises:
        KitError: at least one is missing.

    >>> needs("pages need", "json", extra="site")
    >>> needs("pages need", "json", "no_such_package", extra="site")
    Traceback (most recent call last):
        ...
    lkm_kit.errors.KitError: pages need no_such_package, which is not installed
      -> in the kit's checkout: pip install -c constraints.txt -e '.[site]'
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise KitError(f"{what} {', '.join(missing)}, which {verb} not installed", remedy=install(extra))


def install(extra: str) -> str:
    """Remedy for a package that an extra of ``pyproject.toml`` brings. No index has the kit: it comes from a checkout.

    >>> install("viz")
    "in the kit's checkout: pip install -c constraints.txt -e '.[viz]'"
    """
    return f"in the kit's checkout: pip install -c constraints.txt -e '.[{extra}]'"
