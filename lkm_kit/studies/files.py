"""Studies of one's own: a Python file that holds a :class:`~lkm_kit.studies.Study`, or a function that makes one.

The file is imported under its own name, from its own folder, in every process that runs one of the study's jobs. So
whatever it registers is known there too: networks, scan orders, mixers, metrics.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

from lkm_kit.errors import KitError
from lkm_kit.profiles import Profile, profile
from lkm_kit.studies.arms import Study

_REMEDY = "write STUDY = Study(...), or def study(size: Profile) -> Study with that annotation"


def study_from_file(path: str | Path, size: Profile | str | None = None) -> Study:
    """The study of a file, at the sizes of a profile.

    Args:
        path: of a Python file with one Study, or one function ``(size: Profile) -> Study``, at its top level. Names
            that begin with an underscore do not count.
        size: profile or its name; default as in :func:`lkm_kit.profiles.profile`.

    Returns:
        the study; it knows its file.

    Raises:
        KitError: no such file, an error in it (with its line), no study or several.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "two_sizes.py")
    >>> _ = path.write_text('''
    ... from lkm_kit.studies import Arm, Study
    ... small, large = (Arm(f"w{k}", f"windows {k}", "lkm-unet/tiny-2d", {"windows": [k, k, 6, 6]}) for k in (6, 12))
    ... STUDY = Study("two-sizes", "Is larger better?", (small, large), control="w6")
    ... ''')
    >>> study_from_file(path, "smoke").name
    'two-sizes'
    """
    module = load(path)
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    studies = {name: value for name, value in public.items() if isinstance(value, Study)}
    makers = {name: value for name, value in public.items() if _makes_a_study(value, module)}
    found = {**studies, **makers}
    if len(set(map(id, found.values()))) != 1:
        what = f"{len(found)} studies ({', '.join(found)})" if found else "no study"
        remedy = "give the others names that begin with an underscore" if found else _REMEDY
        raise KitError(f"{path} holds {what}", remedy=remedy)
    only = next(iter(found.values()))
    if not isinstance(only, Study):
        only = only(size if isinstance(size, Profile) else profile(size))
        if not isinstance(only, Study):
            raise KitError(f"the function in {path} returns {only!r}", remedy=_REMEDY)
    return dataclasses.replace(only, file=str(Path(path).resolve()))


def load(path: str | Path) -> ModuleType:
    """Import a file under its own name, once a process; its folder is where its own imports are looked for.

    Raises:
        KitError: no such file, an error in it (with its line), or a name that another module has.
    """
    path = Path(path).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise KitError(f"there is no Python file {path}", remedy="give the path of the file that holds the study")
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # processes that this one spawns get it, too
    try:
        importlib.invalidate_caches()
        module = importlib.import_module(name)
    except KitError:
        raise
    except Exception as error:
        raise KitError(f"{path}{_line(error, path)}: {type(error).__name__}: {error}", remedy="mend it") from error
    if getattr(module, "__file__", None) != str(path):
        raise KitError(f"{path.name} has the name of another module", remedy="rename the file")
    return module


def _makes_a_study(value: object, module: ModuleType) -> bool:
    if not inspect.isfunction(value) or value.__module__ != module.__name__:
        return False
    try:
        return get_type_hints(value).get("return") is Study
    except NameError:  # an annotation of something that is only imported for type checkers
        return False


def _line(error: Exception, path: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    number = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else (lines or [None])[-1]
    return "" if number is None else f", line {number}"
