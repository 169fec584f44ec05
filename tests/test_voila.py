"""The explorer as a page of its own, served by Voila: it draws, and a slider changes the picture."""

from importlib.util import find_spec

import browser
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

lacking = [*browser.missing(), *([] if find_spec("voila") else ["the Python package voila"])]
pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(lacking), reason=f"missing: {', '.join(lacking)}")]

PAGE = """
from lkm_kit.data import CohortSlices, LabelTable
from lkm_kit.training import load_checkpoint
from lkm_kit.widgets.erf_explorer import ErfExplorer

names = {"LKM-UNet": "tiny-2d", "no Mamba": "tiny-2d-control"}
loaded = {title: load_checkpoint(name) for title, name in names.items()}
record = loaded["LKM-UNet"][1]
table, about = LabelTable.from_json(record["label_table"]), record["preprocessing"]
warps = CohortSlices("test", length=1, size=about["image_size"], spacing_mm=about["spacing_mm"], table=table)
networks = {title: network for title, (network, _) in loaded.items()}
ErfExplorer(networks, warps[0]["image"][None], classes=["background", *table.names], windows={"logit": 24})
"""
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def test_the_explorer_is_a_page(tmp_path):
    notebook = tmp_path / "explorer.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(PAGE)], metadata={"kernelspec": KERNEL}), notebook)
    with browser.voila(tmp_path, notebook) as (address, log), browser.chromium() as chromium:
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        away = []
        page.on("request", lambda r: away.append(r.url) if browser.leaves_this_machine(r.url) else None)
        page.goto(address, timeout=120_000)
        explorer = page.locator(".widget-vbox").first
        slider = explorer.locator(".widget-slider").first
        slider.wait_for(timeout=60_000)
        page.wait_for_function("() => document.querySelector('img, canvas')", timeout=60_000, polling=200)
        readout, before = slider.locator(".widget-readout"), explorer.evaluate(browser.PICTURES)
        number = readout.inner_text()
        slider.locator(".noUi-handle").press("ArrowRight")
        assert readout.inner_text() != number
        page.wait_for_function(
            f"([e, old]) => ({browser.PICTURES})(e) !== old", arg=[explorer.element_handle(), before], polling=200
        )
        # Voila's own page asks a CDN for an icon font, which no widget of ours needs
        assert all("fontawesome" in url for url in away), away
        assert "Traceback" not in log.read_text()
