"""Check a built book as it will be published, and pack it as the workflow does: below some folder of some host.

python book/publish.py [--html book/_build/html] [--artifact book/_build/artifact.tar]
"""

from __future__ import annotations

import argparse
import re
import sys
import tarfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

ROOT = "https://host.invalid/some/folder/"
"""Stands for where the book will be: pages of a repository lie below a folder, so no address may begin with a slash."""

LOADED = {
    **dict.fromkeys(("audio", "embed", "iframe", "img", "input", "script", "source", "track", "video"), "src"),
    "object": "data",
}
LOADING = {"icon", "manifest", "modulepreload", "preload", "stylesheet"}
IN_STYLES = re.compile(r"""url\(\s*(['"]?)(?P<url>.*?)\1\s*\)|@import\s+['"](?P<import>[^'"]+)""")
LARGEST = 10**9
"""Bytes that GitHub Pages takes."""


class Page(HTMLParser):
    """Addresses of a page, and the places in it that an address can name."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sort the addresses of an element into what a reader follows and what the browser loads by itself."""
        about = {name: value for name, value in attrs if value}
        self.places.update(about[name] for name in ("id", "name") if name in about)
        if tag in LOADED and LOADED[tag] in about:
            self.loaded.append(about[LOADED[tag]])
        if tag == "link" and LOADING & set(about.get("rel", "").split()):
            self.loaded.append(about.get("href", ""))
        elif "href" in about:
            self.links.append(about["href"])
        self.loaded += [part.split()[0] for part in about.get("srcset", "").split(",") if part.strip()]
        self.loaded += addresses(about.get("style", ""))


def addresses(style: str) -> list[str]:
    """What a style sheet loads."""
    return [found["url"] or found["import"] for found in IN_STYLES.finditer(style) if found["url"] or found["import"]]


def findings(folder: Path) -> Iterator[str]:
    """What is wrong with a built book, a sentence each.

    Parameters
    ----------
    folder : Path
        The built book.

    Yields
    ------
    str
        An address that leads nowhere, or that a page loads from elsewhere; a file that cannot be published.
    """
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    pages = {}
    for name, file in files.items():
        if file.is_symlink():
            yield f"{name} is a link, which an archive for GitHub Pages may not hold"
        if name.endswith(".html") and not name.startswith("_static/"):  # the theme leaves its templates there
            pages[name] = Page()
            pages[name].feed(file.read_text())
        elif name.endswith(".css"):
            yield from (_problem(name, address, files, pages, loaded=True) for address in addresses(file.read_text()))
    for name, page in pages.items():
        yield from (_problem(name, address, files, pages, loaded=True) for address in page.loaded)
        yield from (_problem(name, address, files, pages, loaded=False) for address in page.links)
    if "index.html" not in files:
        yield "index.html is missing"


def _problem(name: str, address: str, files: dict[str, Path], pages: dict[str, Page], *, loaded: bool) -> str:
    """What is wrong with an address on a page; empty if nothing is."""
    if urlsplit(address).scheme in ("data", "blob", "mailto"):
        return ""
    whole, place = urldefrag(urljoin(ROOT + name, address))
    if not whole.startswith(ROOT):
        outside = not whole.startswith(urljoin(ROOT, "/"))
        if outside and not loaded:
            return ""
        return f"{name} {'loads' if loaded else 'links to'} {address}, which is not below the book's folder"
    target = unquote(urlsplit(whole).path.removeprefix(urlsplit(ROOT).path)) or "index.html"
    if target not in files:
        return f"{name} names {address}, which does not exist"
    if place and target in pages and unquote(place) not in pages[target].places:
        return f"{name} names {address}, but there is no such place on that page"
    return ""


def pack(folder: Path, artifact: Path) -> int:
    """Pack the book into the archive that is published; returns its size in bytes."""
    partial = artifact.with_suffix(".partial")
    with tarfile.open(partial, "w", dereference=True) as archive:
        archive.add(folder, ".", filter=lambda member: None if Path(member.name).name.startswith(".git") else member)
    partial.replace(artifact)
    return artifact.stat().st_size


def main(arguments: list[str] | None = None) -> int:
    """Check and pack; returns the exit code."""
    build = Path(__file__).resolve().parent / "_build"
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--html", type=Path, default=build / "html", help="folder of the built book")
    parser.add_argument("--artifact", type=Path, default=build / "artifact.tar")
    args = parser.parse_args(arguments)
    if not args.html.is_dir():
        print(f"There is no built book in {args.html}; build it by make book.", file=sys.stderr)
        return 1
    found = sorted({finding for finding in findings(args.html) if finding})
    size = 0 if found else pack(args.html, args.artifact)
    if size > LARGEST:
        found.append(f"{args.artifact} has {size / 1e6:.0f} MB; GitHub Pages takes {LARGEST / 1e6:.0f}")
    print("\n".join(found) or f"{args.artifact}: {size / 1e6:.1f} MB, fit to be published", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
