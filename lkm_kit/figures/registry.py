"""The committed figures by name, and how they are built: picture, caption, tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lkm_kit.errors import KitError
from lkm_kit.figures import (
    drawings_image,
    drawings_network,
    drawings_scan,
    erf,
    erf_scans,
    erf_trained,
    glance,
    orders,
    orders_3d,
    reach,
    results,
    structure,
)
from lkm_kit.figures.built import Built
from lkm_kit.figures.theme import DARK
from lkm_kit.files import atomic_path
from lkm_kit.plots.style import dark_form, figure_folder, save_figure, use_style, write_picture

DRAWINGS: dict[str, Callable[..., Built]] = {
    function.__name__: function
    for function in (
        drawings_scan.step_of_the_system,
        drawings_scan.state_update,
        drawings_scan.chain_and_tree,
        drawings_scan.mamba_block,
        drawings_image.two_directions,
        drawings_image.readings_of_k,
        drawings_image.lm_block,
        drawings_network.u_shape,
        drawings_network.erf_measured,
        drawings_network.paired_study,
    )
}
"""Drawings of ideas by name: each takes a theme, and is built for light and for dark pages."""

FIGURES: dict[str, Callable[[], Built]] = {
    function.__name__: function
    for function in (
        glance.at_a_glance,
        structure.token_orders,
        structure.tokens_per_stage,
        structure.cost_against_length,
        results.training_history,
        results.organ_scores,
        results.held_out_patient,
        erf.erf_before_and_after,
        erf.erf_positions,
        erf.erf_directions,
        erf.erf_readings,
        erf.erf_four_networks,
        erf.erf_volume,
        erf_trained.erf_four_trained,
        erf_scans.erf_scans_trained,
        erf_scans.erf_more_scans_trained,
        orders.scan_orders,
        orders_3d.scan_orders_3d,
        reach.functional_receptive_field,
    )
} | DRAWINGS
"""Name of a figure -> the function that builds it: what ``lkm figures NAME`` takes."""

LONG = frozenset({"erf_four_trained", "erf_scans_trained", "erf_more_scans_trained"})
"""Figures that train for many minutes: built where they are named, not with all."""


def everyday() -> list[str]:
    """The figures that are built where none is named.

    >>> "erf_four_trained" in everyday(), "erf_volume" in everyday()
    (False, True)
    """
    return [name for name in FIGURES if name not in LONG]


def build_figures(names: Sequence[str] = (), folder: str | Path | None = None) -> list[Path]:
    """Build figures and write, for each, the picture, its caption and its tables (below ``data/``).

    Args:
        names: keys of :data:`FIGURES`; empty for all but :data:`LONG`.
        folder: default :func:`lkm_kit.plots.style.figure_folder`.

    Returns:
        paths of the pictures; a drawing's two forms follow each other.

    Raises:
        KitError: a name that is not a figure's.

    >>> import tempfile
    >>> [path.name for path in build_figures(["token_orders"], tempfile.mkdtemp())]
    ['token_orders.png']
    """
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        raise KitError(f"there is no figure {unknown[0]!r}", remedy=f"choose from {', '.join(FIGURES)}")
    folder = figure_folder() if folder is None else Path(folder)
    use_style()
    written = []
    for name in names or everyday():
        built = FIGURES[name]()
        caption = {"text": built.text, "config": built.config, "profile": built.profile, "seed": built.seed}
        if built.source:
            caption["data"] = built.source
        written.append(save_figure(built.figure, name, caption, folder=folder)[0])
        if name in DRAWINGS:
            written.append(write_picture(DRAWINGS[name](DARK).figure, dark_form(written[-1])))
        for table_name, table in built.tables.items():
            with atomic_path(folder / "data" / f"{table_name}.csv") as temporary:
                table.to_csv(temporary, float_format="%.6g")
    return written
