"""The book builds from a run without a warning, and draws its figures without the network."""

from __future__ import annotations

import html.parser
import shutil
import subprocess
import sys

import build
import pytest
from conftest import ROOT

MADE = ("_build", "notebooks", "vendor", "status.md")


def made_by_the_user() -> dict[str, float]:
    """What a run of the user has left in the book's folder, with its age."""
    places = [path for name in MADE for path in (ROOT / "book").rglob(name)]
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place])]
    return {str(file): file.stat().st_mtime for file in files}


@pytest.fixture(scope="session")
def book(chain, tmp_path_factory):
    """Folder of the book, built elsewhere: that of the user stays as it is."""
    before = made_by_the_user()
    folder = tmp_path_factory.mktemp("book") / "book"
    shutil.copytree(ROOT / "book", folder, ignore=shutil.ignore_patterns(*MADE))
    shutil.copytree(chain / "book", folder / "notebooks")
    (folder.parent / "benchmarks").mkdir()
    shutil.copy(ROOT / "benchmarks" / "RESULTS.md", folder.parent / "benchmarks")  # a page includes it
    command = [sys.executable, str(ROOT / "book" / "build.py"), "--run", str(chain), "--book", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert made_by_the_user() == before
    return folder / "_build" / "html"


class Sources(html.parser.HTMLParser):
    """Addresses that a page loads by itself, and pictures without words."""

    def __init__(self):
        super().__init__()
        self.loaded, self.wordless = [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag in ("script", "img", "iframe") and attributes.get("src"):
            self.loaded.append(attributes["src"])
        if tag == "link" and attributes.get("rel") in ("stylesheet", "preload"):
            self.loaded.append(attributes.get("href", ""))
        if tag == "img" and not attributes.get("alt"):
            self.wordless.append(attributes.get("src", "")[:60])


@pytest.mark.parametrize("page", build.pages())
def test_pages_load_nothing_from_elsewhere_and_describe_pictures(book, page):
    sources = Sources()
    sources.feed((book / f"{page}.html").read_text())
    assert sources.loaded and not [s for s in sources.loaded if s.startswith(("http:", "https:", "//"))]
    assert not [s for s in sources.wordless if "logo" not in s]


@pytest.mark.parametrize(
    "page, figures", [("notebooks/03_visualize_with_umap", 3), ("notebooks/05_refine_confidences", 3)]
)
def test_figures_and_formulas_are_drawn_in_a_browser(book, page, figures, tmp_path):
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --virtual-time-budget=15000 --dump-dom"
    command = [browser, *flags.split(), f"--user-data-dir={tmp_path}", (book / f"{page}.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=180).stdout
    assert dom.count('class="main-svg"') >= figures
    if page.endswith("05_refine_confidences"):
        assert "<mjx-container" in dom
