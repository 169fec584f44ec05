"""What every exercise check owes a learner: the advice that fits the mistake, and no refusal for a list or an array."""

from importlib import import_module

import numpy as np
import pytest
import torch

from lkm_kit.course import CHECKS
from lkm_kit.course.check import check_function

NAMES = [(module, name) for module, names in CHECKS.items() for name in names]


def recorded(module, name):
    """The check, and what it gives to check_function."""
    home, given = import_module(f"lkm_kit.course.{module}"), {}

    def record(fn, expected, cases, **options):
        given.update(expected=expected, cases=cases, **options)
        return check_function(fn, expected, cases, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(home, "check_function", record)
        check = getattr(home, name)
        check(None)
    return check, given


MISTAKES = [(m, n, k) for m, n in NAMES for k in range(len(recorded(m, n)[1]["mistakes"]))]


@pytest.mark.parametrize(("module", "name", "k"), MISTAKES)
def test_a_mistake_fails_with_its_own_advice(module, name, k):
    check, given = recorded(module, name)
    wrong, advice = given["mistakes"][k]
    result = check(wrong)
    assert not result.ok, f"a listed mistake passes: {advice}"
    assert advice in result.message, f"{result.message} instead of: {advice}"


def numbers(value):
    """Whether value is one number, an array, or several numbers of one shape."""
    if isinstance(value, (tuple, list)):
        return all(numbers(part) for part in value) and len({np.shape(_numpy(part)) for part in value}) == 1
    return isinstance(value, (int, float, np.ndarray, np.generic, torch.Tensor))


def _numpy(value):
    if isinstance(value, (tuple, list)):
        return np.array([_numpy(part) for part in value])
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


CONTAINERS = {
    "array": _numpy,
    "tensor": lambda value: torch.as_tensor(_numpy(value).copy()),
    "list": lambda value: _numpy(value).tolist(),
    "tuple": lambda value: tuple(_numpy(value)) if _numpy(value).ndim else value,
    "list of arrays": lambda value: list(_numpy(value)) if _numpy(value).ndim else value,
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_right_answer_is_right_in_any_container(module, name, container):
    check, given = recorded(module, name)

    def fn(*arguments):
        value = given["expected"](*arguments)
        return CONTAINERS[container](value) if numbers(value) else value

    assert check(fn).ok, check(fn).message
