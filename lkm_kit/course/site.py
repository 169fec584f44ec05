"""The course and its documentation as a web site for reading: ``make site``, or ``lkm course site``.

Sphinx, myst-nb and furo make pages of the committed notebooks with their outputs, of ``docs/`` and of the docstrings of
the public names. The pages ask no other machine for anything. Equations become MathML here, at build time, where the
usual MathJax would come from the network. Nothing is executed. Solutions of exercises are folded away.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import tempfile
from pathlib import Path

from lkm_kit import __version__
from lkm_kit.course import api_pages
from lkm_kit.course.site_pages import write_sources
from lkm_kit.errors import KitError, install

SETTINGS = {
    "project": "lkm-kit",
    "html_title": f"lkm-kit {__version__}",
    "copyright": "the developers of lkm-kit, Apache-2.0",
    "extensions": [
        "myst_nb",
        "sphinx.ext.autodoc",
        "sphinx.ext.napoleon",
        "lkm_kit.course.site",
    ],
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
    "myst_enable_extensions": ["dollarmath", "amsmath", "attrs_inline"],
    "myst_heading_anchors": 3,
    "suppress_warnings": ["myst.header", "mystnb.unknown_mime_type"],
    **api_pages.SETTINGS,
}


def setup(app) -> dict[str, bool]:
    """What Sphinx calls of an extension: adds the renderer ``mathml`` for equations, and plain stars in docstrings."""
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    app.connect("autodoc-process-docstring", api_pages.plain_stars, priority=900)  # after napoleon
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
        from sphinx.util.docutils import docutils_namespace
    except ImportError as error:
        raise KitError(f"the site needs {error.name}", remedy=install("site")) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lkm-site-", dir=out.parent) as scratch:
        source, pages = Path(scratch, "source"), Path(scratch, "pages")
        source.mkdir()
        write_sources(root, source)
        said = io.StringIO()
        try:
            # what Sphinx registers with docutils ends with this build; a second one in the process would complain
            with contextlib.redirect_stderr(io.StringIO()), docutils_namespace():
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
