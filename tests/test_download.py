"""Downloads over a line that breaks: whatever the server does, the end is the right file or a clear message."""

import builtins
import errno
import hashlib
import shutil
import socket
import threading
import time
from email.utils import formatdate

import pytest
from fault_server import FaultServer

from lkm_kit.data import releases
from lkm_kit.data.archives import open_source
from lkm_kit.data.download import download
from lkm_kit.data.releases import RELEASES, obtain
from lkm_kit.errors import KitError

CONTENT = bytes(range(256)) * 12000  # 3 MB: several chunks
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with FaultServer({"scans.zip": CONTENT}) as running:
        yield running


@pytest.fixture
def waits(monkeypatch):
    """No test waits for real; what was asked for is written down."""
    asked = []
    monkeypatch.setattr("lkm_kit.data.download.time.sleep", asked.append)
    return asked


def fetch(server, folder, **how):
    return download(server.url("scans.zip"), folder / "scans.zip", **{"sha256": SHA, "timeout_s": 5, **how})


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_once_and_not_again(server, tmp_path):
    path = fetch(server, tmp_path)
    assert path.read_bytes() == CONTENT
    assert fetch(server, tmp_path) == path and len(server.requests) == 1
    assert left(tmp_path) == ["scans.zip", "scans.zip.json"]


def test_goes_on_after_dropped_and_cut_connections(server, tmp_path, waits):
    server.faults = [("truncate", 700_001), ("drop", 1_500_000), ("truncate", 5), ("drop", 0)]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[:2] == [None, "bytes=700001-"], "a cut answer is used to its last byte"
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in server.requests[1:]]
    assert starts == sorted(starts), "no byte is fetched twice"
    assert len(starts) == 4 and starts[2] == starts[1] + 5


def test_a_silent_line_counts_as_broken(server, tmp_path, waits):
    server.faults = [("stall", 1_000_000)]
    assert fetch(server, tmp_path, timeout_s=0.3).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_later_run_goes_on_where_the_first_gave_up(server, tmp_path, waits):
    server.faults = [("truncate", 2_000_000)]
    with pytest.raises(KitError, match="connection ended after 2000000 of 3072000 bytes") as error:
        fetch(server, tmp_path, attempts=1)
    assert "2.0 MB that are here" in error.value.remedy
    assert not (tmp_path / "scans.zip").exists()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=2000000-"]


def test_wrong_bytes_once_are_fetched_again(server, tmp_path, capsys):
    server.faults = [("wrong", 5)]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, None] and "arrived damaged" in capsys.readouterr().err


def test_the_wrong_file_is_refused_and_nothing_stays(server, tmp_path):
    with pytest.raises(KitError, match="is not the expected file: its sha256 is " + SHA):
        fetch(server, tmp_path, sha256="0" * 64)
    assert left(tmp_path) == ["scans.zip.json"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [429, 503, 500, 502, 504, 408])
def test_a_busy_server_is_asked_again(server, tmp_path, waits, status):
    server.faults = [status, status]
    assert fetch(server, tmp_path, pause_s=0.5).read_bytes() == CONTENT
    assert waits == [0.5, 1.0]


def test_retry_after_goes_first(server, tmp_path, waits):
    in_a_while = formatdate(timeval=time.time() + 40, usegmt=True)
    server.faults = [(429, {"Retry-After": "7"}), (503, {"Retry-After": in_a_while}), (429, {"Retry-After": "86400"})]
    fetch(server, tmp_path)
    assert waits[0] == 7 and 35 < waits[1] <= 40 and waits[2] == 120, "nobody waits a day"


def test_a_server_that_stays_busy(server, tmp_path, waits):
    server.faults = [503] * 20
    with pytest.raises(KitError, match=r"answers 503 .*\(8 tries in a row\)"):
        fetch(server, tmp_path)
    assert len(server.requests) == 8


@pytest.mark.parametrize(("status", "remedy"), [(401, "login"), (403, "browser"), (404, "moved"), (410, "taken")])
def test_a_refusal_is_final(server, tmp_path, waits, status, remedy):
    server.faults = [status]
    with pytest.raises(KitError, match=f"answers {status}") as error:
        fetch(server, tmp_path)
    assert remedy in error.value.remedy and len(server.requests) == 1 and not waits


def part_of(server, folder, content):
    """What a killed run leaves: a part and its note."""
    server.faults = [("truncate", 10)]
    with pytest.raises(KitError):
        fetch(server, folder, attempts=1)
    (folder / "scans.zip.part").write_bytes(content)
    server.requests.clear()


