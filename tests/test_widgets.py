"""The small widgets: their sliders redraw, and what they show is right."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lkm_kit.data import Case, Label, LabelTable, normalize
from lkm_kit.data.phantom import make_phantom
from lkm_kit.data.preprocess import CT_WINDOW_HU
from lkm_kit.errors import KitError
from lkm_kit.plots.maps import plot_maps
from lkm_kit.plots.volumes import grey_range
from lkm_kit.ssm import selective_scan
from lkm_kit.widgets.slice_browser import SliceBrowser
from lkm_kit.widgets.ssm import KernelExplorer, MemoryExplorer, SelectionExplorer


def scan(modality="CT", shape=(7, 6, 5), label=None):
    """A case whose grey value tells its voxel: 100 i + 10 j + k."""
    i, j, k = np.indices(shape)
    affine = np.array([[2.0, 0, 0, -10], [0, 3.0, 0, 5], [0, 0, 4.0, 100], [0, 0, 0, 1]])
    image = (100 * i + 10 * j + k).astype(np.float32)
    return Case(image, label, (2.0, 3.0, 4.0), affine, "scan", modality)


def test_the_browser_shows_a_patient_upright():
    """RAS: the liver on the patient's right comes out on the left of an axial picture, the head on top of a coronal."""
    case = make_phantom()
    browser = SliceBrowser(case)
    label = browser.label()
    liver = np.argwhere(label == 1)[:, 1].mean()
    spleen_or_rest = np.argwhere(label > 1)[:, 1].mean()
    assert liver < spleen_or_rest
    browser.view.value = "coronal"
    assert "coronal" in browser.figure.axes[0].get_title()
    assert browser.figure.axes[0].get_xlabel() == "right → left"
    assert browser.label().shape == (case.shape[2], case.shape[0])
    browser.labels.value = False
    assert browser.figure.legends == []


def test_the_slider_follows_the_view():
    case = make_phantom(shape=(40, 36, 12))
    browser = SliceBrowser(case)
    assert browser.slice.max == 11
    browser.view.value = "sagittal"
    assert browser.slice.max == 39 and 0 <= browser.slice.value <= 39


@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
def test_the_voxel_read_out_is_the_one_that_is_drawn_under_the_mouse(view):
    browser = SliceBrowser(scan())
    browser.view.value, browser.slice.value = view, 1
    ax = browser.figure.axes[0]
    drawn = ax.images[0].get_array()
    for row, column in ((0, 0), (1, 3), (drawn.shape[0] - 1, drawn.shape[1] - 1)):
        browser.click(SimpleNamespace(inaxes=browser.figure.axes[0], xdata=column + 0.3, ydata=row - 0.3))
        i, j, k = browser.voxel
        assert drawn[row, column] == 100 * i + 10 * j + k and browser.case.image[i, j, k] == drawn[row, column]
        assert f"voxel {browser.voxel}, at ({2 * i - 10}, {3 * j + 5}, {4 * k + 100}) mm" in browser.text.value
        assert [line.get_xydata().tolist() for line in browser.figure.axes[0].lines] == [[[column, row]]]


def test_another_view_shows_the_plane_through_the_voxel_and_a_click_beside_the_picture_nothing():
    browser = SliceBrowser(scan())
    browser.go_to((5, 1, 2))
    assert browser.slice.value == 2 and (browser.row.value, browser.column.value) == (4, 1)
    for view, cut in (("coronal", 1), ("sagittal", 5), ("axial", 2)):
        browser.view.value = view
        assert browser.voxel == (5, 1, 2) and browser.slice.value == cut
        assert browser.grey()[browser.row.value, browser.column.value] == 512
    browser.click(SimpleNamespace(inaxes=browser.figure.axes[1], xdata=0.0, ydata=0.0))
    browser.click(SimpleNamespace(inaxes=None, xdata=None, ydata=None))
    assert browser.voxel == (5, 1, 2)
    browser.go_to((99, -3, 2))
    assert browser.voxel == (6, 0, 2) and browser.text.value.endswith("602 HU")


