"""Fetch one large file over a line that breaks: resume, retry, check, and never leave half a file under its name."""

from __future__ import annotations

import dataclasses
import email.utils
import errno
import http.client
import os
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from lkm_kit import __version__
from lkm_kit.errors import KitError
from lkm_kit.files import locked, read_json, require_writable, write_json
from lkm_kit.files import sha256 as sha256_of

ATTEMPTS = 8
"""Tries in a row without progress before giving up. A try that brought a megabyte starts the count anew."""

_CHUNK = 1 << 20
_LONGEST_WAIT_S = 120.0
_TEMPORARY = (408, 429, 500, 502, 503, 504)


def download(
    url: str,
    target: str | Path,
    *,
    sha256: str | None = None,
    attempts: int = ATTEMPTS,
    pause_s: float = 1.0,
    timeout_s: float = 60.0,
) -> Path:
    """Download ``url`` to ``target``, once; a broken download goes on where it stopped, also in a later run.

    While it runs the bytes are in ``TARGET.part``; ``TARGET.json`` beside it says which URL and which version of the
    file they are from. Only a complete file with the right checksum gets the name ``target``.

    Args:
        url: http or https.
        target: file to make.
        sha256: expected checksum (64 hexadecimal digits), or None where none is known: then only the size is checked.
        attempts: tries in a row that bring nothing before giving up.
        pause_s: wait before the second try in seconds; it doubles from try to try. A server's Retry-After goes first.
        timeout_s: silence on the line, in seconds, that counts as a broken connection.

    Returns:
        ``target``.

    Raises:
        KitError: the server refuses or stays unreachable, the checksum is wrong twice, or the disk is full.

    >>> download("https://example.org/scans.zip", "scans.zip")  # doctest: +SKIP
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise KitError(f"{url} is no web address", remedy="give a URL that starts with https://, or a file or folder")
    target = require_writable(target)
    with locked(target.with_name(f".{target.name}.lock"), f"the download of {target.name}"):
        note = _Note.read(target, url)
        if target.is_file() and note.matches(target, sha256):
            return target
        job = _Job(url, target.with_name(f"{target.name}.part"), note, timeout_s)
        for last in (False, True):
            _insist(job, attempts, pause_s)
            found = sha256_of(job.part)
            if sha256 is None or found == sha256.lower():
                break
            job.part.unlink()  # resuming wrong bytes would only give wrong bytes
            if last:
                raise KitError(
                    f"{url} is not the expected file: its sha256 is {found}, not {sha256}",
                    remedy="nothing was kept. If the publisher has replaced the file, check what is new and give its "
                    "own checksum with --sha256; otherwise fetch it in another way and use --archive",
                )
            print(f"{target.name} arrived damaged (wrong sha256); fetching it once more", file=sys.stderr)
        note.sha256 = found
        note.write()
        os.replace(job.part, target)
    return target


@dataclasses.dataclass
class _Note:
    """What is known of the bytes beside it: ``TARGET.json``."""

    path: Path
    url: str
    validator: str | None = None  # ETag or Last-Modified: the server's name for this version of the file
    size: int | None = None
    sha256: str | None = None  # known when complete
    on_disk: bool = False  # False: of the bytes that may lie there nothing is known

    @classmethod
    def read(cls, target: Path, url: str) -> _Note:
        path = target.with_name(f"{target.name}.json")
        try:
            stored = read_json(path)
            fields = {key: stored[key] for key in ("url", "validator", "size", "sha256")}
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path, url)
        return cls(path, **fields, on_disk=True) if fields["url"] == url else cls(path, url)

    def write(self) -> None:
        write_json(self.path, {key: getattr(self, key) for key in ("url", "validator", "size", "sha256")})
        self.on_disk = True

    def matches(self, target: Path, sha256: str | None) -> bool:
        same_size = self.size is None or target.stat().st_size == self.size
        return self.sha256 is not None and same_size and sha256 in (None, self.sha256)


class _Broken(Exception):
    """This try failed, the next may not; ``wait_s`` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float | None = None):
        super().__init__(reason)
        self.wait_s = wait_s


@dataclasses.dataclass
class _Job:
    url: str
    part: Path
    note: _Note
    timeout_s: float

    @property
    def have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


def _insist(job: _Job, attempts: int, pause_s: float) -> None:
    """Try until the file is complete; give up after ``attempts`` tries in a row without progress."""
    failed = 0
    while True:
        before = job.have
        try:
            return _try(job)
        except _Broken as broken:
            failed = 1 if job.have - before >= _CHUNK else failed + 1
            if failed >= attempts:
                raise KitError(
                    f"{job.url} could not be fetched: {broken} ({failed} tries in a row)",
                    remedy="check the connection and run the same command again: it goes on after the "
                    f"{job.have / 1e6:.1f} MB that are here. Or fetch the file in another way and use --archive",
                ) from broken
            asked = broken.wait_s if broken.wait_s is not None else pause_s * 2 ** (failed - 1)
            wait_s = min(asked, _LONGEST_WAIT_S)
            print(f"{broken}; trying again in {wait_s:.0f} s", file=sys.stderr, flush=True)
            time.sleep(wait_s)


