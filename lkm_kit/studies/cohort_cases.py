"""The cases of a study on the cohort: whole deformed copies of the patient, each scored in 3D."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn

from lkm_kit.data import CohortVolumes


class Warps:
    """The deformed copies that a run is scored on.

    Args:
        volumes: the deformed copies.

    >>> from lkm_kit.data import LabelTable, make_phantom
    >>> how = {"size": (32, 32), "spacing_mm": 6, "table": LabelTable(("liver",)), "length": 2, "case": make_phantom()}
    >>> Warps(CohortVolumes("test", **how)).record["cases"]
    ['warp 0', 'warp 1']
    """

    def __init__(self, volumes: CohortVolumes):
        self.volumes, self.source, self.digest = volumes, volumes.source, volumes.digest

    def __len__(self) -> int:
        return len(self.volumes)

    @property
    def record(self) -> dict[str, Any]:
        """What done.json says of them: names, voxels, the labels' NSD tolerance and a voxel in mm."""
        voxel = tuple(map(float, self.volumes.spacing))
        return {
            "name": "cohort",
            "cases": [f"warp {index}" for index in range(len(self))],
            "shape": list(self.volumes.size),
            "voxel_mm": [list(voxel), list(voxel)],
            "tolerance_mm": {label.name: label.tolerance_mm for label in self.volumes.table},
        }

    def score(self, network: nn.Module, record: Mapping[str, Any], device: torch.device) -> pd.DataFrame:
        """Rows of :func:`lkm_kit.evaluation.score_volumes`."""
        from lkm_kit.evaluation import score_volumes
        from lkm_kit.evaluation.inference import settings_of

        return score_volumes(network, self.volumes, window=settings_of(record)["window"], device=device)
