"""MONAI in a third of the time: without three packages that it imports on the way and the kit has no use for."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

DETOURS = ("jsonschema", "sklearn", "transformers")
"""Optional to MONAI: for bundles, one metric of embeddings, one network of text and image. JupyterLab brings the first,
which builds a grammar of web addresses when it is imported; six of nine seconds go into these three."""


def monai_part(name: str) -> ModuleType:
    """A module of MONAI; the first call in a process imports MONAI, and does without :data:`DETOURS`.

    A process that has imported MONAI by itself is left as it is. In others ``monai.networks.nets.Transchex``,
    ``monai.bundle.verify_metadata`` and ``monai.metrics.EmbeddingCollapseMetric`` say that a package is missing;
    ``import monai`` before the kit gives them back.

    Args:
        name: what follows ``monai.``, such as "losses".

    Returns:
        the module.

    >>> monai_part("losses").DiceLoss.__name__
    'DiceLoss'
    """
    if "monai" not in sys.modules:
        hidden = [detour for detour in DETOURS if detour not in sys.modules]
        sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not to be found
        try:
            importlib.import_module("monai")
        finally:
            for detour in hidden:
                del sys.modules[detour]
    return importlib.import_module(f"monai.{name}")
