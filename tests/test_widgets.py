"""The small widgets: their sliders redraw, and what they show is right."""

import numpy as np
import pytest
import torch

from lkm_kit.data.phantom import make_phantom
from lkm_kit.plots.maps import plot_maps
from lkm_kit.ssm import selective_scan
from lkm_kit.widgets.slice_browser import SliceBrowser
from lkm_kit.widgets.ssm import KernelExplorer, MemoryExplorer, SelectionExplorer


def test_the_browser_shows_a_patient_upright():
    """RAS: the liver on the patient's right comes out on the left of an axial picture, the head on top of a coronal."""
    case = make_phantom()
    browser = SliceBrowser(case)
    label = browser.label()
    liver = np.argwhere(label == 1)[:, 1].mean()
    spleen_or_rest = np.argwhere(label > 1)[:, 1].mean()
    assert liver < spleen_or_rest
    before = browser.figure
    browser.view.value = "coronal"
    assert browser.figure is not before and "coronal" in browser.figure.axes[0].get_title()
    assert browser.label().shape == (case.shape[2], case.shape[0])
    browser.labels.value = False
    assert browser.figure.legends == []


def test_the_slider_follows_the_view():
    case = make_phantom(shape=(40, 36, 12))
    browser = SliceBrowser(case)
    assert browser.slice.max == 11
    browser.view.value = "sagittal"
    assert browser.slice.max == 39 and 0 <= browser.slice.value <= 39


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
