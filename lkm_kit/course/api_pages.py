"""Pages of the public names, from their docstrings: what a package of the kit lists in its ``__all__``."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from lkm_kit.files import write_text

SETTINGS = {
    "autodoc_member_order": "bysource",
    "autodoc_typehints_format": "short",
    "add_module_names": False,
    "python_use_unqualified_type_names": True,
    "python_maximum_signature_line_length": 88,
    "napoleon_use_rtype": False,
}
"""Of Sphinx, for these pages."""
LITERAL = re.compile(r"(``.+?``|`[^`]+`)")


def write_api(folder: Path) -> dict[str, str]:
    """Write ``<package>.rst`` for Sphinx, for each package of the kit that says what is public in it.

    Returns:
        package -> what it is for, in a line.
    """
    import lkm_kit

    about = {}
    for name in (f"lkm_kit.{module.name}" for module in iter_modules(lkm_kit.__path__) if module.ispkg):
        module = import_module(name)
        if not hasattr(module, "__all__"):
            continue
        about[name] = _first_line(module.__doc__)
        entries = "\n".join(_entry(module, public) for public in sorted(module.__all__, key=str.lower))
        write_text(folder / f"{name}.rst", f"{name}\n{'=' * len(name)}\n\n{about[name]}\n\n{entries}")
    return about


def _entry(module: ModuleType, name: str) -> str:
    """The directive of one public name. A constant keeps its docstring only where it is defined."""
    thing = getattr(module, name)
    if inspect.ismodule(thing):
        return f".. automodule:: {thing.__name__}\n   :members:\n"
    if inspect.isclass(thing):
        return f".. autoclass:: {module.__name__}.{name}\n   :members:\n"
    if callable(thing):
        return f".. autofunction:: {module.__name__}.{name}\n"
    return f".. autodata:: {_origin(module, name)}.{name}\n   :no-value:\n"


def _origin(module: ModuleType, name: str) -> str:
    """The module from which a package imports ``name``; itself if it does not.

    >>> import lkm_kit.blocks
    >>> _origin(lkm_kit.blocks, "ORDERS")
    'lkm_kit.blocks.orders'
    """
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and name in (alias.name for alias in node.names):
            return _origin(import_module(node.module), name)
    return module.__name__


def _first_line(docstring: str | None) -> str:
    return " ".join((docstring or "").split("\n\n")[0].split())


def plain_stars(app, what, name, thing, options, lines: list[str]) -> None:
    """For Sphinx: ``(batch, *spatial)`` and ``|P|`` are meant as they stand, not as emphasis and substitution.

    >>> text = ["(batch, *spatial): *one* of |P|, ``*args``"]
    >>> plain_stars(None, "function", "f", None, None, text)
    >>> print(text[0])
    (batch, \\*spatial): *one* of \\|P\\|, ``*args``
    """
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = LITERAL.split(line)
            parts[::2] = [re.sub(r"(?<![*\w])\*(?=\w+[^*\w ])", r"\*", part).replace("|", r"\|") for part in parts[::2]]
            lines[number] = "".join(parts)
