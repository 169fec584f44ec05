"""What a check of a data set found, as tables, as text for a terminal, and as small pictures of the cases."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lkm_kit.files import ESCAPED, atomic_path

if TYPE_CHECKING:
    import pandas as pd

_PREVIEW_PIXELS = 192


class Finding(NamedTuple):
    """One thing that is wrong or unusual.

    Args:
        level: ``"error"``, ``"warning"``, or ``"accepted"`` for an error that the user knows of.
        case: name, or "" for the data set as a whole.
        kind: files, geometry, spacing, orientation, intensities, labels, sides, duplicate, leakage or manifest.
        text: what it is.
    """

    level: str
    case: str
    kind: str
    text: str


class Preview(NamedTuple):
    """A small picture of one case: the axial slice with the most labels, in the order of ``plots.cases.Picture``.

    Args:
        image: (rows, columns) grey between 0 and 1; front of the body at the top, right side at the left.
        label: (rows, columns) label ids.
        size_mm: height and width.
    """

    image: np.ndarray
    label: np.ndarray
    size_mm: tuple[float, float]


@dataclasses.dataclass
class Report:
    """What :func:`check_dataset` found.

    Args:
        folder: of the data set.
        cases: one row a case: split, voxels, spacing, orientation, intensities, organs.
        findings: most serious first.
        previews: case -> picture.
        names: label id -> name.
        volumes: one row a labelled case, one column a label: ml.
        about: what the data set says of itself.
    """

    folder: Path
    cases: pd.DataFrame
    findings: list[Finding]
    previews: dict[str, Preview]
    names: dict[int, str]
    volumes: pd.DataFrame
    about: str = ""

    @property
    def ok(self) -> bool:
        """There are no errors."""
        return not any(finding.level == "error" for finding in self.findings)

    def findings_table(self) -> pd.DataFrame:
        """One row a finding."""
        import pandas as pd

        return pd.DataFrame(self.findings, columns=Finding._fields)

    def labels_table(self) -> pd.DataFrame:
        """One row a label: how many cases have it, and its smallest, median and largest volume in ml."""
        there = self.volumes.where(self.volumes > 0)
        table = there.agg(["count", "min", "median", "max"]).T.rename(columns={"count": "cases"})
        return table.astype({"cases": int}).round(2)

    def write(self, folder: str | Path) -> list[Path]:
        """Write ``cases.csv`` and ``findings.csv``."""
        paths = []
        for name, table in (("cases", self.cases), ("findings", self.findings_table())):
            paths.append(Path(folder) / f"{name}.csv")
            with atomic_path(paths[-1]) as temporary:
                table.to_csv(temporary, index=False, errors=ESCAPED)
        return paths

    def __str__(self) -> str:
        counts = Counter(finding.level for finding in self.findings)
        splits = self.cases["split"].value_counts().to_dict() if len(self.cases) else {}
        size = ", ".join(f"{count} {split}" for split, count in splits.items()) or "no"
        found = ", ".join(f"{counts[k]} {k}{'s' * (counts[k] > 1)}" for k in ("error", "warning") if counts[k])
        lines = [self.about] if self.about else []
        if len(self.volumes):
            lines += ["volume of each label in ml", self.labels_table().to_string(), ""]
        lines.append(f"{self.folder.name}: {size} cases; {found or 'nothing wrong found'}")
        lines += [f"  {f.level}: {f.case + ': ' if f.case else ''}{f.text}" for f in self.findings]
        return "\n".join(lines)


def make_preview(
    image: np.ndarray, label: np.ndarray | None, spacing: tuple[float, float, float], channel: str
) -> Preview:
    """The axial slice with the most labels and, of these, voxels (without labels: the middle one), made small.

    Args:
        image, label: (x, y, z) in RAS order.
        spacing: mm.
        channel: ``"CT"`` is shown in a window of soft tissue, everything else between its own percentiles.

    >>> make_preview(np.zeros((400, 300, 2)), None, (1.0, 1.0, 5.0), "MR").image.shape
    (100, 134)
    """
    low, high = (-160.0, 240.0) if channel == "CT" else np.percentile(image, (1, 99))
    if label is None:
        label = np.zeros(image.shape, np.uint8)
    slices = range(label.shape[2])
    shown = [(len(np.unique(label[:, :, z])), int(np.count_nonzero(label[:, :, z]))) for z in slices]
    z = max(slices, key=shown.__getitem__) if label.any() else image.shape[2] // 2
    step = max(1, -(-max(image.shape[:2]) // _PREVIEW_PIXELS))
    # RAS: columns run from the right side (large x) to the left, rows from the front (large y) to the back
    grey, ids = (array[::-1, ::-1, z].T[::step, ::step] for array in (image, label))
    grey = ((grey.astype(np.float32) - low) / max(float(high - low), 1e-6)).clip(0, 1)
    return Preview(grey, ids.astype(np.int64), (image.shape[1] * spacing[1], image.shape[0] * spacing[0]))
