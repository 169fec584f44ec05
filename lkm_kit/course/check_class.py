"""Check a learner's ``nn.Module`` against the library's, in stages: its parameters, then its outputs with their values.

With the library's names and shapes its weights load, and then both must say the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lkm_kit.course.check import CheckResult, check_function
from lkm_kit.course.compare import compare

NAMES = ("names and shapes are those of the library's layer: print its named_parameters()",)


def check_class(
    cls: Callable[..., nn.Module],
    library: Callable[..., nn.Module],
    cases: Sequence[tuple[tuple[Any, ...], Tensor]],
    *,
    hints: Sequence[str],
    mistakes: Sequence[tuple[Callable[..., Tensor], str]] = (),
    names: Sequence[str] = NAMES,
    begun: Callable[[nn.Module], bool] = lambda module: any(True for _ in module.parameters()),
    between: Sequence[Callable[[Callable], CheckResult]] = (),
    atol: float = 1e-5,
) -> CheckResult:
    """Compare the learner's class with the library's.

    Args:
        cls: the learner's class.
        library: the right one, called with the same arguments.
        cases: pairs (arguments of the class, input of the module), the simplest first.
        hints: on the outputs, as in :func:`check_function`.
        mistakes: pairs (a wrong forward, taking the library's module and the input; advice).
        names: hints on the parameters.
        begun: whether a module of the learner's class is more than what was there before.
        between: further checks of the class, made after that of its parameters.
        atol: of the outputs.

    >>> from torch import nn
    >>> check_class(nn.Linear, nn.Linear, [((2, 3), torch.ones(1, 2))], hints=()).ok
    True
    """
    if cls is None or cls is ...:
        return CheckResult(False, "… your answer: not yet.")
    if isinstance(cls, nn.Module):
        name = type(cls).__name__
        return CheckResult(False, f"✗ {name}: give the class itself, {name}, not a module made with it.")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        given = [(arguments, x, _spread(library(*arguments)).state_dict()) for arguments, x in cases]
        parameters = [arguments for arguments, _ in cases]
        result = check_function(
            _parameters(cls, library, begun), _parameters(library, library), parameters, hints=names
        )
        for stage in between:
            result = result and stage(cls)
        wrong = [(_outputs(functools.partial(_Slipped, library, slip)), advice) for slip, advice in mistakes]
        return result and check_function(
            _outputs(cls), _outputs(library), given, hints=hints, mistakes=wrong, atol=atol
        )


def _spread(module: nn.Module) -> nn.Module:
    """Vectors that start as ones or zeros (of LayerNorm, D) get values of their own: leaving one out must show."""
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter += 0.1 * torch.randn_like(parameter)
    return module


def _parameters(make: Callable, library: Callable, begun: Callable[[nn.Module], bool] = bool) -> Callable:
    @_named_like(make)
    def difference(*arguments: Any) -> str | None:
        module = make(*arguments)
        wanted, given = (
            {f"{name} {tuple(p.shape)}" for name, p in kind.named_parameters()}
            for kind in (library(*arguments), module)
        )
        lacks, has = sorted(wanted - given), sorted(given - wanted)
        said = [f"lacks {', '.join(lacks)}"] * bool(lacks) + [f"has {', '.join(has)}"] * bool(has)
        return ("; ".join(said) or "the same parameters") if begun(module) else None

    return difference


def _outputs(make: Callable) -> Callable:
    @_named_like(make)
    def output(arguments: tuple, x: Tensor, weights: dict[str, Tensor]) -> Any:
        module = make(*arguments)
        module.load_state_dict(weights, strict=False)  # names and shapes are known; buffers are the learner's affair
        first, second = module(x.clone()), module(x)
        if isinstance(first, Tensor) and compare(second, first, rtol=1e-4, atol=1e-5):
            raise RuntimeError("called again with the same input it answers otherwise: what does it keep in self?")
        return second

    return output


def _named_like(make: Callable) -> Callable:
    return functools.wraps(make, updated=()) if hasattr(make, "__name__") else lambda fn: fn


class _Slipped:
    """The library's module with a wrong ``forward``."""

    def __init__(self, library: Callable[..., nn.Module], slip: Callable[..., Tensor], *arguments: Any):
        self.module, self.slip = library(*arguments), slip

    def load_state_dict(self, weights: dict[str, Tensor], strict: bool) -> None:
        self.module.load_state_dict(weights, strict)

    def __call__(self, x: Tensor) -> Tensor:
        return self.slip(self.module, x)
