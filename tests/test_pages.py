"""README and docs: short, and every measured number in them follows from a committed table."""

import re
from pathlib import Path

import pandas as pd
import pytest

from lkm_kit.blocks import MIXERS, ORDERS, locality
from lkm_kit.figures import erf_scans
from lkm_kit.figures.orders_3d import order_facts_3d
from lkm_kit.studies import published

ROOT = Path(__file__).parents[1]
MEASURED = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?) ± (\d+(?:\.\d+)?)")


def committed():
    """(mean, spread) of every arm of every committed study, and of the receptive fields at nine places; in percent."""
    for path in sorted((ROOT / "figures" / "studies").glob("*/report.csv")):
        report = pd.read_csv(path)
        for score in ("DSC", "NSD"):
            yield from zip(report[score], report[f"{score} sd"])
    nine = pd.read_csv(ROOT / "figures" / "data" / "erf_at_nine_places.csv")
    for (_, _), places in nine.groupby(["arm", "norm_stats"]):
        for area in ("area_50", "area_90"):
            yield 100 * places[area].mean(), 100 * places[area].std()


def digits(number):
    return len(number.partition(".")[2])


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_mean_and_spread_follows_from_a_committed_table():
    known = list(committed())
    for page in ("README.md", "docs/results.md", "docs/scans.md"):
        found = MEASURED.findall((ROOT / page).read_text(encoding="utf-8"))
        assert found, f"{page} shows no measured number"
        for mean, spread in found:
            same = [
                abs(m - float(mean)) <= 0.5001 * 10 ** -digits(mean)
                and abs(s - float(spread)) <= 0.5001 * 10 ** -digits(spread)
                for m, s in known
            ]
            assert any(same), f"{page}: {mean} ± {spread} is in no committed table"


def test_every_difference_with_its_interval_follows_from_a_committed_table():
    tables = (ROOT / "figures" / "studies").glob("*/comparisons.csv")
    known = [tuple(row) for path in tables for row in pd.read_csv(path)[["difference", "low", "high"]].to_numpy()]
    fields = pd.read_csv(ROOT / "figures" / "data" / "erf_four_trained.csv")
    known += [tuple(-100 * row) for row in fields[["locality", "locality high", "locality low"]].to_numpy()]
    number = r"([+−]?\d+\.\d+)"
    within = rf"(?: points)? \((?:95 % )?{number} to {number}"
    shown = re.compile(rf"{number}{within}|\({number}, {number} to {number}|: {number} \| {number} to {number} \|")
    for page, least in (("README.md", 1), ("docs/results.md", 12), ("docs/scans.md", 8)):
        found = shown.findall(" ".join((ROOT / page).read_text(encoding="utf-8").split()))
        assert len(found) >= least, page
        for row in [[cell for cell in cells if cell] for cells in found]:
            told = [(float(cell.replace("−", "-")), 0.5001 * 10 ** -digits(cell)) for cell in row]
            same = [all(abs(mine - exact) <= off for (mine, off), exact in zip(told, numbers)) for numbers in known]
            assert any(same), f"{page}: {row} is in no committed table"


def test_what_table_2_would_have_shown_is_what_its_report_says():
    table = pd.read_csv(ROOT / "figures" / "studies" / "table2-laptop-hippocampus" / "comparisons.csv")
    lines = re.findall(
        r": ([+−]\d\.\d\d) \| [^|]* \| [^|]* \| (\d+\.\d) \|", (ROOT / "docs" / "results.md").read_text("utf-8")
    )
    rows = table[(table["score"] == "DSC") & table["versus"].str.endswith("-small")]
    assert lines == [(f"{row.difference:+.2f}".replace("-", "−"), f"{row.detectable:.1f}") for row in rows.itertuples()]


def test_published_and_measured_stand_beside_each_other_as_in_the_tables():
    lines = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    own = [pd.read_csv(ROOT / "figures" / "data" / f"organ_scores_{where}.csv", header=[0, 1], index_col=0)
           for where in ("warps", "ct_b")]  # fmt: skip
    for start, row, arm in (("| LKM-UNet, DSC", "LKM-UNet", "LKM-UNet"), ("| control, DSC", "nnU-Net", "no Mamba")):
        (line,) = (line for line in lines if line.startswith(start))
        cells = [tuple(map(float, pair)) for pair in re.findall(r"(\d+\.\d+) / (\d+\.\d+)", line)]
        assert cells[0] == tuple(published.table1.loc[row, "MR"])
        for cell, table in zip(cells[1:], own, strict=True):
            mean = 100 * table.loc["mean", [("DSC", arm), ("NSD", arm)]]
            assert cell == pytest.approx(tuple(mean), abs=0.0501)


def test_the_page_of_scans_has_every_order_with_its_numbers():
    facts = pd.read_csv(ROOT / "figures" / "data" / "scan_orders.csv", index_col=0)
    computed = locality.table((16, 16), 8)
    assert list(facts.index) == [*ORDERS, "cross-scan"]
    pd.testing.assert_frame_equal(facts.loc[list(ORDERS), computed.columns], computed, check_names=False)
    lines = (ROOT / "docs" / "scans.md").read_text(encoding="utf-8").splitlines()
    for name, row in facts.iterrows():
        apart = "–" if pd.isna(row.distance) else f"{row.distance:.2f}"
        numbers = (f"{row.sequences:.0f}", f"{row.tokens:.0f}", f"{row.together:.2f}", apart,
                   f"{row.pixels:.0f}", f"{row.forward:.0f}", f"{row.n_eff:.1f}")  # fmt: skip
        assert " | ".join(("| `" + name + "`", *numbers)) + " |" in lines


