"""The committed figures: each function writes a picture, a caption that says what was run, and the numbers drawn."""

import dataclasses
import json
import multiprocessing
import re
from pathlib import Path

import archives
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image
from typer.testing import CliRunner

from lkm_kit.cli import app
from lkm_kit.course.summary import summary
from lkm_kit.data import load_sample
from lkm_kit.errors import KitError
from lkm_kit.figures import FIGURES, build_figures, side_by_side
from lkm_kit.figures.registry import DRAWINGS, everyday
from lkm_kit.figures.side_by_side import SHARED, build_side_by_side, groups
from lkm_kit.figures.theme import DARK, LIGHT
from lkm_kit.plots.style import contrast, dark_form, use_style

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["token_orders", "tokens_per_stage"])
def test_figures_without_training(name, tmp_path):
    (picture,) = build_figures([name], tmp_path)
    assert Image.open(picture).width > 600
    caption = json.loads(picture.with_suffix(".json").read_text())
    assert len(caption["text"]) > 40 and caption["config"] and caption["profile"] is None


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_what_a_theme_writes_with_can_be_read(theme):
    for color in (theme.ink, theme.grey, theme.blue, theme.green, theme.pink, theme.brown):
        assert contrast(color, theme.paper) >= 4.5, color
    assert contrast(theme.ink, theme.faint) >= 4.5
    for color in (theme.orange, theme.sky, theme.red):  # areas and lines
        assert contrast(color, theme.paper) >= 2, color


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_can_be_read_on_light_and_on_dark_pages(name):
    """Every text lies inside the page, no two overlap, all can be read at the width of a page's column."""
    use_style()
    light, dark = DRAWINGS[name](), DRAWINGS[name](DARK)
    assert len(light.text) > 40 and light.config and light.profile is None
    assert (light.text, light.config) == (dark.text, dark.config)
    picture = ROOT / "figures" / f"{name}.png"
    texts = letters(light.figure, LIGHT, picture)
    assert texts == letters(dark.figure, DARK, dark_form(picture))
    assert len(texts) > 5
    for number, (text, box) in enumerate(texts):
        assert min(box[0]) >= 0 and (box[1] <= light.figure.bbox.size).all(), text
        for other, second in texts[number + 1 :]:
            across, along = np.minimum(box[1], second[1]) - np.maximum(box[0], second[0])
            assert across <= 1 or along <= 1, f"{text!r} lies on {other!r}"


def letters(figure, theme, committed):
    """Texts and their corners in pixels, once they are found legible; the figure is in step with its file."""
    figure.set_dpi(160)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels, file = (np.asarray(image)[..., :3] / 255 for image in (canvas.buffer_rgba(), Image.open(committed)))
    assert pixels.shape == file.shape, f"run: lkm figures {committed.stem}"
    assert figure.get_facecolor()[:3] == to_rgb(theme.paper)
    found, drawn = [], np.ones(pixels.shape[:2], bool)
    for text in (text for axes in figure.axes for text in axes.texts if text.get_text()):
        assert text.get_fontsize() >= 8
        corners = text.get_window_extent(canvas.get_renderer()).get_points()
        (left, low), (right, high) = corners.astype(int)
        place = slice(len(pixels) - high, len(pixels) - low), slice(left, right)
        assert contrast(text.get_color(), np.median(pixels[place], axis=(0, 1))) >= 4.5, text
        assert np.abs(file[place] - to_rgb(text.get_color())).max(-1).min() < 0.1, f"{text}: run lkm figures"
        found.append((text.get_text(), corners.tolist()))
    images = [image.get_window_extent().get_points().tolist() for axes in figure.axes for image in axes.images]
    for (left, low), (right, high) in [*(corners for _, corners in found), *images]:  # as matplotlib's version has them
        top, bottom = len(pixels) - int(high) - 8, len(pixels) - int(low) + 8
        drawn[max(top, 0) : bottom, max(int(left) - 8, 0) : int(right) + 8] = False
    other = (np.abs(pixels - file)[drawn] > 0.05).any(-1).mean()
    assert other < 2e-4, f"{other:.2%} of {committed.name} differ; run: lkm figures"
    return found


def test_every_drawing_stands_in_a_chapter():
    sources = ROOT.glob("notebooks/src/*.py")
    shown = {name for source in sources for name in re.findall(r"/figures/(\w+)\.png", source.read_text("utf-8"))}
    assert len(DRAWINGS) >= 8 and set(DRAWINGS) <= shown <= set(FIGURES)


def test_tokens_per_stage_are_those_of_the_released_code(tmp_path):
    """From the facts: 320×320, seven stages; windows of 40 in the paper, one token at the released network's end."""
    build_figures(["tokens_per_stage"], tmp_path)
    table = pd.read_csv(tmp_path / "data" / "tokens_per_stage.csv", index_col=[0, 1])
    assert table.loc["paper"]["tokens"].iloc[0] == 1600
    assert table.loc["released"]["tokens"].iloc[-1] == 1


