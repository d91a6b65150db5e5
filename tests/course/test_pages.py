"""The extension that makes the book's pages light, on a book of two pages."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pages
import pytest
import sound
from conftest import ROOT
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

STAND_IN = "https://github.com/some-one/some-course"
KERNEL = {"name": "python3", "display_name": "Python", "language": "python"}
EXPLORABLE = '<div class="iood-explorable" data-explorable="drag"><p>Drag it.</p>'
INDEX = """# Book

A `"first"` & <paragraph>.

```{toctree}
notebooks/step
```
"""


def built(folder):
    """Pages of a small book, by name."""
    notebook = {"cells": [], "metadata": {"kernelspec": KERNEL}, "nbformat": 4, "nbformat_minor": 5}
    touched = {"text/html": [f'{EXPLORABLE}<script type="application/json">{{"n":1}}</script></div>{EXPLORABLE}</div>']}
    output = {"output_type": "display_data", "metadata": {}, "data": touched}
    notebook["cells"] = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Step\n\nWhat $x^2$ is."},
        {"cell_type": "code", "id": "b", "metadata": {}, "source": "drag()", "execution_count": 1, "outputs": [output]},
    ]
    source, target = folder / "source", folder / "html"
    (source / "notebooks").mkdir(parents=True)
    (source / "index.md").write_text(INDEX)
    (source / "notebooks" / "step.ipynb").write_text(json.dumps(notebook))
    settings = {
        "extensions": ["myst_nb", "sphinx_book_theme", "sphinx_copybutton", "pages"],
        "html_theme": "sphinx_book_theme",
        "html_math_renderer": "mathml",
        "myst_enable_extensions": ["dollarmath"],
        "nb_execution_mode": "off",
        "templates_path": [str(ROOT / "book" / "_templates")],
    }
    with docutils_namespace():
        Sphinx(source, None, target, folder / "doctrees", "html", settings, status=None, warningiserror=True).build()
    return {file.stem: file.read_text() for file in target.rglob("*.html")}, target


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.delenv(pages.REPOSITORY, raising=False)
    yield built(tmp_path_factory.mktemp("small"))
    patch.undo()


def test_no_address_is_invented(small):
    assert not [page for page in small[0].values() if "github.com" in page or "mybinder" in page or "colab" in page]


def test_links_go_to_the_named_repository(tmp_path, monkeypatch):
    monkeypatch.setenv(pages.REPOSITORY, STAND_IN + "/")
    monkeypatch.setenv(pages.BRANCH, "course")
    found, _ = built(tmp_path)
    assert f'href="{STAND_IN}"' in found["index"]
    assert (
        "https://mybinder.org/v2/gh/some-one/some-course/course?urlpath=lab/tree/notebooks/step.ipynb" in found["step"]
    )
    assert (
        "https://colab.research.google.com/github/some-one/some-course/blob/course/notebooks/step.ipynb"
        in found["step"]
    )


@pytest.mark.parametrize(
    "address", ["some-course", "http://github.com/a/b", 'https://github.com/a/b"><script>', "https://a/b"]
)
def test_an_address_that_is_none_is_refused(address, monkeypatch):
    monkeypatch.setenv(pages.REPOSITORY, address)
    with pytest.raises(ValueError, match=f"{pages.REPOSITORY} is .*it must read"):
        pages.link_repository(None, None)


def test_pages_are_described_by_their_first_paragraph(small):
    assert '<meta name="description" content="A &quot;first&quot; &amp; &lt;paragraph&gt;.">' in small[0]["index"]


def test_style_sheets_hold_what_the_pages_use(small):
    (sheet,) = small[1].glob("_static/mystnb.*.css")
    assert ".cell_input" in sheet.read_text() and ".tag_scroll-input" not in sheet.read_text()


def test_the_title_stands_in_a_landmark(small):
    assert re.search(r'<nav aria-label="Start">\s*<a class="navbar-brand logo"', small[0]["step"])
    assert small[0]["step"].count("navbar-brand") == 1


def test_formulas_are_markup(small):
    assert "<msup>" in small[0]["step"] and not [page for page in small[0].values() if "MathJax" in page]


def test_a_page_gets_the_scripts_it_needs(small):
    assert "copybutton" not in small[0]["index"] and "fontawesome.js" not in small[0]["index"]
    assert "mystnb" not in small[0]["index"]
    assert "searchtools.js" in small[0]["search"] and "searchtools.js" not in small[0]["index"]


def test_data_of_figures_to_touch_is_a_file_of_its_own(small):
    page, folder = small[0]["step"], small[1]
    scripts = re.findall(r'<script defer src="([^"]*explorables/[^"]*)">', page)
    assert scripts == ["../explorables/core.js", "../explorables/drag.js"] and '"n":1' not in page
    assert re.findall('data-explorable="drag"(.*?)>', page) == [' data-source="step-1"', ""]
    assert (folder / "explorables" / "step-1.js").read_text() == 'ioodExplorables.receive("step-1", {"n":1});\n'
    assert "explorables" not in small[0]["index"]


@pytest.mark.parametrize(
    "body, mended",
    [
        ('<summary aria-label="Toggle hidden content"><p>Show</p></summary>', "<summary><p>Show</p></summary>"),
        (
            '<div role="list"><div role="doc-biblioentry">a</div></div>',
            '<div role="list"><div role="listitem">a</div></div>',
        ),
        (
            '<dl>\n<dd><em>a</em>,</dd>\n<dd><em>b</em></dd>\n</dl>\n\n<span class="sig-paren">)</span>',
            '<span class="sig-lines"><span class="sig-line"><em>a</em>,</span>\n'
            '<span class="sig-line"><em>b</em></span>\n</span>'
            '\n\n<span class="sig-paren">)</span>',
        ),
        ("<dl><dt>a</dt><dd>b</dd></dl>", "<dl><dt>a</dt><dd>b</dd></dl>"),
    ],
)
def test_markup_says_what_is_shown(body, mended):
    assert sound.mended(body) == mended


def test_the_figures_are_drawn_by_the_release_that_made_them():
    def release(script):
        return re.search(r"plotly\.js (?:\(.*\) )?v(\d+)\.", script.read_text()[:400])[1]

    package = Path(str(files("plotly") / "package_data" / "plotly.min.js"))
    assert release(ROOT / "book" / "_static" / "plotly" / "plotly-basic.min.js") == release(package)


@pytest.mark.parametrize(
    "sheet, left",
    [
        (".seen{a:b}.unseen{a:b}", ".seen{a:b}"),
        (".seen,.unseen p{a:b}", ".seen{a:b}"),
        (".unseen .seen{a:b}", ""),
        ("p:not(.unseen){a:b}", "p:not(.unseen){a:b}"),
        ("@media print{.unseen{a:b}.seen{a:b}}", "@media print{.seen{a:b}}"),
        ("@media print{.unseen{a:b}}", ""),
        ("@font-face{a:b}.bs-tooltip-top{a:b}", "@font-face{a:b}.bs-tooltip-top{a:b}"),
    ],
)
def test_rules_that_cannot_apply_are_left_out(sheet, left):
    assert pages.used_rules(sheet, {"seen"}) == left


def test_names_come_from_pages_and_scripts(tmp_path):
    (tmp_path / "_static" / "plotly").mkdir(parents=True)
    (tmp_path / "page.html").write_text('<p class="one two">three</p>')
    (tmp_path / "_static" / "a.js").write_text('e.classList.add("four-five")')
    (tmp_path / "explorables").mkdir()
    (tmp_path / "explorables" / "b.js").write_text('make("p", { class: "seven" })')
    (tmp_path / "_static" / "plotly" / "plotly-basic.min.js").write_text('"six"')
    names = pages.used_names(tmp_path)
    assert {"one", "two", "four-five", "seven"} <= names and not {"three", "six"} & names
