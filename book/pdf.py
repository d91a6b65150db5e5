"""Print the book into one file: the notebooks must have been run, and the system needs Chromium.

python book/pdf.py [--book book] [--out book/_build/book.pdf]
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
import tempfile
from pathlib import Path

import chromium

from iood_helpers.io import write_atomically

BOOK = Path(__file__).resolve().parent
DRAWN = ".iood-figure:not([data-drawn]), .iood-explorable:not([data-ready])"

ON_PAPER = """
.toctree-wrapper > section { break-before: page }
.toctree-wrapper > section > h2 { font-size: 14pt; font-weight: 700; margin: 0 0 .6rem }
h1, h2, h3, h4 { padding-top: .5rem; line-height: 1.4 !important }
.iood-figure, .iood-explorable, .iood-images figure, .admonition, tr, pre { break-inside: avoid }
.iood-figure .modebar, details.hide:not([open]), .toggle-button { display: none !important }
summary { break-after: avoid }
pre { white-space: pre-wrap !important; overflow-wrap: anywhere }
"""
"""Styles of the printed book beside those of a printed page: a chapter begins a page, folded code stays out."""

UNFOLD = "document.querySelectorAll('details:not(.hide)').forEach((box) => (box.open = true))"
DRAW = """(async () => {
  for (const box of document.querySelectorAll('.iood-figure, .iood-explorable')) {
    box.scrollIntoView({ behavior: 'instant', block: 'center' });
    for (let i = 0; i < 200 && box.matches(%r); i++) await new Promise((done) => setTimeout(done, 50));
  }
  return document.querySelectorAll(%r).length;
})()""" % (DRAWN, DRAWN)  # noqa: UP031 - the script is full of braces
LINKS = """document.querySelectorAll('a[href]').forEach((link) => {
  const [page, place] = link.href.split('#');
  if (page === location.href.split('#')[0] && place) link.setAttribute('href', `#${place}`);
  else if (link.origin === location.origin) link.removeAttribute('href');
})"""
"""Links within the book lead to its pages; files that lie beside the book are not in the one that is printed."""

WIDTH = 703
"""Pixels between the margins of a sheet (custom.css), 96 to the inch: figures are drawn for it."""

FOOT = '<div style="width: 100%; font-size: 7pt; text-align: center"><span class="pageNumber"></span></div>'


def printed(tab: chromium.Tab, address: str) -> bytes:
    """A page as PDF, with all its figures drawn and its solutions unfolded.

    Parameters
    ----------
    tab : chromium.Tab
        Where to load it.
    address : str
        Where it is.

    Returns
    -------
    bytes
        The file, with an outline.

    Raises
    ------
    RuntimeError
        If a figure is not drawn in ten seconds.
    """
    tab.resize(WIDTH, 1000)
    tab.socket.settimeout(600)  # some hundred pages take a while
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    tab.visit(address)
    tab.run(f"document.head.append(Object.assign(document.createElement('style'), {{ textContent: `{ON_PAPER}` }}))")
    tab.run("document.body.replaceChildren(document.querySelector('article'))")
    tab.run(UNFOLD)
    if missing := tab.run(DRAW):
        raise RuntimeError(f"{address}: {missing} figures are not drawn; see the console of a browser that opens it.")
    tab.run(LINKS)
    options = {"printBackground": True, "preferCSSPageSize": True, "generateDocumentOutline": True}
    foot = {"displayHeaderFooter": True, "headerTemplate": "<span></span>", "footerTemplate": FOOT}
    stream = tab.call("Page.printToPDF", transferMode="ReturnAsStream", **options, **foot)["stream"]
    parts = []
    while True:
        part = tab.call("IO.read", handle=stream, size=1 << 20)
        parts.append(base64.b64decode(part["data"]))
        if part["eof"]:
            return b"".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Build the book as one page, and print that; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--book", type=Path, default=BOOK, help="folder of the book's sources")
    parser.add_argument("--out", type=Path, default=BOOK / "_build" / "book.pdf")
    args = parser.parse_args(arguments)
    if chromium.find() is None:
        print(f"No browser to print with: install one of {', '.join(chromium.NAMES)}.", file=sys.stderr)
        return 1
    jupyter_book = str(Path(sys.executable).with_name("jupyter-book"))
    command = [jupyter_book, "build", str(args.book), "--builder", "singlehtml", "-q"]
    if code := subprocess.run(command).returncode:
        return code
    folder = args.book / "_build" / "singlehtml"
    with (
        tempfile.TemporaryDirectory() as profile,
        chromium.served(folder) as address,
        chromium.tab(Path(profile)) as tab,
    ):
        content = printed(tab, f"{address}/intro.html")
    write_atomically(args.out, lambda path: path.write_bytes(content))
    print(f"{args.out} ({len(content) / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