def test_the_page_of_scans_has_the_sets_of_a_volume_with_their_numbers():
    facts = pd.read_csv(ROOT / "figures" / "data" / "scan_orders_3d.csv", index_col=0)
    pd.testing.assert_frame_equal(facts.iloc[:, :6], order_facts_3d().iloc[:, :6])  # what has no random weights in it
    lines = (ROOT / "docs" / "scans.md").read_text(encoding="utf-8").splitlines()
    for name, row in facts.iterrows():
        numbers = (f"{row.sequences:.0f}", f"{row.tokens:.0f}", f"{row.distance:.2f}", f"{row.pixels:.0f}",
                   f"{row.forward:.0f}", f"{row.n_eff:.1f}", f"{row.stage_parameters:.0f}")  # fmt: skip
        assert " | ".join(("| `" + name + "`", *numbers)) + " |" in lines


def test_the_page_of_scans_has_every_mixer_with_its_parameters():
    text = (ROOT / "docs" / "scans.md").read_text(encoding="utf-8")
    counted = {name: mixer(32) for name, mixer in MIXERS.items()}
    for name, mixer in counted.items():
        told = f"{sum(p.numel() for p in mixer.parameters()):,}".replace(",", " ")
        assert f"| `{name}` | {told} |" in text, (name, told)


def test_the_page_of_scans_has_what_trained_networks_see():
    both = ("erf_scans_trained", "erf_more_scans_trained")
    fields = 100 * pd.concat(pd.read_csv(ROOT / "figures" / "data" / f"{n}.csv", index_col=[0, 1]) for n in both)
    looks = pd.read_csv(ROOT / "figures" / "studies" / "functional-scans-laptop" / "reach.csv")
    looks = looks[looks["cue"] == "anywhere"].set_index("arm")
    lines = (ROOT / "docs" / "scans.md").read_text(encoding="utf-8").splitlines()
    for title, arm in {**erf_scans.ARMS, **erf_scans.MORE}.items():
        rows = [fields.loc[(stats, title)] for stats in ("frozen", "live")]
        cells = [f"{row['area_90']:.0f} % ({row['area_90 low']:.0f} to {row['area_90 high']:.0f})" for row in rows]
        cells.append(f"{looks.loc[arm, 'reach']:.1f} of {looks.loc[arm, 'possible']:.0f}")
        assert f"| {title} | {' | '.join(cells)} |" in lines


def test_the_four_kinds_stand_with_the_numbers_of_their_table():
    table = pd.read_csv(ROOT / "figures" / "data" / "erf_four_trained.csv", index_col=[0, 1])
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = {"residual U-Net": "CNN: residual U-Net", "SwinUNETR": "Transformer: SwinUNETR"}
    for title in (*rows, "U-Mamba_Enc, January", "LKM-UNet"):
        both = [table.loc[(stats, rows.get(title, title))] for stats in ("frozen", "live")]
        cells = [" / ".join(f"{100 * row[name]:.0f} %" for row in both) for name in ("area_90", "locality")]
        assert f"| {title} | {cells[0]} | {cells[1]} |" in page
    for stats in ("frozen", "live"):
        row = table.loc[(stats, "U-Mamba_Enc, January − CNN: residual U-Net")]
        less, most, least = (f"{-100 * row[f'locality{end}']:.1f}" for end in ("", " low", " high"))
        assert re.search(rf"{less}[^()]*\([^()]*{least} to {most}\)", page), (stats, less, least, most)


def test_how_much_one_place_decides_is_what_the_nine_places_say():
    """Chapter 11, section 6, and docs/results.md."""
    nine = pd.read_csv(ROOT / "figures" / "data" / "erf_at_nine_places.csv")
    shares = nine.groupby(["norm_stats", "arm"])
    least, most = shares[["area_50", "area_90"]].min(), shares[["area_50", "area_90"]].max()
    assert (most / least)["area_50"].between(1.75, 2.5).all()  # "a factor of about two in both networks"
    for stats in ("frozen", "live"):
        assert (least.loc[stats, "area_50"].max() <= most.loc[stats, "area_50"].min()).all()  # "Their ranges overlap."
    assert least.loc[("frozen", "LKM-UNet"), "area_90"] > most.loc[("frozen", "no Mamba"), "area_90"]
    assert least.loc["live", "area_90"].max() < most.loc["live", "area_90"].min()


def test_fields_of_networks_say_with_which_statistics_they_were_measured():
    """Frozen or live decides a field's size: captions say which, chapters that measure trained networks show both."""
    for name in ("before_and_after", "four_networks", "four_trained", "readings", "volume"):
        assert "frozen" in (ROOT / "figures" / f"erf_{name}.json").read_text(encoding="utf-8"), name
    chapters = [path.read_text(encoding="utf-8") for path in (ROOT / "notebooks" / "src").glob("*.py")]
    measured = [text for text in chapters if re.search(r"\berf\(", text) and "lkm_kit.training import" in text]
    assert len(measured) >= 3 and all("frozen" in text.lower() and '"live"' in text for text in measured)


def test_what_the_two_networks_are_apart_by_follows_from_their_tables():
    page = " ".join((ROOT / "docs" / "results.md").read_text(encoding="utf-8").split())
    scores = pd.read_csv(ROOT / "figures" / "data" / "organ_scores_warps.csv", header=[0, 1], index_col=0)
    ahead = 100 * (scores.loc["mean", ("DSC", "LKM-UNet")] - scores.loc["mean", ("DSC", "no Mamba")])
    history = pd.read_csv(ROOT / "figures" / "data" / "training_history.csv")
    last = 100 * history.groupby("arm")["DSC"].last()
    ours, control = last["LKM-UNet"], last["no Mamba"]
    assert f"ahead by {ahead:.1f} points" in page
    assert f"{ours - control:.1f} points apart ({ours:.1f} and {control:.1f}," in page
