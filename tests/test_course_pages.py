"""What surrounds the chapters: slides, and pages for readers and lecturers whose links lead somewhere."""

import re
from pathlib import Path

import archives
import nbformat
import pytest
import torch
from combinations import first

from lkm_kit.course import slides
from lkm_kit.course.setup_cell import SETUP
from lkm_kit.course.sources import chapters, read_source
from lkm_kit.erf import ErfMap, measures

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("notebooks/GLOSSARY.md", "docs/lecturers.md", "docs/own_data.md")
SOURCES = [path for path in chapters(ROOT) if (ROOT / "notebooks" / f"{path.stem}.ipynb").is_file()]


@pytest.mark.parametrize("source", first(SOURCES, 3), ids=lambda path: path.stem)
def test_every_chapter_makes_slides(source):
    notebook = nbformat.read(ROOT / "notebooks" / f"{source.stem}.ipynb", as_version=4)
    kinds = [cell.metadata.slideshow.slide_type for cell in slides.deck(notebook).cells]
    assert kinds[0] == "slide" and kinds.count("slide") >= 5
    page = slides.slides(notebook, source.stem)
    pictures = sum("image/png" in o.get("data", {}) for c in notebook.cells for o in c.get("outputs", []))
    assert page.count("data:image/png;base64") >= pictures > 0
    # one section around each column of slides, one for each slide or slide below
    assert len(re.findall(r"<section[ >]", page)) == 2 * kinds.count("slide") + kinds.count("subslide")
    assert "slideshow" not in notebook.cells[0].metadata  # the given notebook is left alone


def test_a_section_s_drawings_and_formulas_are_on_its_slide_and_its_text_below():
    notebook = read_source(next(path for path in SOURCES if path.stem.startswith("02")))
    drawings = sum(len(cell.get("attachments", {})) for cell in notebook.cells)
    tops = [cell for cell in slides.deck(notebook).cells if cell.metadata.slideshow.slide_type == "slide"]
    assert drawings > 2 and sum(cell.source.count("](attachment:") for cell in tops) == drawings
    assert sum(cell.source.count("$$") for cell in tops) == sum(cell.source.count("$$") for cell in notebook.cells)
    below = "\n".join(cell.source for cell in slides.deck(notebook).cells)
    for cell in notebook.cells:
        assert cell.source == SETUP or all(line in below for line in cell.source.splitlines())


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


def test_the_glossary_defines_every_measure_of_a_receptive_field():
    """By name; those of several shares or axes by the first: `area_20` ..., `sigma_0` ..."""
    text = (ROOT / PAGES[0]).read_text(encoding="utf-8")
    table = measures({"a": ErfMap.at(torch.ones(4, 6, 8), window=2, stride=2)})
    for name in table.drop(columns=["layer", "pixels"]):
        first = re.sub(r"_(20|50|90|99)$", "_20", re.sub(r"_[012]$", "_0", name))
        assert re.search(rf"^\|.*`{first}`.*\|.*\|", text, re.MULTILINE), name


def minutes(source):
    """Of a chapter: to read, at 180 words or 25 lines of code a minute, and what its exercises say."""
    text = source.read_text(encoding="utf-8")
    words = sum(len(line[2:].split()) for line in text.splitlines() if line.startswith("# "))
    code = sum(bool(line) and not line.startswith("#") for line in text.splitlines())
    return words / 180 + code / 25, sum(map(int, re.findall(r"\(★+, (\d+) minutes", text)))


def test_the_pages_say_how_long_reading_and_exercises_take():
    times = {source.stem[:2]: minutes(source) for source in SOURCES}
    table, front = ((ROOT / page).read_text(encoding="utf-8") for page in ("notebooks/README.md", "README.md"))
    for pattern, page in (
        (r"^\| (\d\d) \| .*?\) \| (\d+) \| (\d+) \|", table),
        (r"^\| (\d\d) .* (\d+) \+ (\d+) \|$", front),
    ):
        rows = re.findall(pattern, page, re.MULTILINE)
        assert [number for number, *_ in rows] == list(times)
        for number, reading, exercises in rows:
            assert abs(int(reading) - times[number][0]) <= 5 and int(exercises) == times[number][1], number
    for source in (*SOURCES[:8], *SOURCES[12:]):
        head = re.search(
            r"\*(\d+) minutes to read, (\d+) for the exercises", source.read_text(encoding="utf-8")
        ).groups()
        reading, exercises = times[source.stem[:2]]
        assert abs(int(head[0]) - reading) <= 5 and int(head[1]) == exercises, source.stem
    for page in (table, front, (ROOT / "docs" / "index.md").read_text(encoding="utf-8")):
        said = re.search(r"bout (\d+) hours to read.*? (\d+) for all exercises", page).groups()
        assert all(abs(int(hours) - sum(one) / 60) <= 0.75 for hours, one in zip(said, zip(*times.values()))), said


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_chapter_ends_with_further_reading_and_links_that_have_a_form(source):
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if line.startswith("#"))
    reading = text.split("# ## Further reading\n")[1]
    assert len(re.findall(r"\]\(https://[\w.-]+\.[a-z]+/[^\s)]*\)", reading)) >= 4
    for target in re.findall(r"\]\((?!https://)([^)#\s]+)\)", text):
        assert (ROOT / "notebooks" / target).exists(), target
