"""A figure to touch on a page of its own, as a notebook shows it, in a headless Chromium."""

from __future__ import annotations

from contextlib import contextmanager

import chromium
import numpy as np

from iood_helpers.course import explorables


@contextmanager
def figure(folder, monkeypatch, name, content, width=900):
    """A tab with the figure on it, drawn."""
    shown = []
    with monkeypatch.context() as patch:
        patch.setattr(explorables, "display", lambda thing: shown.append(thing.data))
        patch.delenv("IOOD_BOOK", raising=False)
        explorables.show_explorable(name, content, text="To touch.")
    page = folder / "page.html"
    head = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    page.write_text(head + shown[0])
    with chromium.tab(folder / "profile") as tab:
        tab.resize(width)
        tab.visit(page.as_uri())
        tab.wait(
            "document.querySelector('.iood-explorable').textContent.startsWith('This figure could')"
            " || document.querySelector('.iood-explorable').dataset.ready !== undefined"
        )
        assert ready(tab) is not None, tab.run("document.querySelector('.iood-explorable').textContent")
        yield tab
        assert not tab.happened("Runtime.exceptionThrown")


def ready(tab):
    """What the figure says that it shows."""
    return tab.run("document.querySelector('.iood-explorable').dataset.ready ?? null")


def choose(tab, number, value):
    """Choose in the select element of this number."""
    tab.run(
        f"(() => {{ const choice = document.querySelectorAll('select')[{number}]; choice.value = {value!r};"
        " choice.dispatchEvent(new Event('change')); })()"
    )


def press(tab, key, shift=False):
    """Press a key where the focus is."""
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, modifiers=8 if shift else 0)


def box(tab, selector):
    """Left, top, width and height of an element in the window, scrolled to."""
    return tab.run(
        f"(() => {{ const element = document.querySelector({selector!r});"
        " element.scrollIntoView({ block: 'center' });"
        " const { left, top, width, height } = element.getBoundingClientRect(); return [left, top, width, height]; })()"
    )


def move(tab, x, y):
    """Move the mouse to a place in the window."""
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)


def click(tab, x, y):
    """Click at a place in the window."""
    for kind in ("mousePressed", "mouseReleased"):
        tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def tap(tab, x, y):
    """Tap with a finger at a place in the window."""
    tab.call("Emulation.setTouchEmulationEnabled", enabled=True)
    tab.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    tab.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def picture(tab, selector):
    """What a canvas shows, (H, W, 3) uint8."""
    values = tab.run(
        f"(() => {{ const c = document.querySelector({selector!r});"
        " return [c.height, c.width, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]; })()"
    )
    return np.array(values[2], np.uint8).reshape(values[0], values[1], 4)[..., :3]