def test_an_unknown_figure_is_named_with_the_ones_there_are(tmp_path):
    with pytest.raises(KitError, match="no figure 'fig3'") as error:
        build_figures(["fig3"], tmp_path)
    assert "token_orders" in error.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_the_command_lists_and_builds(tmp_path):
    listed = CliRunner().invoke(app, ["figures", "--list"]).output
    assert all(name in listed for name in FIGURES)
    done = CliRunner().invoke(app, ["figures", "token_orders", "--out", str(tmp_path)])
    assert done.exit_code == 0 and (tmp_path / "token_orders.png").is_file()


@pytest.mark.thorough  # one at a time, in a process of its own: the example of build_side_by_side
def test_two_at_a_time_write_what_one_after_the_other_does(tmp_path):
    """The same bytes; figures of the same predictions stay together, and the longest begin."""
    names = ["u_shape", "token_orders", "erf_directions"]
    done = CliRunner().invoke(app, ["figures", *names, "--jobs", "2", "--out", str(tmp_path / "two")])
    assert done.exit_code == 0 and len(done.output.split()) == 4
    build_figures(names, tmp_path / "one")
    written = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(written) == 8
    for path in written:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path
    order = groups(everyday())
    assert sorted(name for group in order for name in group) == sorted(everyday()) and order[0] == list(SHARED)


@pytest.mark.thorough
def test_what_is_timed_is_built_last_and_alone(tmp_path, monkeypatch):
    """Here, when the other figures are there and no other process is left."""
    build, found = FIGURES["token_orders"], []

    def timed():
        found.append((multiprocessing.active_children(), {path.name for path in tmp_path.glob("*.png")}))
        return build()

    assert {*side_by_side.TIMED} <= {*everyday()}
    monkeypatch.setattr(side_by_side, "TIMED", ("token_orders",))
    monkeypatch.setitem(FIGURES, "token_orders", timed)
    written = [path.name for paths in build_side_by_side(["token_orders", "u_shape"], tmp_path) for path in paths]
    assert written == ["u_shape.png", "u_shape-dark.png", "token_orders.png"]
    assert found == [([], {"u_shape.png", "u_shape-dark.png"})]


def every_fourth_slice(name):
    """Chapter 08 segments the whole scan."""
    case = load_sample(name)
    spacing, affine = (*case.spacing[:2], 4 * case.spacing[2]), case.affine @ np.diag([1, 1, 4, 1])
    return dataclasses.replace(
        case, image=case.image[..., ::4], label=case.label[..., ::4], spacing=spacing, affine=affine
    )


@pytest.mark.notebook
@pytest.mark.thorough
def test_figures_of_trained_networks_at_smoke(tmp_path, monkeypatch):
    """Trained once, found again by the other figures; scores in the table lie where scores lie."""
    monkeypatch.setenv("LKM_PROFILE", "smoke")
    monkeypatch.setenv("LKM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("lkm_kit.data.load_sample", every_fourth_slice)
    written = build_figures(["training_history", "organ_scores", "held_out_patient"], tmp_path / "figures")
    assert [path.stem for path in written] == ["training_history", "organ_scores", "held_out_patient"]
    assert json.loads((tmp_path / "figures" / "organ_scores.json").read_text())["profile"] == "smoke"
    scores = pd.read_csv(tmp_path / "figures" / "data" / "organ_scores_ct_b.csv", header=[0, 1], index_col=0)
    assert scores.loc["mean", ["DSC", "NSD"]].between(0, 1).all() and (scores.loc["mean", "HD95"] > 0).all()
    assert set(scores.columns.get_level_values(1)) == {"LKM-UNet", "no Mamba"}
    assert len(list((tmp_path / "runs").glob("**/done.json"))) == 2


def chapter(folder, said):
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    output = new_output("execute_result", data={"text/plain": said}, execution_count=1)
    cell = new_code_cell("check_x(x)", outputs=[output], execution_count=1)
    notebook = new_notebook(cells=[cell, new_code_cell("1")], metadata={"lkm": {"profile": "smoke"}})
    nbformat.write(notebook, folder / "00_start_here.ipynb")


def test_the_summary_counts_what_ran_and_shows_both_networks(tmp_path):
    chapter(tmp_path, "✗ x: wrong")
    (tmp_path / "figures" / "data").mkdir(parents=True)
    columns = pd.MultiIndex.from_product([["DSC", "NSD"], ["LKM-UNet", "no Mamba"]])
    table = pd.DataFrame([[0.81, 0.72, 0.63, None]], index=["liver"], columns=columns)
    table.to_csv(tmp_path / "figures" / "data" / "organ_scores_ct_b.csv")
    text = summary(tmp_path)
    assert "1/2 cells" in text and "0 of 1 exercises check" in text and "profile smoke" in text
    assert "never seen" in text and all(number in text for number in ("0.810", "0.720", "0.630"))
    student, researcher = text.splitlines()[-2:]
    assert student.endswith("make student") and researcher.endswith("docs/own_data.md")


def test_a_summary_of_nothing_says_what_to_run(tmp_path, capsys):
    assert archives.lkm("course", "summary", tmp_path) == 2
    assert "make tutorial" in capsys.readouterr().err
