"""Chapters in a real JupyterLab in Chromium: they open, their widgets move, and nothing leaves the machine."""

import re
from pathlib import Path

import browser
import nbformat
import pytest
from chapter_run import assert_solved, assert_unsolved, chapter_and_student_cells, code_cells, run_in

from lkm_kit.course.sources import chapters

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
RUN = [name for name in SOURCES if name in {*LIVE, *CURVE}]
# the others show what any notebook shows; that their cells run is for test_notebooks.py
SHOWN = [name for name in SOURCES if name not in RUN]
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
    for name in RUN:
        nbformat.write(chapter_and_student_cells(SOURCES[name])[0], folder / "notebooks" / f"{name}.ipynb")
    nbformat.write(all_shown(), folder / "notebooks" / "shown.ipynb")
    with browser.jupyter_lab(folder, folder / "notebooks") as (address, log), browser.chromium() as chromium:
        yield chromium, address, log


def all_shown():
    """The cells of all chapters that are only shown, with their outputs, as one notebook: one page to open."""
    shown = [nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4) for name in SHOWN]
    for name, notebook in zip(SHOWN, shown):
        for cell in notebook.cells:
            cell.id = f"{name[:2]}-{cell.id}"
    shown[0].cells = [cell for notebook in shown for cell in notebook.cells]
    nbformat.validate(shown[0])
    return shown[0]


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


@pytest.mark.parametrize("opened", ["shown"], indirect=True)
def test_chapters_are_shown_as_they_were_executed(opened):
    cells = code_cells(all_shown())
    pictures = sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    folded = sum(cell.metadata.get("jupyter", {}).get("source_hidden", False) for cell in cells)  # shows no number
    opened.until(DRAWN, arg=[len(cells) - folded, pictures], timeout=120_000)
    assert_clean(opened)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("opened", RUN, indirect=True)
def test_chapter_runs_and_its_widgets_move(opened, lab, request):
    """Then its student copy, in the same kernel; see test_notebooks.py for chapters without controls."""
    name = request.node.callspec.params["opened"]
    chapter, student = chapter_and_student_cells(SOURCES[name])
    run_all(opened)
    assert_solved(code_cells(chapter), opened.printed())
    widgets = opened.widgets() if name in LIVE else []
    assert widgets or name not in LIVE, "no control on the page"
    for widget in widgets:
        moved = []
        for slider in widget.locator(".widget-slider").all():
            pictures = opened.settled(widget)
            before, after = opened.press(slider)
            assert before != after
            moved.append((slider.inner_text(), opened.changed(widget, pictures)))
        assert any(changed for _, changed in moved), moved
        for button in widget.locator("button.widget-button").all():
            pictures = opened.settled(widget)
            button.click()
            assert opened.changed(widget, pictures), button.inner_text()
        if widget.locator(".jupyter-matplotlib").count():
            assert_a_click_moves_the_probe(opened, widget)
        if widget.get_by_text("what the network sees").count():
            assert_a_window_has_a_name_and_a_pixel_a_value(opened, widget)
    assert_clean(opened)
    runtime = lab[2].parent / "runtime"
    assert_unsolved(student, run_in(runtime / f"kernel-{opened.kernel()}.json", student))


def assert_a_click_moves_the_probe(opened, widget):
    """In a figure that hears the mouse, which needs ipympl."""
    from playwright.sync_api import expect

    canvas, readouts = widget.locator("canvas").last, widget.locator(".widget-readout")
    canvas.scroll_into_view_if_needed()
    pictures, numbers, box = opened.settled(widget), readouts.all_text_contents(), canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 0.2, "y": box["height"] * 0.4})
    assert opened.changed(widget, pictures)  # settled before, so by this click
    expect(readouts).not_to_have_text(numbers)


def assert_a_window_has_a_name_and_a_pixel_a_value(opened, widget):
    """In the browser of slices: HU at the pixel that was clicked, and another picture for another window."""
    from playwright.sync_api import expect

    expect(widget).to_contain_text(re.compile(r"voxel \(\d+, \d+, \d+\), at \(.+\) mm: -?[\d.]+ HU, "))
    for name, ends in {"what the network sees": "−175 – 250", "lung: centre -600, width 1500": "−1350 – 150"}.items():
        pictures = opened.settled(widget)
        widget.locator("select").select_option(label=name)
        assert opened.changed(widget, pictures)
        expect(widget.locator(".widget-readout").first).to_have_text(ends)
