"""What `pip install .` puts beside a Python is enough for the chapters, from any folder and without the checkout."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lkm_kit.course.sources import read_source
from lkm_kit.ssm.backends.cpu_conv_kernels import forward

ROOT = Path(__file__).resolve().parents[1]
ASKED = sorted(
    {
        (name, data or None)
        for p in ROOT.glob("notebooks/src/*.py")
        for name, data in re.findall(r'reference_results\("(\w+)"(?:, data="([\w-]+)")?', p.read_text(encoding="utf-8"))
    },
    key=str,
)
READ = f"""
import sys
from pathlib import Path
import lkm_kit
from lkm_kit.cli import main
assert Path(sys.argv[1]) in Path(lkm_kit.__file__).parents, lkm_kit.__file__
from lkm_kit.course import CHECKS
from lkm_kit.data.sample import SOURCE
from lkm_kit.figures import build_figures
from lkm_kit.studies.claims import claims
from lkm_kit.studies.reference import reference_results
from lkm_kit.training import load_checkpoint, packaged_checkpoints
for study, data in {ASKED}:
    reference = reference_results(study, data=data)
    assert len(reference.per_case) > 1000 and reference.picture.is_file() and "seed" in reference.text
assert len(claims()) > 30
build_figures(["functional_receptive_field"], "pictures")
for name in packaged_checkpoints():
    load_checkpoint(name)
assert len(packaged_checkpoints()) >= 5
print("all read")
main(["course", "build", "--check"])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel of this checkout, installed alone into a folder, without a network."""
    if find_spec("setuptools") is None:
        pytest.skip("building a wheel without a network needs setuptools in this environment")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name in ("lkm_kit", "figures"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "docs").mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "docs/claims.md"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--target", target, source], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    backends = target / "lkm_kit" / "ssm" / "backends"  # the sources are the same: what is compiled of them fits, too
    shutil.copytree(forward._cache.cache_path, backends / "__pycache__", dirs_exist_ok=True)
    return target


def run(installed, folder, *command):
    environment = {k: v for k, v in os.environ.items() if k not in ("LKM_FIGURES", "NUMBA_CACHE_DIR")}
    environment |= {"PYTHONPATH": str(installed), "LKM_RUNS": str(folder / "runs")}
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.thorough
def test_what_chapters_read_is_in_the_wheel_and_what_needs_a_checkout_says_so(installed, tmp_path):
    assert {("table1", "hippocampus"), ("table3", "hippocampus"), ("scans", "hippocampus")} <= set(ASKED)
    done = run(installed, tmp_path, "-c", READ, str(installed))
    assert done.stdout.splitlines()[-1:] == ["all read"], done.stderr
    assert (tmp_path / "pictures" / "functional_receptive_field.png").is_file()
    assert done.returncode == 2 and "in the folder of the repository" in done.stderr, done.stderr


@pytest.mark.notebook
@pytest.mark.thorough
def test_chapter_09_runs_from_an_empty_folder(installed, tmp_path, monkeypatch):
    """Its reference results and figures come from the wheel; what it trains, it trains there."""
    cells = read_source(ROOT / "notebooks" / "src" / "09_table2_kernel_size.py").cells
    code = "\n\n".join(cell.source for cell in cells if cell.cell_type == "code")
    (tmp_path / "chapter.py").write_text(f"{code}\nimport lkm_kit\nprint(lkm_kit.__file__)\n", encoding="utf-8")
    monkeypatch.setenv("LKM_PROFILE", "smoke")
    done = run(installed, tmp_path, "chapter.py")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].startswith(str(installed))
