"""A cloud of points in three dimensions as the book draws it, on a page of its own, in a real browser."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest
from conftest import ROOT

from iood_helpers.course import display
from iood_helpers.course.plots import scatter

chromium = pytest.importorskip("chromium", reason="websocket-client is not installed")
if chromium.find() is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

CANVAS = "document.querySelector('canvas')"
PICTURE = f"{CANVAS}.toDataURL()"
COUNTS = (
    f"(() => {{ const canvas = {CANVAS};"
    " const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
    " const found = [0, 0, 0]; for (let i = 0; i < data.length; i += 4) for (let c = 0; c < 3; c++)"
    " found[c] += data[i + 3] > 40 && [0, 1, 2].every((o) => o === c || data[i + c] > data[i + o] + 60);"
    " return found; })()"
)
"""How many pixels are rather red, rather green, rather blue."""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """A page with 400 points of three groups; a point of the first, ``middle``, lies in the middle of the cloud."""
    rng = np.random.default_rng(0)
    points = np.concatenate([[[0, 0, 0], [-3, -3, -3], [3, 3, 3]], rng.uniform(-3, 3, (397, 3))]).astype(np.float32)
    points[3:] += 0.5 * np.sign(points[3:])  # nothing but one point near the middle
    points = points.clip(-3, 3)
    labels = np.arange(400) % 3
    labels[0] = 0
    hover = ["middle<br><b>of all</b>", *(f"point {i}" for i in range(1, 400))]
    colors = {0: "rgb(255,0,0)", 1: "rgb(0,200,0)", 2: "#0000ff"}
    names = {0: "unknown", 1: "<i>green</i>", 2: "blue"}
    figure = scatter(points, labels, names, colors, hover, "A cloud", 8, symbols={0: "diamond"})
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IOOD_BOOK", "1")
        patch.setattr(display, "display", lambda page: shown.append(page.data))
        display.show(figure, "A cloud of points.")
    folder = tmp_path_factory.mktemp("solid")
    static = (ROOT / "book" / "_static").as_uri()
    (folder / "page.html").write_text(
        '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<link rel="stylesheet" href="{static}/custom.css"><script defer src="{static}/figures.js"></script>'
        '<style>[data-theme="dark"] body { background: #111; color: #eee; }</style>'
        f'{shown[0]}<div style="height: 3000px"></div>'
    )
    with chromium.tab(folder / "profile") as tab:
        tab.page = (folder / "page.html").as_uri()
        yield tab


@pytest.fixture
def cloud(tab):
    tab.resize(900)
    tab.visit(tab.page)
    tab.wait("document.querySelector('.iood-figure').dataset.drawn")
    yield tab
    assert not tab.happened("Runtime.exceptionThrown")


def settled(tab):
    """The picture, after what was asked for is drawn."""
    tab.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return tab.run(PICTURE)


def press(tab, key):
    tab.run("document.querySelector('.iood-solid-field').focus()")
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key=key)
    return settled(tab)


def mouse(tab, kind, right=0, down=0, **more):
    """A mouse event, so many pixels from the middle of the canvas."""
    x, y = tab.run(
        f"(() => {{ const b = {CANVAS}.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] }})()"
    )
    tab.call("Input.dispatchMouseEvent", type=kind, x=x + right, y=y + down, **more)


def test_the_points_are_drawn_without_plotly(cloud):
    assert min(cloud.run(COUNTS)) > 500
    asked = [event["request"]["url"] for event in cloud.happened("Network.requestWillBeSent")]
    assert [url for url in asked if url.endswith("solid.js")] and not [url for url in asked if "plotly" in url]
    texts = cloud.run(
        "[...document.querySelectorAll('.iood-solid button, .iood-solid-title')].map((e) => e.textContent)"
    )
    assert texts == ["A cloud", "unknown", "<i>green</i>", "blue"]
    assert cloud.run("document.querySelectorAll('.iood-solid-diamond').length") == 1
    bottom = cloud.run("document.querySelector('.iood-solid').getBoundingClientRect().bottom")
    assert bottom <= cloud.run("document.querySelector('.iood-plot').getBoundingClientRect().bottom") + 1


def test_keys_turn_and_zoom(cloud):
    start = settled(cloud)
    pictures = [press(cloud, key) for key in ("ArrowRight", "ArrowDown", "+")]
    assert len({start, *pictures}) == 4 and cloud.run("scrollY") == 0
    assert press(cloud, "Home") == start
    assert press(cloud, "-") != start and press(cloud, "+") == start


def test_a_drag_turns(cloud):
    start = settled(cloud)
    mouse(cloud, "mousePressed", button="left", clickCount=1)
    mouse(cloud, "mouseMoved", 60, 0, button="left", buttons=1)
    turned = settled(cloud)
    mouse(cloud, "mouseReleased", 60, 0, button="left", clickCount=1)
    mouse(cloud, "mouseMoved", 300, 200)
    assert start != turned == settled(cloud)  # which is over with the button
    assert cloud.run("getComputedStyle(document.querySelector('.iood-solid-field')).touchAction") == "pan-y pinch-zoom"


def test_the_point_below_the_pointer_says_what_it_is(cloud):
    note = "document.querySelector('.iood-solid-note')"
    mouse(cloud, "mouseMoved", 3, 2)
    assert cloud.run(f"{note}.textContent") == "middle\n<b>of all</b>"  # text, never markup
    mouse(cloud, "mouseMoved", -320, -200)
    assert cloud.run(f"{note}.textContent") == ""
    assert cloud.run(f"getComputedStyle({note}).display") == "none"


def test_a_name_in_the_legend_hides_its_points(cloud):
    everything, button = cloud.run(COUNTS), "document.querySelectorAll('.iood-solid button')[1]"
    cloud.run(f"{button}.click()")
    settled(cloud)
    assert cloud.run(f"{button}.getAttribute('aria-pressed')") == "false"
    red, green, blue = cloud.run(COUNTS)
    assert green == 0 and red >= everything[0] and blue >= everything[2]
    cloud.run(f"{button}.dispatchEvent(new MouseEvent('dblclick'))")
    settled(cloud)
    red, green, blue = cloud.run(COUNTS)
    assert red == blue == 0 and green >= everything[1]
    cloud.run(f"{button}.dispatchEvent(new MouseEvent('dblclick'))")
    settled(cloud)
    assert cloud.run(COUNTS) == everything


def test_the_cloud_follows_page_screen_and_paper(cloud):
    start = settled(cloud)
    cloud.theme("dark")
    cloud.wait(f"{PICTURE} !== {start!r}")
    assert min(cloud.run(COUNTS)) > 500
    cloud.run("window.dispatchEvent(new Event('beforeprint'))")
    ratio = f"Math.round({CANVAS}.width / {CANVAS}.clientWidth)"
    cloud.wait(f"{ratio} === 3")  # dots of paper are small
    cloud.call("Emulation.setDeviceMetricsOverride", width=390, height=900, deviceScaleFactor=2, mobile=True)
    cloud.wait(f"{ratio} === 2 && {CANVAS}.clientWidth < 390")
    assert cloud.run("document.documentElement.scrollWidth") <= 390 and min(cloud.run(COUNTS)) > 500


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
def test_arrays_of_every_kind_are_read(cloud, dtype):
    x, y, z = np.array([[5, 1, 2, 100], [1, 7, 3, 1], [4, 0, 9, 5]], dtype)
    figure = go.Figure(
        go.Scatter3d(x=x, y=y, z=z, marker={"size": [5, 6, 7, 8], "color": ["#f00", "#0c0", "#00f", "#f00"]})
    )
    assert f'"dtype":"{dtype}"' in figure.to_json()
    cloud.run(
        f"ioodSolid(document.querySelector('.iood-plot'), {figure.to_json()}, 400);"
        " document.querySelectorAll('canvas').length"
    )
    assert min(cloud.run(COUNTS)) > 5
