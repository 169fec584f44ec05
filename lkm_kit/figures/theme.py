"""The colours of a drawing by name, once for light and once for dark pages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_rgb

from lkm_kit.plots.style import PALETTE


@dataclass(frozen=True)
class Theme:
    """Colours that a drawing names.

    Args:
        paper: of the sheet.
        ink, grey: letters and numbers; words about them, arrows and outlines.
        faint: squares of a map that are not meant.
        blue, green, pink, brown: of areas, lines and letters; each can be read on ``paper`` (WCAG 2: 4.5 to 1).
        orange, sky, red: of areas and lines only.
    """

    paper: str
    ink: str
    grey: str
    faint: str
    blue: str
    green: str
    pink: str
    brown: str
    orange: str
    sky: str
    red: str

    def tint(self, color: str, strength: float = 0.2) -> tuple[float, ...]:
        """The colour on the paper, thinned to ``strength``.

        >>> LIGHT.tint("#000000", 0.0)
        (1.0, 1.0, 1.0)
        """
        return tuple(paper - strength * (paper - part) for paper, part in zip(to_rgb(self.paper), to_rgb(color)))

    def shades(self, values: np.ndarray, color: str) -> np.ndarray:
        """(rows, columns) of numbers between 0 and 1 → colours from the paper's to ``color``.

        >>> LIGHT.shades(np.zeros((1, 1)), LIGHT.blue).tolist()
        [[[1.0, 1.0, 1.0]]]
        """
        paper = np.array(to_rgb(self.paper))
        return paper - np.clip(values, 0, 1)[..., None] * (paper - np.array(to_rgb(color)))


LIGHT = Theme(
    paper="#FFFFFF",
    ink="#000000",
    grey=PALETTE[7],
    faint="#F0F0F0",
    blue=PALETTE[0],
    green="#007F5C",  # the palette's green and pink are too pale for letters
    pink="#B04A87",
    brown=PALETTE[6],
    orange=PALETTE[1],
    sky=PALETTE[4],
    red=PALETTE[5],
)
DARK = Theme(
    paper="#16191E",
    ink="#F2F2F2",
    grey="#C4C8CE",
    faint="#2A2F36",
    blue="#4AA3E8",
    green="#3CC79A",
    pink="#E59AC6",
    brown="#D9B65C",
    orange="#F0B030",
    sky="#A6DCF7",
    red="#FF7A45",
)