def test_416_when_everything_is_there_already(server, tmp_path):
    part_of(server, tmp_path, CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["bytes=3072000-"]


def test_416_when_the_part_is_too_long(server, tmp_path, waits):
    part_of(server, tmp_path, CONTENT + b"more")
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["bytes=3072004-", None]


def test_a_server_that_knows_no_ranges(server, tmp_path, waits):
    server.faults = [("truncate", 1_000_000), ("whole",)]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_file_replaced_meanwhile_is_not_mixed(server, tmp_path, waits):
    server.faults = [("truncate", 1_000_000)]
    with pytest.raises(KitError):
        fetch(server, tmp_path, attempts=1, sha256=None)
    server.files["scans.zip"], server.etag = CONTENT[::-1], '"v2"'
    assert fetch(server, tmp_path, sha256=None).read_bytes() == CONTENT[::-1]


def test_without_etag_a_file_of_another_size_is_not_mixed(server, tmp_path, waits):
    server.etag = None
    server.faults = [("truncate", 1_000_000)]
    with pytest.raises(KitError):
        fetch(server, tmp_path, attempts=1, sha256=None)
    server.files["scans.zip"] = CONTENT[::-1][:2_000_000]
    assert fetch(server, tmp_path, sha256=None).read_bytes() == CONTENT[::-1][:2_000_000]


def test_another_address_under_the_same_name_is_fetched_anew(server, tmp_path):
    fetch(server, tmp_path)
    server.files["other/scans.zip"] = b"another file"
    path = download(server.url("other/scans.zip"), tmp_path / "scans.zip")
    assert path.read_bytes() == b"another file"


def test_a_part_of_unknown_origin_is_not_used(server, tmp_path):
    part_of(server, tmp_path, CONTENT[::-1][:1000])
    (tmp_path / "scans.zip.json").write_text("{half")
    assert fetch(server, tmp_path, sha256=None).read_bytes() == CONTENT
    assert server.requests == [None]


def test_nobody_listens(tmp_path, waits):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(KitError, match=r"no answer from 127.0.0.1.*\(3 tries"):
        download(f"http://127.0.0.1:{port}/scans.zip", tmp_path / "scans.zip", attempts=3)
    assert waits == [1.0, 2.0]


def test_no_web_address(tmp_path):
    with pytest.raises(KitError, match="no web address"):
        download("file:///etc/hostname", tmp_path / "x")


def test_a_disk_that_is_too_small_is_noticed_first(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(KitError, match=r"no space left on the disk for scans.zip: 0.0 GB are needed"):
        fetch(server, tmp_path)
    assert left(tmp_path) == []


def test_a_disk_that_fills_up_keeps_the_part(server, tmp_path, monkeypatch):
    class Full:
        """A file on a disk that holds one megabyte more."""

        def __init__(self, handle):
            self.handle, self.room = handle, 1 << 20

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.handle.close()

        def write(self, data):
            if len(data) > self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= len(data)
            return self.handle.write(data)

        def flush(self):
            self.handle.flush()

    def open_on_full_disk(path, mode="r", *rest, **more):
        handle = builtins.open(path, mode, *rest, **more)  # noqa: SIM115  the caller closes it
        return Full(handle) if mode == "ab" else handle

    with monkeypatch.context() as patched:
        patched.setattr("lkm_kit.data.download.open", open_on_full_disk, raising=False)
        with pytest.raises(KitError, match="no space left on the disk") as error:
            fetch(server, tmp_path)
    assert "LKM_DATA" in error.value.remedy
    here = (tmp_path / "scans.zip.part").stat().st_size
    assert 0 < here <= 1 << 20
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={here}-"]


def test_two_at_once_fetch_it_once(server, tmp_path, capsys):
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch(server, tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and len(server.requests) == 1


def test_a_web_page_is_no_archive(server, tmp_path):
    server.files["scans.zip"] = b"<!DOCTYPE html><html>please log in</html>"
    path = fetch(server, tmp_path, sha256=None)
    with pytest.raises(KitError, match="is a web page, not an archive"):
        open_source(path)


def test_obtain(server, tmp_path, monkeypatch):
    monkeypatch.setenv("LKM_DATA", str(tmp_path))
    release = RELEASES["amos22"]
    assert obtain(release, tmp_path / "mine.zip") == tmp_path / "mine.zip"
    assert obtain(release, url=server.url("scans.zip?download=1")) == tmp_path / "downloads" / "scans.zip"
    own = releases.dataclasses.replace(release, url=server.url("scans.zip"))
    with pytest.raises(KitError, match="not the expected file"):
        obtain(own)  # the release's own address is held against its checksum
    assert obtain(own, sha256="none").read_bytes() == CONTENT
    with pytest.raises(KitError, match="cannot be downloaded by a script"):
        obtain(RELEASES["u-mamba"])
    with pytest.raises(KitError, match="both"):
        obtain(release, tmp_path, url=server.url("scans.zip"))


def test_the_table_of_addresses():
    for release in RELEASES.values():
        assert release.licence and release.citation and release.page.startswith("https://")
        assert release.sha256 is None or len(release.sha256) == 64
        assert release.url is None or release.url.startswith("https://")
