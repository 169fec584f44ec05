"""A data set as its publisher packed it: a zip or tar, read member by member without unpacking it, or a folder."""

from __future__ import annotations

import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from lkm_kit.errors import KitError

_DEBRIS = re.compile(r"(^|/)(__MACOSX/|\.[^/]*$|Thumbs\.db$)")
"""What file managers and interrupted programs leave behind: it is never data."""


_HARMFUL = "this is not the published archive, and may be a harmful one: fetch it from the publisher"


class Source:
    """Named members of an archive or a folder; both kinds behave the same and give the same fingerprints.

    Args:
        path: of the archive or the folder.
        sizes: member name (``/`` between folders) -> bytes.
    """

    kind: str

    def __init__(self, path: Path, sizes: dict[str, int]):
        self.path, self._sizes = path, sizes

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""

    @property
    def names(self) -> list[str]:
        """Every member, in alphabetical order, without folders and without debris of file managers."""
        return sorted(name for name in self._sizes if not _DEBRIS.search(name))

    def bytes_of(self, names: Iterable[str]) -> int:
        """Unpacked size of these members."""
        return sum(self._sizes[name] for name in names)

    def fingerprint(self, name: str) -> str:
        """CRC-32 and size of a member: tells whether the input has changed since a case was prepared."""
        return f"{self._crc(name):08x}-{self._sizes[name]}"

    def copy(self, name: str, target: str | Path) -> None:
        """Write a member's content to ``target``.

        Raises:
            KitError: the member is damaged.
        """
        with self.open(name) as member, open(target, "wb") as out:
            shutil.copyfileobj(member, out, 1 << 20)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Read a member as a stream of bytes.

        Raises:
            KitError: the member is damaged.
        """
        try:
            with self._open(name) as stream:
                yield stream
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError) as error:
            raise KitError(
                f"{name} in {self.path.name} is damaged ({error})", remedy="download or copy the archive again"
            ) from error

    def _open(self, name: str) -> IO[bytes]:
        raise NotImplementedError

    def _crc(self, name: str) -> int:
        crc = 0
        with self.open(name) as stream:
            while chunk := stream.read(1 << 20):
                crc = zlib.crc32(chunk, crc)
        return crc


class ZipSource(Source):
    """A zip archive. Nothing is unpacked but the members that are asked for, to the place that is asked for.

    Raises:
        KitError: not a zip, truncated, encrypted, or with members that point outside (path traversal, links).
    """

    kind = "archive"

    def __init__(self, path: Path):
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, ValueError) as error:
            raise _not_a_zip(path, error) from error
        self._members = {}
        try:
            for info in self._zip.infolist():
                _require_harmless(info, path)
                if not info.is_dir():
                    if info.filename in self._members:
                        raise KitError(f"{path.name} holds {info.filename} twice", remedy="download the archive again")
                    self._members[info.filename] = info
        except KitError:
            self.close()
            raise
        super().__init__(path, {name: info.file_size for name, info in self._members.items()})

    def close(self) -> None:
        self._zip.close()

    def _open(self, name: str) -> IO[bytes]:
        return self._zip.open(self._members[name])

    def _crc(self, name: str) -> int:
        return self._members[name].CRC


class TarSource(Source):
    """A tar archive, read like a zip. Links, devices and paths that point outside are refused.

    Raises:
        KitError: truncated, or with such members.
    """

    kind = "archive"

    def __init__(self, path: Path):
        self._tar = tarfile.open(path)  # noqa: SIM115  closed by close()
        self._members = {}
        try:
            for info in self._tar:
                parts = PurePosixPath(info.name).parts
                if info.name.startswith("/") or ".." in parts or not (info.isfile() or info.isdir()):
                    raise KitError(
                        f"{path.name} holds {info.name!r}, which is a link or points outside the archive: refused",
                        remedy=_HARMFUL,
                    )
                if info.isfile():
                    self._members[info.name.removeprefix("./")] = info
        except (tarfile.TarError, EOFError, zlib.error) as error:
            self.close()
            raise KitError(f"{path.name} is truncated or damaged ({error})", remedy="download it again") from error
        except KitError:
            self.close()
            raise
        super().__init__(path, {name: info.size for name, info in self._members.items()})

    def close(self) -> None:
        self._tar.close()

    def _open(self, name: str) -> IO[bytes]:
        return self._tar.extractfile(self._members[name])


class FolderSource(Source):
    """An unpacked archive."""

    kind = "folder"

    def __init__(self, path: Path):
        files = (each for each in path.rglob("*") if each.is_file())
        super().__init__(path, {each.relative_to(path).as_posix(): each.stat().st_size for each in files})

    def _open(self, name: str) -> IO[bytes]:
        return open(self.path / name, "rb")


def open_source(path: str | Path) -> Source:
    """Open an archive (``.zip``, ``.tar``) or an unpacked folder; use it in a ``with``.

    Raises:
        KitError: there is no such file or folder, it is empty, or the archive is broken or harmful.

    >>> with open_source("amos22.zip") as source:  # doctest: +SKIP
    ...     source.names
    """
    path = Path(path).expanduser()
    if path.is_dir():
        source = FolderSource(path)
        if not source.names:
            raise KitError(f"the folder {path} is empty", remedy="give the folder into which you unpacked the archive")
        return source
    if not path.is_file():
        raise KitError(f"there is no file or folder {path}", remedy="check the path")
    return TarSource(path) if tarfile.is_tarfile(path) else ZipSource(path)


def _require_harmless(info: zipfile.ZipInfo, archive: Path) -> None:
    name = info.orig_filename  # what the archive says, before the zip module repairs it
    parts = PurePosixPath(name.replace("\\", "/")).parts
    outside = (
        not info.filename
        or name.startswith(("/", "\\"))
        or ".." in parts
        or bool(re.match(r"[A-Za-z]:", name))
        or "\0" in name
    )
    link = stat.S_ISLNK(info.external_attr >> 16)
    if outside or link:
        raise KitError(
            f"{archive.name} holds {name!r}, which {'is a link' if link else 'points outside the archive'}: refused",
            remedy=_HARMFUL,
        )
    if info.flag_bits & 1:
        raise KitError(f"{name} in {archive.name} is encrypted", remedy="unpack it yourself and give the folder")


def _not_a_zip(path: Path, error: Exception) -> KitError:
    start = b""
    if path.is_file():
        with open(path, "rb") as handle:
            start = handle.read(512)
    if re.match(rb"\s*<(!doctype|html)", start, re.IGNORECASE):
        return KitError(
            f"{path.name} is a web page, not an archive",
            remedy="the link leads to a page (a login, a preview): fetch the file itself with a browser",
        )
    if start.startswith(b"PK"):
        return KitError(
            f"{path.name} is truncated or damaged: its list of contents cannot be read ({error})",
            remedy="download it again; a .part file of this kit goes on by itself",
        )
    return KitError(
        f"{path.name} is neither a zip nor a tar archive",
        remedy="give the archive as it was published, or the folder it was unpacked into",
    )
