"""The end of ``make tutorial``: what was run, what came out, where it lies (``lkm course summary``)."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pandas as pd

from lkm_kit.errors import KitError

SCORES = {
    "organ_scores_warps": "held-out deformed copies of the training patient",
    "organ_scores_ct_b": "ct_b, a patient that was never seen (silver labels)",
}


def chapter_line(path: Path) -> str:
    """One executed chapter in a line: its cells, pictures and solved exercises."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    run = sum(cell.execution_count is not None for cell in cells)
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    said = [str(output.get("data", {}).get("text/plain", output.get("text", ""))) for output in outputs]
    solved, wrong = (sum(text.startswith(mark) for text in said) for mark in "✓✗")
    marks = f"{solved} of {solved + wrong} exercises check"
    profile = notebook.metadata.get("lkm", {}).get("profile", "unknown")
    return f"{path.stem:24s} {run}/{len(cells)} cells, {pictures} pictures, {marks} (profile {profile})"


def summary(folder: Path) -> str:
    """Chapters, scores of the two networks and written files below ``folder``, as text.

    Args:
        folder: where ``lkm course build --out`` wrote chapters; figures in ``folder/figures``.

    Raises:
        KitError: there is no executed chapter.
    """
    chapters = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not chapters:
        raise KitError(f"there are no executed chapters in {folder}", remedy="run: make tutorial")
    lines = ["Chapters", *(f"  {chapter_line(path)}" for path in chapters)]
    for name, title in SCORES.items():
        table = folder / "figures" / "data" / f"{name}.csv"
        if table.is_file():
            scores = pd.read_csv(table, header=[0, 1], index_col=0)
            scores.index.name = None
            lines += ["", f"LKM-UNet and the same network without Mamba on {title}"]
            lines += [f"  {line}" for line in scores.to_string(float_format="{:.3f}".format, na_rep="-").splitlines()]
    figures = list((folder / "figures").glob("*.json"))  # a caption each; a drawing has two pictures
    lines += ["", f"{len(figures)} figures with captions and tables in {folder / 'figures'}"]
    lines += [f"executed chapters in {folder}", "", "To work through them yourself: make student"]
    lines += ["To train on labelled scans of your own: docs/own_data.md"]
    return "\n".join(lines)
