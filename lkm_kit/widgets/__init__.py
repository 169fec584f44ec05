"""Thin ipywidgets over the figure functions: a slider calls a function of ``lkm_kit.plots`` and shows its figure."""

from lkm_kit.errors import needs

needs("the widgets need", "ipywidgets", extra="notebooks")
