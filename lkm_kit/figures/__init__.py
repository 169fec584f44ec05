"""Every committed figure: a function that makes it, a caption, and the numbers behind it (``lkm figures``)."""

from lkm_kit.figures.built import Built
from lkm_kit.figures.registry import FIGURES, build_figures

__all__ = ["FIGURES", "Built", "build_figures"]
