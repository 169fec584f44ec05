"""Figure functions: arrays and tables in, a matplotlib ``Figure`` out; nothing here trains or reads data."""

from lkm_kit.plots.style import CMAP, PALETTE, WIDTH, organ_colors, save_figure, use_style

__all__ = ["CMAP", "PALETTE", "WIDTH", "organ_colors", "save_figure", "use_style"]
