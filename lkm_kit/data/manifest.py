"""The manifest: what a script wrote into a data set's folder, from which input, so that it can be checked and resumed.

``manifest.json`` lies beside ``dataset.json``. Every case has the fingerprint of its input and the sha256 of its files;
``complete`` turns true last. It holds no path of the machine that wrote it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from lkm_kit import __version__
from lkm_kit.errors import KitError
from lkm_kit.files import read_json, sha256, write_json

NAME = "manifest.json"
FORMAT = 1


def content_hash(image: np.ndarray) -> str:
    """Hash of an image's shape and values: two files of one scan agree, whatever their compression, type or headers.

    Args:
        image: (x, y, z) in RAS order, so that a copy with other axes is found too.

    >>> a = np.arange(24).reshape(2, 3, 4)
    >>> content_hash(a) == content_hash(a.astype(float)), content_hash(a) == content_hash(a[::-1])
    (True, False)
    """
    values = np.ascontiguousarray(image, dtype="<f4")
    return hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()


class Manifest:
    """The manifest of one data set folder, in memory; :meth:`save` writes it atomically.

    Args:
        folder: the data set's folder (``nnUNet_raw/DatasetXXX_Name``).
        about: what the data are: modality, source, licence, split, ... (plain JSON values).
        cases: name -> ``{"split", "input", "files": {relative path: {"sha256", "bytes"}}}``.
        complete: everything that was asked for is there.

    >>> manifest = Manifest(Path("Dataset722_AMOS22MR"), {"modality": "MR"})
    >>> manifest.complete, manifest.files()
    (False, {})
    """

    def __init__(
        self,
        folder: Path,
        about: dict[str, Any],
        cases: dict[str, dict[str, Any]] | None = None,
        complete: bool = False,
    ):
        self.folder, self.about, self.cases, self.complete = folder, about, cases or {}, complete
        self.dataset_json: dict[str, Any] | None = None

    @classmethod
    def read(cls, folder: str | Path) -> Manifest | None:
        """The manifest of ``folder``, or None where there is none.

        Raises:
            KitError: it is not a manifest of this kit.
        """
        path = Path(folder) / NAME
        if not path.is_file():
            return None
        try:
            stored = read_json(path)
            if stored["format"] != FORMAT:
                raise ValueError(f"format {stored['format']}, this kit writes {FORMAT}")
            manifest = cls(Path(folder), stored["about"], stored["cases"], stored["complete"])
            manifest.dataset_json = stored["dataset.json"]
            manifest.files()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise KitError(
                f"{path} is not a manifest that this version of the kit can read ({error})",
                remedy=f"move the folder {Path(folder).name} away and prepare the data set again",
            ) from error
        return manifest

    def save(self) -> None:
        """Write ``manifest.json``."""
        value = {
            "format": FORMAT,
            "kit": __version__,
            "dataset": self.folder.name,
            "complete": self.complete,
            "about": self.about,
            "dataset.json": self.dataset_json,
            "cases": dict(sorted(self.cases.items())),
        }
        write_json(self.folder / NAME, value)

    def files(self) -> dict[str, dict[str, Any]]:
        """Every file of every case (and ``dataset.json``): relative path -> sha256 and size in bytes."""
        found = {path: about for case in self.cases.values() for path, about in case["files"].items()}
        if self.dataset_json is not None:
            found["dataset.json"] = self.dataset_json
        return found

    def changed(self, paths: dict[str, dict[str, Any]] | None = None) -> list[str]:
        """Which files (default: all) are missing or not as they were written."""
        wrong = []
        for name, about in (self.files() if paths is None else paths).items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != about["bytes"] or sha256(path) != about["sha256"]:
                wrong.append(name)
        return wrong

    def describe(self, *names: str) -> dict[str, dict[str, Any]]:
        """sha256 and size of files of the folder, as they are now."""
        paths = {name: self.folder / name for name in names}
        return {name: {"sha256": sha256(path), "bytes": path.stat().st_size} for name, path in paths.items()}
