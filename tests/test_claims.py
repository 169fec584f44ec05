"""Every claim has its row, and what a row names is there."""

import ast
import re
from pathlib import Path

import pandas as pd
import pytest
import typer.main

from lkm_kit.cli import app
from lkm_kit.studies import published
from lkm_kit.studies.claims import PAGE, claims

ROOT = Path(__file__).parents[1]
CLAIMS = claims().reset_index()


def test_the_table_is_the_page():
    assert PAGE == ROOT / "docs" / "claims.md"
    rows = re.findall(r"^\|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(CLAIMS) == len(rows) - 2 > 30 and CLAIMS["claim"].is_unique
    assert [row.count("|") for row in rows] == [3] * len(rows)
    links = [row for row in rows if "](../notebooks/" in row]
    assert [row.command for row in CLAIMS.itertuples() if row.command.startswith("notebooks/")] == [
        re.search(r"\]\(\.\./(.*?)\)(.*?) \|", row).expand(r"\1\2") for row in links
    ]


@pytest.mark.parametrize("row", list(CLAIMS.itertuples(index=False)), ids=lambda row: row.claim[:40])
def test_what_a_row_names_is_there(row):
    assert all(cell.strip() for cell in row) and "`" not in row.command
    program, _, rest = row.command.partition(" ")
    if program == "pytest":
        path, _, test = rest.partition("::")
        functions = {node.name for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body
                     if isinstance(node, ast.FunctionDef)}  # fmt: skip
        assert not test or test in functions
    elif program == "lkm":
        from lkm_kit.figures import FIGURES

        name, *arguments = rest.split()
        assert name in typer.main.get_command(app).commands
        assert name != "figures" or set(arguments) <= set(FIGURES)
    else:
        path, _, section = row.command.partition(", section ")
        text = (ROOT / "notebooks" / "src" / Path(path).with_suffix(".py").name).read_text(encoding="utf-8")
        assert f"\n# ## {section}. " in text, f"{path} has no section {section}"


def told(name):
    """The text of a page, or of the chapter of this number without its code."""
    path = ROOT / name if name.endswith(".md") else next((ROOT / "notebooks" / "src").glob(f"{name}_*.py"))
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if path.suffix == ".md" or line.startswith("#"))


# Pages and chapters of the kit's own results have measured scores as well: tests/test_pages.py
OWN = {"docs/results.md", "docs/studies.md", "09", "10"}
TEXTS = ["notebooks/GLOSSARY.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
TEXTS += [path.name[:2] for path in sorted((ROOT / "notebooks" / "src").glob("*.py"))]
TEXTS = [name for name in TEXTS if name not in OWN]


@pytest.mark.parametrize("name", TEXTS)
def test_published_scores_are_those_of_the_tables(name):
    tables = [published.table1, published.table2, published.table3, published.umamba]
    tables += [published.umamba_reruns.to_frame(), published.swin_umamba[["DSC", "NSD"]]]
    known = {f"{score:.2f}" for table in tables for score in table.to_numpy().ravel()}
    found = set(re.findall(r"(?<![\d.+−-])[4-9]\d\.\d\d(?!\d| ±)", told(name)))
    assert found <= known, f"in no published table: {sorted(found - known)}"


def test_numbers_that_follow_from_published_ones():
    t3, dice = published.table3["DSC"], published.no_mamba
    parts = t3[["PiM", "PaM", "PiM+BiM", "PaM+BiM"]] - t3["Baseline"]
    bim = [t3[f"{part}+BiM"] - t3[part] for part in ("PiM", "PaM", "PiM+PaM")]
    gains = dice[["U-Mamba Bot", "U-Mamba Enc"]].sub(dice["No-Mamba Base"], axis=0)
    mamba = [gains.max(axis=None), -gains.min(axis=None)]
    runs = published.umamba_reruns.max() - published.umamba_reruns.min()
    leads = [scores["LKM-UNet"] - scores["U-Mamba"] for scores in (published.table1[d]["DSC"] for d in ("CT", "MR"))]
    total, convolutions = t3.iloc[-1] - t3.iloc[0], (dice["No-Mamba Base"] - dice["nnU-Net"]).max()
    follow = {
        "00": [*mamba, total],
        "03": bim,
        "10": [parts.min(), parts.max(), total],
        "12": [*mamba, *leads, runs],
        "13": [*mamba, convolutions, total, runs],
        "15": [runs],
    }
    for name, numbers in follow.items():
        assert [f"{n:.2f}" for n in numbers if f"{n:.2f}" not in told(name)] == [], name


def test_width_and_score_of_trained_scans_are_as_unrelated_as_docs_say():
    """docs/scans.md: the rank correlation over the study's arms, whose fields and scores lie in committed tables."""
    from lkm_kit.figures.erf_scans import ARMS, MORE
    from lkm_kit.studies.reference import reference_results

    tables = [pd.read_csv(ROOT / "figures" / "data" / f"erf{more}_scans_trained.csv") for more in ("", "_more")]
    widths = pd.concat(tables).assign(arm=lambda table: table["network"].map({**ARMS, **MORE}))
    widths = widths.pivot_table(index="arm", columns="statistics", values="area_90")
    scores = reference_results("scans", data="hippocampus").table["DSC"].loc[widths.index]
    found = widths.corrwith(scores, method="spearman")
    said = f"over the {len(widths)} networks the rank correlation is "
    said += f"{found['frozen']:.2f} frozen and {found['live']:.2f} live"
    assert said.replace("-", "−") in (ROOT / "docs" / "scans.md").read_text(encoding="utf-8").replace("\n", " ")
