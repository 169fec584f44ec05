"""The chapters as a web site for reading: ``make site``, or ``lkm course site``.

Sphinx, myst-nb and furo turn the committed notebooks with their outputs into pages that ask no other machine for
anything: equations become MathML here, at build time, where the usual MathJax would come from the network. Nothing is
executed. Solutions of exercises are folded away.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import shutil
import tempfile
from pathlib import Path

import nbformat

from lkm_kit import __version__
from lkm_kit.course.sources import chapters
from lkm_kit.errors import KitError, install
from lkm_kit.files import write_text

SETTINGS = {
    "project": "lkm-kit",
    "html_title": f"lkm-kit {__version__}",
    "copyright": "the developers of lkm-kit, Apache-2.0",
    "extensions": ["myst_nb", "lkm_kit.course.site"],
    "html_theme": "furo",
    "html_math_renderer": "mathml",
    "html_copy_source": False,
    "html_show_sphinx": False,
    "html_show_search_summary": False,  # they are fetched, which a browser refuses when the site is opened as a file
    "html_static_path": ["_static"],
    "html_css_files": ["chapters.css"],
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "nb_mime_priority_overrides": [["html", "application/vnd.jupyter.widget-view+json", None]],
    "myst_enable_extensions": ["dollarmath", "amsmath"],
    "myst_heading_anchors": 3,
    "suppress_warnings": ["myst.header", "mystnb.unknown_mime_type"],
}
STYLE = """
math { font-family: math, "STIX Two Math", "Latin Modern Math", "Cambria Math", serif; }
.cell_output table { border-collapse: collapse; border: none; font-size: 0.9em; }
.cell_output th, .cell_output td { border: none; padding: 0.3em 0.8em; }
.cell_output tr { border-bottom: 1px solid var(--color-background-border); }
.cell_output td { text-align: right; font-variant-numeric: tabular-nums; }
.cell_output img { background: white; }
"""
"""Tables as plain as those of the text; pictures are drawn for a white page, so they keep one in the dark."""
PAGES = {
    "notebooks/GLOSSARY.md": "GLOSSARY.md",
    "docs/lecturers.md": "lecturers.md",
    "docs/own_data.md": "own_data.md",
    "docs/studies.md": "studies.md",
    "docs/architecture.md": "architecture.md",
    "docs/scans.md": "scans.md",
    "docs/other_repositories.md": "other_repositories.md",
}
MOVED = {"../docs/": "", "../notebooks/README.md": "index.md", "../notebooks/": ""}
"""Links of the repository that lead elsewhere on the site."""
ABSENT = re.compile(r"\[([^\]]+)\]\((?:student/?|\.\./[^)]*)\)")
"""Links to what the site does not hold (student copies, code): their words stay."""


def setup(app) -> dict[str, bool]:
    """What Sphinx calls of an extension: adds the renderer ``mathml`` for equations."""
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mathml(tex: str, block: bool = False) -> str:
    """An equation in LaTeX's spelling as MathML, by docutils.

    Raises:
        KitError: docutils cannot read it.

    >>> mathml(r"\\bar{A}").count("<mover")
    1
    """
    from docutils.utils.math import MathError
    from docutils.utils.math.latex2mathml import tex2mathml

    try:
        return tex2mathml(re.sub(r"\\dots\b", r"\\ldots", tex), as_block=block)  # it knows only the latter
    except MathError as error:
        raise KitError(f"equation {tex!r}: {error}", remedy="write it with commands that docutils knows") from None


def _inline_math(translator, node) -> None:
    _math(translator, node, False)


def _block_math(translator, node) -> None:
    _math(translator, node, True)


def _math(translator, node, block: bool) -> None:
    from docutils.nodes import SkipNode

    translator.body.append(mathml(node.astext(), block))
    raise SkipNode


def write_sources(root: Path, folder: Path) -> list[str]:
    """Lay out what Sphinx reads: the chapters with folded solutions, the other pages, and an index.

    Returns:
        names of the pages, in the order of the table of contents.
    """
    names = []
    for source in chapters(root):
        notebook = nbformat.read(root / "notebooks" / f"{source.stem}.ipynb", 4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = _relink(cell.source).replace("](attachment:", "](pictures/")
                for name, data in cell.pop("attachments", {}).items():
                    (folder / "pictures").mkdir(exist_ok=True)
                    (folder / "pictures" / name).write_bytes(base64.b64decode(data["image/png"]))
            elif "### BEGIN SOLUTION" in cell.source:
                cell.metadata["tags"] = [*cell.metadata.get("tags", ()), "hide-input"]
        nbformat.write(notebook, folder / f"{source.stem}.ipynb")
        names.append(source.stem)
    for path, name in PAGES.items():
        text = (root / path).read_text(encoding="utf-8")
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
            (folder / picture).parent.mkdir(exist_ok=True)
            shutil.copy((root / path).parent / picture, folder / picture)
        write_text(folder / name, _relink(text))
        names.append(Path(name).stem)
    write_text(folder / "_static" / "chapters.css", STYLE.strip() + "\n")
    contents = "\n".join(names)
    index = _relink((root / "notebooks" / "README.md").read_text(encoding="utf-8"))
    write_text(folder / "index.md", f"{index}\n```{{toctree}}\n:hidden:\n\n{contents}\n```\n")
    return names


def _relink(text: str) -> str:
    for old, new in MOVED.items():
        text = text.replace(f"]({old}", f"]({new}")
    return ABSENT.sub(r"\1", text)


def build_site(root: Path, out: Path) -> Path:
    """Build the site of a checkout and put it in place of an earlier one.

    Args:
        root: of the checkout.
        out: folder of the site.

    Returns:
        its first page.

    Raises:
        KitError: a tool is missing, a page could not be made, or a link leads nowhere; an earlier site stays.
    """
    try:
        from sphinx.application import Sphinx
        from sphinx.errors import SphinxError
    except ImportError as error:
        raise KitError(f"the site needs {error.name}", remedy=install("site")) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lkm-site-", dir=out.parent) as scratch:
        source, pages = Path(scratch, "source"), Path(scratch, "pages")
        source.mkdir()
        write_sources(root, source)
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                app = Sphinx(
                    source, None, pages, Path(scratch, "doctrees"), "html", SETTINGS, status=None, warning=said
                )
                app.build(force_all=True)
        except SphinxError as error:
            raise KitError(f"the site could not be built: {error}") from error
        if complaints := said.getvalue().replace(f"{source}/", "").strip():
            raise KitError(f"the site has faults:\n{complaints}", remedy="mend the pages named, then make site")
        shutil.rmtree(out, ignore_errors=True)
        pages.replace(out)
    return out / "index.html"
