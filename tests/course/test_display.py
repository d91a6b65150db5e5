"""What the notebooks show, and the numbers that their text quotes."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from iood_helpers.course import display, explorables, glue
from iood_helpers.errors import ParameterError

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


def test_photographs_are_light_and_class_maps_are_exact():
    rng = np.random.default_rng(0)
    photograph = np.clip(rng.normal(128, 40, (64, 64, 3)), 0, 255).astype(np.uint8)
    few = rng.integers(0, 9, (64, 64, 1), np.uint8).repeat(3, axis=2)
    kinds, bodies = zip(*(display._data_uri(picture).split(";base64,") for picture in (photograph, few)), strict=True)
    assert kinds == ("data:image/webp", "data:image/png")
    pictures = [np.array(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB")) for body in bodies]
    assert (pictures[1] == few).all() and np.abs(pictures[0].astype(float) - photograph).mean() < 30


def test_a_figure_in_the_book_is_data_in_its_place(monkeypatch):
    shown = []
    monkeypatch.setattr(display, "display", lambda page: shown.append(page.data))
    monkeypatch.setenv("IOOD_BOOK", "1")
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4], hovertext=["</script>", "b"]), layout={"height": 321})
    display.show(figure, 'Points, "two".')
    display.show(go.Figure(go.Scatter3d(x=[1], y=[2], z=[3])), "One point.")
    assert shown[0].count("</script>") == 1 and 'aria-label="Points, &quot;two&quot;."' in shown[0]
    assert 'data-height="321"' in shown[0] and "min-height:321px" in shown[0]
    packed = re.search(r"<script [^>]*>(.*)</script>", shown[0], re.DOTALL)[1]
    data = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert data["data"][0]["hovertext"][0] == "</script>" and data["layout"]["height"] == 321
    assert [re.search(r'data-kind="(\w+)"', page)[1] for page in shown] == ["flat", "solid"]


@pytest.mark.parametrize("traces", [[go.Heatmap()], [go.Scatter3d(), go.Scatter()], [go.Scatter3d(), go.Mesh3d()]])
def test_the_book_refuses_what_it_cannot_draw(traces, monkeypatch):
    monkeypatch.setattr(display, "display", lambda page: None)
    monkeypatch.setenv("IOOD_BOOK", "1")
    with pytest.raises(ParameterError, match=f"cannot draw .*{traces[-1].type if len(traces) < 2 else 'scatter3d'}"):
        display.show(go.Figure(traces), "Too much.")


def test_explorable_stands_alone_in_a_notebook_and_is_light_in_the_book(monkeypatch):
    shown = []
    monkeypatch.setattr(explorables, "display", lambda thing: shown.append(thing.data))
    content = {"text": "</script><b>", "n": [1, 2]}
    monkeypatch.delenv("IOOD_BOOK", raising=False)
    explorables.show_explorable("threshold", content, text="Drag <it>.")
    explorables.show_explorable("threshold", text="Drag it.")
    monkeypatch.setenv("IOOD_BOOK", "1")
    explorables.show_explorable("threshold", content, text="Drag <it>.")
    alone, scenes, book = shown
    data = re.search(r'<script type="application/json">([^<]*)</script>', book)[1]
    assert json.loads(data) == content and "Drag &lt;it&gt;." in book and book.count("</script>") == 1
    assert alone.startswith(book) and "<style>" in alone and 'register("threshold"' in alone
    assert alone.count("</script>") == 3 and 'receive("scenes"' not in alone
    assert 'receive("scenes"' in scenes and "application/json" not in scenes.partition("<style>")[0]


def test_explorable_says_what_is_missing_outside_of_the_repository(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr(explorables, "display", lambda thing: shown.append(thing.data))
    monkeypatch.setattr(explorables, "SCRIPTS", tmp_path)
    monkeypatch.delenv("IOOD_BOOK", raising=False)
    explorables.show_explorable("threshold", {}, text="Drag it.")
    assert "core.js is missing" in shown[0]
