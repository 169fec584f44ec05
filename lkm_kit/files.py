"""Files that several processes share: whole or absent whatever kills the writer, one writer at a time, checksums."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lkm_kit.errors import KitError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ESCAPED = "backslashreplace"
"""How texts and tables hold the bytes of a file's name that are no UTF-8: a result must not be lost to them."""


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a full disk, a full quota and a limit on the size of files answer."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on any failure it is removed.

    What a killed writer of ``path`` has left is removed by the next one.
    The temporary name keeps the suffixes of ``path`` (``.nii.gz``), because libraries choose formats by them.
    A full disk becomes a :class:`KitError` that names the file and its folder.

    >>> with atomic_path("out/table.csv") as tmp:  # doctest: +SKIP
    ...     frame.to_csv(tmp)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix
    prefix = f".{path.name[:40]}."
    _remove_leftovers(path.parent, prefix, suffix)
    fd, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=path.parent)
    if not _lock(fd):
        os.close(fd)
        fd = -1
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes private files; a shared course folder needs the usual mode
        os.replace(temporary, path)
    except Exception as error:
        answer = _no_room(error, temporary)
        if answer == errno.EFBIG:
            raise KitError(
                f"{path} grows larger than a file may be here",
                remedy="raise the limit (ulimit -f), or name a place on a disk without it (FAT32 ends at 4 GB)",
            ) from error
        if answer is not None:
            raise KitError(
                f"no space left on the disk while writing {path}",
                remedy=f"free space on the disk that holds {path.parent.resolve()} and run the same command again",
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
        if fd >= 0:
            os.close(fd)


def _lock(fd: int) -> bool:
    """Lock an open file for as long as this process lives; False where another holds it or the disk has no locks."""
    with contextlib.suppress(OSError):
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def _remove_leftovers(folder: Path, prefix: str, suffix: str) -> None:
    """Remove temporary files of :func:`atomic_path` whose writer was killed: nobody holds their lock any more."""
    ours = re.compile(f"{re.escape(prefix)}[a-z0-9_]{{8}}{re.escape(suffix)}")
    with contextlib.suppress(OSError):  # a folder that may be written and not read
        for name in filter(ours.fullmatch, os.listdir(folder)):
            with contextlib.suppress(OSError), open(folder / name, "rb+") as handle:
                if _lock(handle.fileno()):
                    os.unlink(folder / name)


def _no_room(error: Exception, temporary: Path) -> int | None:
    """Which of :data:`NO_ROOM` kept a file from being written; None where it was something else."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in NO_ROOM else None
    if isinstance(error, KitError):
        return None
    try:  # numpy, torch and safetensors tell it by classes and words of their own: ask the disk
        with open(temporary, "ab") as handle:
            handle.write(bytes(1 << 20))
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as answer:
        return answer.errno if answer.errno in NO_ROOM else None
    return None


def require_writable(path: str | Path, *, folder: bool = False) -> Path:
    """Say before the computing that its result could not be written. Nothing is made.

    Args:
        path: of a file that will be written; with ``folder``, of a folder that will be written to. Folders that are
            missing on the way are no fault.

    Returns:
        the path.

    Raises:
        KitError: a folder lies where the file should (or the other way round), the name is none, or the folder takes
            no file.

    >>> require_writable(Path(tempfile.mkdtemp(), "new", "table.csv")).name
    'table.csv'
    """
    path = Path(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            if path.is_symlink() or path.lstat():  # lstat tells a name that is too long or holds what names cannot
                if path.is_dir() and not folder:
                    raise KitError(f"{path} is a folder", remedy="name a file in it")
                if folder and not path.is_dir():
                    raise KitError(f"{path} is no folder", remedy="give another name, or move that file away")
        place = path if folder else path.parent
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            pass
    except KitError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KitError(
            f"{path} cannot be written: {reason}",
            remedy="make it writable, or name another place by the command's option, LKM_RUNS, LKM_DATA or LKM_FIGURES",
        ) from error
    return path


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` (UTF-8) atomically; what is no UTF-8 in a file's name becomes ``\\udce9``, as in JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=ESCAPED)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def parse_json(text: str | bytes) -> Any:
    """A JSON text's value.

    Raises:
        ValueError: it is no JSON, nested too deeply, or holds a number of thousands of digits.

    >>> parse_json('{"a": [1, 2]}')
    {'a': [1, 2]}
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_json_file(path: str | Path) -> Any:
    """A JSON file's value: UTF-8, with the mark at its beginning that Windows' editors write or without, or UTF-16.

    Raises:
        OSError: it cannot be read.
        ValueError: as :func:`parse_json`.

    >>> path = Path(tempfile.mkdtemp(), "a.json"); _ = path.write_text("[1]", encoding="utf-8-sig")
    >>> parse_json_file(path)
    [1]
    """
    content = Path(path).read_bytes()
    return parse_json(content.decode(json.detect_encoding(content)))


def read_json(path: str | Path, what: str = "JSON object", *, remedy: str | None = None) -> dict[str, Any]:
    """A JSON object in a file.

    Args:
        path: of the file.
        what: is in it, for the messages.
        remedy: what to do where it is missing or damaged.

    Raises:
        KitError: it is not there, cannot be read, or holds something else.

    >>> read_json("absent.json", "label table", remedy="write one")
    Traceback (most recent call last):
        ...
    lkm_kit.errors.KitError: there is no label table: no file absent.json
      -> write one
    """
    try:
        value = parse_json_file(path)
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__}")
    except FileNotFoundError as error:
        raise KitError(f"there is no {what}: no file {path}", remedy=remedy) from error
    except (OSError, ValueError) as error:
        raise KitError(f"{path} cannot be read as a {what} ({error})", remedy=remedy) from error
    return value


def digest_of(value: Any) -> str:
    """sha256 of a JSON value, its keys sorted.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256(path: str | Path) -> str:
    """Checksum of a file, read in pieces.

    Raises:
        OSError: it cannot be read.

    >>> path = Path(tempfile.mkdtemp(), "a"); _ = path.write_bytes(b"abc")
    >>> sha256(path)[:8]
    'ba7816bf'
    """
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class Busy(KitError):
    """Another process holds the lock."""


@contextmanager
def locked(path: str | Path, what: str, *, wait_s: float = 3600.0) -> Iterator[None]:
    """Hold the lock file ``path``; a second caller says that it waits, and goes on when the first is done.

    The operating system frees the lock of a process that dies, so a killed run never blocks the next one.

    Args:
        path: of the lock file; its folder is made.
        what: is being done, for the messages.
        wait_s: how long to wait, in seconds; 0: not at all; -1: for ever.

    Raises:
        Busy: the other one took longer than ``wait_s``.
        KitError: the folder of the lock file cannot be written.

    >>> with locked(tempfile.mkdtemp() + "/x.lock", "a test"):
    ...     pass
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if wait_s:
                print(f"waiting: another process is busy with {what}", file=sys.stderr, flush=True)
            lock.acquire(timeout=wait_s)
    except Timeout as error:
        raise Busy(
            f"another process has been busy with {what} for {wait_s:.0f} s (it holds {path})"
            if wait_s
            else f"another process is busy with {what} (it holds {path})",
            remedy="wait until it has finished, or end it, and run the same command again",
        ) from error
    except OSError as error:
        raise KitError(
            f"the folder {path.parent} cannot be written ({error.strerror or error})", remedy="choose another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()
