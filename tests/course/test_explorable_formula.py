"""Before and after in one picture, as a notebook shows it: the line between them moves by finger, mouse and key."""

from __future__ import annotations

import pytest

from iood_helpers.course import explorables

chromium = pytest.importorskip("chromium", reason="websocket-client is not installed")
if chromium.find() is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

FIGURE = "document.querySelector('.iood-explorable')"
SLIDER = f"{FIGURE}.querySelectorAll('input')[2]"
SHARES = f"""(() => {{
    const [, before, after, both] = [...{FIGURE}.querySelectorAll('canvas')];
    const read = (canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, 20);
    const [old, seen, now] = [before, both, after].map(read);
    const found = [0, 0, 0, 0], cut = Math.round({SLIDER}.value / 100 * seen.width);
    for (let i = 0; i < seen.data.length; i += 4) {{
        const x = (i / 4) % seen.width, side = x < cut ? 0 : 2;
        if (Math.abs(x - cut) < 4) continue;
        const same = (other) => [0, 1, 2].every((c) => seen.data[i + c] === other.data[i + c]);
        found[side] += same(side ? now : old);
        found[side + 1] += 1;
    }}
    return [...found, seen.width];
}})()"""
"""Of the upper rows: pixels equal to what is expected and all, left and right of the line; and columns."""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    pieces = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("IOOD_BOOK", raising=False)
        patch.setattr(explorables, "display", lambda thing: pieces.append(thing.data))
        explorables.show_explorable("formula", text="Before and after.")
    folder = tmp_path_factory.mktemp("page")
    head = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    (folder / "page.html").write_text(head + pieces[0])
    with chromium.tab(tmp_path_factory.mktemp("browser")) as tab:
        tab.resize(900, 2000)
        tab.visit((folder / "page.html").as_uri())
        tab.wait(f"{FIGURE}.dataset.ready")
        scene = f"{FIGURE}.querySelector('select')"  # at night all but the road differs
        tab.run(f"{scene}.value = 'night', {scene}.dispatchEvent(new Event('change'))")
        tab.wait(f"{FIGURE}.dataset.ready.startsWith('night')")
        yield tab


@pytest.mark.parametrize("place", [0, 30, 50, 100])
def test_before_is_on_the_left_of_the_line_and_after_on_its_right(tab, place):
    tab.run(f"{SLIDER}.value = {place}, {SLIDER}.dispatchEvent(new Event('input'))")
    left, all_left, right, all_right, columns = tab.run(SHARES)
    assert left == all_left and right == all_right
    assert all_left / (20 * columns) == pytest.approx(place / 100, abs=0.02)
    assert all_right / (20 * columns) == pytest.approx(1 - place / 100, abs=0.02)


def test_a_key_moves_the_line_and_no_pixel(tab):
    tab.run(f"{SLIDER}.value = 50, {SLIDER}.focus()")
    before = tab.run(f"{FIGURE}.dataset.ready")
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    assert tab.run(f"{SLIDER}.value") == "51" and "51 percent" in tab.run(f"{SLIDER}.getAttribute('aria-valuetext')")
    assert tab.run(f"{FIGURE}.dataset.ready") == before


def test_the_line_follows_the_pointer(tab):
    box = tab.run(f"JSON.parse(JSON.stringify({FIGURE}.querySelector('.iood-swipe').getBoundingClientRect()))")
    y = box["y"] + box["height"] / 2
    steps = [("mousePressed", 0.2, 1), ("mouseMoved", 0.6, 1), ("mouseReleased", 0.6, 0), ("mouseMoved", 0.9, 0)]
    for kind, share, pressed in steps:
        button = "left" if pressed or kind == "mouseReleased" else "none"
        point = {"x": box["x"] + share * box["width"], "y": y}
        tab.call("Input.dispatchMouseEvent", type=kind, **point, button=button, buttons=pressed, clickCount=1)
    assert abs(int(tab.run(f"{SLIDER}.value")) - 60) <= 1
    tab.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": box["x"] + 0.25 * box["width"], "y": y}])
    tab.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    tab.wait(f"Math.abs({SLIDER}.value - 25) <= 1")
    left, all_left, right, all_right, _ = tab.run(SHARES)
    assert left == all_left and right == all_right


def test_a_phone_shows_all(tab):
    tab.resize(390)
    assert tab.run("document.documentElement.scrollWidth") <= 390
    assert not tab.happened("Runtime.exceptionThrown")
