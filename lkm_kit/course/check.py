"""The machinery of the exercise checks: run the learner's function, then say shape, then value, then a hint.

A check never raises: an unsolved or wrong exercise gives a message, and the notebook runs on to its end. Hints come in
stages: none for an empty cell; for the first wrong try a nudge, for the next, different one the formula. A mistake that
is known gets its own advice. A topic's check is a few lines around :func:`check_function`::

    def check_decay(fn):
        return check_function(
            fn,
            lambda a, delta: torch.exp(delta * a),
            [(torch.tensor([-1.0, -2.0]), 0.1), (torch.tensor([-0.5]), 2.0)],
            hints=("which share of the past survives a step?", "Eq. 2: exp(delta * a), element by element"),
            mistakes=[(lambda a, delta: 1 + delta * a, "this is Euler's step; zero-order hold takes the exponential")],
        )
"""

from __future__ import annotations

import copy
import inspect
import linecache
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lkm_kit.course.compare import as_array, changed, compare, other_kind
from lkm_kit.course.limits import TooLong, limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class CheckResult:
    """What a check found: true when solved; a notebook shows it as its message, with a picture where there is one."""

    ok: bool
    message: str
    figure: Figure | None = field(default=None, repr=False, compare=False)

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return self.message

    def _ipython_display_(self) -> None:
        from IPython.display import display

        from lkm_kit.plots.style import show_figures_in_notebook

        print(self.message)
        if self.figure is not None:
            show_figures_in_notebook()
            display(self.figure)


def check_function(
    fn: Callable[..., Any],
    expected: Callable[..., Any],
    cases: Sequence[tuple[Any, ...]],
    *,
    name: str = "",
    hints: Sequence[str] = (),
    mistakes: Sequence[tuple[Callable[..., Any], str]] = (),
    rtol: float = 1e-4,
    atol: float = 1e-6,
    draw: bool | Callable[[Any, Any], Figure] = False,
) -> CheckResult:
    """Compare the learner's ``fn`` with ``expected`` on small inputs.

    Args:
        fn: the learner's function.
        expected: the right one; called with the same arguments.
        cases: one tuple of positional arguments per case, the simplest first; each function gets its own copy.
        name: what the message calls the exercise; default the learner's own name of the function.
        hints: from a nudge to the formula; every wrong try that differs from those before shows the next one.
        mistakes: pairs (a wrong function, what to say when the learner's results equal its results in every case).
        rtol, atol: tolerances, as in :func:`numpy.allclose`.
        draw: True draws yours beside the target (arrays of one or two dimensions) when they differ; or give a function
            ``(yours, target) -> Figure``.

    Returns:
        a :class:`CheckResult`; the random state of torch and NumPy is left as it was.

    >>> def double(x):
    ...     return x + 1
    >>> check_function(double, lambda x: x * 2, [(1,), (3,)], hints=("what happens to 3?", "2 x"))
    ✗ double: the value is not right yet (case 2 of 2): yours 4, expected 6.
      Hint 1 of 2: what happens to 3?
    >>> check_function(lambda x: None, lambda x: x * 2, [(1,)], name="double")
    … double: not yet.
    """
    name = name or _own_name(fn)
    known = f"{getattr(expected, '__module__', '')}.{getattr(expected, '__qualname__', name)}"
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()
    try:
        result = _check(fn, expected, cases, name, lambda: _next_hint(known, fn, hints), mistakes, rtol, atol, draw)
    finally:
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
    if result.ok:
        TRIED.pop(known, None)
    return result


TRIED: dict[str, list[Any]] = {}
"""Exercise -> the wrong tries so far, each once: running a cell again, or all of them, is no new try."""


def _next_hint(known: str, fn: Callable[..., Any], hints: Sequence[str]) -> str:
    if not hints:
        return ""
    tries, this = TRIED.setdefault(known, []), _as_written(fn)
    if this not in tries:
        tries.append(this)
    stage = min(len(tries), len(hints))
    return f"\n  Hint {stage} of {len(hints)}: {hints[stage - 1]}"


def _as_written(fn: Any) -> list[Any]:
    """What tells one try from another: the code of a function, or of the methods of the class that it calls."""
    fn = inspect.unwrap(fn)
    return [getattr(part, "__code__", None) for part in (vars(fn).values() if isinstance(fn, type) else [fn])]


def _argument_names(fn: Callable[..., Any], count: int) -> list[str]:
    try:
        names = list(inspect.signature(fn, follow_wrapped=False).parameters)
    except (TypeError, ValueError):  # a function written in C
        names = []
    return names if len(names) == count else [f"argument {number}" for number in range(1, count + 1)]


def _own_name(fn: Any) -> str:
    name = getattr(fn, "__name__", "")
    return "your answer" if name in ("", "<lambda>") else name


def check_value(value: Any, expected: Any, *, name: str, rtol: float = 1e-4, atol: float = 1e-6) -> CheckResult:
    """Compare one value (a number, text, array, tensor or a tuple of these) that the learner computed or chose.

    >>> check_value((64, 1600), (64, 1600), name="tokens").ok
    True
    >>> check_value(..., 3, name="stages")
    … stages: not yet.
    """
    value = None if value is ... else value
    return check_function(lambda: value, lambda: expected, [()], name=name, rtol=rtol, atol=atol)


