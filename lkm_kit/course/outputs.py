"""Outputs fit to be committed: no progress bars, no folders of the machine that made them, no memory addresses."""

from __future__ import annotations

import base64
import io
import re
import sys
import tempfile
from pathlib import Path

from nbformat import NotebookNode

WIDGET = "application/vnd.jupyter.widget-view+json"
LARGE = 100_000
"""Characters of a picture from which on its colours are counted: a notebook may have 1 MB."""
WIDGET_NOTE = "(an interactive widget: run this cell to use it)"
PROGRESS = re.compile(r"\d+%\||\d+(it|s|step|slice)s? \[\d\d:\d\d|\d*it/s\]|\[\d\d:\d\d[<,]")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def clean(notebook: NotebookNode, places: dict[str, str] | None = None) -> NotebookNode:
    """Normalise the outputs of an executed notebook in place and return it.

    Args:
        notebook: the executed notebook.
        places: folder -> what to write instead, besides home, the environment and the temporary folder.
    """
    known = _places(places or {})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            output = _clean_output(output, known)
            if output is not None:
                kept.append(output)
        cell.outputs = kept
    notebook.metadata.pop("widgets", None)
    return notebook


def lighter(picture: str) -> str:
    """A large PNG (base64) with at most 256 colours: a page of maps then takes a third; a small one as it is.

    >>> lighter("iVBORw0KGgo=")
    'iVBORw0KGgo='
    """
    from PIL import Image

    if len(picture) < LARGE:
        return picture
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    if image.mode == "P":
        return picture
    file = io.BytesIO()
    # maximum coverage keeps a legend's colours; the median cut gives rare ones to their neighbours
    few = image.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _places(extra: dict[str, str]) -> list[tuple[str, str]]:
    known = {**extra, sys.prefix: "<venv>", sys.base_prefix: "<python>", str(Path.home()): "~"}
    known |= {tempfile.gettempdir(): "<tmp>"}
    known |= {str(Path(folder).resolve()): name for folder, name in list(known.items())}
    return sorted(known.items(), key=lambda item: -len(item[0]))  # the deepest folder first


def _text(text: str, known: list[tuple[str, str]]) -> str:
    text = ANSI.sub("", text)
    text = "\n".join(line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").split("\n"))
    text = re.sub(r"\S*[/\\]ipykernel_\d+[/\\]\d+\.py", "<cell>", text)
    for folder, name in known:
        if len(folder) > 1:
            text = re.sub(re.escape(folder) + r"(?![\w-])", name.replace("\\", r"\\"), text)
    return re.sub(r"\bat 0x[0-9a-fA-F]+", "at 0x…", text)


def _clean_output(output: NotebookNode, known: list[tuple[str, str]]) -> NotebookNode | None:
    if output.output_type == "stream":
        lines = _text(output.text, known).split("\n")
        if any(PROGRESS.search(line) for line in lines):
            lines = [line for line in lines if line.strip() and not PROGRESS.search(line)] + [""]
        output.text = "\n".join(lines)
        return output if output.text.strip() else None
    if output.output_type == "error":
        output.evalue = _text(output.evalue, known)
        output.traceback = [_text(line, known) for line in output.traceback]
        return output
    data = output.get("data", {})
    if WIDGET in data:
        if PROGRESS.search(str(data.get("text/plain", ""))) or "FloatProgress" in str(data.get("text/plain", "")):
            return None
        output.data = {"text/plain": WIDGET_NOTE}
        return output
    for kind, value in list(data.items()):
        if kind.startswith("text/") and isinstance(value, str):
            data[kind] = _text(value, known)
        if kind == "image/png" and isinstance(value, str):
            data[kind] = lighter(value.strip()) + "\n"
    return output
