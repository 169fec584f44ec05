"""One idea that is asked of many combinations: of the first few in ``make test``, of the others in CI."""

import pytest

PARAMETERS = type(pytest.param())


def first(values, few=1):
    """Values for ``parametrize``, those behind the first ``few`` marked ``thorough``: ``make test`` leaves them out.

    A tuple is a value of several arguments, as for ``parametrize`` with several names.
    """
    values = list(values)
    return values[:few] + [_thorough(value) for value in values[few:]]


def _thorough(value):
    if isinstance(value, PARAMETERS):
        return value._replace(marks=[*value.marks, pytest.mark.thorough])
    return pytest.param(*(value if isinstance(value, tuple) else [value]), marks=pytest.mark.thorough)
