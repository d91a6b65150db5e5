"""What the notebooks show, and the numbers that their text quotes."""

from __future__ import annotations

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
