"""The web site: it builds from what is committed, its pages are whole, and a broken link stops it."""

import re
import shutil
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urldefrag

import browser
import nbformat
import pytest

from lkm_kit.course import site, site_pages
from lkm_kit.course.sources import chapters
from lkm_kit.errors import KitError

pytest.importorskip("sphinx")
ROOT = Path(__file__).resolve().parents[1]


class Page(HTMLParser):
    """Links, pictures and anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]
        self.anchors.add(attributes.get("id"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The whole site, which takes twenty seconds; tests that read its pages are marked ``thorough``."""
    folder = tmp_path_factory.mktemp("site") / "pages"
    site.build_site(ROOT, folder)
    return folder


@pytest.mark.thorough
def test_every_chapter_has_its_page_and_every_link_an_end(built):
    pages = {path.name: Page(path) for path in built.glob("*.html")}
    stems = [path.stem for path in chapters(ROOT)]
    wanted = {*stems, *(f"handout_{stem}" for stem in stems), *(path.stem for path in (ROOT / "docs").glob("*.md"))}
    assert {f"{name}.html" for name in wanted | {"chapters", "GLOSSARY", "handouts", "api"}} <= set(pages)
    for name, page in pages.items():
        for link in page.links:
            if re.match(r"(https?|mailto|data):", link):
                continue
            target, anchor = urldefrag(unquote(link).split("?")[0])
            assert (built / target).exists(), f"{name} -> {link}"
            if anchor and (target or name) in pages and not name.startswith(("genindex", "search")):
                assert anchor in pages[target or name].anchors, f"{name} -> {link}"


@pytest.mark.thorough
def test_nothing_comes_from_another_machine_and_equations_are_there(built):
    for path in built.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//', text), path.name
        assert not re.findall(r'<link[^>]+href="(?:https?:)?//', text), path.name
        assert "$$" not in text, path.name
    assert (built / "01_state_space_models.html").read_text(encoding="utf-8").count("<math") > 20
    assert (built / "searchindex.js").stat().st_size > 10_000


@pytest.mark.thorough
def test_solutions_and_imports_are_folded_away(built):
    text = (built / "03_bidirectional_mamba.html").read_text(encoding="utf-8")
    cells = nbformat.read(ROOT / "notebooks" / "03_bidirectional_mamba.ipynb", 4).cells
    assert text.count("tag_hide-input") - 1 == sum("BEGIN SOLUTION" in cell.source for cell in cells) > 2


@pytest.mark.thorough
def test_the_first_page_has_six_results_that_link_to_their_chapters(built):
    text = (built / "index.html").read_text(encoding="utf-8")
    results = text.partition('id="six-results"')[2].partition("</section>")[0]
    found = re.findall(r'href="(\d\d_\w+)\.html"[^>]*>(?:<span[^>]*>)?<img[^>]*src="([^"]+)"', results)
    assert len(found) == 6 and len({picture for _, picture in found}) == 6
    patients = (
        ROOT / "figures" / "studies" / "table3-laptop-hippocampus" / "differences.png"
    )  # not the only picture so named
    assert patients.read_bytes() in [(built / picture).read_bytes() for _, picture in found]


@pytest.mark.thorough
def test_every_public_name_has_its_docstring_on_a_page(built):
    packages = sorted(path.stem for path in built.glob("lkm_kit.*.html"))
    assert {"lkm_kit.ssm", "lkm_kit.blocks", "lkm_kit.erf", "lkm_kit.data"} <= set(packages)
    for package in packages:
        page = Page(built / f"{package}.html")
        short = {anchor.rpartition(".")[2] for anchor in page.anchors if anchor}
        assert set(import_module(package).__all__) - {"published"} <= short, package
        text = (built / f"{package}.html").read_text(encoding="utf-8")
        assert not re.search(r"<dd><p>(dict\(\)|Built-in|Convert a string|str\(object)", text), package
    assert "*spatial" in (built / "lkm_kit.blocks.html").read_text(encoding="utf-8")


def test_a_link_that_leads_nowhere_stops_it_and_the_earlier_site_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(site_pages, "write_api", lambda folder: {})
    root, out = tmp_path / "root", tmp_path / "pages"
    for path in site_pages.OTHER_PAGES:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, root / path)
    shutil.copytree(ROOT / "docs", root / "docs")
    (root / "figures").symlink_to(ROOT / "figures")
    for folder, kind in (("notebooks/src", "py"), ("notebooks", "ipynb")):
        (root / folder).mkdir(exist_ok=True)
        for path in (ROOT / folder).glob(f"0[0-2]_*.{kind}"):
            shutil.copy(path, root / folder / path.name)
    out.mkdir()
    (out / "index.html").write_text("earlier")
    with pytest.raises(KitError, match="14_volumes_3d"):  # chapters 03 and later are not there
        site.build_site(root, out)
    assert (out / "index.html").read_text() == "earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pages", "root"]


def test_an_equation_beyond_docutils_is_named():
    with pytest.raises(KitError, match="nosuchcommand"):
        site.mathml(r"\nosuchcommand{x}")


@pytest.mark.browser
@pytest.mark.skipif(bool(browser.missing()), reason=f"missing: {', '.join(browser.missing())}")
def test_pages_in_a_browser(built):
    """Light and dark, every page: all pictures drawn, no console error, no request elsewhere; the search finds."""
    with browser.chromium() as chromium:
        page = chromium.new_page()
        complaints, away = [], []
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else away.append(r.url))
        background, drawings = {}, {"light": {}, "dark": {}}
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for path in sorted(built.glob("*.html")):
                page.goto(path.as_uri())
                blank = "() => [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
                assert page.evaluate(blank) == [], path.name
                seen = page.evaluate("[...document.images].filter(i => i.checkVisibility()).map(i => i.className)")
                drawings[scheme].update({path.name: number} if (number := seen.count(f"only-{scheme}")) else {})
                assert not {"only-light", "only-dark"} - {f"only-{scheme}"} & {*seen}, path.name
                if path.name.startswith("handout_") and scheme == "light":
                    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))) == 1, path.name
            background[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background["light"] != background["dark"]
        assert drawings["light"] == drawings["dark"] and {"index.html", "06_lkm_unet.html"} <= {*drawings["dark"]}
        page.goto((built / "search.html").as_uri() + "?q=discretisation")
        page.wait_for_selector("#search-results li a")
        assert "01_state_space_models" in "".join(
            a.get_attribute("href") for a in page.locator("#search-results li a").all()
        )
    assert (complaints, away) == ([], [])
