"""Chapters in a real JupyterLab in Chromium: they open, their widgets move, and nothing leaves the machine."""

import re
import shutil
from pathlib import Path

import browser
import nbformat
import pytest

from lkm_kit.course.sources import chapters, read_source

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(browser.missing()), reason=f"missing: {', '.join(browser.missing())}"),
]
ROOT = Path(__file__).resolve().parents[1]
SOURCES = {path.stem: path for path in chapters(ROOT)}
# chapters with controls to move; the live curve of a training has none
CONTROLS = re.compile(r"lkm_kit\.widgets\.(?!live_curve)")
LIVE = [name for name, path in SOURCES.items() if CONTROLS.search(path.read_text(encoding="utf-8"))]
CURVE = [name for name, path in SOURCES.items() if "live_curve" in path.read_text(encoding="utf-8")]
# the others show what any notebook shows; that their cells run is for test_notebooks.py
SHOWN = [name for name in SOURCES if name not in {*LIVE, *CURVE}]
DRAWN = """([cells, pictures]) => {
    const all = selector => [...document.querySelectorAll(selector)]
    const numbered = all('.jp-CodeCell .jp-InputPrompt').filter(prompt => /\\d/.test(prompt.textContent))
    return numbered.length === cells && all('.jp-OutputArea-output img').filter(i => i.naturalWidth).length >= pictures
}"""
"""Whether a page shows so many executed cells and so many pictures."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab that serves the chapters, those that are run there without their outputs, and a Chromium."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    for name, path in SOURCES.items():
        if name in SHOWN:
            shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", folder / "notebooks")
        else:
            nbformat.write(read_source(path), folder / "notebooks" / f"{name}.ipynb")
    with browser.jupyter_lab(folder, folder / "notebooks") as (address, log), browser.chromium() as chromium:
        yield chromium, address, log


@pytest.fixture
def opened(lab, request):
    chromium, address, log = lab
    chapter = browser.Chapter(chromium, address, f"{request.param}.ipynb")
    start = len(log.read_text())
    yield chapter
    said = log.read_text()[start:]
    chapter.close()
    assert "Traceback" not in said, said  # of a widget's callback, or of the server


def assert_clean(chapter):
    assert chapter.errors() == []
    assert chapter.complaints == [], "errors in the browser's console"
    assert chapter.away == [], "requests that leave the machine"


def run_all(chapter):
    chapter.run_all()
    assert_clean(chapter)
    shown = [prompt for prompt in chapter.prompts() if prompt]  # folded cells have none; what did not run has "[ ]:"
    assert shown and all(any(c.isdigit() for c in prompt) for prompt in shown), shown


@pytest.mark.parametrize("opened", SHOWN, indirect=True)
def test_chapter_is_shown_as_it_was_executed(opened, request):
    name = request.node.callspec.params["opened"]
    cells = [cell for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells if cell.cell_type == "code"]
    pictures = sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    folded = sum(cell.metadata.get("jupyter", {}).get("source_hidden", False) for cell in cells)  # shows no number
    opened.page.wait_for_function(DRAWN, arg=[len(cells) - folded, pictures])
    assert_clean(opened)


@pytest.mark.parametrize("opened", [name for name in CURVE if name not in LIVE], indirect=True)
def test_chapter_runs(opened):
    run_all(opened)


@pytest.mark.parametrize("opened", LIVE, indirect=True)
def test_chapter_runs_and_its_widgets_move(opened):
    run_all(opened)
    widgets = opened.widgets()
    assert widgets, "no control on the page"
    for widget in widgets:
        moved = []
        for slider in widget.locator(".widget-slider").all():
            pictures = opened.settled(widget)
            before, after = opened.press(slider)
            assert before != after
            moved.append((slider.inner_text(), opened.changed(widget, pictures)))
        assert any(changed for _, changed in moved), moved
        if widget.locator(".jupyter-matplotlib").count():
            assert_a_click_moves_the_probe(opened, widget)
    assert_clean(opened)


def assert_a_click_moves_the_probe(opened, widget):
    """In a figure that hears the mouse, which needs ipympl."""
    from playwright.sync_api import expect

    canvas, readouts = widget.locator("canvas").last, widget.locator(".widget-readout")
    canvas.scroll_into_view_if_needed()
    pictures, numbers, box = opened.settled(widget), readouts.all_text_contents(), canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 0.2, "y": box["height"] * 0.4})
    assert opened.changed(widget, pictures)  # settled before, so by this click
    expect(readouts).not_to_have_text(numbers)
