"""The slides in a real browser: keys move them, each fits the screen, and nothing is asked of a network."""

from __future__ import annotations

import pytest
from conftest import ROOT

chromium = pytest.importorskip("chromium", reason="websocket-client is not installed")
if chromium.find() is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

SHOWN = "[...document.querySelectorAll('section')].map((s, i) => s.checkVisibility() ? i : -1).filter((i) => i >= 0)"
NOTES = "[...document.querySelectorAll('blockquote')].filter((note) => note.checkVisibility()).length"


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    with (
        chromium.tab(tmp_path_factory.mktemp("browser")) as tab,
        chromium.served(ROOT / "book" / "extra") as address,
    ):
        tab.resize(1280, 720)
        tab.visit(f"{address}/slides.html")
        yield tab


def press(tab, *keys):
    for key in keys:
        tab.run(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: {key!r}, bubbles: true}}))")


def test_keys_move_and_show_notes(slides):
    assert slides.run(SHOWN) == [0]
    press(slides, "ArrowLeft")
    assert slides.run(SHOWN) == [0]
    press(slides, "ArrowRight", "PageDown", " ")
    assert slides.run(SHOWN) == [3]
    press(slides, "PageUp")
    assert slides.run(SHOWN) == [2] and slides.run("location.hash") == "#3"
    assert slides.run(NOTES) == 0
    press(slides, "n")
    assert slides.run(NOTES) == 1 and slides.run("document.getElementById('notes').ariaPressed") == "true"
    press(slides, "n", "End", "ArrowRight")
    assert slides.run(SHOWN) == [11] and slides.run(NOTES) == 0
    press(slides, "Home")
    assert slides.run("document.getElementById('place').textContent") == "1 of 12"


@pytest.mark.parametrize("width", [1280, 390])
def test_every_slide_fits(slides, width):
    slides.resize(width, 720)
    press(slides, "Home")
    for number in range(12):
        wide, high = slides.run(
            "[document.documentElement.scrollWidth - innerWidth, document.documentElement.scrollHeight - innerHeight]"
        )
        assert wide <= 0 and (width == 390 or high <= 0), number + 1
        assert slides.run("[...document.images].every((image) => image.naturalWidth > 0)")
        press(slides, "ArrowRight")
    asked = [event["request"]["url"] for event in slides.happened("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [asked[0]]
    assert not slides.happened("Runtime.exceptionThrown")
