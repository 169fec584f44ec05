"""What Sphinx reads: chapters with folded cells, the pages of ``docs/``, handouts, and the public names."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lkm_kit.course.api_pages import write_api
from lkm_kit.course.handout import handout
from lkm_kit.course.sources import chapters
from lkm_kit.files import write_text
from lkm_kit.plots.style import dark_form

STYLE = """
math { font-family: math, "STIX Two Math", "Latin Modern Math", "Cambria Math", serif; }
.cell_output table { border-collapse: collapse; border: none; font-size: 0.9em; }
.cell_output th, .cell_output td { border: none; padding: 0.3em 0.8em; }
.cell_output tr { border-bottom: 1px solid var(--color-background-border); }
.cell_output td { text-align: right; font-variant-numeric: tabular-nums; }
article img:not(.only-dark) { background: white; }
div.highlight pre { font-size: 0.82em; }
.cell_input div.highlight pre { white-space: pre-wrap; }
#six-results ul { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.2rem; }
#six-results ul { padding: 0; }
#six-results li { list-style: none; border: 1px solid var(--color-background-border); padding: 0.7rem; }
#six-results li img { width: 100%; height: 12rem; object-fit: contain; border-radius: 3px; }
#six-results li p { font-size: 0.92em; margin: 0.4rem 0; }
@media print {
  @page { size: A4; margin: 13mm; }
  .sidebar-drawer, .toc-drawer, .mobile-header, .related-pages, footer { display: none; }
  .content-icon-container, .back-to-top, .skip-to-content { display: none; }
  .page, .main, .content { display: block; width: 100%; max-width: 100%; min-height: 0; padding: 0; margin: 0; }
  .content { overflow: visible; }
  article:has(#handout) { font-size: 8.5pt; line-height: 1.25; }
  article:has(#handout) * { overflow: visible; }
  article:has(#handout) h1 { font-size: 15pt; margin: 0; padding: 0; }
  article:has(#handout) h2 { font-size: 10.5pt; margin: 2mm 0 1mm; padding: 0; }
  article:has(#handout) p, article:has(#handout) ul, article:has(#handout) table { margin: 1mm 0; }
  article:has(#handout) th, article:has(#handout) td { padding: 0.3mm 1.5mm; }
  article:has(#handout) #pictures p:not(:last-child) { display: inline; }
  article:has(#handout) img { max-height: 58mm; max-width: 88mm; vertical-align: top; }
  a.headerlink { display: none; }
}
"""
"""Tables as plain as those of the text; plots are drawn for a white page, so they keep one in the dark."""
SECTIONS = {
    "Learn": ("chapters", "*", "GLOSSARY", "handouts"),
    "Use": ("own_data", "using", "studies", "install", "gpu"),
    "Teach": ("lecturers",),
    "Reference": ("architecture", "api"),
}
"""Of the table of contents; ``*`` are the chapters. Pages of ``docs/`` that no section names go to the last one."""
OTHER_PAGES = {"notebooks/README.md": "chapters", "notebooks/GLOSSARY.md": "GLOSSARY"}
MOVED = {"../docs/": "", "../notebooks/README.md": "chapters.md", "../notebooks/GLOSSARY.md": "GLOSSARY.md"}
MOVED |= {"../notebooks/student": "../student", "../notebooks/": ""}
"""Links of the repository that lead elsewhere on the site."""
PICTURE = re.compile(r"(!\[[^\]]*\]\()(?!attachment:|https?:)([^)\s]+)\)")
DRAWING = re.compile(r"(!\[[^\]]*\])\(pictures/(?:figures-)?(\w+)\.png\)")
MARK = '<span id="handout"></span>'
"""By it the style knows a page to print."""
BADGE = re.compile(r"\[!\[([^\]]+)\]\(https://[^)]+\)\]")
"""A picture from another machine that is a link: only its words stay."""
ABSENT = re.compile(r"(?<!!)\[([^\]]+)\]\((?:student/?|\.\./[^)]*)\)")
"""Links to what the site does not hold (student copies, code): their words stay."""


def write_sources(root: Path, folder: Path) -> None:
    """Lay out what Sphinx reads of the checkout ``root`` in ``folder``."""
    stems, sheets = [], []
    for source in chapters(root):
        notebook = nbformat.read(root / "notebooks" / f"{source.stem}.ipynb", 4)
        sheets.append(_handout(notebook, source.stem, folder))
        nbformat.write(_folded(notebook, root, folder), folder / f"{source.stem}.ipynb")
        stems.append(source.stem)
    pages = {path.relative_to(root).as_posix(): path.stem for path in sorted((root / "docs").glob("*.md"))}
    for path, name in (pages | OTHER_PAGES).items():
        text = (root / path).read_text(encoding="utf-8")
        for _, picture in PICTURE.findall(text):
            (folder / "pictures").mkdir(exist_ok=True)
            shutil.copy((root / path).parent / picture, folder / _place(picture))
        write_text(folder / f"{name}.md", _with_dark_forms(_relink(text), root, folder))
    listed = "\n".join(f"* [{title}]({name}.md)" for name, title in sheets)
    about = "A page a chapter, to print: goals, symbols, formulas, pictures."
    write_text(folder / "handouts.md", f"# Handouts\n\n{about}\n\n{listed}\n{_contents([n for n, _ in sheets])}")
    packages = write_api(folder)
    listed = "\n".join(f"* [{name}]({name}.rst): {line}" for name, line in packages.items())
    about = "What a package lists in its `__all__`, in its docstrings' words. The tests run the examples."
    write_text(folder / "api.md", f"# The public names\n\n{about}\n\n{listed}\n{_contents([*packages])}")
    write_text(folder / "_static" / "chapters.css", STYLE.strip() + "\n")
    named = {name for names in SECTIONS.values() for name in names}
    rest = [name for name in pages.values() if name not in named and name != "index"]
    index = folder / "index.md"
    text = index.read_text(encoding="utf-8") if index.is_file() else "# lkm-kit\n"
    for section, names in SECTIONS.items():
        listed = [stem for name in names for stem in (stems if name == "*" else [name])]
        listed += rest if section == [*SECTIONS][-1] else []
        text += _contents(listed, section)
    write_text(index, text)


def _contents(names: list[str], caption: str = "") -> str:
    captions = f":caption: {caption}\n" if caption else ""
    return f"\n```{{toctree}}\n:hidden:\n{captions}\n" + "\n".join(names) + "\n```\n"


def _handout(notebook: NotebookNode, stem: str, folder: Path) -> tuple[str, str]:
    outputs = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}) and cell.id not in outputs:
                outputs[cell.id] = _keep(folder, f"{stem}-{cell.id}.png", output.data["image/png"])
    name, text = f"handout_{stem}", _relink(handout(notebook, outputs))
    text = re.sub(r"\[([^\]]+)\]\((?!pictures/)[^)]+\.ipynb\)", r"\1", text).replace("](attachment:", "](pictures/")
    write_text(folder / f"{name}.md", f"{text}\n\n[The chapter]({stem}.ipynb) {MARK}\n")
    return name, text.splitlines()[0].lstrip("# ")


def _folded(notebook: NotebookNode, root: Path, folder: Path) -> NotebookNode:
    """The chapter with its links and drawings as the site has them; imports and solutions are folded."""
    code = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = _relink(cell.source).replace("](attachment:", "](pictures/")
            for name, data in cell.pop("attachments", {}).items():
                _keep(folder, name, data["image/png"])
            cell.source = _with_dark_forms(text, root, folder)
            continue
        if "remove-cell" in cell.metadata.get("tags", ()):  # the one that installs: not on the site
            continue
        code += 1
        if code == 1 or "### BEGIN SOLUTION" in cell.source:
            cell.metadata["tags"] = [*cell.metadata.get("tags", ()), "hide-input"]
    return notebook


def _with_dark_forms(text: str, root: Path, folder: Path) -> str:
    """The page with every drawing in both forms: the theme shows the one that fits. (Handouts, to print, have one.)"""

    def both(match: re.Match[str]) -> str:
        dark = dark_form(root / "figures" / f"{match[2]}.png")
        if not dark.is_file():
            return match[0]
        shutil.copy(dark, folder / "pictures" / dark.name)
        return f"{match[0]}{{.only-light}}{match[1]}(pictures/{dark.name}){{.only-dark}}"

    return DRAWING.sub(both, text)


def _keep(folder: Path, name: str, picture: str) -> str:
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / "pictures" / name).write_bytes(base64.b64decode(picture))
    return f"pictures/{name}"


def _place(picture: str) -> str:
    """Where the site has a picture of the repository: two folders may have one of the same name.

    >>> _place("../figures/studies/a/x.png"), _place("pictures/x.png")
    ('pictures/figures-studies-a-x.png', 'pictures/x.png')
    """
    return "pictures/" + "-".join(part for part in picture.split("/") if part not in ("..", "pictures"))


def _relink(text: str) -> str:
    text = PICTURE.sub(lambda match: f"{match[1]}{_place(match[2])})", BADGE.sub(r"[\1]", text))
    for old, new in MOVED.items():
        text = text.replace(f"]({old}", f"]({new}")
    return ABSENT.sub(r"\1", text)