def _check(fn, expected, cases, name, next_hint, mistakes, rtol, atol, draw) -> CheckResult:
    if fn is None or fn is ...:
        return CheckResult(False, f"… {name}: not yet.")
    if not callable(fn):
        return CheckResult(False, f"✗ {name}: give the function itself, not its result ({type(fn).__name__}).")
    kind = ""
    for number, arguments in enumerate(cases, start=1):
        where = f" (case {number} of {len(cases)})" if len(cases) > 1 else ""
        target = expected(*copy.deepcopy(arguments))
        given = copy.deepcopy(arguments)
        try:
            with limits():
                got = fn(*given)
        except TooLong as error:
            said = f"your code does not come to an end{where}: it was stopped after {error}.{_own_line(error)}"
            return CheckResult(False, f"✗ {name}: {said}\n  Hint: what makes its loops stop?")
        except Exception as error:
            if isinstance(error, NotImplementedError) and not error.args:  # raised by hand, in the place of an answer
                return CheckResult(False, f"… {name}: not yet.")
            if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # the words are torch's
                said = f"your code asks for too much memory{where}.{_own_line(error)}"
                return CheckResult(False, f"✗ {name}: {said}\n  Hint: what grows there, and how large should it be?")
            return CheckResult(False, f"✗ {name}: your code raised {_say_error(error, where)}{next_hint()}")
        if got is None or got is ...:
            return CheckResult(False, f"… {name}: not yet.")
        problem = compare(got, target, rtol=rtol, atol=atol)
        if problem:
            advice = _known_mistake(fn, mistakes, cases, number - 1, rtol, atol)
            said = f"\n  Hint: {advice}" if advice else next_hint()
            figure = _picture(draw, got, target)
            return CheckResult(False, f"✗ {name}: {problem.replace('@', where, 1)}{said}", figure)
        kind = kind or other_kind(got, target)
        names = _argument_names(fn, len(given))
        if overwritten := [one for one, now, before in zip(names, given, arguments) if changed(now, before)]:
            said = f"the result is right, but what is given is overwritten ({' and '.join(overwritten)})"
            return CheckResult(False, f"✗ {name}: {said}: work on a copy.")
        if number == 1 and compare(_quietly(fn, arguments), target, rtol=rtol, atol=atol):
            said = "asked the same again, it gives another result"
            return CheckResult(False, f"✗ {name}: {said}: what does it keep from one call to the next?")
    if kind:
        return CheckResult(False, f"✗ {name}: {kind}.")
    count = f"all {len(cases)} cases agree" if len(cases) > 1 else "right"
    return CheckResult(True, f"✓ {name}: {count}.")


def beside(got: Any, target: Any) -> Figure:
    """Draw yours beside the target: lines for one dimension, images with one colour scale for two."""
    from matplotlib.figure import Figure

    from lkm_kit.plots.style import PALETTE, WIDTH

    a, b = as_array(got), as_array(target)
    figure = Figure(figsize=(WIDTH["column"], 2.4), layout="constrained")
    if b.ndim == 1:
        axes = figure.subplots()
        axes.plot(b, color=PALETTE[7], linewidth=4, alpha=0.35, label="target")
        axes.plot(a, color=PALETTE[5], label="yours")
        axes.set(xlabel="index", ylabel="value")
        axes.legend()
        return figure
    if b.ndim != 2:
        raise ValueError("only one or two dimensions can be drawn")
    low, high = np.nanmin(b), np.nanmax(b)
    for axes, image, title in zip(figure.subplots(1, 2), (a, b), ("yours", "target")):
        axes.imshow(np.atleast_2d(image), vmin=low, vmax=high)
        axes.set(title=title, xlabel="column", ylabel="row")
    return figure


def _say_error(error: Exception, where: str) -> str:
    """Name the error and the line of the learner's code where it came up."""
    said = (str(error).strip().splitlines() or ["no message"])[0].rstrip(".")
    return f"{type(error).__name__}{where}: {said}.{_own_line(error)}"


LIBRARIES = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<frozen")
"""Where code lies that a learner has not written."""


def _own_line(error: BaseException) -> str:
    """The last line of the learner's cell on the way to the error; none if the call itself failed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(LIBRARIES)]
    if not frames:
        return ""
    last = [f for f in frames if f.filename == frames[0].filename][-1]
    line = (last.line or linecache.getline(last.filename, last.lineno or 0)).strip()
    return f"\n  In its line {last.lineno}: {line}"


def _known_mistake(fn, mistakes, cases, failed: int, rtol: float, atol: float) -> str | None:
    """The advice of the first mistake that explains the learner's results: not in the failed case alone, in all."""
    order = [cases[failed], *cases[:failed], *cases[failed + 1 :]]
    ours = [_quietly(fn, arguments) for arguments in order]
    for wrong, advice in mistakes:
        theirs = [_quietly(wrong, arguments) for arguments in order]
        pairs = [(a, b) for a, b in zip(ours, theirs) if a is not _FAILED]
        if all(b is not _FAILED and not compare(a, b, rtol=rtol, atol=atol) for a, b in pairs):
            return advice
    return None


_FAILED = object()


def _quietly(fn, arguments) -> Any:
    try:
        with limits():
            return fn(*copy.deepcopy(arguments))
    except (Exception, TooLong):
        return _FAILED


def _picture(draw, got, target) -> Figure | None:
    if not draw:
        return None
    try:
        return (beside if draw is True else draw)(got, target)
    except Exception:
        return None  # a result that cannot be drawn still gets its message
