"""Compiled kernels on disk: damaged and stale files are made anew, and a kernel runs where none can be written."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import lkm_kit
from lkm_kit.ssm.backends import kernel_cache

ADD = "from lkm_kit.ssm.backends.kernel_cache import compiled\n\n\n@compiled\ndef add(x, y):\n    return x + y\n"
SCAN = """
import torch
from lkm_kit.ssm import scan_backends
from lkm_kit.ssm.causal_conv import causal_conv_silu
from lkm_kit.ssm.backends.cpu_conv_kernels import forward
x = torch.randn(1, 16, 9)
y, true = (causal_conv_silu(x, torch.ones(16, 4), torch.zeros(16), backend=b) for b in ("cpu", "reference"))
torch.testing.assert_close(y, true)
print(sum(forward.stats.cache_hits.values()), scan_backends()["cpu"])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_cache, "_troubles", [])
    (tmp_path / "adding.py").write_text(ADD)
    return tmp_path


def fresh(folder):
    """The kernel as a new process would see it."""
    spec = importlib.util.spec_from_file_location("adding", folder / "adding.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.add


def hits(kernel):
    return sum(kernel.stats.cache_hits.values())


def files(folder, ending):
    found = sorted((folder / "cache").rglob(f"*{ending}"))
    assert found
    return found


def test_a_kernel_is_compiled_once(folder):
    assert fresh(folder)(1, 2) == 3
    again = fresh(folder)
    assert again(1, 2) == 3 and hits(again) == 1
    assert again(0.5, 2.0) == 2.5 and hits(again) == 1
    assert kernel_cache.cache_trouble() is None


def truncated(length):
    return lambda content: content[: int(length * len(content)) if isinstance(length, float) else length]


def flipped(place):
    def damage(content):
        at = int(place * len(content))
        return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]

    return damage


DAMAGES = {
    **{f"truncated to {length}": truncated(length) for length in (0, 1, 10, 32, 33, 0.3, 0.5, 0.9, -1)},
    **{f"flipped at {place}": flipped(place) for place in (0.0, 0.1, 0.5, 0.99)},
    "zeros": lambda content: bytes(len(content)),
    "of another program": lambda content: b"hello" * 40,
}


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A folder where a kernel has been compiled for whole and for real numbers, and what lies in its cache."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "adding.py").write_text(ADD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba.config, "CACHE_DIR", str(folder / "cache"))
        kernel = fresh(folder)
        assert kernel(1, 2) == 3 and kernel(0.5, 2.0) == 2.5 and hits(kernel) == 0
    return folder, {path: path.read_bytes() for path in files(folder, ".nb?")}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
def test_damaged_files_are_made_anew(once, damage, ending, monkeypatch):
    folder, contents = once
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder / "cache"))
    for path in files(folder, ".nb?"):
        path.unlink()
    for path, content in contents.items():
        path.write_bytes(damage(content) if path.suffix == ending else content)
    kernel = fresh(folder)
    assert kernel(1, 2) == 3 and kernel(0.5, 2.0) == 2.5 and hits(kernel) == 0
    kernel = fresh(folder)
    assert kernel(1, 2) == 3 and kernel(0.5, 2.0) == 2.5 and hits(kernel) == 2


def test_an_index_that_names_another_kernels_file_is_not_believed(folder):
    """What two processes leave that write at the same time, or one whose disk is full after the index."""
    kernel = fresh(folder)
    assert kernel(1, 2) == 3
    assert kernel(0.5, 2.0) == 2.5
    first, second = files(folder, ".nbc")
    first.write_bytes(second.read_bytes())
    kernel = fresh(folder)
    assert kernel(1, 2) == 3 and kernel(0.5, 2.0) == 2.5 and hits(kernel) == 1


def test_a_change_in_any_source_of_the_folder_is_noticed(folder, monkeypatch):
    assert fresh(folder)(1, 2) == 3
    monkeypatch.setattr(kernel_cache, "_sources", lambda: b"the files after an update")
    kernel = fresh(folder)
    assert kernel(1, 2) == 3 and hits(kernel) == 0


def test_without_a_folder_the_kernel_still_runs(folder, monkeypatch):
    monkeypatch.setattr(kernel_cache, "_troubles", [])  # of this test alone: other tests ask for them, too
    (folder / "file").touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder / "file"))
    (folder / "__pycache__").touch()
    monkeypatch.setenv("HOME", str(folder / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "file"))
    monkeypatch.setenv("LOCALAPPDATA", str(folder / "file"))
    assert fresh(folder)(1, 2) == 3
    assert "NUMBA_CACHE_DIR" in kernel_cache.cache_trouble()


def run(code, environment, folder=None):
    keep = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], capture_output=True, text=True, env={**keep, **environment}, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.mark.thorough  # the same of a small kernel: above
@pytest.mark.skipif(os.name == "nt", reason="a process cannot be given a full disk there")
def test_the_scans_kernels_after_a_truncation_and_on_a_full_disk(tmp_path):
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    full = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))\n"
    assert run(SCAN, environment) == "0 ok"
    for path in files(tmp_path, ".nb?"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    state = run(full + SCAN, environment)
    assert state.startswith("0 ok, but every process compiles its kernels again (") and "large" in state


@pytest.mark.thorough
def test_a_read_only_installation_without_a_home(tmp_path):
    """Typical of JupyterHub and containers; a file where a folder belongs stops the superuser, too."""
    package = tmp_path / "site" / "lkm_kit"
    leave = shutil.ignore_patterns("__pycache__", "checkpoints", "*.csv", "*.png")
    shutil.copytree(Path(lkm_kit.__file__).parent, package, ignore=leave)
    (package / "ssm" / "backends" / "__pycache__").touch()
    (tmp_path / "file").touch()
    environment = {"HOME": str(tmp_path / "file" / "home"), "PYTHONPATH": str(package.parent)}
    doctor = "\nfrom lkm_kit.cli import app\napp(['doctor', '--no-speed'])"
    said = run(SCAN + doctor, {**environment, "LOCALAPPDATA": environment["HOME"]}, tmp_path)
    assert said.startswith("0 ok, but every process compiles its kernels again (no folder")
    assert "cpu: ok, but every process compiles" in said
