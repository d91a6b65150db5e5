"""The book builds from a run without a warning, and loads nothing from elsewhere."""

from __future__ import annotations

import html.parser

import build
import pytest


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
