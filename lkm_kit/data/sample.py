"""Real abdominal scans for everybody: three cases out of a published source archive, checked byte by byte.

The source distribution of TotalSegmentator 2.18.0 (Apache-2.0) carries test scans with multi-organ labels. It is
fetched with ``pip download``, never installed; the named files are read straight from the archive and kept in a cache
folder (``LKM_DATA``, else the user's). The labels are TotalSegmentator's own predictions ("silver"), not a human's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from lkm_kit.data.case import Case, read_case
from lkm_kit.data.dicom import read_dicom_series
from lkm_kit.data.geometry import require_same_geometry, spacing_of
from lkm_kit.data.nifti import read_image
from lkm_kit.data.organs import to_kit_ids
from lkm_kit.data.phantom import make_phantom
from lkm_kit.data.source import Source
from lkm_kit.errors import KitError, one_of
from lkm_kit.files import atomic_path, locked, require_writable

SOURCE: dict[str, Any] = json.loads(Path(__file__).with_name("sample_files.json").read_text(encoding="utf-8"))
"""The archive, its sha256, and the sha256 of every file taken from it."""

TOTALSEGMENTATOR = Source(
    "TotalSegmentator's test scans", "silver", "Apache-2.0", "Wasserthal et al. 2023, doi:10.1148/ryai.230024"
)
"""The labels are what TotalSegmentator's networks predicted."""

_ARCHIVE_TEXT = (
    "sample data: three real scans from the test files of TotalSegmentator 2.18.0 (Apache-2.0);\n"
    "  ct_a CT, unenhanced (training) | ct_b CT, enhanced, another patient (held out) | mr_d MR (other modality)\n"
    "  labels are predictions of TotalSegmentator's models (silver standard), not a human's;\n"
    "  that the scans are of different people is inferred, not documented"
)
_PHANTOM_TEXT = (
    "sample data: SYNTHETIC phantoms, because the real scans could not be fetched and LKM_PHANTOMS allows it;\n"
    "  ellipsoids with the organs' names: good for running the kit, worth nothing as a result"
)


def sample_names() -> list[str]:
    """The cases :func:`load_sample` knows.

    >>> sample_names()
    ['ct_a', 'ct_b', 'mr_d']
    """
    return ["ct_a", "ct_b", "mr_d"]


def data_folder() -> Path:
    """Where data are cached: ``LKM_DATA``, else the user's cache folder."""
    chosen = os.environ.get("LKM_DATA", "").strip()
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("lkm-kit"))


def sample_source() -> str:
    """Make sure that sample data are there and say which are in use, where from and under which licence.

    Raises:
        KitError: the archive or a cached file is not what was published, or the disk is full. The archive cannot be
            fetched and phantoms may not stand in (see :func:`phantoms_allowed`); where they may, the text says so.

    >>> print(sample_source())  # doctest: +SKIP
    sample data: three real scans ...
    """
    return _ARCHIVE_TEXT if _real_data() else _PHANTOM_TEXT


def load_sample(name: str) -> Case:
    """Load a sample case on its original grid, in RAS order, with kit ids.

    Args:
        name: ``"ct_a"`` (training), ``"ct_b"`` (held-out patient) or ``"mr_d"`` (MR).

    Raises:
        KitError: unknown name; see also :func:`sample_source`.

    >>> load_sample("ct_a").shape  # doctest: +SKIP
    (122, 101, 112)
    """
    one_of(name, sample_names(), "sample case")
    if not _real_data():
        return make_phantom(name, seed=sample_names().index(name), modality="MR" if name == "mr_d" else "CT")
    return _load(name, str(_folder()))


def training_case(modality: str) -> Case:
    """The sample case that the cohort deforms: ct_a for CT, mr_d for MR.

    Raises:
        KitError: unknown modality; see also :func:`load_sample`.

    >>> training_case("MR").name  # doctest: +SKIP
    'mr_d'
    """
    if modality not in ("CT", "MR"):
        raise KitError(f"unknown modality {modality!r}", remedy='use "CT" or "MR"')
    return load_sample("ct_a" if modality == "CT" else "mr_d")


def phantoms_allowed() -> bool:
    """Whether made-up phantoms may stand in for scans that cannot be fetched: only where LKM_PHANTOMS=1 says so."""
    return os.environ.get("LKM_PHANTOMS", "").strip() not in ("", "0")


def fetch_sample(archive: str | Path | None = None) -> Path:
    """Fill the cache, once, and return its folder; safe when several processes call it at the same time.

    Args:
        archive: the source archive, if you have it already (also ``LKM_SAMPLE_ARCHIVE``); default: download it.

    Raises:
        KitError: no connection, an altered archive or member, a full disk: nothing half-written stays behind.
    """
    folder = _folder()
    if _complete(folder):
        return folder
    require_writable(folder, folder=True)
    with locked(f"{folder}.lock", "fetching the sample scans", wait_s=600):
        if not _complete(folder):
            given = archive or os.environ.get("LKM_SAMPLE_ARCHIVE")
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as temporary:
                _extract(Path(given) if given else _download(Path(temporary)), folder)
    return folder