def _try(job: _Job) -> None:
    """One request: from where the part ends to the end of the file, or from zero where that is not possible."""
    note = job.note
    if not note.on_disk:
        job.part.unlink(missing_ok=True)  # of unknown origin
    headers = {"User-Agent": f"lkm-kit/{__version__}", "Accept-Encoding": "identity"}
    if job.have:
        headers["Range"] = f"bytes={job.have}-"
        if note.validator:
            headers["If-Range"] = note.validator
    try:
        response = urllib.request.urlopen(urllib.request.Request(job.url, headers=headers), timeout=job.timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            if _already_complete(job, error):
                return
            raise _refusal(job, error) from error
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise KitError(
                f"{job.url}: the server's certificate is not trusted ({reason.verify_message})",
                remedy="check the address and this machine's clock and certificates",
            ) from error
        raise _Broken(f"no answer from {urlsplit(job.url).netloc} ({reason or type(error).__name__})") from error
    with response:
        start = _agree(job, response)
        _receive(job, response, start)
    if note.size is not None and job.have != note.size:
        raise _Broken(f"the connection ended after {job.have} of {note.size} bytes")


def _already_complete(job: _Job, error: urllib.error.HTTPError) -> bool:
    """416: the part ends where the file ends. If it does not, the file has changed and the part is worth nothing."""
    if error.code != 416 or not job.have:
        return False
    size = (error.headers.get("Content-Range") or "").rpartition("/")[2]
    if size.isdecimal() and int(size) == job.have and job.note.size in (None, job.have):
        return True
    job.part.unlink()
    raise _Broken("the file on the server is not the one that was begun; starting anew", wait_s=0.0)


def _refusal(job: _Job, error: urllib.error.HTTPError) -> Exception:
    reason = f"{urlsplit(job.url).netloc} answers {error.code} {error.reason}"
    if error.code in _TEMPORARY:
        return _Broken(reason, _retry_after(error.headers.get("Retry-After")))
    what = {
        401: "the file needs a login: fetch it with a browser and use --archive",
        403: "the server gives it only to those who may have it: fetch it with a browser and use --archive",
        404: "check the address; the publisher may have moved the file",
        410: "the publisher has taken the file away",
    }
    return KitError(f"{job.url}: {reason}", remedy=what.get(error.code, "fetch it in another way and use --archive"))


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds a number or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _agree(job: _Job, response: http.client.HTTPResponse) -> int:
    """Read from the headers at which byte the answer starts; notes version and size of the file."""
    note, headers = job.note, response.headers
    etag = headers.get("ETag")
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    length = headers.get("Content-Length")
    if response.status == 206:
        unit, _, rest = (headers.get("Content-Range") or "").partition(" ")
        place, _, size = rest.partition("/")
        start = place.partition("-")[0]
        fits = unit == "bytes" and start == str(job.have) and validator == note.validator
        if not fits or (size.isdecimal() and note.size not in (None, int(size))):
            job.part.unlink(missing_ok=True)
            raise _Broken("the server's answer does not continue what is here; starting anew", wait_s=0.0)
        return job.have
    total = int(length) if length and length.isdecimal() else None
    if total is not None:
        free = shutil.disk_usage(job.part.parent).free + job.have
        if total > free:
            raise _disk_full(job, f"{total / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")
    job.part.unlink(missing_ok=True)
    note.validator, note.size, note.sha256 = validator, total, None
    note.write()
    return 0


def _receive(job: _Job, response: http.client.HTTPResponse, start: int) -> None:
    from tqdm import tqdm

    bar = tqdm(
        total=job.note.size, initial=start, unit="B", unit_scale=True, desc=job.part.stem, disable=None, leave=False
    )
    with bar, open(job.part, "ab") as out:
        while True:
            try:
                chunk = response.read1(_CHUNK)  # what has come, however little: nothing of it is lost with the line
            except (OSError, http.client.HTTPException) as error:
                raise _Broken(f"the connection broke ({error or type(error).__name__})") from error
            if not chunk:
                return
            try:
                out.write(chunk)
                out.flush()
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise _disk_full(job, f"{job.have / 1e9:.1f} GB of it are here") from error
                raise
            bar.update(len(chunk))


def _disk_full(job: _Job, detail: str) -> KitError:
    return KitError(
        f"no space left on the disk for {job.part.stem}: {detail}",
        remedy=f"free space on the disk that holds {job.part.parent.resolve()}, or set LKM_DATA to a folder on "
        "another one; then run the same command again: it goes on where it stopped",
    )
