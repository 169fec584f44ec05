"""Checksums of a data set's files, computed once: a file of the same size and time is taken for unchanged."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from lkm_kit.data.sample import data_folder
from lkm_kit.errors import KitError
from lkm_kit.files import read_json, sha256, write_json


@contextlib.contextmanager
def remembered_checksums(folder: str | Path) -> Iterator[Callable[[Path], str]]:
    """Yield a function path -> sha256 that reads a file only when its size or its time of change is a new one.

    What is known is kept in the kit's cache (``LKM_DATA``), not in the folder; where that cannot be written, every
    file is read every time.

    Args:
        folder: of the data set.

    >>> with remembered_checksums("mine") as checksum:  # doctest: +SKIP
    ...     checksum(Path("mine/labelsTr/a.nii.gz"))
    """
    name = hashlib.sha256(str(Path(folder).resolve()).encode()).hexdigest()[:16]
    path = data_folder() / "prepared" / "checksums" / f"{name}.json"
    known: dict = {}
    with contextlib.suppress(KitError):
        known = read_json(path)
    seen = {}

    def of(file: Path) -> str:
        about = file.stat()
        stamp = [about.st_size, about.st_mtime_ns]
        there = known.get(str(file))
        whole = isinstance(there, list) and len(there) == 3
        seen[str(file)] = there if whole and there[:2] == stamp else [*stamp, sha256(file)]
        return seen[str(file)][2]

    yield of
    if seen != known:
        with contextlib.suppress(OSError, KitError):  # a full disk among them
            write_json(path, seen)
