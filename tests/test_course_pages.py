"""What surrounds the chapters: slides, and pages for readers and lecturers whose links lead somewhere."""

import re
from pathlib import Path

import archives
import nbformat
import pytest

from lkm_kit.course import slides
from lkm_kit.course.sources import chapters

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("notebooks/GLOSSARY.md", "docs/lecturers.md", "docs/own_data.md")
SOURCES = [path for path in chapters(ROOT) if (ROOT / "notebooks" / f"{path.stem}.ipynb").is_file()]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_chapter_makes_slides(source):
    notebook = nbformat.read(ROOT / "notebooks" / f"{source.stem}.ipynb", as_version=4)
    kinds = [cell.metadata.slideshow.slide_type for cell in slides.mark_slides(notebook).cells]
    assert kinds[0] == "slide" and kinds.count("slide") >= 5
    page = slides.slides(notebook, source.stem)
    pictures = sum("image/png" in o.get("data", {}) for c in notebook.cells for o in c.get("outputs", []))
    assert page.count("data:image/png;base64") >= pictures > 0
    # one section around each column of slides, one for each slide or slide below
    assert len(re.findall(r"<section[ >]", page)) == 2 * kinds.count("slide") + kinds.count("subslide")
    assert "slideshow" not in notebook.cells[0].metadata  # the given notebook is left alone


def test_slides_are_written_and_a_missing_notebook_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    (tmp_path / "notebooks" / "src" / "00_first.py").write_text("# %% [markdown]\n# # A\n")
    monkeypatch.chdir(tmp_path)
    assert archives.lkm("course", "slides", "00") == 2
    assert "make notebooks CHAPTERS=00_first" in capsys.readouterr().err
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A")])
    nbformat.write(notebook, tmp_path / "notebooks" / "00_first.ipynb")
    assert archives.lkm("course", "slides", "00") == 0
    assert "<h1" in (tmp_path / "build" / "slides" / "00_first.slides.html").read_text()


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)\)", text):
            assert target.startswith("https:") or ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_the_glossary_says_each_word_once():
    text = (ROOT / PAGES[0]).read_text(encoding="utf-8")
    words = re.findall(r"^\| (?!word|symbol|-)([^|]+) \|", text, re.MULTILINE)
    assert len(words) >= 40 and len(set(words)) == len(words)
