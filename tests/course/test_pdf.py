"""The printed book: chapters begin pages, figures are drawn, solutions are unfolded, links stay within."""

from __future__ import annotations

import re

import pytest

chromium = pytest.importorskip("chromium", reason="websocket-client is not installed")
if chromium.find() is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)
import pdf  # noqa: E402 - it needs the browser

LONG = "<p>" + "and so on " * 4000 + "</p>"  # longer than a page
PAGE = """<!doctype html><meta charset="utf-8"><nav><h1>Menu</h1></nav><article><h1>The book</h1>
<div class="toctree-wrapper"><section><h2>One</h2>
<div class="iood-figure" %s></div><details><summary>Solution</summary>{solution}</details>
<details class="hide"><summary>Show code {folded}</summary></details></section><section id="two"><h2>Two</h2>
<a href="page.html#two">here</a><a href="other.html">beside</a><a href="https://elsewhere.org/">far</a></section>
</div></article>"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium.tab(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


def printed(tab, folder, drawn="data-drawn", solution="short", folded="short"):
    (folder / "page.html").write_text((PAGE % drawn).format(solution=solution, folded=folded))
    with chromium.served(folder) as address:
        return pdf.printed(tab, f"{address}/page.html")


def pages(content):
    return len(re.findall(rb"/Type\s*/Page\b", content))


def test_chapters_begin_pages_and_make_an_outline(tab, tmp_path):
    content = printed(tab, tmp_path)
    assert content.startswith(b"%PDF") and pages(content) == 3
    titles = set(re.findall(rb"/Title \((.*?)\)", content))
    assert {b"The book", b"One", b"Two"} <= titles and b"Menu" not in titles


def test_solutions_are_unfolded_and_folded_code_stays_out(tab, tmp_path):
    assert pages(printed(tab, tmp_path, solution=LONG)) > 3
    assert pages(printed(tab, tmp_path, folded=LONG)) == 3


def test_links_stay_within_or_lead_into_the_world(tab, tmp_path):
    content = printed(tab, tmp_path)
    assert re.findall(rb"/URI \((.*?)\)", content) == [b"https://elsewhere.org/"]
    assert len(re.findall(rb"/Subtype\s*/Link", content)) == 2  # one of them within


def test_a_figure_that_is_not_drawn_is_no_book(tab, tmp_path, monkeypatch):
    monkeypatch.setattr(pdf, "DRAW", pdf.DRAW.replace("i < 200", "i < 2"))
    with pytest.raises(RuntimeError, match=r"page.html: 1 figures are not drawn"):
        printed(tab, tmp_path, drawn="")


def test_nothing_is_written_without_a_browser(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(chromium, "NAMES", ("no-such-browser",))
    assert pdf.main(["--out", str(tmp_path / "book.pdf")]) == 1
    assert "No browser to print with: install one of no-such-browser." in capsys.readouterr().err
