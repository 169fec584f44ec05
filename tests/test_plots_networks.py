"""Figures of networks: what they draw, and that a reader finds axis labels on them."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lkm_kit.plots import networks as figures
from lkm_kit.plots.lines import plot_lines
from lkm_kit.plots.maps import SCALES, plot_maps
from lkm_kit.plots.orders import draw_mates
from lkm_kit.plots.style import contrast


@pytest.fixture
def table():
    return pd.DataFrame({"tokens": [576, 576, 144], "pam_tokens": [16, 4, 4]}, index=pd.RangeIndex(3, name="stage"))


def test_a_token_order_numbers_the_path_of_one_sequence_in_its_order():
    sequence = np.array([[0, 1], [0, 1]])
    position = np.array([[1, 0], [0, 1]])  # the scan of sequence 0 begins in the lower left
    ax = figures.plot_token_orders({"columns": (sequence, position)}).axes[0]
    assert [(text.get_text(), text.get_position()) for text in ax.texts] == [("1", (0, 1)), ("2", (0, 0))]
    assert ax.get_title() == "columns"
    assert "pixel" in ax.get_xlabel()


def test_each_sequence_has_a_colour_of_its_own():
    colours = {figures.tints(24)[i] for i in range(24)}
    assert len(colours) == 24


def test_supports_say_how_many_pixels():
    seen = np.zeros((6, 6), dtype=bool)
    seen[1:3, 1:4] = True
    ax = figures.plot_supports({"layer": seen}, (1, 2)).axes[0]
    assert ax.get_title() == "layer\n6 of 36 pixels"
    assert ax.lines[0].get_xydata().tolist() == [[2, 1]]


def test_tokens_per_stage_draws_every_table(table):
    pim, pam = figures.plot_tokens_per_stage({"a": table, "b": table * 2}).axes
    assert pim.lines[1].get_ydata().tolist() == [1152, 1152, 288]
    assert pam.lines[0].get_ydata().tolist() == [16, 4, 4]
    assert pim.get_ylabel() == "tokens per sequence"


def test_parameter_bars_end_in_their_sum():
    parameters = pd.DataFrame({"convolutions": [2_000_000, 300_000], "PiM": [500_000, 0]}, index=["net", "control"])
    ax = figures.plot_parameters(parameters).axes[0]
    assert [text.get_text().strip() for text in ax.texts] == ["2.5 M", "300 k"]
    assert "millions" in ax.get_xlabel()


def test_the_encoder_has_a_column_per_stage_and_outputs_share_a_scale():
    maps = [np.random.default_rng(0).normal(size=(c, s, s)) for c, s in ((4, 16), (8, 8))]
    panels = figures.plot_encoder(np.zeros((16, 16)), maps, [2 * m for m in maps]).axes
    assert [ax.get_title() for ax in panels[:3]] == ["image", "stage 0\n4 channels", "stage 1\n8 channels"]
    np.testing.assert_allclose(panels[4].images[0].get_array(), np.abs(maps[0]).mean(0))
    outputs = plot_maps({str(m.shape): m[2] for m in maps}, "logit", scale="range", size=(16, 16)).axes
    limits = {ax.images[0].get_clim() for ax in outputs[:2]}
    assert limits == {(min(m[2].min() for m in maps), max(m[2].max() for m in maps))}
    assert {tuple(ax.images[0].get_extent()) for ax in outputs[:2]} == {(0, 16, 16, 0)}


def test_every_scale_of_maps_holds_all_numbers():
    maps = {"a": np.array([[-4.0, 0.0], [np.nan, 0.5]]), "b": np.array([[1.0, 2.0]])}
    wanted = {"from zero": (0, 2), "range": (-4, 2), "log": (0.5, 2), "signed": (-4, 4), "signed log": (-4, 4)}
    assert set(wanted) == set(SCALES)
    for scale, limits in wanted.items():
        *panels, bar = plot_maps(maps, "number", scale=scale).axes
        assert {ax.images[0].get_clim() for ax in panels} == {limits}
        white = panels[0].images[0].get_array().mask
        assert white.tolist() == [[False, scale == "log"], [True, False]]
        assert bar.get_ylabel() == "number"


def test_numbers_on_a_map_can_be_read():
    values = np.linspace(0, 1, 25).reshape(5, 5)
    for ax in plot_maps({"a": values}, "number", numbers=".2f").axes[0], draw_mates(Figure(), values, (0, 0)).axes[0]:
        (picture,) = ax.images
        for text, value in zip(ax.texts, values.ravel(), strict=True):
            assert contrast(text.get_color(), picture.to_rgba(value)) >= 4.5


def test_lines_take_values_pairs_series_and_tables():
    table = pd.DataFrame({"x": [4.0, 5.0]}, index=[10, 1000])
    mixed = {"values": [1.0, 2.0, 3.0], "a pair": ([5, 7], [1.0, 1.5]), **table}
    how = {"log": "xy", "ticks": [1, 1000], "at": {"edge": 3}, "levels": {"1/e": 0.4}}
    ax = plot_lines(mixed, "tokens", "ms", looks=("o-", "--"), title="costs", **how).axes[0]
    drawn = {line.get_label(): line.get_xdata().tolist() for line in ax.lines[:3]}
    assert drawn == {"values": [0, 1, 2], "a pair": [5, 7], "x": [10, 1000]}
    assert [line.get_linestyle() for line in ax.lines[:3]] == ["-", "--", "-"]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_title()) == ("log", "log", "costs")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "1,000"]
    assert [text.get_text() for text in ax.texts] == ["edge", "1/e"]
