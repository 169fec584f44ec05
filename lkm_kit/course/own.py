"""What a student has written herself, from chapter to chapter: ``my_kit.py`` in the folder that ``make student`` made.

:func:`keep` writes a class or function there once its check says that it is right; :func:`kept` fetches it in a later
chapter. The file is ordinary Python: a student may read it, change it, and import it anywhere.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import inspect
import linecache
import symtable
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lkm_kit.course.check import CheckResult
from lkm_kit.course.student import RECORD
from lkm_kit.errors import KitError
from lkm_kit.files import write_text

FILE = "my_kit.py"
HEADER = '"""What I have written in the course: `keep` adds to it, later chapters import it."""\n'


def keep(
    thing: Any, check: Callable[[Any], CheckResult], *, replace: bool = False, folder: Path | None = None
) -> CheckResult:
    """Write a class or function of this notebook, and what it needs, into ``my_kit.py``, if ``check`` accepts it.

    Args:
        thing: as the notebook defines it.
        check: of its exercise; called with ``thing``.
        replace: take this one although the file holds another of the same name.
        folder: of the file; default the current one. Only a folder that ``make student`` made gets one.

    Returns:
        what was done. Called again with the same code it does nothing; with other code it keeps what the file holds.

    Raises:
        KitError: ``thing`` uses a value that only this notebook has, or does not run on its own.

    >>> def double(x):
    ...     return 2 * x
    >>> keep(double, lambda fn: CheckResult(fn(4) == 9, ""))
    … double: not kept, as its check does not accept it yet.
    """
    name = getattr(thing, "__name__", "your answer")
    if not check(thing):
        return CheckResult(False, f"… {name}: not kept, as its check does not accept it yet.")
    folder = Path.cwd() if folder is None else folder
    if not (folder / RECORD).is_file():
        return CheckResult(True, f"✓ {name}: in a folder made by `make student` it would now be kept in {FILE}.")
    path = folder / FILE
    before = path.read_text(encoding="utf-8") if path.is_file() else HEADER
    needed: dict[str, str] = {}
    imports: set[str] = set()
    _collect(thing, needed, imports)
    there = _definitions(before)
    other = [part for part, source in needed.items() if part in there and there[part] != source]
    if other and not replace:
        again = f"keep({name}, {check.__name__}, replace=True)"
        said = f"{FILE} holds another {' and another '.join(other)}, and still does. To take this one: {again}"
        return CheckResult(False, f"… {name}: {said}")
    after = _merged(before, needed, imports)
    if after == before:
        return CheckResult(True, f"✓ {name}: is in {FILE}, as it stands here.")
    try:
        exec(compile(after, FILE, "exec"), {"__name__": "my_kit"})
    except Exception as error:
        what = f"{name} does not run outside this notebook: {type(error).__name__}: {error}"
        raise KitError(what, remedy="let it use nothing but its arguments and what the chapter imports") from error
    write_text(path, after)
    new = [part for part in needed if part not in there]
    return CheckResult(True, f"✓ {name}: {FILE} now holds {', '.join(new or other)}.")


def kept(name: str, otherwise: Any, folder: Path | None = None) -> Any:
    """The student's own class or function from ``my_kit.py``; where there is none, the library's. Says which.

    Args:
        name: of the student's.
        otherwise: the library's, which does the same.
        folder: of the file; default the current one.

    Raises:
        KitError: ``my_kit.py`` is there and cannot be run.

    >>> from lkm_kit.ssm import Mamba
    >>> kept("MyMamba", Mamba) is Mamba
    MyMamba: the library's Mamba
    True
    """
    path = (Path.cwd() if folder is None else folder) / FILE
    own = getattr(_load(path), name, None) if path.is_file() else None
    print(f"{name}: the library's {otherwise.__name__}" if own is None else f"{name}: your own, from {FILE}")
    return otherwise if own is None else own


def _load(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # a class says where it is from, and `import my_kit` finds this one
    linecache.checkcache(str(path))
    try:
        # not by the loader: it would take compiled code that is as old as a second
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    except Exception as error:
        line = error.lineno if isinstance(error, SyntaxError) else error.__traceback__.tb_next.tb_lineno
        what = f"{path.name} cannot be run: {type(error).__name__} in line {line}: {error}"
        raise KitError(what, remedy="mend that line, or move the file away; then run this cell again") from error
    return module


def _collect(thing: Any, needed: dict[str, str], imports: set[str]) -> None:
    """Sources of ``thing`` and of what it uses of its notebook, the used ones first, and import lines for the rest."""
    source, space = _source(thing)
    for name in sorted(_globals_of(source)):
        if name == thing.__name__ or name in needed or (name not in space and hasattr(builtins, name)):
            continue
        if name not in space:
            raise KitError(f"{thing.__name__} uses {name}, which is not defined", remedy="run the cell that defines it")
        value = space[name]
        if line := _import_line(name, value):
            imports.add(line)
        elif getattr(value, "__module__", "") == "my_kit" and getattr(value, "__name__", "") == name:
            pass  # fetched from the file, where it is
        elif isinstance(value, (type, types.FunctionType)) and value.__name__ == name:
            _collect(value, needed, imports)
        else:
            what = f"{thing.__name__} uses {name}, a value that only this notebook has"
            raise KitError(what, remedy=f"make {name} an argument, or write its value into {thing.__name__}")
    needed[thing.__name__] = source


def _source(thing: Any) -> tuple[str, dict[str, Any]]:
    """The code of a class or function as its cell has it, and the names that the cell could use."""
    parts = vars(thing).values() if isinstance(thing, type) else [thing]
    function = next((p for p in map(inspect.unwrap, parts) if isinstance(p, types.FunctionType)), None)
    cell = "".join(linecache.getlines(function.__code__.co_filename)) if function else ""
    source = _definitions(cell).get(thing.__name__)
    if source is None:
        raise KitError(f"the code of {thing.__name__} is not to be found", remedy="run the cell that defines it again")
    return source, function.__globals__


def _spans(text: str) -> Iterator[tuple[str, int, int]]:
    """Names of top-level classes and functions with their first line, decorators included, and the one after them."""
    for node in ast.parse(text).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name, min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1, node.end_lineno


def _definitions(text: str) -> dict[str, str]:
    lines = text.splitlines()
    return {name: "\n".join(lines[start:end]) for name, start, end in _spans(text)}


def _globals_of(source: str) -> set[str]:
    """Names that a definition takes from outside itself."""
    found, tables = set(), [symtable.symtable(source, FILE, "exec")]
    while tables:
        table = tables.pop()
        outer = table.get_type() == "module"
        found |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (outer or s.is_global())}
        tables += table.get_children()
    return found


def _import_line(name: str, value: Any) -> str | None:
    """The line that makes ``name`` mean ``value`` in any file, or None for what no module has."""
    if isinstance(value, types.ModuleType):
        return f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}")
    module, called = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not module or not called or module in ("__main__", "my_kit"):
        return None
    parents = module.split(".")
    for depth in range(1, len(parents) + 1):  # the shortest way, lkm_kit.ssm and not lkm_kit.ssm.mamba
        place = ".".join(parents[:depth])
        if getattr(sys.modules.get(place), called, None) is value:
            return f"from {place} import {called}" + ("" if called == name else f" as {name}")
    return None


def _merged(text: str, needed: dict[str, str], imports: set[str]) -> str:
    """``text`` with the definitions in the places of those of the same name, else at the end, and imports on top."""
    lines = text.splitlines()
    for name, start, end in reversed(list(_spans(text))):
        if name in needed:
            lines[start:end] = needed[name].splitlines()
    there = _definitions(text)
    for name, source in needed.items():
        if name not in there:
            lines += ["", "", *source.splitlines()]
    own = {*there, *needed}
    bound = {node.lineno: node.names[0] for node in ast.parse("\n".join(lines)).body if _is_import(node)}
    replaced = {row for row, alias in bound.items() if (alias.asname or alias.name) in own}
    lines = [line for row, line in enumerate(lines, start=1) if row not in replaced]
    last = max((node.end_lineno for node in ast.parse("\n".join(lines)).body if _is_import(node)), default=1)
    new = sorted(line for line in imports if line not in lines and line.split()[-1] not in own)
    gap = [""] if new and last == 1 else []
    return "\n".join([*lines[:last], *gap, *new, *lines[last:]]) + "\n"


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))
