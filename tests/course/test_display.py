"""What the notebooks show, and the numbers that their text quotes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from iood_helpers.course import display, glue

PREFIX = "application/papermill.record/"


@pytest.mark.parametrize(
    "value, form, text",
    [(0.12345, ".3f", "0.123"), (0.5, ".0%", "50%"), (None, ".3f", "not measured"), (float("nan"), "", "not measured")],
)
def test_a_number_for_the_text(value, form, text, monkeypatch, capsys):
    published = []
    monkeypatch.setattr("myst_nb.ext.glue.ipy_display", lambda data, raw, metadata: published.append((data, metadata)))
    monkeypatch.delenv("IOOD_BOOK", raising=False)
    glue("mean IoU", value, form)
    assert capsys.readouterr().out == f"mean IoU: {text}\n"
    monkeypatch.setenv("IOOD_BOOK", "1")
    display.glue("mean IoU", value, form)
    assert capsys.readouterr().out == ""  # the text of the page has it
    for data, metadata in published:
        assert data == {f"{PREFIX}text/plain": repr(text)}
        assert metadata["scrapbook"] == {"name": "mean IoU", "mime_prefix": PREFIX}
    assert len(published) == 2


def test_pictures_name_their_classes_and_their_scale(monkeypatch):
    shown = []
    monkeypatch.setattr(display, "display", lambda page: shown.append(page.data))
    picture = np.zeros((4, 6, 3), np.uint8)
    display.show_images(
        [(picture, "a map")], "Two classes.", classes=np.array([[0, 13], [13, 255]]), ends=("unsure", "sure")
    )
    (page,) = shown
    assert re.findall(r"</i> ([a-z]+)</span>", page) == ["road", "car"]  # void has no name
    assert "rgb(128, 64, 128)" in page and "rgb(0, 0, 142)" in page
    assert (
        re.search(r"unsure <i[^>]*linear-gradient\(to right,[^>]*></i> sure", page)
        and 'alt="Two classes. a map"' in page
    )
    display.show_images([(picture, "a map")], "Two classes.")
    assert "iood-key" not in shown[1]