class Unreachable(KitError):
    """The archive cannot be fetched (no connection, no pip): phantoms stand in where they are allowed to."""


@lru_cache(maxsize=1)
def _real_data_in(folder: str, allowed: bool) -> bool:
    try:
        fetch_sample()
    except Unreachable as error:
        if not allowed:
            raise
        print(f"{error.message}\nusing synthetic phantoms instead, as LKM_PHANTOMS allows", file=sys.stderr)
        return False
    return True


def _real_data() -> bool:
    return _real_data_in(str(_folder()), phantoms_allowed())


def _folder() -> Path:
    return data_folder() / "totalsegmentator-2.18.0"


def _complete(folder: Path) -> bool:
    return all((folder / member).is_file() for member in SOURCE["members"])


def _download(target: Path) -> Path:
    requirement = target / "requirement.txt"
    requirement.write_text(f"{SOURCE['package']} --hash=sha256:{SOURCE['sha256']}\n")
    print(f"fetching the sample scans: {SOURCE['bytes'] / 1e6:.0f} MB, once", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--require-hashes"]
    # pip draws its own progress bar where there is a terminal
    out = None if sys.stdout.isatty() else subprocess.DEVNULL
    result = subprocess.run(
        [*command, "-r", str(requirement), "-d", str(target)], stdout=out, stderr=subprocess.PIPE, text=True
    )
    found = list(target.glob("*.tar.gz"))
    if result.returncode == 0 and found:
        return found[0]
    if "DO NOT MATCH THE HASHES" in result.stderr:
        raise KitError(
            f"the archive of {SOURCE['package']} that pip got is not the published one (sha256 differs)",
            remedy="check what your package index or proxy serves, then try again; nothing was kept",
        )
    if "No space left" in result.stderr:
        raise KitError(
            f"no space left on the disk while fetching the sample scans into {target.parent}",
            remedy="free 100 MB there, or set LKM_DATA to a folder on another disk",
        )
    last = [line for line in result.stderr.strip().splitlines() if "ERROR" in line or "No module" in line][-1:] or [""]
    raise Unreachable(
        f"the sample scans could not be fetched: {last[0].strip()}",
        remedy="connect to the network and run `lkm data sample`, or fetch the source archive of "
        f"{SOURCE['package']} elsewhere and set LKM_SAMPLE_ARCHIVE to its path; LKM_PHANTOMS=1 takes made-up phantoms, "
        "whose results are worth nothing",
    )


def _extract(archive: Path, folder: Path) -> None:
    """Copy the members into ``folder``, each atomically and only with the right checksum."""
    if not archive.is_file():
        raise KitError(
            f"there is no archive {archive}", remedy="correct --archive or LKM_SAMPLE_ARCHIVE, or leave it out"
        )
    try:
        with tarfile.open(archive) as tar:
            for member, sha256 in SOURCE["members"].items():
                content = tar.extractfile(f"{SOURCE['folder']}/{member}")
                if content is None:
                    raise tarfile.TarError(f"{member} is no file in it")
                data = content.read()
                if hashlib.sha256(data).hexdigest() != sha256:
                    raise KitError(
                        f"{member} in {archive.name} is not the published file (sha256 differs)",
                        remedy="fetch the archive again; nothing of it was used",
                    )
                with atomic_path(folder / member) as temporary:
                    temporary.write_bytes(data)
    except (tarfile.TarError, EOFError, KeyError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        shutil.rmtree(folder, ignore_errors=True)
        raise KitError(
            f"{archive.name} is truncated or not the source archive of {SOURCE['package']} ({error})",
            remedy="fetch it again",
        ) from error
    except KitError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _verified(folder: Path, member: str) -> Path:
    path = folder / member
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SOURCE["members"][member]:
        raise KitError(
            f"the cached file {path} is missing or was changed since it was fetched",
            remedy=f"delete the folder {folder} and run `lkm data sample` again",
        )
    return path


@lru_cache(maxsize=4)
def _load(name: str, folder: str) -> Case:
    root = Path(folder)
    if name == "ct_a":
        files = "example_ct.nii.gz", "example_seg_fast_force_split.nii.gz"
        about = {"modality": "CT", "label_ids": "total"}
        return read_case(*(_verified(root, f) for f in files), name=name, source=TOTALSEGMENTATOR, **about)
    if name == "mr_d":
        files = "example_mr_sm.nii.gz", "example_seg_mr.nii.gz"
        about = {"modality": "MR", "label_ids": "total_mr"}
        return read_case(*(_verified(root, f) for f in files), name=name, source=TOTALSEGMENTATOR, **about)
    series = [_verified(root, member) for member in SOURCE["members"] if member.startswith("example_ct_dicom/")]
    image, affine = read_dicom_series(series)
    raw, label_affine, header = read_image(_verified(root, "example_seg_dicom.nii.gz"))
    require_same_geometry(image.shape, affine, raw.shape, label_affine, "the DICOM series", "its label")
    label = to_kit_ids(raw, "total", where="example_seg_dicom.nii.gz")
    image = np.ascontiguousarray(image)
    return Case(image, label, spacing_of(affine), affine, name, "CT", header, TOTALSEGMENTATOR)
