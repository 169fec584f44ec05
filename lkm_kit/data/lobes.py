"""A made-up data set of one's own: two channels, five labels, several visits of each person; written in seconds.

For lessons and tests of everything that takes a folder (:class:`lkm_kit.data.DataSet`). It shows no patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lkm_kit.data.dataset import DataSet
from lkm_kit.data.miniature import nifti
from lkm_kit.files import atomic_path, write_json

LABELS = {"body": 1, "left lobe": 2, "right lobe": 3, "lesion": 4, "node": 5}

_VALUES = np.array([0, 300, 800, 600, 1200, 900], np.float32)
"""Mean of the first channel in the background and in each part."""


def lobes_case(
    person: int,
    visit: int = 0,
    *,
    shape: tuple[int, int, int] = (30, 26, 14),
    ids: Mapping[str, int] = LABELS,
) -> tuple[list[np.ndarray], np.ndarray]:
    """A ball with two lobes, a lesion and a node, of which the left lobe (small x) is brighter.

    Args:
        person: decides where and how large the parts are.
        visit: of the same person: much the same body, lying a little otherwise, and other noise.
        shape: voxels.
        ids: name -> id, in the order of :data:`LABELS`.

    Returns:
        two channels, float32; label map, uint8.

    >>> channels, label = lobes_case(0)
    >>> len(channels), label.shape, np.unique(label).tolist()
    (2, (30, 26, 14), [0, 1, 2, 3, 4, 5])
    """
    rng = np.random.default_rng([person, visit])
    body = np.random.default_rng([person])
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    moves = body.uniform(-0.08, 0.08, 3) + rng.uniform(-0.03, 0.03, 3)
    x, y, z = (axis - move for axis, move in zip((x, y, z), moves))
    lobe, lesion = 0.08 * body.uniform(0.7, 1.3, 2), body.uniform(0.03, 0.06)
    part = np.zeros(shape, np.uint8)
    part[x**2 + y**2 + z**2 < 0.75] = 1
    part[(x + 0.4) ** 2 + y**2 + z**2 < lobe[0]] = 2
    part[(x - 0.4) ** 2 + y**2 + z**2 < lobe[1]] = 3
    part[x**2 + (y - 0.5) ** 2 + z**2 < lesion] = 4
    part[x**2 + (y + 0.5) ** 2 + z**2 < 0.03] = 5
    first = _VALUES[part] + rng.normal(0, 20, shape) * (part > 0)
    second = (500 - 0.3 * first + rng.normal(0, 10, shape)) * (part > 0)
    label = np.array([0, *ids.values()], np.uint8)[part]
    return [first.astype(np.float32), second.astype(np.float32)], label


def write_lobes(
    folder: str | Path,
    *,
    persons: int = 10,
    test_persons: int = 3,
    visits: int = 2,
    case_name: str = "p{person:02d}_{visit}",
    spacing_mm: tuple[float, float, float] = (1.0, 1.5, 2.5),
    ids: Mapping[str, int] = LABELS,
    about: Mapping[str, Any] | None = None,
) -> DataSet:
    """Write such a data set in nnU-Net's raw layout; ``dataset.json`` comes last, when all files are there.

    Args:
        folder: to write into.
        persons, test_persons: in imagesTr, and in imagesTs.
        visits: cases of each person.
        case_name: with ``{person}`` and ``{visit}``.
        spacing_mm: of the voxels, along x, y, z.
        ids: label name -> id, in the order of :data:`LABELS`.
        about: further keys of ``dataset.json``, or others in place of those that are written.

    >>> import tempfile
    >>> data = write_lobes(tempfile.mkdtemp(), persons=2, test_persons=1)
    >>> len(data.training), len(data.test), data.persons["p00_1"]
    (4, 2, 'p00')
    """
    folder, affine = Path(folder), np.diag([*spacing_mm, 1.0])
    for person in range(persons + test_persons):
        images, labels = ("imagesTr", "labelsTr") if person < persons else ("imagesTs", "labelsTs")
        for visit in range(visits):
            channels, label = lobes_case(person, visit, ids=ids)
            name = case_name.format(person=person, visit=visit)
            files = {f"{images}/{name}_{number:04d}": channel for number, channel in enumerate(channels)}
            for path, array in {**files, f"{labels}/{name}": label}.items():
                with atomic_path(folder / f"{path}.nii.gz") as temporary:
                    temporary.write_bytes(nifti(array, affine, array.dtype))
    description = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, **ids},
        "numTraining": persons * visits,
        "file_ending": ".nii.gz",
        "name": "Lobes",
        "licence": "none needed: made up by the kit",
        "label_source": "phantom",
    }
    write_json(folder / "dataset.json", {**description, **(about or {})})
    return DataSet(folder)
