"""ERF figures show what they say, and ``lkm erf`` goes from a network's name to picture, caption and table."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from lkm_kit.cli import app
from lkm_kit.erf import ErfMap, measures
from lkm_kit.errors import KitError
from lkm_kit.figures import FIGURES, build_figures, erf_maps, erf_scans, erf_trained
from lkm_kit.figures.registry import LONG, everyday
from lkm_kit.plots.erf import erf_grid, erf_slices, scale, show_map
from lkm_kit.profiles import profile
from lkm_kit.studies.scans import scans


def bump(scale=1.0, **where):
    return ErfMap.at(
        scale * torch.exp(-((torch.arange(15) - 7.0) ** 2 + (torch.arange(15)[:, None] - 7.0) ** 2)), **where
    )


def test_one_colour_scale_for_all_panels_whatever_the_outputs_scale():
    figure = erf_grid({"before": {"a": bump(), "b": bump(1e6)}, "after": {"a": bump(3), "b": bump()}})
    images = [ax.images[0] for ax in figure.axes if ax.images]
    assert len(images) == 4 and len({id(image.norm) for image in images}) == 1
    for image in images[1:]:
        np.testing.assert_allclose(image.get_array(), images[0].get_array())
    assert "share of the mass" in "".join(ax.get_ylabel() for ax in figure.axes)
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["before", "after", "the output that is asked"]


def test_the_grid_takes_a_map_a_row_or_rows_and_says_what_it_needs():
    for given, panels in ((bump(), 1), ({"a": bump(), "b": bump()}, 2), ({"r": {"a": bump()}, "s": {"a": bump()}}, 2)):
        assert sum(bool(ax.images) for ax in erf_grid(given, curves=False).axes) == panels
    volume = ErfMap.at(torch.rand(4, 6, 8))
    for given in ([bump()], {}, torch.rand(4, 4), {"a": torch.rand(4, 4)}, {"r": {"a": None}}, {"r": {}}, None):
        with pytest.raises(KitError, match="erf_grid draws maps of 2D images, and was given"):
            erf_grid(given)
    with pytest.raises(KitError, match=r"given ErfMap\(4×6×8 pixels") as error:
        erf_grid({"a": volume})
    assert "erf_slices" in error.value.remedy
    with pytest.raises(KitError, match="different columns: a; b"):
        erf_grid({"r": {"a": bump()}, "s": {"b": bump()}})
    for given in (bump(), {"a": volume}, torch.rand(4, 6, 8)):
        with pytest.raises(KitError, match="erf_slices draws one ErfMap of a volume"):
            erf_slices(given)


def test_columns_share_an_axis_that_holds_all_curves():
    figure = erf_grid({"row": {"even": ErfMap.at(torch.ones(15, 15)), "a bump": bump()}})
    curves = [ax for ax in figure.axes if ax.get_xlabel() == "mass held (%)"]
    lowest = [ax.lines[0].get_ydata().min() for ax in curves]
    assert lowest[1] < lowest[0] and {ax.get_ylim()[0] for ax in curves} == {curves[0].get_ylim()[0]}
    assert curves[0].get_ylim()[0] < lowest[1]


def test_the_scale_leaves_out_the_probes_own_pixel():
    values = np.full((5, 5), 1.0)
    values[2, 2] = 976.0  # 0.976 of the mass, as a residual path does
    assert scale([ErfMap.at(values)]).vmax == pytest.approx(1e-3)


def test_probe_and_window_are_drawn_where_they_are():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    show_map(ax, bump(position=(4, 11), window=5))
    (ring,) = ax.lines
    assert ring.get_xydata().tolist() == [[11, 4]]
    (box,) = ax.patches
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (9.5, -0.5, 5, 5)


def test_slices_of_a_volume_are_in_mm():
    figure = erf_slices(ErfMap.at(torch.rand(4, 6, 8), window=2), (3.0, 1.0, 2.0))
    shape = {ax.get_title(): ax.images[0].get_extent() for ax in figure.axes[:3]}
    assert shape["slice 2"] == [-1.0, 15.0, 5.5, -0.5]
    assert shape["column 4"] == [-0.5, 5.5, 10.5, -1.5] and figure.axes[0].get_xlabel() == "column (mm)"
    assert erf_slices(ErfMap.at(torch.rand(4, 6, 8))).axes[0].get_xlabel() == "column (voxel)"


def test_a_forward_scan_is_white_behind_the_probe_and_both_directions_are_not():
    maps = erf_maps.scan_directions(size=8)
    table = measures(maps)
    assert table.loc["forward only", "direction_scan"] == 1
    assert (maps["forward only"].values.flatten()[37:] == 0).all()
    assert (maps["both directions"].values > 0).all()


def test_readings_differ_in_what_they_see():
    maps = erf_maps.readings(size=48, window=12)
    seen = {name: int((m.values > 0).sum()) for name, m in maps.items()}
    assert seen["no Mamba"] < seen["paper: windows"]
    assert seen["paper: windows"] == 48 * 48


def test_figures_are_built_with_their_tables(tmp_path):
    build_figures(["erf_directions", "erf_positions"], tmp_path)
    table = pd.read_csv(tmp_path / "data" / "erf_positions.csv", index_col=0)
    assert table.index.str.startswith("paper: windows").sum() == 4
    assert table.loc["paper: windows, centre", "locality"] > table.loc["released code: grid, centre", "locality"]
    assert "forward scan" in json.loads((tmp_path / "erf_directions.json").read_text())["text"]


def run(*words):
    return CliRunner().invoke(app, ["erf", *words])


def test_command_on_an_untrained_preset(tmp_path):
    how = ["--images", "1", "--noise", "--size", "96,96", "--window", "24", "--position", "window:corner"]
    networks = ["lkm-unet/tiny-2d", "residual-unet/tiny-2d"]
    done = run(*networks, *how, "--protocol", "replknet", "-o", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "own_pixel" in done.output and "area_50" in done.output and "replknet, lkm-unet/tiny-2d" in done.output
    table = pd.read_csv(tmp_path / "data" / "erf.csv", index_col=0)
    assert table.index.tolist() == ["lkm-unet/tiny-2d, untrained", "residual-unet/tiny-2d, untrained"]
    assert json.loads((tmp_path / "erf.json").read_text())["config"]["source"] == "random noise"
    assert "box_pixels_50" in table and not [name for name in table if "mm" in name], "nobody knows the spacing"


def test_by_default_the_probe_is_inside_a_window_and_channels_do_not_cancel(tmp_path):
    """Chapter 11: with 96 pixels and windows of 24 the map's centre is a window's corner."""
    done = run("tiny-2d", "--images", "1", "-o", str(tmp_path))
    assert done.exit_code == 0, done.output
    asked = json.loads((tmp_path / "erf.json").read_text())["config"]
    assert (asked["position"], asked["window"], asked["rule"]) == ("window:center", [24, 24], "rademacher")
    table = pd.read_csv(tmp_path / "data" / "erf.csv", index_col=0)
    assert table.index.tolist() == ["tiny-2d"] and "box_mm_50" in table


def test_command_on_a_network_of_the_reader_s_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lkm_test_own_net.py").write_text(
        "from torch import nn\n\ndef small():\n    return nn.Sequential(nn.Conv2d(3, 2, 3, padding=1))\n\n"
        "def sized(width):\n    return nn.Identity()\n\ndef nothing():\n    return 3\n"
    )
    done = run("lkm_test_own_net:small", "--channels", "3", "--size", "9,9", "-o", "out")
    assert done.exit_code == 0, done.output
    assert "probe: logit at center, rule rademacher" in done.output and "random noise" in done.output
    table = pd.read_csv(tmp_path / "out" / "data" / "erf.csv", index_col=0)
    assert table.index.tolist() == ["lkm_test_own_net:small"] and table["box_99"].item() == pytest.approx(9 / 81)
    for name, message in (("sized", "without arguments"), ("nothing", "type int, no torch.nn.Module")):
        done = run(f"lkm_test_own_net:{name}", "--size", "9,9", "-o", "out")
        assert isinstance(done.exception, KitError) and message in str(done.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such-run"], "neither the folder of a run, nor a packaged checkpoint, nor a preset"),
        (["tiny-2D"], "did you mean 'tiny-2d'"),
        (["lkm-unet/tiny-2d", "--protocol", "vmmba"], "did you mean 'vmamba'"),
        (["lkm-unet/tiny-3d", "--size", "16,32,32", "--protocol", "vmamba"], "protocols are for 2D networks"),
        (["lkm-unet/tiny-3d", "tiny-3d"], "once for each network"),
        (["lkm-unet/tiny-2d", "--cls", "liver"], "there is no class 'liver'"),
        (["lkm-unet/tiny-2d", "--size", "96x96"], "no list of whole numbers"),
        (["lkm-unet/tiny-2d", "--layer", "encoder.stage.0", "--images", "1"], "no layer 'encoder.stage.0'"),
        (["lkm-unet/tiny-2d", "--position", "200,3", "--images", "1"], "outside the map"),
    ],
)
def test_command_names_what_is_wrong(words, message, tmp_path):
    done = run(*words, "-o", str(tmp_path))
    assert isinstance(done.exception, KitError) and message in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_before_training_is_where_the_training_began(tmp_path):
    from lkm_kit.commands.erf import _class, _networks
    from lkm_kit.training import TrainConfig, train

    config = TrainConfig.from_profile("smoke", iterations=1, validate_every=1, learning_rate=1e-12, weight_decay=0.0)
    trained = train(config, tmp_path / "run", progress=False).network
    found, run = _networks(str(tmp_path / "run"), before=True, seed=7)
    before, after = found.values()
    for a, b, c in zip(before.parameters(), after.parameters(), trained.parameters()):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)
        assert torch.equal(b, c)
    assert _class("liver", run.config.table.names) == 1 and run.config.table.names[0] == "liver"


def test_networks_are_asked_at_places_over_the_image_and_held_beside_each_other():
    """Known answers: one convolution of 3×3 sees nine pixels everywhere, a mean over the map sees all alike."""

    def convolution(seed):
        torch.manual_seed(seed)
        return nn.Conv2d(1, 2, 3, padding=1)

    mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Upsample((16, 16)))
    umamba, cnn = erf_trained.LOCAL
    networks = {cnn: [convolution(0), convolution(1)], umamba: [mean, mean]}
    images = torch.randn(2, 1, 16, 16)
    found = {stats: erf_trained.at_places(networks, images, 4, stats, 3) for stats in ("frozen", "live")}
    table = pd.concat(found, names=["statistics"])
    assert len(table) == 2 * 2 * 2 * 9 and sorted(table["row"].unique()) == [2, 8, 14]
    said = erf_trained.summary(table)
    assert said.loc[("live", umamba), "own_pixel"] == pytest.approx(1 / 256)
    assert said.loc[("frozen", cnn), "area_90"] <= 9 / 256
    difference = said.loc[("frozen", f"{umamba} − {cnn}")]
    assert difference["locality"] == pytest.approx(
        said.loc[("frozen", umamba), "locality"] - said.loc[("frozen", cnn), "locality"]
    )
    assert difference["locality low"] < difference["locality"] < difference["locality high"] < 0
    maps = erf_trained.middle(networks, images, 4, "frozen")
    assert (maps[cnn].values > 0).sum() == 9 and (maps[umamba].values > 0).all()


def test_figures_that_train_long_are_built_by_name_only():
    assert set(everyday()) == set(FIGURES) - LONG and set(FIGURES) > LONG


def test_maps_of_trained_scans_have_a_column_an_arm_and_intervals_over_seeds(monkeypatch):
    def conv(size, seed):
        torch.manual_seed(seed)
        return torch.nn.Conv2d(1, 2, size, padding=size // 2)

    networks = {f"{size}x{size}": [conv(size, seed) for seed in range(2)] for size in (3, 5)}
    asked = []
    images = torch.randn(2, 1, 16, 24)
    monkeypatch.setattr(erf_scans, "trained_arms", lambda arms: asked.append(arms) or (networks, images, {}))
    built = erf_scans.erf_scans_trained()
    assert list(erf_scans.erf_more_scans_trained().tables) == ["erf_more_scans_trained"]
    arms = {arm.name for arm in scans(profile("laptop")).arms} - {"wide-residual-unet"}
    assert set(asked[0].values()) | set(asked[1].values()) == arms and not asked[0].keys() & asked[1].keys()
    table = built.tables["erf_scans_trained"].loc["frozen"]
    assert 16 * 24 * table.loc["3x3", "area_90"] <= 9 < 16 * 24 * table.loc["5x5", "area_90"] <= 25
    assert table.loc["5x5", "area_90 low"] <= table.loc["5x5", "area_90"] <= table.loc["5x5", "area_90 high"]
    assert "frozen: 3x3 2 %, 5x5" in built.text
