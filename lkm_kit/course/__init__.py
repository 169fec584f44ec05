"""The course: exercise checks (``check_*``), their machinery (``check.py``, ``check_class.py``), what a student keeps
of her own (``own.py``) and the notebook builder (``build.py``).

Each topic keeps its checks in a file of its own, ``checks_*.py``. They are imported when first asked for, so that a
chapter on one topic does not pay for the imports of another.

>>> from lkm_kit.course import check_function
>>> check_function(lambda x: 2 * x, lambda x: 2 * x, [(3,)], name="double").ok
True
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from lkm_kit.course.check import CheckResult, check_function, check_value
from lkm_kit.course.own import keep, kept

CHECKS = {
    path.stem: tuple(re.findall(r"^def (check_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    for path in sorted(Path(__file__).parent.glob("checks_*.py"))
}
"""Module of the course -> the exercise checks in it."""

__all__ = ["CHECKS", "CheckResult", "check_function", "check_value", "keep", "kept"]


def __getattr__(name: str) -> Any:
    for module, names in CHECKS.items():
        if name in names:
            return getattr(import_module(f"lkm_kit.course.{module}"), name)
    raise AttributeError(f"lkm_kit.course has no check {name!r}; there are: {', '.join(sorted(__dir__()))}")


def __dir__() -> list[str]:
    return [*__all__, *(name for names in CHECKS.values() for name in names)]
