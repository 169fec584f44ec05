"""Compiled kernels on disk: kept where that can be done, made anew where a file is stale or damaged, never needed.

numba's cache looks only at the file that holds a compiled function, trusts whatever it reads, and ends the program
where it finds no folder that it may write to. Here every file carries a checksum over all sources of this folder and
its content; what does not match counts as absent, and is compiled and written again.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

_troubles: list[str] = []


def compiled(function: Callable) -> Any:
    """Compile a kernel on its first call, without the interpreter's lock; keep the result on disk if possible.

    >>> compiled(lambda x: x + 1)(2)
    3
    """
    kernel: Any = numba.njit(nogil=True, error_model="numpy")(function)
    try:
        kernel._cache = _Cache(function)
    except (RuntimeError, OSError):  # numba looks beside the sources and in the user's cache folder
        _troubles.append("no folder for them can be written: set NUMBA_CACHE_DIR to one that can")
    return kernel


def cache_trouble() -> str | None:
    """Why kernels of this process are not kept on disk and the next process has to compile again; None if they are.

    >>> isinstance(cache_trouble(), (str, type(None)))
    True
    """
    from lkm_kit.ssm.backends import cpu_conv_kernels  # noqa: F401  asks for the cache of all kernels

    return _troubles[0] if _troubles else None


@cache
def _sources() -> bytes:
    """The text of this folder: vector instructions stand in other files than the kernels that are built from them."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


class _Cache(FunctionCache):
    def __init__(self, function: Callable):
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, _sources())

    def save_overload(self, sig, data) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:  # a full disk, a quota, a folder that has become read-only
            _troubles.append(str(error))


class _Files(IndexDataCacheFile):
    """An index and data files as numba writes them, sealed."""

    def save(self, key, data) -> None:
        super().save(key, (key, data))

    def load(self, key):
        # Two processes that write at once may give the same name to two data files.
        stored = super().load(key)
        return stored[1] if stored is not None and stored[0] == key else None

    def _load_index(self) -> dict:
        return self._unsealed(self._index_path) or {}

    def _save_index(self, overloads: dict) -> None:
        self._seal(self._index_path, overloads)

    def _load_data(self, name: str):
        return self._unsealed(self._data_path(name))

    def _save_data(self, name: str, data) -> None:
        self._seal(self._data_path(name), data)

    def _checksum(self, content: bytes) -> bytes:
        return hashlib.sha256(self._source_stamp + content).digest()

    def _seal(self, path: str, thing) -> None:
        content = self._dump(thing)
        with self._open_for_write(path) as file:
            file.write(self._checksum(content) + content)

    def _unsealed(self, path: str):
        try:
            sealed = Path(path).read_bytes()
        except OSError:
            return None
        size = hashlib.sha256().digest_size
        checksum, content = sealed[:size], sealed[size:]
        return pickle.loads(content) if checksum == self._checksum(content) else None