def test_the_read_out_names_unit_and_label():
    label = np.zeros((7, 6, 5), np.uint8)
    label[1, 2, 3], label[1, 2, 4] = 1, 2
    ct, mr = SliceBrowser(scan(label=label), LabelTable((Label("<liver>", 1),))), SliceBrowser(scan("MR"))
    for browser in (ct, mr):
        browser.go_to((1, 2, 3))
    assert ct.text.value == "voxel (1, 2, 3), at (-8, 11, 112) mm: 123 HU, &lt;liver&gt;"
    assert mr.text.value == "voxel (1, 2, 3), at (-8, 11, 112) mm: 123 (no unit)"
    assert [b.figure.axes[1].get_ylabel() for b in (ct, mr)] == ["grey value (HU)", "grey value (no unit)"]
    ct.go_to((1, 2, 4))
    assert ct.text.value.endswith("label 2, not in the table")
    ct.go_to((0, 0, 4))
    assert ct.text.value.endswith(": 4 HU, no label")


def shown(browser):
    return browser.figure.axes[0].images[0].get_clim()


def test_a_window_is_chosen_by_name_and_by_hand():
    browser = SliceBrowser(scan())
    assert shown(browser) == browser.window.value == (-160, 240)
    names = dict(browser.preset.options)
    for name, window in {"lung: centre -600, width 1500": (-1350, 150), "what the network sees": CT_WINDOW_HU}.items():
        browser.preset.value = names[name]
        assert shown(browser) == browser.window.value == window
    browser.window.value = (0, 300)
    assert shown(browser) == (0, 300) and browser.preset.value is None
    browser.window.value = (-160, 240)
    assert browser.preset.label == "soft tissue: centre 40, width 400"


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_network_s_window_is_where_normalize_clips(modality):
    case = scan(modality, (12, 11, 10))
    low, high = dict(SliceBrowser(case).preset.options)["what the network sees"]
    x = normalize(case.image, modality)
    assert np.array_equal(x == x.max(), case.image >= high) and np.array_equal(x == x.min(), case.image <= max(low, 0))


def test_grey_values_of_mr_have_windows_of_their_own():
    case = scan("MR")
    browser = SliceBrowser(case)
    assert shown(browser) == grey_range(case.image, "MR") == browser.window.value
    assert (browser.window.min, browser.window.max) == (0, 654) and "HU" not in browser.window.description


def test_a_window_without_width_is_refused_and_the_picture_stays():
    for window in ((10, 10), (20, 10), (float("nan"), 10), (0, float("inf"))):
        with pytest.raises(KitError, match="grey window"):
            SliceBrowser(scan(), window=window)
    browser = SliceBrowser(scan(), window=(-2000, 50))
    assert shown(browser) == (-2000, 50) and browser.preset.value is None
    browser.window.value = (30, 30)
    assert shown(browser) == (-2000, 50) and "(30, 30) has no width" in browser.text.value
    browser.window.value = (30, 40)
    assert shown(browser) == (30, 40) and "HU" in browser.text.value


def test_odd_scans_can_be_looked_at():
    """One grey value everywhere, a single slice, several channels: the first is drawn."""
    case = scan("MR", (3, 4, 1))
    flat = dataclasses.replace(case, image=np.full_like(case.image, 7.0))
    assert len(SliceBrowser(flat).preset.options) == 1
    several = SliceBrowser(dataclasses.replace(case, image=np.stack([case.image, -case.image])))
    several.go_to((2, 3, 0))
    assert several.text.value.endswith(": 230 (no unit)") and several.slice.max == 0


def test_sliders_of_the_memory_redraw():
    explorer = MemoryExplorer()
    before = explorer.figure
    explorer.side.value = 10
    assert explorer.figure is not before
    assert explorer.left == pytest.approx(torch.exp(torch.tensor(-1.0)).item(), rel=1e-3)  # 100 tokens of 0.01
    explorer.delta.value = 0.1
    assert explorer.left == pytest.approx(4.5e-5, rel=1e-2)


def test_sliders_of_the_kernel_redraw():
    explorer = KernelExplorer()
    before = explorer.figure
    explorer.delta.value = 0.01
    assert explorer.figure is not before
    assert explorer.half_life == pytest.approx(69.3, rel=1e-2)
    explorer.rate.value = -2.0
    assert explorer.half_life == pytest.approx(34.7, rel=1e-2)


def test_the_kernel_s_axis_stands_still_and_an_imaginary_part_makes_it_oscillate():
    explorer, limits = KernelExplorer(), set()
    for delta in (0.001, 0.1, 1.0):
        explorer.delta.value = delta
        limits.add(explorer.figure.axes[0].get_ylim())
        assert explorer.figure.axes[0].lines[0].get_ydata().max() <= 1.0
    assert limits == {(-0.6, 1.0)}
    assert explorer.figure.axes[0].lines[0].get_ydata().min() >= 0
    explorer.delta.value, explorer.frequency.value = 0.1, 6.0
    curve = explorer.figure.axes[0].lines[0].get_ydata()
    assert -0.6 < curve.min() < 0 and explorer.half_life == pytest.approx(6.93, rel=1e-2)
    explorer.delta.value, explorer.fixed.value = 0.001, False
    assert explorer.figure.axes[0].get_ylim()[1] < 0.1


