"""One look for every figure: colours for colour-blind readers too, standard widths, files that carry their caption."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkm_kit import __version__
from lkm_kit.errors import KitError
from lkm_kit.files import atomic_path, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.typing import ColorType

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D1F", "#4D4D4D")
"""Categorical colours (Okabe and Ito's set, its yellow and black replaced by tones that print on white)."""

CMAP = "viridis"
"""The one sequential colour map: even steps in lightness, readable in grey and with any colour blindness."""

WIDTH = {"half": 3.6, "column": 5.0, "page": 7.5, "wide": 9.0}
"""Standard figure widths in inches. A web page shows 7.7: it makes wider figures smaller, with their letters."""

organ_colors = {
    # the six large organs, which are most often shown together, take the safest colours
    "liver": "#D55E00",
    "right kidney": "#0072B2",
    "spleen": "#CC79A7",
    "pancreas": "#F0E442",
    "aorta": "#B5132B",
    "inferior vena cava": "#332288",
    "right adrenal gland": "#999933",
    "left adrenal gland": "#DDCC77",
    "gallbladder": "#0B5D2A",
    "esophagus": "#882255",
    "stomach": "#009E73",
    "duodenum": "#E69F00",
    "left kidney": "#56B4E9",
}
"""Colour of each organ of the kit, the same in every figure."""


def literal(text: str) -> str:
    """A name as a title or a legend draws it: dollars are no formula, and bytes that are no text become "?".

    >>> literal("scan_$1$")
    'scan_\\\\$1\\\\$'
    """
    return str(text).encode("utf-8", "replace").decode().replace("$", r"\$")


def label_colors(names: Iterable[str]) -> dict[str, str]:
    """A colour for each label: the kit's organs keep theirs, the others take the palette in turn.

    >>> label_colors(["liver", "prostate"])["prostate"] == PALETTE[0]
    True
    """
    names = list(names)
    free = [colour for colour in PALETTE if colour not in {organ_colors.get(name) for name in names}]
    own = [name for name in names if name not in organ_colors]
    turns = {name: (free or PALETTE)[i % len(free or PALETTE)] for i, name in enumerate(own)}
    return {name: organ_colors.get(name) or turns[name] for name in names}


def contrast(one: ColorType, other: ColorType) -> float:
    """Contrast ratio of two colours by WCAG 2: 1 to 21; letters of a text want 4.5.

    >>> [round(contrast(color, "white"), 2) for color in ("black", "#777777")]
    [21.0, 4.48]
    """
    import numpy as np
    from matplotlib.colors import to_rgb

    parts = np.array([to_rgb(one), to_rgb(other)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ (0.2126, 0.7152, 0.0722))
    return float((light + 0.05) / (dark + 0.05))


def ink(paper: ColorType) -> str:
    """Black or white: what can be read better on a colour.

    >>> ink("#21918C"), ink(PALETTE[7])
    ('black', 'white')
    """
    return max(("black", "white"), key=lambda color: contrast(color, paper))


CAPTION_KEYS = ("text", "config", "profile", "seed")


def use_style() -> None:
    """Set matplotlib's defaults to the kit's look, and let notebooks show figures (call it once, before the first one).

    >>> use_style()
    >>> import matplotlib
    >>> matplotlib.rcParams["image.cmap"] == CMAP
    True
    """
    import matplotlib
    from cycler import cycler

    matplotlib.rcParams.update(
        {
            "figure.dpi": 90,  # a chapter's pictures stay below its 1 MB
            "savefig.dpi": 160,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.labelsize": 10,
            "legend.fontsize": 9,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=PALETTE),
            "legend.frameon": False,
            "image.cmap": CMAP,
            "image.interpolation": "nearest",
            "lines.linewidth": 1.6,
        }
    )
    show_figures_in_notebook()


def show_figures_in_notebook() -> None:
    """Teach a running IPython to show any matplotlib ``Figure`` as a picture; without IPython, do nothing.

    The kit's figure functions make a ``Figure`` without pyplot, so that it is shown once, where a cell returns it.
    """
    import sys

    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) is not None:
        from IPython.core.pylabtools import select_figure_formats

        select_figure_formats(shell, {"png"})


def figure_folder() -> Path:
    """Where figures are written: ``LKM_FIGURES``, else ``figures/`` of the checkout, else of the working folder."""
    if chosen := os.environ.get("LKM_FIGURES", "").strip():
        return Path(chosen).expanduser()
    root = Path(__file__).resolve().parents[2]
    return (root if (root / "pyproject.toml").is_file() else Path.cwd()) / "figures"


def save_figure(
    figure: Figure, name: str, caption: Mapping[str, Any], *, folder: str | Path | None = None
) -> tuple[Path, Path]:
    """Write ``NAME.png`` and, beside it, ``NAME.json``: the caption and everything needed to make the figure again.

    Args:
        figure: a matplotlib figure.
        name: file name without ending, lower case with underscores.
        caption: ``text`` (one or two sentences), ``config`` (dict of what was run), ``profile`` (name or None) and
            ``seed`` (int or None). The kit's version is added.
        folder: where to write; default :func:`figure_folder`.

    Returns:
        paths of the picture and of its caption.

    Raises:
        KitError: a caption without one of the four keys, or a name with an ending or a folder in it.

    >>> import tempfile
    >>> from matplotlib.figure import Figure
    >>> caption = {"text": "An empty page.", "config": {}, "profile": None, "seed": None}
    >>> [p.name for p in save_figure(Figure(), "empty", caption, folder=tempfile.mkdtemp())]
    ['empty.png', 'empty.json']
    """
    missing = [key for key in CAPTION_KEYS if key not in caption]
    if missing:
        raise KitError(
            f"the caption of figure {name!r} lacks {', '.join(missing)}",
            remedy=f"give a dict with the keys {', '.join(CAPTION_KEYS)} (None where one does not apply)",
        )
    if Path(name).name != name or Path(name).suffix:
        raise KitError(f"{name!r} is not a figure's name", remedy="give a bare name such as 'token_orders'")
    folder = figure_folder() if folder is None else Path(folder)
    picture, text = folder / f"{name}.png", folder / f"{name}.json"
    write_picture(figure, picture)
    write_json(text, {"figure": picture.name, **caption, "version": __version__})
    return picture, text


def write_picture(figure: Figure, path: Path) -> Path:
    """Write a figure alone, as PNG, and return its path: the same figure gives the same bytes."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160, metadata={"Software": None})  # else: matplotlib's version
    return path


def dark_form(picture: Path) -> Path:
    """Where the form of a picture for dark pages lies, if it has one: beside it, with the same caption.

    >>> dark_form(Path("figures/u_shape.png")).name
    'u_shape-dark.png'
    """
    return picture.with_name(f"{picture.stem}-dark{picture.suffix}")
