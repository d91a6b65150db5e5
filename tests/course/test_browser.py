"""Each page of the book in a real browser: it is light, sound, legible, and fits a phone."""

from __future__ import annotations

import json

import axe
import build
import pytest
from conftest import ROOT

chromium = pytest.importorskip("chromium", reason="websocket-client is not installed")
if chromium.find() is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

CHECKS = (ROOT / "tests" / "support" / "page_checks.js").read_text().strip()
LIMITS = {"none": 600_000, "touched": 800_000, "flat": 2_100_000, "solid": 2_000_000}
"""Bytes of a page with all that it loads, pictures too: without figures, with figures to touch, with flat ones that
Plotly draws (1.2 MB of it), with solid ones beside."""

FIGURES, TOUCHED = (f"document.querySelectorAll('.{name}')" for name in ("iood-figure", "iood-explorable"))


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium.tab(tmp_path_factory.mktemp("browser")) as tab:
        tab.call("Network.setCacheDisabled", cacheDisabled=True)
        yield tab


@pytest.fixture(scope="module")
def address(book):
    with chromium.served(book.parent) as address:
        yield f"{address}/{book.name}"  # below a folder, as where it is published


def draw_figures(tab):
    """Scroll from figure to figure; each must be drawn."""
    for i in range(tab.run(f"{TOUCHED}.length")):
        tab.run(f"{TOUCHED}[{i}].scrollIntoView()")
        tab.wait(f"{TOUCHED}[{i}].dataset.ready !== undefined")
    for i in range(tab.run(f"{FIGURES}.length")):
        tab.run(f"{FIGURES}[{i}].scrollIntoView()")
        tab.wait(f"{FIGURES}[{i}].dataset.drawn && {FIGURES}[{i}].querySelector('.main-svg, canvas') !== null")
    empty = "document.createElement('canvas'), { width: canvas.width, height: canvas.height }).toDataURL()"
    drawn = f"(canvas) => canvas.width > 0 && canvas.toDataURL() !== Object.assign({empty}"
    assert tab.run(f"[...document.querySelectorAll('.iood-figure canvas')].every({drawn})")


def complaints(tab):
    """Errors on the console, scripts that fail, and requests that fail."""
    return [
        *(event["exceptionDetails"] for event in tab.happened("Runtime.exceptionThrown")),
        *(event for event in tab.happened("Runtime.consoleAPICalled") if event["type"] in ("error", "assert")),
        *(event["entry"] for event in tab.happened("Log.entryAdded") if event["entry"]["level"] == "error"),
        *tab.happened("Network.loadingFailed"),
    ]


def findings(tab, theme, *names):
    """Nothing may be found by these checks of ``page_checks.js``."""
    tab.theme(theme)
    if tab.run(f"{FIGURES}.length"):
        tab.run("new Promise((done) => setTimeout(done, 100))")  # they are drawn anew
    found = tab.run(f"(({{{', '.join(names)}}}) => ({{{', '.join(f'{name}: {name}()' for name in names)}}}))({CHECKS})")
    assert not any(found.values()), json.dumps(found, indent=1)


def usable(tab, **options):
    """Nothing serious may be found by axe-core, where it is installed."""
    found = axe.findings(tab, **options) if axe.find() else []
    assert not found, "\n".join(found)


def test_axe_looks_at_the_pages():
    if not axe.find():
        pytest.skip("axe-core is not installed (make setup does it): no page was asked what assistive software can use")


@pytest.mark.parametrize("page", [*build.pages(), "search", "genindex"])
def test_a_page_is_light_and_sound_and_fits(tab, address, page):
    tab.resize(1440)
    tab.visit(f"{address}/{page}.html")
    touched = f"{TOUCHED}.length ? 'touched' : 'none'"
    kind = tab.run(f"[...{FIGURES}].map((figure) => figure.dataset.kind).sort().at(-1) ?? ({touched})")
    draw_figures(tab)
    weight = sum(event["encodedDataLength"] for event in tab.happened("Network.loadingFinished"))
    assert weight < LIMITS[kind], f"{weight} bytes"
    asked = [event["request"]["url"] for event in tab.happened("Network.requestWillBeSent")]
    assert asked and not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not complaints(tab)
    findings(tab, "light", "pale", "wide", "scrolled", "covering", "cut", "iconless", "colorless")
    usable(tab, contrast=not page.startswith("api/"))  # which takes seconds there, and ``pale`` has looked at all pages
    findings(tab, "dark", "pale")
    dimmed = "[...document.querySelectorAll('main img')].filter((e) => getComputedStyle(e).filter !== 'none').length"
    assert tab.run(dimmed) == 0  # or the colors of maps are no longer those of their legends
    tab.resize(390)
    findings(tab, "dark", "wide", "covering", "cut", "small")
    tab.run("new Promise((done) => setTimeout(done, 350))")  # the theme waits before it looks for boxes that scroll
    usable(tab, contrast=False)
    assert not complaints(tab)


def throttle(tab, rate):
    """Bytes per second, and 40 ms to the server; -1 for no limit."""
    latency = 40 if rate > 0 else 0
    speeds = {"downloadThroughput": rate, "uploadThroughput": rate}
    tab.call("Network.emulateNetworkConditions", offline=False, latency=latency, **speeds)


def test_the_first_paint_does_not_wait_for_the_figures(tab, address):
    throttle(tab, 9e6 / 8)
    try:
        tab.visit(f"{address}/notebooks/03_visualize_with_umap.html")
        paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        tab.wait(f"{paint} > 0")
        assert not [e for e in tab.happened("Network.requestWillBeSent") if "plotly" in e["request"]["url"]]
    finally:
        throttle(tab, -1)


def test_figures_and_formulas_are_drawn_from_a_folder(tab, book):
    tab.resize(1440)
    for page in ("03_visualize_with_umap", "05_refine_confidences"):
        tab.visit((book / "notebooks" / f"{page}.html").as_uri())
        draw_figures(tab)
        assert not complaints(tab)
    box = "document.querySelector('math[display=block]').getBoundingClientRect()"
    assert tab.run(f"{box}.height") > 20 and tab.run(f"{box}.width") > 100


def test_the_search_finds_a_word(tab, address):
    tab.visit(f"{address}/search.html?q=bootstrap")
    tab.wait("document.querySelectorAll('#search-results li').length > 0")
    assert not complaints(tab)