def test_a_real_eigenvalue_makes_the_selective_scan_of_the_library():
    """With Mamba's short cut undone: its input Δ B u becomes Eq. 2's."""
    explorer = SelectionExplorer()
    for t, slider in enumerate(explorer.deltas):
        slider.value = 10 ** (-1 + 0.15 * t)
    delta = torch.tensor([slider.value for slider in explorer.deltas], dtype=torch.float64)
    ones = torch.ones(1, 1, len(delta), dtype=torch.float64)
    exact = explorer.tokens * -torch.expm1(-delta) / delta
    wanted = selective_scan(exact[None, None], delta[None, None], -ones[0, :, :1], ones, ones)[0, 0]
    torch.testing.assert_close(explorer.states, wanted)
    assert float(explorer.weights @ explorer.tokens) == pytest.approx(float(explorer.states[-1]))


def test_a_token_of_large_delta_stays_and_every_slider_redraws_on_the_same_axes():
    explorer = SelectionExplorer()
    explorer.preset.value = "keep the third"
    assert explorer.weights[2] > 0.8 and explorer.weights[[0, 1]].abs().max() < 0.1
    explorer.preset.value = "start anew at the seventh"
    assert explorer.weights[:6].abs().max() < 0.05 < explorer.weights[6]
    for control, value in ((explorer.rate, -4.0), (explorer.frequency, 6.0), (explorer.deltas[0], 3.0)):
        before = explorer.figure
        control.value = value
        assert explorer.figure is not before
        assert [ax.get_ylim() for ax in explorer.figure.axes] == [ax.get_ylim() for ax in before.axes]
    assert float(explorer.weights @ explorer.tokens) == pytest.approx(float(explorer.states[-1]))


def test_no_influence_stays_white_and_small_influence_does_not():
    picture = (
        plot_maps({"forward": torch.ones(3, 3).tril().numpy() * [[1], [1e-4], [1e-8]]}, "norm", scale="log")
        .axes[0]
        .images[0]
    )
    assert picture.get_array().mask.tolist() == torch.ones(3, 3).triu(1).bool().tolist()
    assert picture.norm(1e-8) == 0 and picture.norm(1.0) == 1


def test_window_maps_share_one_scale_that_starts_at_zero():
    maps = {"a": torch.rand(3, 3).numpy() + 1, "b": 5 * torch.ones(3, 3).numpy()}
    assert {ax.images[0].get_clim() for ax in plot_maps(maps, "influence", numbers=".1f").axes[:2]} == {(0, 5)}


def drawings(monkeypatch, seconds_a_drawing, steps, **environment):
    """The steps after which a curve is drawn; a step takes a second, and so does nothing else but drawing."""
    from lkm_kit.plots import training as plots
    from lkm_kit.widgets import live_curve

    now, drawn = [0.0], []

    def draw(seen, *others):
        now[0] += seconds_a_drawing
        drawn.append(seen[-1])

    monkeypatch.setattr("IPython.get_ipython", lambda: "a notebook")
    monkeypatch.setattr("IPython.display.display", lambda figure, display_id: SimpleNamespace(update=lambda figure: 0))
    monkeypatch.setattr(plots, "plot_live", draw)
    monkeypatch.setattr(live_curve.time, "monotonic", lambda: now[0])
    monkeypatch.delenv("LKM_UNWATCHED", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    curve = live_curve.LiveCurve(steps)
    for step in range(1, steps + 1):
        now[0] += 1
        curve(step, 1.0, [])
    return drawn


def test_a_live_curve_takes_no_more_than_its_share_of_the_time(monkeypatch):
    assert drawings(monkeypatch, 0.05, 10) == [1, 4, 7, 10]  # the shortest pause: two seconds
    often = drawings(monkeypatch, 1.0, 400)
    assert often[0] == 1 and often[-1] == 400 and 10 < len(often) <= 0.05 * 400 + 2


def test_a_live_curve_that_nobody_watches_is_drawn_once(monkeypatch):
    assert drawings(monkeypatch, 0.05, 10, LKM_UNWATCHED="1") == [10]
